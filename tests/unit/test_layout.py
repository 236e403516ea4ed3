import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import need

ROOT = Path(__file__).parents[2]

#: Names by which a program reads its environment.
READERS = {"os.environ", "os.environb", "os.getenv", "os.getenvb"}
#: Where the machine keeps its programs, and the language of the reader, are not settings of ours.
NOT_SETTINGS = {"PATH", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"}
#: What makes a queue or an exchange in kombu.
DECLARERS = {f"kombu{module}.{name}" for module in ("", ".entity") for name in ("Queue", "Exchange")}


def tracked() -> list[Path]:
    need((ROOT / ".git").exists() and shutil.which("git") is not None, "this is not a git working tree")
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, check=True, capture_output=True)
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert len(paths) > 50
    return [path for path in paths if path.exists()]


def working_code() -> list[Path]:
    # An example is somebody's own program, with settings of its own.
    others = {"tests", "examples"}
    return [path for path in tracked() if others.isdisjoint(path.relative_to(ROOT).parts)]


class Names(ast.NodeVisitor):
    """What each name of a module stands for, by its imports: ``environ`` for ``os.environ``."""

    def __init__(self, tree: ast.AST) -> None:
        self.meanings: dict[str, str] = {}
        self.visit(tree)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            self.meanings[alias.asname or top] = alias.name if alias.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self.meanings[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"

    def of(self, node: ast.AST) -> str:
        """The full name of an expression such as ``os.environ``; empty for any other."""
        if isinstance(node, ast.Name):
            return self.meanings.get(node.id, "")
        if isinstance(node, ast.Attribute):
            owner = self.of(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""


def is_handed_on_whole(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether ``os.environ`` only goes to a child process: ``{**os.environ, …}`` or ``env=os.environ``."""
    parent = parents[node]
    if isinstance(parent, ast.Dict) and any(
        key is None and value is node for key, value in zip(parent.keys, parent.values, strict=True)
    ):
        parent = parents[parent]
    return isinstance(parent, ast.keyword) and parent.arg == "env"


def variable_read(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str | None:
    """The literal name that is read of the environment, if it is one."""
    parent = parents[node]
    if isinstance(parent, ast.Subscript) and isinstance(parent.slice, ast.Constant):
        return str(parent.slice.value)
    call = parents.get(parent) if isinstance(parent, ast.Attribute) else parent
    if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    return None


def reads_settings(source: str) -> bool:
    tree = ast.parse(source)
    names = Names(tree)
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(
            names.of(base).startswith("pydantic_settings.") for base in node.bases
        ):
            return True
        if names.of(node) in READERS and not (
            is_handed_on_whole(node, parents) or variable_read(node, parents) in NOT_SETTINGS
        ):
            return True
    return False


def declares_queues(source: str) -> bool:
    tree = ast.parse(source)
    names = Names(tree)
    return any(isinstance(node, ast.Call) and names.of(node.func) in DECLARERS for node in ast.walk(tree))


def relative(paths: Iterator[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_one_module_reads_settings() -> None:
    assert relative(path for path in working_code() if reads_settings(path.read_text(encoding="utf-8"))) == [
        "baozi/settings.py"
    ]


def test_one_module_declares_the_guarded_queues_and_one_those_of_remote_mp() -> None:
    assert relative(path for path in working_code() if declares_queues(path.read_text(encoding="utf-8"))) == [
        "baozi/topology.py",
        "remote_mp/topology.py",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['BAOZI_HOME']",
        "import os\nos.environ.get('BAOZI_HOME', '')",
        "import os as system\nsystem.getenv('BAOZI_HOME')",
        "from os import environ\nhome = environ['BAOZI_HOME']",
        "from os import getenv\ngetenv('BAOZI_HOME')",
        "import os\nname = 'HOME'\nos.environ[name]",
        "import os\nall_of_it = dict(os.environ)",
        "import os\n'BAOZI_HOME' in os.environ",
        "import os\nhome = {**os.environ}['BAOZI_HOME']",
        "import os, subprocess\nsubprocess.run(['x'], env={'HOME': os.environ['BAOZI_HOME']})",
        "import os\nfor name in os.environ: print(name)",
        "from pydantic_settings import BaseSettings\nclass More(BaseSettings): pass",
        "import pydantic_settings as p\nclass More(p.BaseSettings): pass",
    ],
)
def test_a_second_module_that_reads_settings_is_found(source: str) -> None:
    assert reads_settings(source)


@pytest.mark.parametrize(
    "source",
    [
        "import os, subprocess\nsubprocess.run(['x'], env={**os.environ, 'A': 'b'})",
        "import os, subprocess\nsubprocess.run(['x'], env=os.environ)",
        "import os\nos.environ.get('PATH', '')",
        "import psutil\npsutil.Process().environ()",
        "environ = {}\nenviron['BAOZI_HOME']",
        "from baozi.settings import settings\nsettings().home",
    ],
)
def test_handing_the_environment_on_is_not_reading_settings(source: str) -> None:
    assert not reads_settings(source)


@pytest.mark.parametrize(
    ("source", "declares"),
    [
        ("from kombu import Queue\nq = Queue('baozi')", True),
        ("import kombu\nkombu.Exchange('baozi')", True),
        ("from kombu.entity import Exchange as E\nE('baozi')", True),
        ("from kombu import Exchange\nmode = Exchange.PERSISTENT_DELIVERY_MODE", False),
        ("from multiprocessing import Queue\nq = Queue(3)", False),
        ("from kombu import Queue\ndef declare(queue: Queue) -> None: pass", False),
    ],
)
def test_a_second_module_that_declares_queues_is_found(source: str, declares: bool) -> None:
    assert declares_queues(source) is declares


#: The packages whose classes have names of their own.
PACKAGES = ("baozi", "tasks", "producers", "local_mp", "remote_mp", "side_by_side", "benchmarks")


def classes(source: str) -> list[str]:
    return [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in working_code():
        place = path.relative_to(ROOT)
        if place.parts[0] in PACKAGES:
            for name in classes(path.read_text(encoding="utf-8")):
                places.setdefault(name, []).append(str(place))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
