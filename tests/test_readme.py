"""The README's tree: a row for each file, a file for each row."""

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
_ROW = re.compile(r"^\| `([^`]+)` \| (.+) \|$", re.MULTILINE)


def test_the_tree_has_one_described_row_per_file() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    files = {name for name in listed if name and (REPOSITORY / name).exists()}
    files = {name for name in files if not (name.startswith("tests/") and name.endswith("__init__.py"))}
    tree = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## The tree")[2]
    rows = _ROW.findall(tree)
    assert {name for name, _ in rows} == files
    assert all(len(description) > 8 for _, description in rows)
