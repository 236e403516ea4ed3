"""The pages that describe the code name files and folders that exist, and all folders."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.requirements import need

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: Its table of folders.
FOLDERS = CONTRIBUTING.partition("## Where things are")[2].partition("\n## ")[0]

#: The numbered lists of files, each one path through the code.
PATHS = [
    re.findall(r"^\d\. `([^`]+)`", block, re.MULTILINE)
    for block in ARCHITECTURE.split("\n\n")
    if block.startswith("1. ")
]
#: A file or folder, such as `baozi/order.py`, `deploy/` or, with a placeholder, `baozi/version_N.py`.
NAMED = re.compile(r"`([a-zA-Z_][\w.-]*/[\w./-]*)`")


def imported(path: Path) -> set[str]:
    """The files that the module at ``path`` may import, as paths from the root."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {f"{name.replace('.', '/')}.py" for name in found}


@pytest.mark.parametrize("page", [ARCHITECTURE, CONTRIBUTING], ids=["architecture", "contributing"])
def test_each_file_that_a_page_names_exists(page: str) -> None:
    named = {name for name in NAMED.findall(page) if "version_N" not in name and "fuzz-failures" not in name}
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_each_path_has_at_most_five_files_and_goes_forward() -> None:
    assert len(PATHS) == 4
    for path in PATHS:
        assert 2 < len(path) <= 5
        for place, name in enumerate(path):
            assert imported(Path(name)).isdisjoint(path[:place]), f"{name} imports an earlier file"


def test_the_page_for_contributors_has_a_line_for_each_folder() -> None:
    need((ROOT / ".git").exists() and shutil.which("git") is not None, "this is not a git working tree")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    paths = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    folders = {f"{path.parts[0]}/" for path in paths if len(path.parts) > 1 and (ROOT / path).exists()}
    rows = re.findall(r"^\| `([\w./-]+/)` \|", FOLDERS, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert {name for name in rows if name.count("/") == 1} == folders
