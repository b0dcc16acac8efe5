"""The typed run that compares ways of training a student: what they have in common, and what each has for itself."""

from dataclasses import dataclass, field, fields, replace

from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.runs.config import RunConfig
from fer_lightning.training.distillation.config import DistillationConfig

_SPLITS = ("val", "test")


@dataclass(kw_only=True)
class ComparisonConfig:
    """Which seeds, whose teachers, and how the arms are judged."""

    name: str | None = None
    """Folder below `<run.root>/comparisons`; unset: named after backbone, stage and image size."""
    baseline: str = "labels"
    """The arm that the others are held against."""
    seeds: list[int] = field(default_factory=lambda: [1337, 1338, 1339])
    """Each arm is trained with each of them."""
    softlabels: str | None = None
    """Folder of stored soft labels: teacher of the arms that distil and name none."""
    ensemble: str | None = None
    """Folder of an ensemble, or its ensemble.json, that is judged beside the students; unset: the one that the soft labels
    are of. Without `softlabels` it is also the live teacher of the arms that distil and name none."""
    starts: dict[str, str] = field(default_factory=dict)
    """Arm -> arm from whose best.pt of the same seed it starts (weights alone, a fresh schedule). Its epochs come on top of
    those of the other, which the comparison tells."""
    splits: list[str] = field(default_factory=lambda: [*_SPLITS])
    """On whose rows the arms are judged: val, test."""
    num_resamples: int = 2000
    """Bootstrap resamples of the intervals."""
    confidence: float = 0.95
    """Confidence of the intervals."""

    def __post_init__(self) -> None:
        """Check names, ranges, and that nothing is named twice."""
        if self.name is not None and (
            not self.name.strip(".") or not all(c.isalnum() or c in "-_." for c in self.name)
        ):
            raise ValueError(f"comparison.name may hold letters, digits and - _ . but is {self.name!r}")
        if not self.seeds or len({*self.seeds}) < len(self.seeds):
            raise ValueError(f"comparison.seeds takes at least one seed, none of them twice, got {self.seeds}")
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise ValueError(f"comparison.seeds must lie in 0..{2**32 - 1}, got {seed}")
        if not self.splits or len({*self.splits}) < len(self.splits) or not {*self.splits} <= {*_SPLITS}:
            raise ValueError(f"comparison.splits takes val, test or both, got {self.splits}")
        if self.num_resamples < 100:
            raise ValueError(f"comparison.num_resamples must be at least 100, got {self.num_resamples}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"comparison.confidence must lie in (0, 1), got {self.confidence}")


@dataclass(kw_only=True)
class CompareStudentsRun(DistillStudentRun):
    """Train students that differ in what they are taught alone, each with several seeds, and compare them.

    All options but `arms` count for every arm.
    """

    task: str = "compare_students"
    """The verb."""
    arms: dict[str, DistillationConfig] = field(default_factory=dict)
    """Name -> what the arm is taught: `+distillation@arms.NAME=OPTION` adds one, `arms.NAME.kd_temperature=4` changes it,
    `~arms.NAME` leaves it out."""
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)

    def __post_init__(self) -> None:
        """Check every arm as a student by itself, and what spans them."""
        if self.distillation != DistillStudentRun().distillation:
            raise ValueError(
                "distillation is of each arm here: +distillation@arms.NAME=<option> adds one, arms.NAME.<option>=<value> changes it"
            )
        super().__post_init__()
        if self.trainer.devices * self.trainer.num_nodes > 1:
            raise ValueError(
                "students are compared on one device: trainer.devices=1 trainer.num_nodes=1; train each of them over several "
                "with task=distill_student"
            )
        if self.stage.patience is not None:
            raise ValueError(
                "stage.patience would stop arms after different numbers of epochs; an equal budget takes stage.patience=null"
            )
        if self.run.seed != RunConfig.seed:
            raise ValueError("run.seed has no effect on a comparison: comparison.seeds=[<seed>,...]")
        self._check_arms()
        self._check_starts()
        for arm in self.arms:
            self._check_student(arm)

    def _check_arms(self) -> None:
        named = ", ".join(self.arms) or "none"
        if len(self.arms) < 2:
            raise ValueError(
                f"a comparison takes two arms or more, got {named}: +distillation@arms.NAME=<option> adds one"
            )
        if self.comparison.baseline not in self.arms:
            raise ValueError(f"comparison.baseline={self.comparison.baseline} is no arm; there are {named}")
        for arm in self.arms:
            if not arm or not all(character.isalnum() or character in "-." for character in arm):
                raise ValueError(
                    f"arms.{arm}: a name may hold letters, digits and -, as it is part of the names of runs"
                )
        twins: dict[object, str] = {}
        for arm in self.arms:
            taught = repr((replace(self._lesson(arm), name="arm"), self.comparison.starts.get(arm)))
            for what in (arm.casefold(), taught):
                if what in twins:
                    raise ValueError(f"arms {twins[what]} and {arm} are the same; change or leave out one: ~arms.{arm}")
                twins[what] = arm
        taking = [arm for arm, lesson in self.arms.items() if lesson.distils and not lesson.teachers]
        if self.comparison.softlabels is not None and not taking:
            raise ValueError("comparison.softlabels has no effect: each arm that distils names a teacher of its own")

    def _check_starts(self) -> None:
        for arm, start in self.comparison.starts.items():
            for name in (arm, start):
                if name not in self.arms:
                    raise ValueError(
                        f"comparison.starts names {name}, which is no arm; there are {', '.join(self.arms)}"
                    )
        for arm in self.arms:
            if arm in self.starts_of(arm):
                raise ValueError(f"comparison.starts leads from {arm} back to {arm}")

    def _check_student(self, arm: str) -> None:
        lesson = self._lesson(arm)
        if lesson.distils and not lesson.teachers:
            raise ValueError(
                f"arms.{arm} needs a teacher: comparison.softlabels=<folder>, for all arms that name none, or "
                f"arms.{arm}.softlabels=<folder>, arms.{arm}.ensemble=<folder> (live) or arms.{arm}.self_teaching=true"
            )
        try:
            self.student(arm, self.comparison.seeds[0])
        except ValueError as error:
            raise ValueError(f"arm {arm}: {str(error).replace('distillation.', f'arms.{arm}.')}") from error

    def _lesson(self, arm: str) -> DistillationConfig:
        """Return what an arm is taught, by whom too."""
        lesson = replace(self.arms[arm], name=arm)
        if not lesson.distils or lesson.teachers:
            return lesson
        if self.comparison.softlabels is not None:
            return replace(lesson, softlabels=self.comparison.softlabels)
        return replace(lesson, ensemble=self.comparison.ensemble)

    @property
    def name(self) -> str:
        """Name of the comparison's folder: that of its runs, without seed and arm."""
        if self.comparison.name is not None:
            return "_".join(filter(None, [self.comparison.name, self.run.tag]))
        of_each = {f"seed{self.run.seed}", self.distillation.name}
        return "_".join(part for part in super().name.split("_") if part not in of_each)

    @property
    def folder(self) -> str:
        """The folder of comparisons below `run.root`."""
        return "comparisons"

    def arms_in_order(self) -> list[str]:
        """Return the arms' names, the baseline first."""
        baseline = self.comparison.baseline
        return [baseline, *(arm for arm in self.arms if arm != baseline)]

    def starts_of(self, arm: str) -> list[str]:
        """Return the arms that one starts from, nearest first; in a circle they end where it closes."""
        found: list[str] = []
        start = self.comparison.starts.get(arm)
        while start is not None and start not in found:
            found.append(start)
            start = self.comparison.starts.get(start)
        return found

    def epochs_of(self, arm: str) -> int:
        """Return the epochs that an arm's weights have had, those of the arms that it starts from included."""
        return self.stage.epochs * (1 + len(self.starts_of(arm)))

    def student(self, arm: str, seed: int) -> DistillStudentRun:
        """Return the run of one student: the one `task=distill_student` would do.

        Args:
            arm: its name.
            seed: of the comparison's.
        """
        values = {item.name: getattr(self, item.name) for item in fields(DistillStudentRun)}
        values["task"] = DistillStudentRun.task
        values["run"] = replace(self.run, root=self.directory.as_posix(), seed=seed)
        values["distillation"] = self._lesson(arm)
        start = self.comparison.starts.get(arm)
        if start is not None:
            values["stage"] = replace(self.stage, init_from=self.student(start, seed).directory.as_posix())
            values["backbone"] = replace(self.backbone, pretrained=False, checkpoint=None)
        return DistillStudentRun(**values)
