"""A run's row in TensorBoard's hparams view: its options and final figures, so that what differs between runs comes first."""

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

Plain = str | int | float | bool | None | list[str] | list[float]


def _shown(value: Plain) -> str | float:
    """Return an option as the view takes it: numbers as they are, everything else as text, nothing left out."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return value if isinstance(value, int | float) else str(value)


def log_hparams_row(logger: TensorBoardLogger, options: Mapping[str, Plain], figures: Mapping[str, float]) -> None:
    """Log a finished run's options and final figures.

    The list of columns that the library writes with each run is left out: TensorBoard would take that of an arbitrary run
    and show its first five options by name, where it otherwise looks at all runs and shows those that differ.

    Args:
        logger: of the run.
        options: dotted key -> value.
        figures: name of the scalar -> value.
    """
    logger.log_hyperparams(dict(options))
    logger.log_metrics(dict(figures))
    shown = {option: _shown(value) for option, value in options.items()}
    _, start, end = hparams(shown, dict(figures))  # type: ignore[no-untyped-call]
    writer = logger.experiment._get_file_writer()
    writer.add_summary(start)
    writer.add_summary(end)
