"""What the README says, done."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from baozi.errors import ExitCode
from baozi.settings import Settings
from tests.integration.place import Place
from tests.integration.rabbitmq import queue_state
from tests.requirements import need
from tests.running import bash

ROOT = Path(__file__).parents[2]


def readme(name: str = "README.md") -> str:
    return (ROOT / name).read_text()


def blocks(language: str, name: str = "README.md") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", readme(name), re.MULTILINE | re.DOTALL)


def test_the_commands_by_hand_do_what_the_readme_says(tmp_path: Path) -> None:
    (script,) = [block for block in blocks("sh") if "celery" in block]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BAOZI_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = bash(script, 150, tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 accepted, 100 eaten, 0 lost, 0 duplicated" in done.stdout
    here = str(tmp_path)
    left = [one for one in psutil.process_iter(["cwd"]) if (one.info["cwd"] or "").startswith(here)]
    _, alive = psutil.wait_procs(left, timeout=30)
    assert not alive


def run_into_a_pipe(program: str, place: Place, home: Path) -> subprocess.CompletedProcess[str]:
    """Run it as a reader's shell does before ``| cat``: Python then buffers what is printed."""
    (home / "program.py").write_text(program)
    environment = {**os.environ, **place.environment()}
    environment.pop("PYTHONUNBUFFERED", None)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_a_multiprocessing_program_with_the_import_of_remote_mp_works(
    name: str, private_place: Place, tmp_path: Path
) -> None:
    (program,) = [block for block in blocks("python", name) if "remote_mp" in block]
    assert len(program.splitlines()) <= 17
    done = run_into_a_pipe(program, private_place, tmp_path)
    eaten = [f"吃了 第{number}个包子" for number in range(10)]
    assert done.stdout.splitlines() == [*eaten, "主进程"]
    assert queue_state(private_place.url, "remote_mp.q.baozi")[0] == 0


def test_the_code_of_the_readme_is_that_of_the_example_which_runs() -> None:
    # test_own_app.py runs the file.
    code, order = [block for block in blocks("python") if "reliable" in block]
    example = (ROOT / "examples" / "own_app" / "after.py").read_text()
    assert f"\n{code}" in example
    # test_how_to.py runs the page.
    assert any(f"\n{order}" in block for block in blocks("python", "docs/how-to/orders.md"))


def test_the_program_of_the_page_on_remote_mp_runs(private_place: Place, tmp_path: Path) -> None:
    (program,) = blocks("python", "docs/remote_mp.md")
    use = "\nq.put('包子')\nprint(q.get())\nq.task_done()\n"
    done = run_into_a_pipe(program + use, private_place, tmp_path)
    assert done.stdout == "包子\n"


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_every_make_target_that_a_readme_names_is_there(name: str) -> None:
    targets = set(re.findall(r"\bmake ([a-z-]+)\b(?=$|`)", readme(name), re.MULTILINE))
    assert {"demo", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_make_help_lists_each_target_with_a_word_on_it() -> None:
    listed = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^\.PHONY: (\S+)", makefile, re.MULTILINE):
        assert re.search(rf"make {target} +\w+", listed.stdout), target


def test_the_readme_lists_every_setting_with_its_default() -> None:
    table = dict(re.findall(r"^\| `BAOZI_(\w+)` \| ([^|]+) \|", readme(), re.MULTILINE))
    ours = {name: field for name, field in Settings.model_fields.items() if field.validation_alias is None}
    assert set(table) == {name.upper() for name in ours}
    for name, field in ours.items():
        said = table[name.upper()].strip()
        if isinstance(field.default, bool):
            assert said == str(field.default).lower(), name
        elif isinstance(field.default, int | float):
            assert float(said) == field.default, name


def test_the_readme_lists_every_exit_code() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \| ", readme(), re.MULTILINE)}
    assert codes == set(ExitCode)


def test_every_file_that_the_documents_link_to_is_there() -> None:
    need((ROOT / ".git").exists(), "this is no clone")
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
