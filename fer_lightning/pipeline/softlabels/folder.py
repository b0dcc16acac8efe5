"""The folder of an export: its name, and what lies there already: nothing, a part of the same export, or another one."""

from pathlib import Path

from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.pipeline.logits.config import LogitsType
from fer_lightning.pipeline.softlabels.config import ExportSoftlabelsRun
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.config import OnExisting
from fer_lightning.runs.softlabel_proofs import FILES
from fer_lightning.runs.softlabels import ALIGNMENT_FILE, HASH_FILE, HashManifest, SoftLabels
from fer_lightning.runs.softlabels_file import read_softlabels

_REQUEST = (
    "manifest_sha256",
    "splits",
    "row_set_fingerprints",
    "row_digest",
    "dtype",
    "views",
    "ensemble_sha256",
    "space",
    "ensemble_temperature",
    "teachers",
    "teacher_temperatures",
    "canonicals",
    "class_order",
)
_SAME_LOGITS = 2e-3  # of the largest one: float16, other batches and kernels stay below it


def softlabels_name(run: ExportSoftlabelsRun, source_name: str, fingerprints: dict[str, str]) -> str:
    """Return the name of an export's folder, e.g. `RN18+B3_logit_0.7-0.3__train-1a2b3c4d`.

    Args:
        run: the typed run.
        source_name: of the ensemble, or of the teacher's run.
        fingerprints: split -> row-set fingerprint.
    """
    options = run.softlabels
    crops = f"crops{options.crops}_s{options.crop_scale_min!r}_r{options.crop_ratio_max!r}_seed{run.run.seed}"
    parts = [
        source_name,
        "+".join(f"{split}-{fingerprint[:8]}" for split, fingerprint in fingerprints.items()),
        "flip" if options.flip else None,
        crops if options.crops else None,
        None if options.dtype is LogitsType.float16 else options.dtype.value,
        run.run.tag,
    ]
    return "__".join(part for part in parts if part)


def _differences(recorded: HashManifest, now: HashManifest) -> list[str]:
    return [
        f"{name}: recorded {getattr(recorded, name)}, now {getattr(now, name)}"
        for name in _REQUEST
        if getattr(recorded, name) != getattr(now, name)
    ]


def _check_logits(folder: Path, now: SoftLabels) -> None:
    """Hold a finished export against what would be exported now, after every digest in it."""
    finished = read_softlabels(folder, option="run.on_existing=resume")
    pairs = [
        (finished.logits, now.logits),
        (finished.view_logits, now.view_logits),
        (finished.teacher_logits, now.teacher_logits),
    ]
    differing = [
        (mine - its).abs() > _SAME_LOGITS * float(its.abs().max())
        for mine, its in pairs
        if mine is not None and its is not None
    ]
    count = sum(int(each.sum()) for each in differing)
    if count:
        raise FerError(
            f"{folder} is whole, but {count} of its {sum(each.numel() for each in differing)} logits are not those that would be "
            "exported now: pictures have changed since, or were seen by another device. Keep both with run.tag=<name>, or remove "
            "the folder to export again"
        )


def check_free(folder: Path, now: SoftLabels, *, on_existing: OnExisting) -> None:
    """Refuse a folder that holds this export already, or another one; what an interrupted one has left is no obstacle.

    Args:
        folder: of the export.
        now: what is going to be written; digests of files aside.
        on_existing: `resume` computes every digest of a finished export again, and compares its logits, before it says that nothing
            is left to do.

    Raises:
        FinishedRunError: it holds this very export, and everything in it holds.
        FerError: it holds another one, this one without `run.on_existing=resume`, this one of other logits, or a damaged one.
    """
    items = sorted(item.name for item in folder.iterdir() if not item.name.startswith(".")) if folder.is_dir() else []
    strange = [name for name in items if name not in FILES]
    if strange and HASH_FILE not in items:
        raise FerError(
            f"{folder} holds files but no soft labels ({', '.join(strange[:5])}); choose another run.tag or run.root"
        )
    if HASH_FILE not in items:
        return
    differing = _differences(read_artifact(folder / HASH_FILE, HashManifest), now.record)
    if differing:
        listed = "\n  ".join(differing)
        raise FerError(f"{folder} holds another export:\n  {listed}\nKeep both with run.tag=<name>")
    if ALIGNMENT_FILE not in items:
        return
    if on_existing is OnExisting.fail:
        raise FerError(
            f"{folder} holds this very export already. Check its digests with run.on_existing=resume, or keep another one beside "
            "it with run.tag=<name>"
        )
    _check_logits(folder, now)
    raise FinishedRunError(f"{folder} is complete, and every digest in it holds; nothing is left to do")
