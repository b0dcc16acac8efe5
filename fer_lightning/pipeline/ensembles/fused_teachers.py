"""The teachers that are to be fused: opened with their logits on val and test, and the folder of their ensemble."""

import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError, NoRowsError
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun
from fer_lightning.pipeline.ensembles.folder import check_free, ensemble_name
from fer_lightning.pipeline.evaluation.config import EvaluationTarget
from fer_lightning.pipeline.logits.model_files import ModelFile, refuse_twins
from fer_lightning.pipeline.logits.teacher_models import TeacherModel, open_teachers
from fer_lightning.pipeline.logits.teacher_scores import TeacherScores, teacher_scores
from fer_lightning.pipeline.rows.evaluation_rows import refuse_changes
from fer_lightning.runs.artifacts import ONNX_RECORD_FILE, OnnxExport, read_artifact
from fer_lightning.runs.config import RunConfig

if TYPE_CHECKING:
    from fer_lightning.runs.stored_logits import StoredLogits

log = logging.getLogger(__name__)

_TEACHERS = "ensemble.teachers"
_SETTLED = ("slices", "target_risks", "gates")


class _Remembered:
    """What spares the next job of a sweep a look at the manifest."""

    without_test: TeacherScores | None = None
    """Logits of val rows whose manifest has no test rows."""


@dataclass(frozen=True)
class FusedTeachers:
    """Teachers with their logits, and the folder of their ensemble."""

    models: tuple[TeacherModel, ...]
    splits: "list[list[StoredLogits]]"
    """Val, then test where it is judged: of each teacher."""
    folder: Path

    def check_free(self, run: FuseEnsembleRun) -> None:
        """Refuse the folder if it holds this ensemble already, or another one."""
        digests = {
            model.name: stored.record.checkpoint_sha256
            for model, stored in zip(self.models, self.splits[0], strict=True)
        }
        fingerprints = [split[0].record.row_set_fingerprint for split in self.splits]
        check_free(self.folder, run, digests, fingerprints, self._nlls)

    def _nlls(self) -> dict[str, list[float]]:
        """Return each teacher's NLL, split by split."""
        from fer_lightning.functional.reliability import negative_log_likelihood  # torch

        return {
            model.name: [
                float(negative_log_likelihood(split[place].logits.double().log_softmax(dim=1), split[place].labels))
                for split in self.splits
            ]
            for place, model in enumerate(self.models)
        }

    def same_logits(self) -> list[tuple[str, str]]:
        """Return pairs of teachers with the very same logits on val, such as a best epoch that is also the last one."""
        pairs = itertools.combinations(zip(self.models, self.splits[0], strict=True), 2)
        return [(one.name, other.name) for (one, mine), (other, its) in pairs if mine.logits.equal(its.logits)]


def _check_beforehand(run: FuseEnsembleRun) -> tuple[TeacherModel, ...]:
    """Refuse what can be known to fail without logits, and open the teachers."""
    heeded = RunConfig(
        root=run.run.root, tag=run.run.tag, on_existing=run.run.on_existing, unlock_stale=run.run.unlock_stale
    )
    refuse_changes(run.run, heeded, None, "run", "nothing is drawn")
    refuse_changes(
        run.evaluate, EvaluationTarget(), _SETTLED, "evaluate", "evaluate the ensemble's folder with task=evaluate"
    )
    if len(run.ensemble.teachers) < 2:
        raise FerError(
            f"{_TEACHERS}=[<run directory, checkpoint, ONNX file or stored logits>,...] takes at least two, got "
            f"{len(run.ensemble.teachers)}; one model is judged by task=evaluate"
        )
    models = open_teachers(run.ensemble.teachers, run.ensemble.names, option=_TEACHERS)
    networks = [(_network_of(one.model), one.given) for one in models if one.model is not None]
    refuse_twins(networks, option=_TEACHERS)
    return models


def _network_of(model: ModelFile) -> str:
    """Return the digest of the checkpoint that an ONNX file was exported from, going by the record beside it; else its own."""
    record = model.path.with_name(ONNX_RECORD_FILE)
    if model.path.suffix != ".onnx" or not record.is_file():
        return model.sha256
    sources = {one.sha256: one.checkpoint_sha256 for one in read_artifact(record, OnnxExport).files}
    return sources.get(model.sha256, model.sha256)


def _refuse_twins(models: tuple[TeacherModel, ...], val: TeacherScores) -> None:
    """Refuse one model under two paths: it would count twice, under two names."""
    digests = (stored.record.checkpoint_sha256 for stored in val.single)
    refuse_twins(zip(digests, (model.given for model in models), strict=True), option=_TEACHERS)


def _of_test(run: FuseEnsembleRun, models: tuple[TeacherModel, ...], val: TeacherScores) -> "list[StoredLogits] | None":
    """Return the teachers' logits on test; None where there are no test rows."""
    if _Remembered.without_test is not val:
        try:
            return teacher_scores(run, models, "test", option=_TEACHERS).single
        except NoRowsError as error:
            log.info("judged on val alone: %s", error)
            _Remembered.without_test = val
        except FerError as error:
            if all(model.model is not None for model in models):
                raise
            raise FerError(
                f"{error}\nStore those of the test rows too, or leave test out: ensemble.judge_test=false"
            ) from error
    return None


def open_fused_teachers(run: FuseEnsembleRun) -> FusedTeachers:
    """Open the teachers of an ensemble on its rows, and find its folder.

    Raises:
        FerError: no teachers, teachers of other rows, or options without effect.
    """
    models = _check_beforehand(run)
    val = teacher_scores(run, models, "val", option=_TEACHERS)
    _refuse_twins(models, val)
    test = _of_test(run, models, val) if run.ensemble.judge_test else None
    given = run.evaluate.output_dir
    parent = Path(run.run.root) / "ensembles" if given is None else Path(given)
    name = ensemble_name(run, [model.name for model in models], val.single[0].record.row_set_fingerprint)
    return FusedTeachers(models, [val.single, *([] if test is None else [test])], parent / name)
