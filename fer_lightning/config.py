"""From Hydra to typed runs: registers the schemas, turns a composed config into its dataclass."""

import dataclasses
import difflib
import math
import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import fer_lightning
from fer_lightning.errors import FerError
from fer_lightning.pipeline.config import (
    AuditManifestRun,
    BuildManifestRun,
    CheckTrainingRun,
    CompareRunsRun,
    ExportOnnxRun,
    TrainTeacherRun,
)
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun
from fer_lightning.pipeline.evaluation.config import CalibrateRun, EvaluateRun, RobustnessRun
from fer_lightning.pipeline.housekeeping.config import ArchiveRun, SummariseRun, TriageRun
from fer_lightning.pipeline.logits.config import ImportLogitsRun, StoreLogitsRun
from fer_lightning.pipeline.softlabels.config import DiagnoseAlignmentRun, ExportSoftlabelsRun, InspectSoftlabelsRun
from fer_lightning.pipeline.students.comparison_config import CompareStudentsRun
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.teachers.leave_one_out_config import LeaveOneSourceOutRun
from fer_lightning.pipeline.teachers.two_stage_config import TrainTwoStageRun
from fer_lightning.training.distillation.config import DistillationConfig

Run = (
    TrainTeacherRun
    | DistillStudentRun
    | TrainTwoStageRun
    | EvaluateRun
    | ExportOnnxRun
    | BuildManifestRun
    | AuditManifestRun
    | CompareRunsRun
    | InspectSoftlabelsRun
    | TriageRun
    | ArchiveRun
    | SummariseRun
)

RUN_TYPES: dict[str, type[Run]] = {
    "train_teacher": TrainTeacherRun,
    "check_training": CheckTrainingRun,
    "train_two_stage": TrainTwoStageRun,
    "leave_one_source_out": LeaveOneSourceOutRun,
    "distill_student": DistillStudentRun,
    "compare_students": CompareStudentsRun,
    "evaluate": EvaluateRun,
    "calibrate": CalibrateRun,
    "robustness": RobustnessRun,
    "store_logits": StoreLogitsRun,
    "import_logits": ImportLogitsRun,
    "fuse_ensemble": FuseEnsembleRun,
    "export_softlabels": ExportSoftlabelsRun,
    "inspect_softlabels": InspectSoftlabelsRun,
    "diagnose_alignment": DiagnoseAlignmentRun,
    "export_onnx": ExportOnnxRun,
    "build_manifest": BuildManifestRun,
    "audit_manifest": AuditManifestRun,
    "compare_runs": CompareRunsRun,
    "triage": TriageRun,
    "archive": ArchiveRun,
    "summarise": SummariseRun,
}

_HELP = """\
fer_lightning: from data sets on disk to a trusted FER model

usage: python -m fer_lightning [task=VERB] [+experiment=NAME] [group=OPTION] [key=value ...]

Verbs (task=...):   {verbs}
Start here:         python -m fer_lightning task=build_manifest
                    python -m fer_lightning +experiment=stageA_rn18 data=generated
One verb's options: python -m fer_lightning task=evaluate --help

== Groups (group=OPTION; source, experiment and sweep take a + in front) ==
{groups}

== Options (key=value) ==
{options}"""
_IN_AN_ARM = re.compile(r"arms\.([^.]+)\.(.+)")
_UNKNOWN_OPTION = re.compile(r"Could not override '([^']+)'")
_NO_LIST = re.compile(r"Error merging override \+*([^=]+)=(.*)\n.* is not a ListConfig")


