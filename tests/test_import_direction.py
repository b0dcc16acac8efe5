"""Imports point down: every module's imports, those inside functions included, are read and judged."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fer_lightning

PACKAGE = Path(fer_lightning.__file__).parent
MODULES = {
    ".".join(("fer_lightning", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
LINES = {
    "bottom": 0,
    "functional": 1,
    "data": 2,
    "models": 2,
    "runs": 3,
    "deploy": 4,
    "reports": 4,
    "training": 5,
    "pipeline": 6,
    "config": 7,
    "launch": 8,
    "__main__": 9,
}
BOTTOM = {"fer_lightning", "allocator", "labels", "errors", "files", "torchvision_ops"}
ONLY_IN = {
    "timm": ("fer_lightning.models",),
    "lightning": ("fer_lightning.data.datamodule", "fer_lightning.training", "fer_lightning.pipeline"),
    "hydra": ("fer_lightning.config", "fer_lightning.launch", "fer_lightning.__main__"),
    "omegaconf": ("fer_lightning.config", "fer_lightning.launch", "fer_lightning.__main__"),
    "optuna": ("fer_lightning.launch",),
}
FUNCTIONAL_MAY_IMPORT = {"torch", "numpy", "scipy"}


def room_of(module: str) -> str:
    """Return the room of a module of the package: its first name below the package."""
    name = module.split(".")[1] if "." in module else module
    return "bottom" if name in BOTTOM else name


def is_in(module: str, places: tuple[str, ...]) -> bool:
    """Whether a module is one of some modules or packages, or inside one."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def imports_of(module: str, tree: ast.AST, *, is_package: bool = False) -> Iterator[str]:
    """Yield the full dotted name of everything imported anywhere in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            kept = len(parents) - node.level + is_package
            base = ".".join([*parents[:kept], *filter(None, [node.module])]) if node.level else str(node.module)
            for alias in node.names:
                below = f"{base}.{alias.name}"
                yield below if below in MODULES or base == "fer_lightning" else base


def json_writers(tree: ast.AST) -> Iterator[str]:
    """Yield every use of the standard library's JSON writing."""
    names = {"json"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname for alias in node.names if alias.name == "json" and alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module == "json":
            yield from (alias.name for alias in node.names if alias.name in {"dump", "dumps", "JSONEncoder"})
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            yield from {node.attr} & {"dump", "dumps", "JSONEncoder"}


def _own_imports(module: str, imported: str) -> Iterator[str]:
    """Judge an import of this package."""
    room, other = room_of(module), room_of(imported)
    if other not in LINES:
        yield f"{module} imports {imported}, of no known room"
    elif other != room and LINES[other] >= LINES[room]:
        yield f"{module} imports {imported}, which is not below it"
    if room == "functional" and other not in {"functional", "bottom"}:
        yield f"{module} imports {imported}"
    if room == "functional" and other == "bottom" and imported != "fer_lightning.labels":
        yield f"{module} imports {imported}; functional takes labels only"
    if module.endswith(".config") and module.count(".") > 1 and not imported.endswith(".config"):
        yield f"{module} imports {imported}; a config imports configs only"


def _foreign_imports(module: str, imported: str) -> Iterator[str]:
    """Judge an import from elsewhere."""
    top = imported.split(".", maxsplit=1)[0]
    if top in sys.stdlib_module_names:
        return
    if top in ONLY_IN and not is_in(module, ONLY_IN[top]):
        yield f"{module} imports {top}, which belongs to {', '.join(ONLY_IN[top])}"
    if top == "pytorch_lightning":
        yield f"{module} imports pytorch_lightning; the package is called lightning"
    if room_of(module) == "functional" and top not in FUNCTIONAL_MAY_IMPORT:
        yield f"{module} imports {top}"
    if module.endswith(".config") and module.count(".") > 1:
        yield f"{module} imports {top}; a config imports the standard library and configs only"


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return what is wrong with a module's place and imports."""
    tree = ast.parse(source)
    found = []
    if {"utils", "util"} & set(module.split(".")):
        found.append(f"{module}: there is no utils")
    if room_of(module) not in LINES:
        return [*found, f"{module} is in no known room"]
    for imported in imports_of(module, tree, is_package=is_package):
        own = imported.split(".", maxsplit=1)[0] == "fer_lightning"
        found += _own_imports(module, imported) if own else _foreign_imports(module, imported)
    if room_of(module) != "runs":
        found += [f"{module} writes JSON ({name}); only runs does" for name in json_writers(tree)]
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    path = MODULES[module]
    assert violations(module, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py") == []


def test_every_room_is_seen() -> None:
    assert {room_of(module) for module in MODULES} == set(LINES)
    assert "fer_lightning.training.callbacks.run_lock" in MODULES


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fer_lightning.runs.bad", "from fer_lightning.training.optim import x"),
        ("fer_lightning.runs.bad", "def f():\n    import fer_lightning.pipeline.evaluate"),
        ("fer_lightning.runs.bad", "from ..training import optim"),
        ("fer_lightning.runs", "from ..training import optim"),
        ("fer_lightning.labels", "from fer_lightning import functional"),
        ("fer_lightning.errors", "from fer_lightning.config import to_run"),
        ("fer_lightning.models.bad", "from fer_lightning.data import canonical"),
        ("fer_lightning.data.bad", "from fer_lightning.models.classifier import Classifier"),
        ("fer_lightning.reports.bad", "from fer_lightning.deploy import onnx_export"),
        ("fer_lightning.deploy.bad", "from fer_lightning.reports.tables import text_table"),
        ("fer_lightning.pipeline.bad", "from fer_lightning import config"),
        ("fer_lightning.config", "from fer_lightning.__main__ import main"),
        ("fer_lightning.functional.bad", "import pandas"),
        ("fer_lightning.functional.bad", "from fer_lightning.errors import FerError"),
        ("fer_lightning.functional.bad", "from fer_lightning.data.config import DataConfig"),
        ("fer_lightning.data.config", "import numpy as np"),
        ("fer_lightning.training.config", "def f():\n    from torch import nn"),
        ("fer_lightning.training.config", "from fer_lightning.labels import EMOTIONS"),
        ("fer_lightning.pipeline.ensembles.config", "from fer_lightning.pipeline.logits.scores import ask"),
        ("fer_lightning.data.config", "from fer_lightning.training.config import StageConfig"),
        ("fer_lightning.runs.bad", "import timm.layers"),
        ("fer_lightning.runs.bad", "from lightning import Callback"),
        ("fer_lightning.training.bad", "from pytorch_lightning import Callback"),
        ("fer_lightning.data.rows.manifest", "import lightning"),
        ("fer_lightning.pipeline.bad", "from omegaconf import OmegaConf"),
        ("fer_lightning.pipeline.bad", "if True:\n    import hydra.core"),
        ("fer_lightning.data.bad", "import json\njson.dumps({})"),
        ("fer_lightning.data.bad", "import json as j\nj.dump({}, f)"),
        ("fer_lightning.data.bad", "from json import dump"),
        ("fer_lightning.data.utils", ""),
        ("fer_lightning.helpers.bad", ""),
        ("fer_lightning.data.bad", "from fer_lightning.helpers import x"),
    ],
)
def test_a_bad_module_is_found(module: str, source: str) -> None:
    is_package = module in MODULES and MODULES[module].name == "__init__.py"
    assert len(violations(module, source, is_package=is_package)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fer_lightning.runs.good", "import json\njson.dumps({})"),
        ("fer_lightning.data.good", "import json\njson.loads('{}')"),
        ("fer_lightning.data.good", "import yaml\nyaml.safe_dump({})"),
        ("fer_lightning.data.datamodule", "import lightning"),
        ("fer_lightning.models.good", "import timm"),
        ("fer_lightning.pipeline.config", "from enum import Enum\nfrom fer_lightning.data.config import DataConfig"),
        ("fer_lightning.training.good", "from fer_lightning.training.callbacks import run_lock"),
        ("fer_lightning.functional.good", "import math\nimport torch\nfrom fer_lightning.labels import EMOTIONS"),
        ("fer_lightning.functional.good", "from . import arcface"),
    ],
)
def test_a_good_module_passes(module: str, source: str) -> None:
    assert violations(module, source) == []
