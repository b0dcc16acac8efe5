"""Refuses teachers that cannot be any, before anything slow."""

from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.runs.ensemble_file import check_network, ensemble_file, read_ensemble
from fer_lightning.runs.softlabels import ALIGNMENT_FILE, HASH_FILE, SOFTLABELS_FILE
from fer_lightning.training.distillation.config import DistillationConfig


def check_teacher_files(config: DistillationConfig) -> None:
    """Refuse a folder that holds no soft labels, or no ensemble.

    Raises:
        FerError: it does not, with what to do.
    """
    if config.softlabels is not None and config.distils:
        folder = Path(config.softlabels)
        folder = folder.parent if folder.is_file() else folder
        if not (folder / HASH_FILE).is_file() or not (folder / SOFTLABELS_FILE).is_file():
            raise FerError(
                f"distillation.softlabels: {folder} holds no soft labels; make them with task=export_softlabels "
                "softlabels.ensemble=<folder of an ensemble> data.manifest=<the student's manifest>"
            )
        if not (folder / ALIGNMENT_FILE).is_file():
            raise FerError(f"distillation.softlabels: {folder} is an export that was not finished; run it again")
    if config.ensemble is not None and config.distils:
        file = ensemble_file(Path(config.ensemble))
        check_network(read_ensemble(file, option="distillation.ensemble"), where=f"distillation.ensemble: {file}")