def conf_dir() -> Path:
    """Return the folder of YAML files: `conf/` inside an installed wheel, or beside the package in a checkout."""
    package = Path(fer_lightning.__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def register_schemas() -> None:
    """Register every verb's run dataclass as `schema/<verb>`, so that YAML and overrides are checked against it."""
    store = ConfigStore.instance()
    for verb, run_type in RUN_TYPES.items():
        store.store(group="schema", name=verb, node=run_type, package="_global_")


def composition_message(error: HydraException | OmegaConfBaseException) -> str:
    """Return in one line what is wrong with a command line that does not compose."""
    unknown = _UNKNOWN_OPTION.match(str(error))
    if unknown:
        return _about_unknown(unknown[1])
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read; a value with spaces or signs takes quotes of its own: \"key='value'\""
    text = "\n".join([str(error), *([str(error.__cause__)] if error.__cause__ else [])])
    no_list = _NO_LIST.match(text)
    if no_list:
        return "{0} takes a list: '{0}=[{1}]'".format(*no_list.groups())
    said = []
    for line in text.splitlines():
        if line.startswith("Config search path"):
            break
        if line.strip() and not line.strip().startswith(("full_key:", "reference_type=", "object_type=", "To append")):
            said.append(line.strip())
    return " ".join(dict.fromkeys(said)).removeprefix("Error merging override ")


def _about_arms(option: str) -> str | None:
    """Return what to do about an option of `task=compare_students` whose keys people name; None for any other one."""
    if option.startswith("comparison.starts"):
        return "an arm that starts from another is added: +comparison.starts.ARM=<arm>"
    in_an_arm = _IN_AN_ARM.fullmatch(option)
    if in_an_arm is None:
        return None
    arm, known = in_an_arm[1], [field.name for field in dataclasses.fields(DistillationConfig)]
    if in_an_arm[2] in known:
        return f"there is no arm {arm}: +distillation@arms.{arm}=<option> adds it"
    near = difflib.get_close_matches(in_an_arm[2], known, n=1)
    return f"unknown option {option}; {f'did you mean arms.{arm}.{near[0]}?' if near else '--help lists the options'}"


def _about_unknown(option: str) -> str:
    arms = _about_arms(option)
    if arms is not None:
        return arms
    options = {verb: _dotted_keys(OmegaConf.structured(kind)) for verb, kind in RUN_TYPES.items()}
    owners = [verb for verb, keys in options.items() if option in keys]
    if owners:
        return f"{option} is no option of this task; it belongs to task={' or task='.join(owners)}"
    near = difflib.get_close_matches(option, sorted({key for keys in options.values() for key in keys}), n=1)
    return f"unknown option {option}; {f'did you mean {near[0]}?' if near else '--help lists the options'}"


def _dotted_keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for key in map(str, config):
        below = config._get_node(key)
        inside = _dotted_keys(below, f"{prefix}{key}.") if isinstance(below, DictConfig) else []
        keys += inside or [f"{prefix}{key}"]
    return keys


def help_text(overrides: Sequence[str]) -> str:
    """Return the page of `--help`: verbs, groups, and the options of one verb with the values they would have.

    Hydra's own page lists groups in seconds where this takes a tenth of one.

    Args:
        overrides: the rest of the command line, such as `task=evaluate`.

    Raises:
        FerError: an override that does not compose.
    """
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise FerError(composition_message(error)) from error
    groups: dict[str, list[str]] = {}
    for file in sorted(conf_dir().glob("*/*.yaml")):
        groups.setdefault(file.parent.name, []).append(file.stem)
    listed = "\n".join(f"{group}: {', '.join(options)}" for group, options in groups.items())
    return _HELP.format(verbs="  ".join(RUN_TYPES), groups=listed, options=OmegaConf.to_yaml(config))


def to_run(config: DictConfig) -> Run:
    """Turn a composed config into its typed run.

    Args:
        config: composed by Hydra from `conf/`.

    Returns:
        The run dataclass of `config.task`; every `__post_init__` check has passed.

    Raises:
        FerError: a value is missing or refused.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise FerError(f"required and not set: {', '.join(f'{key}=<value>' for key in missing)}")
    try:
        _check_each_arm(config)
        run = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise FerError(str(error).splitlines()[0]) from error
    except ValueError as error:
        raise FerError(str(error)) from error
    if not isinstance(run, Run):
        raise FerError(f"task must be one of {', '.join(RUN_TYPES)}")
    _refuse_unknown(config, run)
    _refuse_non_finite(config)
    return run


def _check_each_arm(config: DictConfig) -> None:
    """Refuse a faulty arm of a comparison by the name of its option, which the arm's own checks do not know."""
    arms = config.get("arms")
    for arm, lesson in arms.items() if isinstance(arms, DictConfig) else ():
        if not isinstance(lesson, DictConfig):
            continue
        try:
            OmegaConf.to_object(lesson)
        except OmegaConfBaseException:
            raise  # told as of any other option
        except ValueError as error:
            raise FerError(str(error).replace("distillation.", f"arms.{arm!s}.")) from error


def _refuse_unknown(config: DictConfig, run: object, prefix: str = "") -> None:
    """Refuse options that no dataclass has: a `+` in front of a misspelt one lets it through to here, without effect."""
    known = [field.name for field in dataclasses.fields(run)] if dataclasses.is_dataclass(run) else None
    for key in map(str, config):
        if known is not None and key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known here: {', '.join(known)}"
            raise FerError(f"unknown option {prefix}{key}; {hint}")
        below = config.get(key)
        if isinstance(below, DictConfig):
            member = getattr(run, key) if known is not None else run[key]  # type: ignore[index]
            _refuse_unknown(below, member, f"{prefix}{key}.")


def _refuse_non_finite(config: DictConfig, prefix: str = "") -> None:
    """Refuse nan and inf anywhere: a comparison with nan passes no range check and fails none."""
    for key, value in config.items():
        if isinstance(value, DictConfig):
            _refuse_non_finite(value, f"{prefix}{key!s}.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise FerError(f"{prefix}{key!s} must be a finite number, got {value}")
