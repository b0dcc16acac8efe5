"""The stand-in for torchvision's compiled operators, each case in a process of its own: imports happen once."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str) -> str:
    """Run code in a fresh process and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_timm_imports_in_a_fresh_process() -> None:
    assert run_python("import fer_lightning, timm; print(timm.is_model('resnet18'))") == "True"


def test_importing_the_package_costs_no_torch() -> None:
    code = "import sys, fer_lightning; print([m for m in ('torch', 'torchvision', 'timm') if m in sys.modules])"
    assert run_python(code) == "[]"


def test_it_watches_once_and_leaves() -> None:
    code = """
import sys, fer_lightning
from fer_lightning import torchvision_ops as ops
ops.install()
before = sys.meta_path.count(ops._BeforeTorchvision)
import torchvision
ops.install()
print(before, sys.meta_path.count(ops._BeforeTorchvision))
"""
    assert run_python(code) == "1 0"


def test_without_torchvision_it_does_nothing() -> None:
    code = """
import importlib.machinery, importlib.util, sys
import fer_lightning
find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = staticmethod(
    lambda name, *rest: None if name == "torchvision" else find(name, *rest))
try:
    import torchvision
except ModuleNotFoundError as error:
    from fer_lightning import torchvision_ops as ops
    print(error.name, "torch" in sys.modules, ops._kept_alive)
"""
    assert run_python(code) == "torchvision False []"


def test_beside_a_healthy_torchvision_it_declares_nothing(tmp_path: Path) -> None:
    (tmp_path / "_C.so").touch()
    code = f"""
import pathlib, torch
from fer_lightning import torchvision_ops as ops
loaded = []
torch.ops.load_library = loaded.append
ops._declare_missing_ops(pathlib.Path({str(tmp_path)!r}))
ops._declare_missing_ops(pathlib.Path({str(tmp_path / "empty")!r}))
print(len(loaded), ops._kept_alive, hasattr(torch.ops.torchvision, "nms"))
"""
    assert run_python(code) == "1 [] False"


def test_beside_a_broken_torchvision_it_declares_the_operators(tmp_path: Path) -> None:
    (tmp_path / "_C.so").write_text("not a library")
    code = f"""
import pathlib, torch
from fer_lightning import torchvision_ops as ops
ops._declare_missing_ops(pathlib.Path({str(tmp_path)!r}))
print(len(ops._kept_alive), torch.ops.torchvision.nms.default._schema)
"""
    assert run_python(code) == "1 torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
