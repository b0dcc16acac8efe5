"""The page of an audit: self-contained, escaped, bounded, the same twice."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.audit.findings import Finding, rows_finding, severity_of, sorted_findings, title_of
from fer_lightning.data.audit.survey import Audit
from fer_lightning.data.audit.tables import class_counts
from fer_lightning.data.rows.manifest import inspect_manifest
from fer_lightning.labels import EMOTIONS
from fer_lightning.reports.audit_page import audit_page
from fer_lightning.reports.thumbnails import thumbnail
from fer_lightning.runs.audit_report import AuditReport, FindingCount, LabelComparison, PictureSizes, SharedPictures

HEADER = "image_path,label,split,source,bbox_top,bbox_left,bbox_right,bbox_bottom"


def draw(path: Path, *, height: int = 60, width: int = 80, grey: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.full((height, width, 3), grey, np.uint8))[1].tobytes())
    return path


def make_audit(folder: Path, *rows: str) -> Audit:
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    inspection = inspect_manifest(manifest)
    everything = np.arange(len(inspection.manifest))
    return Audit(inspection=inspection, rows=everything, class_counts=class_counts(inspection.manifest, everything))


def make_report(audit: Audit, findings: Sequence[Finding]) -> AuditReport:
    kinds = list(dict.fromkeys(finding.kind for finding in findings))
    counted = [
        FindingCount(
            kind=kind,
            severity=severity_of(kind).value,
            what=title_of(kind),
            count=sum(finding.kind == kind for finding in findings),
        )
        for kind in kinds
    ]
    return AuditReport(
        manifest="<script>alert(1)</script>.csv",
        manifest_sha256=audit.inspection.manifest.sha256,
        source_filter="all",
        include_sources=[],
        exclude_sources=[],
        rows_in_manifest=len(audit.rows),
        faulty_rows=0,
        rows_audited=len(audit.rows),
        findings=counted,
        findings_by_severity={"error": 1234, "warning": 1, "note": 0},
        fail_on="error",
        failed=True,
        checked=["columns & <files>"],
        not_checked=[],
        class_counts=audit.class_counts,
        picture_sizes=[PictureSizes(source="s", files=2, smallest=48, median=49.5, largest=51, histogram={"48-63": 2})],
        shared_pictures=[SharedPictures(source="fer2013", other="ferplus", pictures=35710)],
        label_comparison=LabelComparison(
            predictions="p.csv",
            rows_compared=9,
            rows_without_prediction=2,
            thresholds={**dict.fromkeys(EMOTIONS, 0.5), "Fear": None},
            confident_joint=[[3] * 7 for _ in range(7)],
        ),
    )


def page_of(audit: Audit, findings: Sequence[Finding], *, num_pictures: int = 24) -> str:
    audit.findings = sorted_findings(findings)
    return audit_page(audit, make_report(audit, audit.findings), num_pictures=num_pictures)


def pictures_of(page: str) -> list[NDArray[np.uint8]]:
    data = [base64.b64decode(text) for text in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)]
    return [np.asarray(cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR), np.uint8) for one in data]


def test_pairs_are_shown_with_lines_labels_and_splits(tmp_path: Path) -> None:
    for name, grey in (("a.png", 40), ("b.png", 200)):
        draw(tmp_path / name, grey=grey)
    audit = make_audit(tmp_path, "a.png,Happy,train,s,,,,", "b.png,Sad,test,t,10,20,60,30")
    page = page_of(audit, [rows_finding("leak_content", audit.inspection.manifest, [0, 1], "equal pixels")])
    first, second = pictures_of(page)
    assert (first.shape, second.shape) == ((60, 80, 3), (20, 40, 3))  # the box of the second, not its photo
    assert (abs(int(first.mean()) - 40) < 3, abs(int(second.mean()) - 200) < 3) == (True, True)
    assert "<b>line 2</b> &middot; Happy &middot; train &middot; s" in page
    assert "<b>line 3</b> &middot; Sad &middot; test &middot; t" in page
    assert "Equal pixels on both sides of a split" in page


def test_rows_of_other_splits_come_first(tmp_path: Path) -> None:
    for number in range(8):
        draw(tmp_path / f"{number}.png")
    audit = make_audit(
        tmp_path, *(f"{number}.png,Sad,{'test' if number > 6 else 'train'},s,,,," for number in range(8))
    )
    page = page_of(audit, [rows_finding("leak_subject", audit.inspection.manifest, range(8), "subject 3")])
    assert re.findall(r"<b>line (\d+)</b>", page) == ["2", "9", "3", "4"]
    assert "(4 more rows not shown)" in page


def test_names_and_values_are_escaped(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>\"'&.png"
    draw(tmp_path / name)
    quoted = name.replace('"', '""')
    audit = make_audit(tmp_path, f'"{quoted}",Happy,train,<b>s</b>,,,,', "../x.png,<i>Joy</i>,train,s,,,,")
    findings = [
        rows_finding("tiny", audit.inspection.manifest, [0], "<u>small</u>"),
        Finding(kind="leak_<em>", line=2, detail="<script>"),
    ]
    page = page_of(audit, findings)
    assert len(pictures_of(page)) == 2
    for text in ("<img src=x", "<b>s</b>", "<u>small", "<script", "<em>", "onerror=alert(1)>"):
        assert text not in page
    assert "&lt;img src=x onerror=alert(1)&gt;&#34;&#39;&amp;.png" in page
    assert "columns &amp; &lt;files&gt;" in page


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    page = page_of(make_audit(tmp_path, "a.png,Happy,train,s,,,,"), [])
    assert re.findall(r'(?:src|href)="(?!data:|#|https://arxiv)', page) == []
    assert "default-src 'none'" in page


def test_thousands_of_findings_are_counted_not_listed(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    audit = make_audit(tmp_path, *(f"a.png,Happy,train,s,0,0,10,{10 + number}" for number in range(40)))
    manifest = audit.inspection.manifest
    findings = [rows_finding("tiny", manifest, [number % 40], f"small {number}") for number in range(1500)]
    findings += [rows_finding("missing_file", manifest, [number % 40], f"gone {number}") for number in range(51)]
    page = page_of(audit, findings, num_pictures=6)
    assert len(pictures_of(page)) == 6
    assert "1,444 more in <code>findings.csv</code>, kind <code>tiny</code>" in page  # 6 shown, 50 listed
    assert "1 more in <code>findings.csv</code>, kind <code>missing_file</code>" in page
    assert "small 55<" in page
    assert "small 56<" not in page
    assert len(pictures_of(page_of(audit, findings, num_pictures=0))) == 0


def test_a_path_that_leaves_the_root_is_not_opened(tmp_path: Path) -> None:
    draw(tmp_path / "outside.png")
    (tmp_path / "set").mkdir()
    audit = make_audit(tmp_path / "set", "../outside.png,Happy,train,s,,,,", "x.png,Sad,train,s,,,,")
    page = page_of(audit, [Finding(kind="leaves_root", line=2, image_path="../outside.png", detail="leaves")])
    assert pictures_of(page) == []
    assert "../outside.png" in page


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_picture_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert thumbnail(tmp_path / "a.png", None, whole=False) is None
    audit = make_audit(tmp_path, "a.png,Happy,train,s,,,,")
    assert "line 2" in page_of(audit, [rows_finding("tiny", audit.inspection.manifest, [0], "small")])


def test_thumbnails_are_small_and_show_boxes(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", height=400, width=1000)
    uris = [
        thumbnail(path, None, whole=False),
        thumbnail(path, (100, 100, 300, 300), whole=True),
        thumbnail(path, (300, 900, 1100, 500), whole=True),
        thumbnail(path, (0, 0, 10**6, 10**6), whole=True),
    ]
    assert thumbnail(path, (500, 0, 10, 600), whole=False) is None  # nothing of the picture is inside
    plain, inside, outside, far = pictures_of("".join(f'src="{uri}"' for uri in uris))
    assert plain.shape == inside.shape == (51, 128, 3)
    assert outside.shape[0] > 51
    assert outside.shape[1] > 128
    assert max(far.shape) <= 2 * 128
    red = (inside[..., 2].astype(int) - inside[..., 1]) > 60
    assert red.any()
    assert not (plain[..., 2].astype(int) - plain[..., 1] > 60).any()


def test_same_bytes_twice(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    audit = make_audit(tmp_path, "a.png,Happy,train,s,,,,", "a.png,Sad,train,s,0,0,9,9")
    findings = [rows_finding("tiny", audit.inspection.manifest, [0, 1], "small")]
    assert page_of(audit, findings) == page_of(audit, findings)
    assert "35,710" in page_of(audit, findings)
