"""The teachers of leave-one-source-out: their runs, their rows, and what is refused before any of them is trained."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from fer_lightning.data.config import SourceFilterConfig, data_set_of
from fer_lightning.data.selection import Selection
from fer_lightning.errors import FerError
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.learning.preparation import select_training_rows
from fer_lightning.pipeline.rows.ancestors import records_at_the_start
from fer_lightning.pipeline.rows.seen_in_training import refuse_seen
from fer_lightning.pipeline.teachers.leave_one_out_config import LeaveOneSourceOutRun
from fer_lightning.runs.run_dir import check_existing_run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """One teacher of the matrix."""

    left_out: str | None
    """The source it is not trained on; None for the reference."""
    run: TrainTeacherRun
    selection: Selection
    seen: frozenset[str]
    """Ids of the reference's val rows that show what it is trained on, of kinds that `data.allow_leaks` lets pass."""

    @property
    def title(self) -> str:
        """A name for people."""
        return "the reference" if self.left_out is None else f"the teacher without {self.left_out}"

    @property
    def path(self) -> Path:
        """Its run directory."""
        return self.run.directory


def reference_run(run: LeaveOneSourceOutRun) -> TrainTeacherRun:
    """Return the run of the teacher that is trained on all sources: the one `task=train_teacher` would do."""
    values = {item.name: getattr(run, item.name) for item in fields(TrainTeacherRun)}
    return TrainTeacherRun(**{**values, "task": TrainTeacherRun.task})


def run_without(reference: TrainTeacherRun, source: str) -> TrainTeacherRun:
    """Return the run of the teacher that is not trained on a source."""
    spelt = "".join(character if character.isalnum() or character in "-_." else "-" for character in source)
    chosen = reference.source_filter
    include = [name for name in chosen.include if name != source]
    without = SourceFilterConfig(
        name=f"{chosen.name}-without-{source}",
        include=include,
        exclude=[*chosen.exclude, *([] if include else [source])],
    )
    tag = "_".join(filter(None, [reference.run.tag, f"without-{spelt}"]))
    return replace(reference, run=replace(reference.run, tag=tag), source_filter=without)


def _sources_of(selection: Selection, split: str) -> set[str]:
    return set(np.unique(selection.manifest.sources[selection.rows[split]]).tolist())


def _refuse_carved(selection: Selection) -> None:
    if selection.carved_val_rows:
        path = selection.manifest.path
        raise FerError(
            f"{path} has no val rows after source_filter={selection.filter_report.name}: each teacher would carve its own, and val rows "
            "of one would be train rows of another. Write val rows into a manifest first: "
            f"task=build_manifest build=merge 'build.manifests=[{path}]' build.output=<manifest.csv> carves them by "
            "build.val_fraction"
        )


def _sources_to_leave_out(selection: Selection, asked: Sequence[str]) -> list[str]:
    """Return those asked for, or all that have rows to learn from and rows to be judged on."""
    train, val = _sources_of(selection, "train"), _sources_of(selection, "val")
    if len(train) < 2:
        raise FerError(
            f"leaving one source out needs train rows of at least two; {selection.manifest.path} has those of "
            f"{', '.join(sorted(train))} after source_filter={selection.filter_report.name}"
        )
    possible = sorted(train & val)
    impossible = [source for source in asked if source not in possible]
    if impossible:
        raise FerError(
            f"leave_out.sources names {', '.join(impossible)}, without train and val rows after "
            f"source_filter={selection.filter_report.name}; there are {', '.join(possible) or 'none that have both'}"
        )
    if not possible:
        raise FerError(f"no source of {selection.manifest.path} has both train and val rows: nothing to leave out")
    return list(dict.fromkeys(asked)) or possible


def _refuse_seen_at_the_start(run: TrainTeacherRun, sources: Sequence[str]) -> None:
    """Refuse weights to start from that were trained on a source that is to be left out."""
    for record in records_at_the_start(run):
        counts = record.alignment.source_counts_after_filter
        seen = [source for source in sources if counts.get(source, {}).get("train", 0)]
        if seen:
            raise FerError(
                f"every teacher would start from {run.stage.init_from or run.backbone.checkpoint}, whose weights {record.run_dir} "
                f"trained on {', '.join(seen)}: leaving that out would show nothing. "
                "Start from weights that have seen none of the sources left out"
            )


def _warn_of_renditions(source: str, trained_on: set[str]) -> None:
    others = sorted(name for name in trained_on if data_set_of(name) == data_set_of(source))
    if others:
        log.warning(
            "%s is left out, but %s is of the same data set and stays in training", source, " and ".join(others)
        )


def _teacher_without(source: str, reference: TrainTeacherRun, judged: Selection) -> Teacher:
    """Choose the rows of a teacher, and make sure that it neither learns nor is chosen on the source left out.

    Raises:
        FerError: no rows are left, or val rows of the reference show what it would be trained on.
    """
    run = run_without(reference, source)
    try:
        selection = select_training_rows(run)
    except FerError as error:
        raise FerError(f"the teacher without {source}: {error}") from error
    if selection.carved_val_rows:
        raise FerError(f"the teacher without {source}: all val rows are of {source}, none to choose its best.pt on")
    for split in ("train", "val"):
        if source in _sources_of(selection, split):
            raise RuntimeError(f"{run.source_filter} lets {split} rows of {source} through")
    _warn_of_renditions(source, _sources_of(selection, "train"))
    return Teacher(source, run, selection, _seen(judged, selection, f"the teacher without {source}", run))


def _seen(judged: Selection, trained: Selection, title: str, run: TrainTeacherRun) -> frozenset[str]:
    """Return the ids of the reference's val rows that a teacher sees in training."""
    allowed = {*run.data.allow_leaks}
    try:
        seen = refuse_seen(judged, "val", trained.manifest, trained.rows["train"], run.data, allowed=allowed)
    except FerError as error:
        raise FerError(f"{title} would be judged on rows that it is trained on. {error}") from error
    return frozenset(judged.manifest.row_ids[row] for row in seen)


def _check_directories(runs: Mapping[str, TrainTeacherRun]) -> None:
    if len({run.directory for run in runs.values()}) < len(runs):
        raise FerError(
            f"sources whose names differ only in characters that no folder name may have: {', '.join(runs)}; "
            "leave them out in commands of their own with leave_out.sources and run.tag"
        )
    for title, run in runs.items():
        try:
            check_existing_run(run.directory, run, on_existing=run.run.on_existing)
        except FerError as error:
            raise FerError(f"{title}: {error}") from error


def plan_teachers(run: LeaveOneSourceOutRun) -> list[Teacher]:
    """Return the teachers to train, the reference first; what can be known is refused before any training.

    Raises:
        FerError: anything wrong with rows, sources, starting weights or directories.
    """
    reference = reference_run(run)
    selection = select_training_rows(reference)
    _refuse_carved(selection)
    sources = _sources_to_leave_out(selection, run.leave_out.sources)
    _refuse_seen_at_the_start(reference, sources)
    without = {f"the teacher without {source}": run_without(reference, source) for source in sources}
    _check_directories({"the reference": reference, **without})
    first = Teacher(None, reference, selection, _seen(selection, selection, "the reference", reference))
    return [first, *(_teacher_without(source, reference, selection) for source in sources)]
