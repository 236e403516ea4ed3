"""The wheel alone, installed in a fresh environment, beside modules of a user that have the names of ours."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from baozi.commands import TOOLS, app_with
from baozi.errors import ExitCode
from tests.integration.place import Place
from tests.integration.test_readme import blocks
from tests.unit.test_dependencies import OPTIONAL
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
#: What the wheel contains, and what it does not, because a user's own module may have the name.
IN_IT = {"baozi", "remote_mp"}
NOT_IN_IT = ["tasks", "producers", "cli", "local_mp", "side_by_side", "benchmarks", "tests"]

pytestmark = pytest.mark.timeout(600)


def run(
    command: list[str | Path], where: Path, environment: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` in ``where`` with nothing of this environment's Python."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BAOZI_", "PYTHON", "VIRTUAL_ENV"))
    }
    return subprocess.run(
        command,
        cwd=where,
        env={**kept, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def done_well(command: list[str | Path], where: Path) -> None:
    done = run(command, where, timeout=400)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    build: list[str | Path] = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    done_well([*build, "--wheel-dir", folder, ROOT], folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment in which only the wheel and what it declares are installed."""
    environment = tmp_path_factory.mktemp("environment")
    done_well([sys.executable, "-m", "venv", environment], environment)
    # The versions that are tested; only what the wheel declares is installed.
    versions = re.findall(r"^\S+==\S+", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    constraints = environment / "constraints.txt"
    constraints.write_text("\n".join(versions))
    install: list[str | Path] = [
        environment / "bin" / "pip",
        "install",
        "--quiet",
        "--constraint",
        constraints,
    ]
    done_well([*install, wheel], environment)
    return environment / "bin"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder with modules that have the names of ours, and may be imported by the user alone."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in NOT_IN_IT:
        (folder / f"{name}.py").write_text(f"print('{name} of the user')\n")
    return folder


@pytest.fixture(params=["baozi", "python -m baozi", "PYTHONPATH"])
def command(
    request: pytest.FixtureRequest, scripts: Path, project: Path
) -> tuple[list[str | Path], dict[str, str]]:
    """Each way to start the command; with the last two, the user's modules come before all others."""
    if request.param == "PYTHONPATH":
        return [scripts / "baozi"], {"PYTHONPATH": str(project)}
    return [scripts / "baozi"] if request.param == "baozi" else [scripts / "python", "-m", "baozi"], {}


Command = tuple[list[str | Path], dict[str, str]]


def test_the_wheel_contains_the_library_and_nothing_whose_name_a_user_s_module_may_have(wheel: Path) -> None:
    inside = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in inside if ".dist-info/" not in name} == IN_IT
    assert {f"baozi/locale/zh/LC_MESSAGES/baozi.{it}" for it in ("mo", "po")} <= set(inside)
    for package in IN_IT:
        ours = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert ours <= set(inside)


def test_its_help_shows_the_library_s_commands_only(command: Command, project: Path) -> None:
    program, environment = command
    done = run([*program, "--help"], project, environment)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert "of the user" not in done.stdout
    listed = set(re.findall(r"^  (\w+) {2,}\S", done.stdout.partition("Commands:")[2], re.MULTILINE))
    assert {"audit", "dead", "broker", "ledger"} <= listed
    assert not listed & set(TOOLS)


@pytest.mark.parametrize("more", [[], ["--help"], ["--count", "3"], ["anything"]], ids=" ".join)
def test_a_command_of_the_repository_says_in_one_sentence_where_it_is(
    command: Command, project: Path, more: list[str]
) -> None:
    program, environment = command
    for tool in TOOLS if not more else list(TOOLS)[:2]:
        done = run([*program, tool, *more], project, environment)
        sentence = f"`baozi {tool}` is not in the installed package: it runs in a clone of the repository.\n"
        assert (done.returncode, done.stdout, done.stderr) == (ExitCode.USAGE, "", sentence)


def test_in_a_clone_uv_run_has_the_demo(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".*", "__pycache__", "docs", "tests"))
    uv = Path(sys.executable).parent / "uv"
    done = run([uv, "run", "--no-progress", "baozi", "demo", "--help"], clone, timeout=400)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "Start three producers, two workers and Flower" in done.stdout
    imported = run([uv, "run", "--no-sync", "python", "-c", "import flower, tasks"], clone)
    assert imported.returncode == 0, imported.stderr


def test_an_unknown_command_is_still_unknown(scripts: Path, project: Path) -> None:
    done = run([scripts / "baozi", "knead"], project)
    assert done.returncode == ExitCode.USAGE
    assert "'knead'" in done.stderr


def test_the_repository_has_all_that_the_wheel_says_it_has() -> None:
    app = app_with(TOOLS)
    commands = {one.name for one in app.registered_commands}
    assert set(TOOLS) <= commands | {group.name for group in app.registered_groups}
    assert not any(one.hidden for one in app.registered_commands)


def test_an_audit_is_the_same_from_the_wheel(scripts: Path, project: Path, private_place: Place) -> None:
    place = private_place
    environment = place.environment()
    upgraded = run([scripts / "baozi", "ledger", "upgrade"], project, environment)
    assert upgraded.returncode == 0, upgraded.stderr
    place.worker("w")
    place.produce("r", "a", 3)
    wait_until(lambda: place.eaten("r") == 3, "the three to be eaten", timeout=60)
    done = run([scripts / "baozi", "audit", "r", "--wait", "30"], project, environment)
    assert done.returncode == 0, done.stderr
    assert "run r: 3 accepted, 3 eaten, 0 lost, 0 duplicated" in done.stdout
    dead = run([scripts / "baozi", "dead", "list"], project, environment)
    assert (dead.returncode, dead.stdout) == (0, "There are no dead letters.\n")


def test_the_readme_s_queue_runs_beside_the_user_s_modules(
    scripts: Path, project: Path, private_place: Place
) -> None:
    (program,) = [block for block in blocks("python") if "remote_mp" in block]
    imports = "".join(f"    import {name}\n" for name in NOT_IN_IT)
    (project / "program.py").write_text(program.replace('"__main__":\n', f'"__main__":\n{imports}'))
    done = run([scripts / "python", "program.py"], project, private_place.environment())
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert sorted(line for line in said if "of the user" in line) == sorted(
        f"{it} of the user" for it in NOT_IN_IT
    )
    eaten = [f"吃了 第{number}个包子" for number in range(10)]
    assert [line for line in said if "of the user" not in line] == [*eaten, "主进程"]


def test_what_is_declared_is_all_that_the_wheel_needs(scripts: Path, project: Path) -> None:
    every = "import importlib, pkgutil, baozi, remote_mp\n"
    every += "for package in (baozi, remote_mp):\n"
    every += "    for it in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
    # Alembic alone runs the migrations. The others are for users of an extra.
    optional = [name.removesuffix(".py").replace("/", ".") for name in OPTIONAL]
    every += f"        if '.ledger_migrations.' not in it.name and it.name not in {optional}:\n"
    every += "            importlib.import_module(it.name)\n"
    done = run([scripts / "python", "-P", "-c", every], project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
