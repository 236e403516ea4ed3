"""What `make up` says, in one sentence, before it starts anything: against programs that stand for docker."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.running import run

ROOT = Path(__file__).parents[2]

#: A docker that is well. What it says of each thing can be replaced.
WELL = {
    "version --format {{.Server.Version}}": "echo 29.0.1",
    "compose version --short": "echo 2.40.0",
    "volume inspect": "exit 0",
    "postgres:18": "echo 18",
    "rabbitmq:4.3-management": "echo \"quorum_queue, 'rabbitmq_4.0.0', 'rabbitmq_4.3.0'\"",
    "ps --quiet": "true",
}


PORTS = ("AMQP_PORT", "MANAGEMENT_PORT", "PROMETHEUS_PORT", "FLOWER_PORT")


def free_ports() -> dict[str, str]:
    """For each of the settings a port on which nothing listens."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return dict(zip(PORTS, ports, strict=True))


def check(
    folder: Path, ports: dict[str, str] | None = None, /, **replaced: str
) -> subprocess.CompletedProcess[str]:
    """Run it with a docker that says what ``WELL`` does, but for what is ``replaced``."""
    for program in ("bash", "sh", "sort", "head", "tail", "grep", "cat"):
        found = shutil.which(program)
        assert found
        (folder / program).symlink_to(found)
    if replaced.get("docker") != "none":
        kinds = ("engine", "compose", "volume", "postgres", "rabbitmq", "containers")
        names = dict(zip(kinds, WELL, strict=True))
        answers = WELL | {names[name]: answer for name, answer in replaced.items()}
        cases = "".join(f"  *'{asked}'*) {answer} ;;\n" for asked, answer in answers.items())
        docker = folder / "docker"
        docker.write_text(f'#!/bin/bash\ncase "$*" in\n{cases}esac\n')
        docker.chmod(0o755)
    return subprocess.run(
        [str(ROOT / "deploy" / "check")],
        env={**os.environ, "PATH": str(folder), "COMPOSE_PROJECT_NAME": "shop", **(ports or free_ports())},
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
def test_a_machine_with_all_requirements_continues_without_a_message(
    tmp_path: Path, replaced: dict[str, str]
) -> None:
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
        ({"postgres": "echo 17"}, "The volume shop_postgres has data of PostgreSQL 17, which 18 does not"),
        ({"postgres": "echo 19"}, "The volume shop_postgres has data of PostgreSQL 19, which 18 does not"),
        (
            {"rabbitmq": "echo quorum_queue, stream_queue"},
            "The volume shop_rabbitmq has data of RabbitMQ 3, which 4 does not read",
        ),
        (
            {"rabbitmq": "echo \"'rabbitmq_4.0.0', 'rabbitmq_5.0.0'\""},
            "The volume shop_rabbitmq has data of RabbitMQ 5, which 4 does not read",
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


@pytest.mark.parametrize("name", PORTS)
def test_a_port_in_use_is_named_with_the_setting_that_changes_it(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        done = check(tmp_path, free_ports() | {name: str(port)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Port {port} of 127.0.0.1 is in use: ")
    assert f"set {name} in .env" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_of_this_project_s_own_containers_is_no_obstacle(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ports = free_ports() | {"AMQP_PORT": str(listening.getsockname()[1])}
        done = check(tmp_path, ports, containers="echo 5f7a")
    assert (done.returncode, done.stderr) == (0, "")


def with_docker(folder: Path, exit_code: int) -> dict[str, str]:
    docker = folder / "docker"
    docker.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    docker.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COMPOSE_PROJECT_NAME": "shop"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "clone" / "deploy").mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "secrets", tmp_path / "clone" / "deploy")
    return tmp_path / "clone"


def make_secrets(clone: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run(["deploy/secrets"], timeout=30, folder=clone, environment=environment)


def test_no_new_passwords_are_made_where_the_ledger_s_volume_has_those_of_a_lost_file(
    clone: Path, tmp_path: Path
) -> None:
    done = make_secrets(clone, with_docker(tmp_path, 0))
    assert done.returncode == 2
    assert done.stderr.startswith(".env is not there, but the volume shop_postgres is")
    assert "`docker volume rm shop_postgres`" in done.stderr
    assert not (clone / ".env").exists()


def test_without_the_volume_passwords_are_made_and_later_kept(clone: Path, tmp_path: Path) -> None:
    assert make_secrets(clone, with_docker(tmp_path, 1)).stdout == "Made .env.\n"
    made = (clone / ".env").read_text()
    assert make_secrets(clone, with_docker(tmp_path, 0)).returncode == 0
    assert (clone / ".env").read_text() == made


@pytest.mark.parametrize(
    ("name", "advice"),
    [("WORKER_PASSWORD", "deploy/secrets --renew"), ("LEDGER_WORKER_PASSWORD", "ALTER ROLE")],
)
def test_a_password_that_was_edited_by_hand_is_named_with_what_to_do(
    clone: Path, tmp_path: Path, name: str, advice: str
) -> None:
    environment = with_docker(tmp_path, 1)
    assert make_secrets(clone, environment).returncode == 0
    made = (clone / ".env").read_text()
    (clone / ".env").write_text(re.sub(rf"^{name}=.*", f"{name}=my own", made, flags=re.MULTILINE))
    done = make_secrets(clone, environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{name} in .env was edited")
    assert advice in done.stderr
    # Without the hash, the new password is the user's decision. It is kept, and its hash is added.
    edited = (clone / ".env").read_text()
    (clone / ".env").write_text(re.sub(rf"^{name}_HASH=.*\n", "", edited, flags=re.MULTILINE))
    assert make_secrets(clone, environment).returncode == 0
    assert f"\n{name}=my own\n" in (clone / ".env").read_text()
    assert f"\n{name}_HASH=" in (clone / ".env").read_text()
    assert make_secrets(clone, environment).stdout == ".env exists already. It was not changed.\n"
