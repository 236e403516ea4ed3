import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Who may know whom of the project's packages. Who is not named here may know everybody.
MAY_KNOW = {
    "baozi": {"baozi"},
    "tasks": {"tasks", "baozi"},
    "local_mp": {"local_mp", "baozi"},
    "producers": {"producers", "baozi", "tasks"},
    # Of tasks and producers, what a test below names.
    "remote_mp": {"remote_mp", "baozi", "producers", "tasks"},
}
OURS = {*MAY_KNOW, "side_by_side", "cli", "tests", "benchmarks"}
LOCAL_MODULES = sorted(path.stem for path in (ROOT / "local_mp").glob("*.py") if path.stem != "__main__")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parts[:1]) if node.level else ""
            yield package or node.module or ""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(MAY_KNOW))
def test_imports_go_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path)
        if (top := name.partition(".")[0]) in OURS and top not in MAY_KNOW[package]
    ]
    assert not wrong


def test_nothing_but_tests_imports_tests() -> None:
    everywhere = [path for package in OURS - {"tests", "cli"} for path in sources(package)]
    assert everywhere
    assert not [path for path in [*everywhere, ROOT / "cli.py"] if "tests" in set(imported(path))]


def test_remote_mp_knows_only_how_one_connects_publishes_with_confirms_and_reads_properties() -> None:
    names = {name for path in sources("remote_mp") for name in imported(path)}
    known = {name for name in names if name.partition(".")[0] in {"producers", "tasks"}}
    assert known == {
        "producers.confirmed",
        "producers.frames",
        "tasks.confirms",
        "tasks.connection",
        "tasks.decoding",
        "tasks.properties",
        "tasks.reading",
    }
    assert not {name for name in names if name.partition(".")[0] == "celery"}


@pytest.mark.parametrize("module", LOCAL_MODULES)
def test_local_mp_loads_neither_celery_nor_kombu(module: str) -> None:
    name = "local_mp" if module == "__init__" else f"local_mp.{module}"
    program = f"import sys, {name}; print({{'celery', 'kombu', 'amqp'}} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert loaded.stdout == "set()\n"
