"""What is imported is declared, and what is declared is what the lock files have."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
#: What the repository has in addition to the wheel.
BESIDE = ["tasks", "producers", "local_mp", "side_by_side", "benchmarks", "examples", "tests"]
#: The libraries whose internals baozi/amqp and baozi/upstream use.
CHANGED = ["amqp", "billiard", "celery", "kombu"]
#: The modules that import what an extra of the wheel has, and the extra.
OPTIONAL = {"baozi/testing/fixtures.py": "testing", "baozi/watch/site.py": "watch"}
LOCKS = ["requirements.lock", "requirements-dev.lock"]


def of_group(name: str) -> Iterator[Requirement]:
    for line in PYPROJECT["dependency-groups"][name]:
        if isinstance(line, dict):
            yield from of_group(line["include-group"])
        else:
            yield Requirement(line)


DEPENDENCIES = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
ALL = [*DEPENDENCIES, *of_group("dev")]


def names(requirements: list[Requirement]) -> set[str]:
    return {str(canonicalize_name(one.name)) for one in requirements}


def imported(source: str) -> set[str]:
    """The top-level names that ``source`` imports, in functions too; without relative imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def undeclared(sources: list[str], declared: set[str]) -> dict[str, list[str]]:
    """The third-party modules that are imported and not declared, with the distributions that have them."""
    modules = set().union(*map(imported, sources)) - {*sys.stdlib_module_names, *WHEEL, *BESIDE}
    owners = packages_distributions()
    return {
        module: owners.get(module, [])
        for module in modules
        if not declared & {str(canonicalize_name(owner)) for owner in owners.get(module, [])}
    }


def sources(folder: str) -> list[str]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [path.read_text() for path in paths if str(path.relative_to(ROOT)) not in OPTIONAL]


@pytest.mark.parametrize("folder", WHEEL)
def test_the_wheel_imports_nothing_that_its_dependencies_do_not_declare(folder: str) -> None:
    assert undeclared(sources(folder), names(DEPENDENCIES)) == {}


@pytest.mark.parametrize(("module", "extra"), OPTIONAL.items())
def test_a_module_for_an_extra_imports_nothing_that_the_extra_does_not_declare(
    module: str, extra: str
) -> None:
    declared = [Requirement(line) for line in PYPROJECT["project"]["optional-dependencies"][extra]]
    source = [(ROOT / module).read_text()]
    assert undeclared(source, names(DEPENDENCIES)) != {}
    assert undeclared(source, names([*DEPENDENCIES, *declared])) == {}


@pytest.mark.parametrize("folder", BESIDE)
def test_the_repository_imports_nothing_that_neither_the_dependencies_nor_a_group_declares(
    folder: str,
) -> None:
    assert undeclared(sources(folder), names(ALL)) == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import vine", {"vine"}),
        ("import vine.promises as p", {"vine"}),
        ("from vine.promises import promise", {"vine"}),
        ("def late():\n    import vine", {"vine"}),
        ("if TYPE_CHECKING:\n    from vine import promise", {"vine"}),
        ("from .vine import promise", set()),
        ("import json, celery\nfrom baozi import model", set()),
        ("import pytest", {"pytest"}),
        ("import not_installed_here", {"not_installed_here"}),
    ],
)
def test_an_import_that_is_not_declared_is_found(source: str, found: set[str]) -> None:
    assert set(undeclared([source], names(DEPENDENCIES))) == found


def locked(file: str) -> dict[str, Version]:
    pins = re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", (ROOT / file).read_text(), re.MULTILINE
    )
    return {str(canonicalize_name(name)): Version(version) for name, version in pins}


LOCKED = {file: locked(file) for file in LOCKS}


@pytest.mark.parametrize("requirement", DEPENDENCIES, ids=lambda one: one.name)
@pytest.mark.parametrize("file", LOCKS)
def test_each_dependency_is_locked_at_a_version_that_its_range_contains(
    file: str, requirement: Requirement
) -> None:
    assert LOCKED[file][canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("requirement", list(of_group("dev")), ids=lambda one: one.name)
def test_each_tool_is_locked_at_a_version_that_its_range_contains(requirement: Requirement) -> None:
    assert LOCKED["requirements-dev.lock"][canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("name", CHANGED)
def test_a_library_whose_internals_are_used_is_held_at_its_minor_release(name: str) -> None:
    (requirement,) = [one for one in DEPENDENCIES if one.name == name]
    version = LOCKED["requirements.lock"][name]
    assert Version(f"{version.major}.{version.minor}.{version.micro + 1}") in requirement.specifier
    assert Version(f"{version.major}.{version.minor + 1}") not in requirement.specifier
    assert Version(f"{version.major}.{version.minor - 1}") not in requirement.specifier


def overridden() -> list[str]:
    listed: list[dict[str, Any]] = PYPROJECT["tool"]["mypy"]["overrides"]
    return [module.partition(".")[0] for override in listed for module in override["module"]]


@pytest.mark.parametrize("module", overridden())
def test_mypy_is_told_only_of_modules_that_are_imported(module: str) -> None:
    everywhere = "".join(source for folder in [*WHEEL, *BESIDE] for source in sources(folder))
    assert re.search(rf"^\s*(import|from) {module}\b", everywhere, re.MULTILINE)
