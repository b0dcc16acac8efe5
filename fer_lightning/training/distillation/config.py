"""Options of distillation: what the student is taught beside labels, by whom, and how softly."""

from dataclasses import dataclass, fields
from enum import Enum


class DistillationObjective(Enum):
    """What makes the student's logits follow the teacher's; see `functional.distillation`."""

    none = "none"
    kd = "kd"
    dkd = "dkd"
    nkd = "nkd"
    dist = "dist"
    multi_level = "multi_level"


class TemperatureRule(Enum):
    """Where the KD temperature comes from."""

    constant = "constant"
    curriculum = "curriculum"
    entropy = "entropy"


class TeacherCalibration(Enum):
    """Which calibration temperatures divide teacher logits before the KD temperature does."""

    none = "none"
    temperature = "temperature"
    per_teacher = "per_teacher"


class TeacherWeighting(Enum):
    """How several teachers share a row."""

    ensemble = "ensemble"
    loss = "loss"
    confidence = "confidence"


class TargetClass(Enum):
    """Which class DKD and NKD set apart."""

    label = "label"
    teacher = "teacher"


_DECOUPLED = {DistillationObjective.dkd, DistillationObjective.nkd}
_STANDARDIZED = {DistillationObjective.kd, DistillationObjective.dkd, DistillationObjective.multi_level}
_OF_LABELS = {"name", "objective", "ce_weight", "negative_weight"}
_TAKEN_BY: dict[str, dict[str, set[Enum]]] = {
    "objective": {
        "alpha": {DistillationObjective.dkd},
        "beta": {DistillationObjective.dkd, DistillationObjective.dist},
        "gamma": {DistillationObjective.nkd, DistillationObjective.dist},
        "target_class": {*_DECOUPLED},
    },
    "temperature_rule": {
        "target_entropy": {TemperatureRule.entropy},
        "curriculum_max_temperature": {TemperatureRule.curriculum},
        "curriculum_epochs": {TemperatureRule.curriculum},
    },
}
"""Choice -> option -> the values of the choice for which the option counts."""


