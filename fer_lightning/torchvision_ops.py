"""Lets timm, torchmetrics and lightning import beside a CPU build of torch.

PyPI's torchvision is a CUDA build: its compiled operators do not load beside a CPU build of torch, and its Python files
then fail at import with `operator torchvision::nms does not exist`. Declaring the two schemas they register is enough;
nothing here calls the operators. Where torchvision is healthy this does nothing.
"""

import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept_alive: list[object] = []


class _BeforeTorchvision:
    """Sees the first import of torchvision, whoever asks for it, and leaves finding it to Python."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == "torchvision":
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not _BeforeTorchvision]
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec is not None and spec.origin is not None:
                _declare_missing_ops(Path(spec.origin).parent)


def _declare_missing_ops(package: Path) -> None:
    import torch  # torchvision is about to import it anyway

    compiled = [file for pattern in ("_C*.so", "_C*.pyd", "_C*.dylib") for file in package.glob(pattern)]
    try:
        for file in compiled:
            torch.ops.load_library(str(file))  # type: ignore[no-untyped-call]
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _kept_alive.append(library)


def install() -> None:
    """Watch for the first import of torchvision; costs nothing until then."""
    if "torchvision" not in sys.modules and _BeforeTorchvision not in sys.meta_path:
        sys.meta_path.insert(0, _BeforeTorchvision)
