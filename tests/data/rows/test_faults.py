"""Faulty rows refused together, listed whole, left out only up to the cap."""

import csv
import hashlib
from pathlib import Path

import pytest

from fer_lightning.data.rows.faults import Fault, FaultKind, settle_faults
from fer_lightning.errors import FerError
from tests.data.conftest import Workshop

MANIFEST = Path("somewhere/faces.csv")
CONTENT = b"image_path,label,split,source\n"
REPORT = f"faces_{hashlib.sha256(CONTENT).hexdigest()[:8]}.faults.csv"


@pytest.fixture(autouse=True)
def _manifest_to_name_the_report_after(workshop: Workshop) -> None:
    assert Path.cwd() == workshop.root
    plant_manifest("somewhere", CONTENT)


def plant_manifest(folder: str, content: bytes) -> Path:
    Path(folder).mkdir()
    path = Path(folder) / MANIFEST.name
    path.write_bytes(content)
    return path


def make_faults(lines: list[int]) -> list[Fault]:
    return [Fault(line, "label", "Contempt", "unknown label", FaultKind.unknown_label) for line in lines]


def read_report() -> list[dict[str, str]]:
    with Path(REPORT).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_no_fault_leaves_no_report(workshop: Workshop) -> None:
    assert settle_faults([], manifest=MANIFEST, max_bad_rows=0) == frozenset()
    assert [path.name for path in workshop.root.iterdir()] == ["somewhere"]


@pytest.mark.usefixtures("workshop")
def test_one_fault_is_told_in_full() -> None:
    with pytest.raises(FerError) as caught:
        settle_faults(make_faults([812]), manifest=MANIFEST, max_bad_rows=0)
    assert str(caught.value) == (
        "somewhere/faces.csv: 1 faulty row:\n  line 812: unknown label (label='Contempt')\n"
        f"All of them: {REPORT}. Mend the manifest, or leave up to N of them out with data.max_bad_rows=N."
    )


@pytest.mark.usefixtures("workshop")
def test_message_shows_the_first_lines_and_the_report_lists_all() -> None:
    lines = [40, 30, 20, 10, 9, 8, 7, 6]
    with pytest.raises(
        FerError, match=r"8 faulty rows:\n  line 6:.*\n  line 7:.*\n.*8:.*\n.*9:.*\n.*10:.*\n  ... and 3 more"
    ):
        settle_faults(make_faults(lines), manifest=MANIFEST, max_bad_rows=7)
    report = read_report()
    assert [int(row["line"]) for row in report] == sorted(lines)
    assert report[0] == {
        "line": "6",
        "kind": "unknown_label",
        "column": "label",
        "value": "Contempt",
        "reason": "unknown label",
    }


@pytest.mark.usefixtures("workshop")
def test_allowed_rows_are_left_out_loudly(caplog: pytest.LogCaptureFixture) -> None:
    assert settle_faults(make_faults([3, 5]), manifest=MANIFEST, max_bad_rows=2) == {3, 5}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"left out 2 faulty rows (data.max_bad_rows=2), listed in {REPORT}" in caplog.text
    assert len(read_report()) == 2


@pytest.mark.usefixtures("workshop")
def test_a_row_with_two_faults_counts_once() -> None:
    faults = [*make_faults([3]), Fault(3, "split", "dev", "unknown split", FaultKind.unknown_split)]
    assert settle_faults(faults, manifest=MANIFEST, max_bad_rows=1) == {3}
    assert [row["column"] for row in read_report()] == ["label", "split"]


@pytest.mark.usefixtures("workshop")
def test_report_keeps_awkward_values() -> None:
    value = 'a,"b"\né'
    fault = Fault(2, "image_path", value, "why, not", FaultKind.leaves_root)
    settle_faults([fault], manifest=MANIFEST, max_bad_rows=1)
    expected = {"line": "2", "kind": "leaves_root", "column": "image_path", "value": value, "reason": "why, not"}
    assert read_report() == [expected]


def test_manifests_of_one_name_have_lists_of_their_own(workshop: Workshop) -> None:
    other = plant_manifest("elsewhere", CONTENT + b"a.png,Contempt,val,s\n")
    settle_faults(make_faults([2]), manifest=other, max_bad_rows=1)
    settle_faults(make_faults([3]), manifest=MANIFEST, max_bad_rows=1)
    assert [row["line"] for row in read_report()] == ["3"]
    assert len(list(workshop.root.glob("faces_*.faults.csv"))) == 2


def test_kinds_are_fixed_identifiers() -> None:
    assert [str(kind) for kind in FaultKind] == [kind.name for kind in FaultKind]