@dataclass(kw_only=True)
class DistillationConfig:
    """Loss of a student: ce_weight x the loss of the `loss` group + weight x objective, which has the factor kd_temperature^2.

    The teacher is one of three: stored soft labels, a live ensemble, or the student's own former epoch.
    """

    name: str = "kd"
    """Name in tables, and part of the run name."""
    objective: DistillationObjective = DistillationObjective.kd
    """`none`: labels only; `kd`, `dkd`, `nkd`, `dist`; `multi_level`: KD at five temperatures, and agreement of rows and classes."""
    ce_weight: float = 0.5
    """Weight of the loss of the labels."""
    weight: float = 0.5
    """Weight of the objective."""
    warmup_epochs: float = 0.0
    """The objective's weight rises linearly from 0 over so many first epochs, step by step."""
    kd_temperature: float = 2.0
    """Divides both logits in the objective; not a calibration temperature."""
    temperature_rule: TemperatureRule = TemperatureRule.constant
    """`constant`; `curriculum`: learned against the student, from `kd_temperature` on; `entropy`: the one at which the mean entropy of
    the teacher's targets is `target_entropy`."""
    target_entropy: float = 0.5
    """Rule `entropy`: share of the entropy of the uniform distribution."""
    curriculum_max_temperature: float = 20.0
    """Rule `curriculum`: highest temperature it can reach; the lowest is 1."""
    curriculum_epochs: int = 10
    """Rule `curriculum`: epochs over which its adversary grows to full strength."""
    standardize: bool = False
    """Z-score each row of both logits first (logit standardisation). Caps the targets: of 7 classes at kd_temperature 2 none exceeds
    .385. For kd, dkd, multi_level."""
    alpha: float = 1.0
    """DKD: weight of the target class against the rest."""
    beta: float = 4.0
    """DKD: weight of the other classes among themselves. DIST: of rows."""
    gamma: float = 1.5
    """NKD: weight of the other classes. DIST: of classes over the batch."""
    target_class: TargetClass = TargetClass.label
    """DKD and NKD set apart the row's label, or the class of the teacher's largest logit."""
    softlabels: str | None = None
    """Teacher: folder of stored soft labels (`task=export_softlabels`)."""
    ensemble: str | None = None
    """Teacher: folder of an ensemble, or its ensemble.json, that sees each batch as the student does (live)."""
    self_teaching: bool = False
    """Teacher: the student's own logits of the same row in the epoch before."""
    views: bool = False
    """Show each row through one of the views whose logits the soft labels hold, drawn anew each time, instead of random crops."""
    teacher_calibration: TeacherCalibration = TeacherCalibration.none
    """`none`: logits as the ensemble gives them; `temperature`: divided by the ensemble's calibration temperature; `per_teacher`: each
    teacher's divided by its own before they are averaged."""
    teacher_weighting: TeacherWeighting = TeacherWeighting.ensemble
    """Weights of several teachers: the ensemble's; `loss`: more where a teacher's cross-entropy with the label is lower; `confidence`:
    more where its entropy is lower."""
    allow_missing: bool = False
    """Rows without soft labels learn from their label alone; otherwise they are refused."""
    verify_rows: int = 0
    """Random rows whose soft labels are inferred again before training; 0: the digests decide."""
    negative_weight: float = 0.0
    """Weight of negative learning: a row's probability of the emotions in its `neg_label` column is pushed down."""

    def __post_init__(self) -> None:
        """Check ranges, that no two teachers are named, and that the objective has the options that it is given."""
        if not self.name or not all(character.isalnum() or character in "-." for character in self.name):
            raise ValueError(f"distillation.name may hold letters, digits and - . but is {self.name!r}")
        for option in ("ce_weight", "weight", "warmup_epochs", "alpha", "beta", "gamma", "negative_weight"):
            if getattr(self, option) < 0:
                raise ValueError(f"distillation.{option} must be at least 0, got {getattr(self, option)}")
        if self.kd_temperature <= 0:
            raise ValueError(f"distillation.kd_temperature must be positive, got {self.kd_temperature}")
        if not 0 < self.target_entropy < 1:
            raise ValueError(f"distillation.target_entropy must lie in (0, 1), got {self.target_entropy}")
        if self.curriculum_epochs < 1 or self.verify_rows < 0:
            raise ValueError(
                "distillation.curriculum_epochs must be at least 1 and distillation.verify_rows at least 0"
            )
        if len(self.teachers) > 1:
            raise ValueError(
                f"{' and '.join(f'distillation.{option}' for option in self.teachers)} are different teachers; choose one"
            )
        if self.distils:
            self._check_objective()
        elif not self.ce_weight:
            raise ValueError("distillation.objective=none with distillation.ce_weight=0 leaves nothing to learn")
        self._check_effects()

    @property
    def distils(self) -> bool:
        """Whether there is a teacher."""
        return self.objective is not DistillationObjective.none

    @property
    def teachers(self) -> list[str]:
        """The options that name a teacher."""
        named = {"softlabels": self.softlabels, "ensemble": self.ensemble, "self_teaching": self.self_teaching}
        return [option for option, given in named.items() if given]

    @property
    def decoupled(self) -> bool:
        """Whether the objective sets one class of a row apart."""
        return self.objective in _DECOUPLED

    @property
    def each_teacher(self) -> bool:
        """Whether every teacher's own logits are needed."""
        return self.teacher_weighting is not TeacherWeighting.ensemble

    def check_taught(self) -> None:
        """Check that there is a teacher, and that what is asked of teachers has one to act on.

        Apart from the other checks: a comparison of several ways gives a teacher to those that name none.

        Raises:
            ValueError: there is none, or it is not one of whom that can be asked.
        """
        unheard = [option for option in self._changed() if option not in _OF_LABELS]
        if unheard and not self.distils:
            raise ValueError(
                f"distillation.{unheard[0]} has no effect: distillation.objective=none trains on labels alone; "
                "choose a way to distil, e.g. distillation=kd"
            )
        if self.distils and not self.teachers:
            raise ValueError(
                f"distillation.objective={self.objective.value} needs a teacher: distillation.softlabels=<folder>, "
                "distillation.ensemble=<folder> (live) or distillation.self_teaching=true"
            )
        stored = {"views": self.views, "allow_missing": self.allow_missing, "verify_rows": self.verify_rows}
        without_effect = [option for option, on in stored.items() if on and self.softlabels is None]
        if self.self_teaching:
            unset = {
                "teacher_calibration": self.teacher_calibration is not TeacherCalibration.none,
                "teacher_weighting": self.teacher_weighting is not TeacherWeighting.ensemble,
            }
            without_effect += [option for option, on in unset.items() if on]
        if self.distils and without_effect:
            raise ValueError(f"distillation.{without_effect[0]} has no effect without soft labels or an ensemble")
        if self.distils and self.temperature_rule is TemperatureRule.entropy and self.softlabels is None:
            raise ValueError(
                "distillation.temperature_rule=entropy looks at all targets beforehand: it needs softlabels"
            )

    def _changed(self) -> list[str]:
        """Return the options that differ from their defaults."""
        return [item.name for item in fields(self) if getattr(self, item.name) != item.default]

    def _check_effects(self) -> None:
        """Refuse what the choices made do not take: a sweep over it would train the same student again and again."""
        for choice, options in _TAKEN_BY.items() if self.distils else ():
            given = getattr(self, choice)
            for option in (option for option in self._changed() if given not in options.get(option, {given})):
                takers = " or ".join(sorted(taker.value for taker in options[option]))
                raise ValueError(f"distillation.{option} has no effect on {choice}={given.value}; it is for {takers}")

    def _check_objective(self) -> None:
        if not self.weight:
            raise ValueError("distillation.weight=0 leaves no distillation; distillation=none trains on labels alone")
        if self.standardize and self.objective not in _STANDARDIZED:
            raise ValueError(
                f"distillation.standardize is defined for kd, dkd and multi_level, not for {self.objective.value}"
            )
        several = self.objective is DistillationObjective.multi_level
        if several and self.temperature_rule is not TemperatureRule.constant:
            raise ValueError(
                "distillation.objective=multi_level has temperatures of its own; use temperature_rule=constant"
            )
        if self.temperature_rule is TemperatureRule.entropy and self.standardize:
            raise ValueError("distillation.temperature_rule=entropy is of logits as they are; use standardize=false")
        rising = self.temperature_rule is TemperatureRule.curriculum
        if rising and not 1 < self.kd_temperature < self.curriculum_max_temperature:
            raise ValueError(
                "distillation.temperature_rule=curriculum starts between 1 and curriculum_max_temperature="
                f"{self.curriculum_max_temperature:g}, got kd_temperature={self.kd_temperature:g}"
            )
