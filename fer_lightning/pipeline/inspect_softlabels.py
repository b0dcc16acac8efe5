"""Tells how sharp soft labels are at several KD temperatures, and the temperature at which they are as soft as wanted."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError
from fer_lightning.files import explained_write_errors
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.rows.evaluation_rows import refuse_changes
from fer_lightning.pipeline.softlabels.config import InspectSoftlabelsRun
from fer_lightning.runs.config import RunConfig

if TYPE_CHECKING:
    from torch import Tensor

    from fer_lightning.functional.sharpness import Sharpness, Spread
    from fer_lightning.runs.sharpness_report import PartSharpness, SharpnessFigures, SharpnessReport, SpreadFigures

log = logging.getLogger(__name__)

_OPTION = "inspect.softlabels"
_STORED_RECORD = "storedlogits.json"


@dataclass(frozen=True, eq=False)
class _Opened:
    kind: str
    logits: "Tensor"
    """(N, 7) float64."""
    labels: "Tensor"
    splits: tuple[str, ...]
    sha256: str


def _open(folder: Path) -> _Opened:
    if (folder / _STORED_RECORD).is_file():
        from fer_lightning.runs.stored_logits import read_stored_logits

        stored = read_stored_logits(folder, option=_OPTION)
        splits = (stored.record.split,) * stored.record.n
        return _Opened("stored logits", stored.logits.double(), stored.labels, splits, stored.record.logits_sha256)
    from fer_lightning.runs.softlabels_file import read_softlabels

    soft = read_softlabels(folder, option=_OPTION)
    return _Opened("soft labels", soft.logits.double(), soft.labels, soft.splits, soft.record.softlabels_sha256)


def _spread(spread: "Spread") -> "SpreadFigures":
    from fer_lightning.functional.sharpness import QUANTILES
    from fer_lightning.runs.sharpness_report import SpreadFigures

    names = [f"{100 * share:g}" for share in QUANTILES]
    return SpreadFigures(mean=spread.mean, quantiles=dict(zip(names, spread.quantiles, strict=True)))


def _figures(found: "Sharpness") -> "SharpnessFigures":
    from fer_lightning.runs.sharpness_report import SharpnessFigures

    return SharpnessFigures(
        kd_temperature=found.kd_temperature,
        n=found.n,
        max_prob=_spread(found.max_prob),
        second_prob=_spread(found.second_prob),
        entropy=_spread(found.entropy),
        entropy_share=_spread(found.entropy_share),
        mean_true_prob=found.mean_true_prob,
    )


def _part(split: str, logits: "Tensor", labels: "Tensor", run: InspectSoftlabelsRun) -> "PartSharpness":
    from fer_lightning.functional.sharpness import kd_temperature_for_entropy, sharpness
    from fer_lightning.runs.sharpness_report import PartSharpness, TargetTemperature

    def at_all(rows: "Tensor") -> "list[SharpnessFigures]":
        return [
            _figures(sharpness(logits[rows], kd_temperature=temperature, labels=labels[rows]))
            for temperature in sorted(run.inspect.temperatures)
        ]

    target = kd_temperature_for_entropy(logits, target_entropy=run.inspect.target_entropy)
    of_class = {name: labels == index for index, name in enumerate(EMOTIONS)}
    return PartSharpness(
        split=split,
        n=len(labels),
        figures=at_all(labels >= 0),
        classes={name: at_all(rows) for name, rows in of_class.items() if bool(rows.any())},
        target=TargetTemperature(
            target_entropy=run.inspect.target_entropy,
            kd_temperature=target.kd_temperature,
            entropy_share=target.entropy_share,
            reached=target.reached,
        ),
    )


def _report(run: InspectSoftlabelsRun, opened: _Opened) -> "SharpnessReport":
    import torch

    from fer_lightning.data.rows.columns import SPLITS
    from fer_lightning.runs.sharpness_report import SharpnessReport

    number_of = {split: number for number, split in enumerate(SPLITS)}
    numbers = torch.tensor([number_of[split] for split in opened.splits])
    parts = [
        _part(split, opened.logits[rows], opened.labels[rows], run)
        for split, number in number_of.items()
        if bool((rows := numbers == number).any())
    ]
    if len(parts) > 1:
        parts.append(_part("all", opened.logits, opened.labels, run))
    return SharpnessReport(
        softlabels=str(run.inspect.softlabels),
        kind=opened.kind,
        logits_sha256=opened.sha256,
        n=len(opened.labels),
        class_order=list(EMOTIONS),
        kd_temperatures=sorted(run.inspect.temperatures),
        parts=parts,
    )


def inspect_softlabels(run: InspectSoftlabelsRun) -> None:
    """Write `sharpness.json` and `sharpness.png`; of several views the plain one is looked at.

    Raises:
        FerError: neither soft labels nor stored logits, or a proof of them that does not hold.
    """
    if run.inspect.softlabels is None:
        raise FerError(f"task=inspect_softlabels needs {_OPTION}=<folder of soft labels, or of stored logits>")
    refuse_changes(
        run.run,
        RunConfig(root=run.run.root, tag=run.run.tag),
        None,
        "run",
        "nothing is drawn, and files are written anew",
    )
    if len(set(run.inspect.temperatures)) < len(run.inspect.temperatures):
        raise FerError(f"inspect.temperatures names one twice: {run.inspect.temperatures}")
    given = Path(run.inspect.softlabels)
    folder = given.parent if given.is_file() else given
    output = folder if run.inspect.output_dir is None else Path(run.inspect.output_dir)
    report = _report(run, _open(folder))
    from fer_lightning.reports.figures import save_figure
    from fer_lightning.reports.sharpness_figure import sharpness_figure
    from fer_lightning.reports.sharpness_text import sharpness_text
    from fer_lightning.runs.artifacts import write_artifact
    from fer_lightning.runs.sharpness_report import SHARPNESS_FILE

    with explained_write_errors(output, option="inspect.output_dir"):
        output.mkdir(parents=True, exist_ok=True)
        save_figure(output / "sharpness.png", sharpness_figure(report))
        write_artifact(output / SHARPNESS_FILE, report)
    log.info("%s", sharpness_text(report))
    log.info("everything is in %s", output)
