"""The typed run of two stages: what Stage A and Stage B share, and what each has for itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

from fer_lightning.data.config import SourceFilterConfig
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.training.config import StageConfig


@contextmanager
def _under_their_names_in_stage_b() -> Iterator[None]:
    """Let refusals name the options of Stage B by which they were given."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        for group in ("stage", "source_filter"):
            message = message.replace(f"{group}.", f"{group}_b.").replace(f"{group} includes", f"{group}_b includes")
        raise ValueError(message) from error


def _values(config: object, kind: type[Any]) -> dict[str, Any]:
    """Return what a dataclass has of another one's fields; a misspelt option is none of them, and refused elsewhere."""
    return {item.name: getattr(config, item.name) for item in fields(kind)}


@dataclass(kw_only=True)
class StageBConfig(StageConfig):
    """Options of Stage B: those of any stage."""

    name: str = "stageB"
    """Part of the run name."""

    def __post_init__(self) -> None:
        """Check what any stage is checked for, and that nobody else names its start."""
        with _under_their_names_in_stage_b():
            super().__post_init__()
        if self.init_from is not None:
            raise ValueError(
                "stage_b.init_from has no place here: Stage B starts from the Stage A of the same command. "
                "From another run: task=train_teacher stage=b stage.init_from=<run directory>"
            )


@dataclass(kw_only=True)
class SourceFilterBConfig(SourceFilterConfig):
    """Source filter of Stage B."""

    def __post_init__(self) -> None:
        """Check as any filter is checked."""
        with _under_their_names_in_stage_b():
            super().__post_init__()


@dataclass(kw_only=True)
class TrainTwoStageRun(TrainTeacherRun):
    """Train Stage A, then Stage B from its weights; two runs, each as if it had been started by itself.

    `stage` and `source_filter` are those of Stage A; what has no `_b` of its own counts for both.
    """

    task: str = "train_two_stage"
    """The verb."""
    stage_b: StageBConfig = field(default_factory=StageBConfig)
    source_filter_b: SourceFilterBConfig = field(default_factory=SourceFilterBConfig)

    def __post_init__(self) -> None:
        """Check both runs."""
        super().__post_init__()
        if self.stage_a_run().name == self.stage_b_run("Stage A").name:
            raise ValueError(
                f"both stages would be the run {self.name}; stage.name and stage_b.name, or their image sizes, must differ"
            )

    def stage_a_run(self) -> TrainTeacherRun:
        """Return the first run."""
        return TrainTeacherRun(**{**_values(self, TrainTeacherRun), "task": TrainTeacherRun.task})

    def stage_b_run(self, stage_a: str) -> TrainTeacherRun:
        """Return the second run.

        Args:
            stage_a: directory of the first one.
        """
        with _under_their_names_in_stage_b():
            return replace(
                self.stage_a_run(),
                stage=StageConfig(**{**_values(self.stage_b, StageConfig), "init_from": stage_a}),
                source_filter=SourceFilterConfig(**_values(self.source_filter_b, SourceFilterConfig)),
                backbone=replace(self.backbone, pretrained=False, checkpoint=None),
            )
