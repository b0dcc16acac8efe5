"""Whether a run's final files belong to the checkpoints beside them."""

from pathlib import Path

from fer_lightning.files import sha256_of
from fer_lightning.runs.artifacts import OnnxExport, ReliabilityMetrics, read_artifact

_FINAL_FILES = ("reliabilitymetrics.json", "calibration.json", "best.onnx", "last.onnx", "onnx.json")


def final_files_match(run_dir: Path, *, onnx: bool) -> bool:
    """Return whether metrics (and ONNX files, where wanted) exist and name exactly the checkpoints on disk."""
    metrics_file, onnx_file = run_dir / "reliabilitymetrics.json", run_dir / "onnx.json"
    if not metrics_file.exists() or not (run_dir / "calibration.json").exists():
        return False
    metrics = read_artifact(metrics_file, ReliabilityMetrics)
    digests = {name: sha256_of(run_dir / name) for name in ("best.pt", "checkpoint_last.pt")}
    if {judged.checkpoint: judged.checkpoint_sha256 for judged in (metrics.best, metrics.last)} != digests:
        return False
    if not onnx:
        return True
    if not onnx_file.exists():
        return False
    exported = {parity.file: parity for parity in read_artifact(onnx_file, OnnxExport).files}
    return set(exported) == {"best.onnx", "last.onnx"} and all(
        (run_dir / name).exists()
        and sha256_of(run_dir / name) == parity.sha256
        and digests.get(parity.checkpoint) == parity.checkpoint_sha256
        for name, parity in exported.items()
    )


def discard_final_files(run_dir: Path) -> None:
    """Remove figures and exports of an earlier point of the run: its checkpoints have moved on."""
    for name in _FINAL_FILES:
        (run_dir / name).unlink(missing_ok=True)
