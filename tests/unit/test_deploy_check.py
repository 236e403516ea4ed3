"""What `make up` says, in one sentence, before it starts anything: against programs that stand for docker."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: A docker that is well. What it says of each thing can be replaced.
WELL = {
    "version --format {{.Server.Version}}": "echo 29.0.1",
    "compose version --short": "echo 2.40.0",
    "volume inspect": "exit 0",
    "postgres:18": "echo 18",
    "rabbitmq:4.3-management": "echo \"quorum_queue, 'rabbitmq_4.0.0', 'rabbitmq_4.3.0'\"",
}


def check(folder: Path, **replaced: str) -> subprocess.CompletedProcess[str]:
    """Run it with a docker that says what ``WELL`` does, but for what is ``replaced``."""
    for program in ("bash", "sh", "sort", "head", "tail", "grep", "cat"):
        found = shutil.which(program)
        assert found
        (folder / program).symlink_to(found)
    if replaced.get("docker") != "none":
        names = dict(zip(("engine", "compose", "volume", "postgres", "rabbitmq"), WELL, strict=True))
        answers = WELL | {names[name]: answer for name, answer in replaced.items()}
        cases = "".join(f"  *'{asked}'*) {answer} ;;\n" for asked, answer in answers.items())
        docker = folder / "docker"
        docker.write_text(f'#!/bin/bash\ncase "$*" in\n{cases}esac\n')
        docker.chmod(0o755)
    return subprocess.run(
        [str(ROOT / "deploy" / "check")],
        env={**os.environ, "PATH": str(folder), "COMPOSE_PROJECT_NAME": "kitchen"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    "replaced",
    [
        {},
        {"engine": "echo 20.10.0", "compose": "echo v2.24.0"},
        {"volume": "exit 1", "postgres": "exit 9", "rabbitmq": "exit 9"},
        {"postgres": "true", "rabbitmq": "true"},
    ],
    ids=["as it should be", "as old as may be", "no volumes yet", "empty volumes"],
)
def test_a_machine_that_can_is_let_go_on_without_a_word(tmp_path: Path, replaced: dict[str, str]) -> None:
    done = check(tmp_path, **replaced)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"docker": "none"}, "There is no docker command: install "),
        ({"engine": "exit 1"}, "No Docker engine answers: start it"),
        ({"engine": "echo 19.03.15"}, "Docker Engine 19.03.15 is too old: 20.10 or later is needed."),
        ({"compose": "exit 1"}, "Docker has no Compose v2"),
        ({"compose": "echo 2.9.0"}, "Docker Compose 2.9.0 is too old: 2.24 or later is needed."),
        ({"postgres": "echo 17"}, "The volume kitchen_postgres has data of PostgreSQL 17, which 18 does not"),
        ({"postgres": "echo 19"}, "The volume kitchen_postgres has data of PostgreSQL 19, which 18 does not"),
        (
            {"rabbitmq": "echo quorum_queue, stream_queue"},
            "The volume kitchen_rabbitmq has data of RabbitMQ 3, which 4 does not read",
        ),
        (
            {"rabbitmq": "echo \"'rabbitmq_4.0.0', 'rabbitmq_5.0.0'\""},
            "The volume kitchen_rabbitmq has data of RabbitMQ 5, which 4 does not read",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence_and_exit_code_2(
    tmp_path: Path, replaced: dict[str, str], said: str
) -> None:
    done = check(tmp_path, **replaced)
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
