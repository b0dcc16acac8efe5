"""What a run directory tells about the rows of its run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import AlignmentReport, read_artifact
from fer_lightning.runs.run_dir import read_config
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod


@dataclass(frozen=True)
class RunRecord:
    """What a run recorded about its rows."""

    run_dir: Path
    data: DataConfig
    source_filter: SourceFilterConfig
    calibration: CalibrationConfig
    alignment: AlignmentReport

    def data_as_now(self, now: DataConfig, *, manifest: str | None, root: str | None) -> DataConfig:
        """Return the recorded row options with places as they are now.

        Args:
            now: whose cache folder and processes are used.
            manifest: where the run's manifest is.
            root: folder of its pictures.
        """
        places = {"manifest": manifest, "root": root, "cache_dir": now.cache_dir, "num_workers": now.num_workers}
        return DataConfig(**{**vars(self.data), **places})


def read_run_record(run_dir: Path) -> RunRecord | None:
    """Read what a run recorded.

    Args:
        run_dir: folder of a model file.

    Returns:
        The record; None where the folder is no directory of a run that got as far as its rows.

    Raises:
        FerError: the record is damaged or of another version.
    """
    if not all((run_dir / name).is_file() for name in ("config.yaml", "alignmentreport.json")):
        return None
    values = read_config(run_dir)
    try:
        calibration: dict[str, Any] = {
            **values["calibration"],
            "method": CalibrationMethod(values["calibration"]["method"]),
        }
        return RunRecord(
            run_dir=run_dir,
            data=DataConfig(**values["data"]),
            source_filter=SourceFilterConfig(**values["source_filter"]),
            calibration=CalibrationConfig(**calibration),
            alignment=read_artifact(run_dir / "alignmentreport.json", AlignmentReport),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FerError(f"{run_dir / 'config.yaml'} is not the record of a run of this version: {error!r}") from error
