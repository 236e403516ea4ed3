"""The compose files, read as Compose reads them: alone, and with each file that is put over the first."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.requirements import need

ROOT = Path(__file__).parents[2]
BASE = "docker-compose.yml"
COMBINATIONS = [(BASE,), *((BASE, path.name) for path in sorted(ROOT.glob("docker-compose.*.yml")))]

#: Whose root file system need not be read-only: the official images do not promise to start on one. They are
#: not root in it.
OFFICIAL = {"rabbitmq", "rabbitmq-2", "rabbitmq-3", "postgres"}


def config(files: tuple[str, ...], *options: str, env: str) -> subprocess.CompletedProcess[str]:
    """Have Compose read ``files`` with the variables in the file ``env``; no engine is asked."""
    need(shutil.which("docker") is not None, "there is no docker command")
    named = [word for file in files for word in ("--file", file)]
    return subprocess.run(
        ["docker", "compose", "--env-file", env, "--profile", "*", *named, "config", *options],
        cwd=ROOT,
        # Nothing of what whoever runs the tests has set for Compose.
        env={name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with something in each variable that must be there."""
    files = [ROOT / name for combination in COMBINATIONS for name in combination]
    needed = {name for file in files for name in re.findall(r"\$\{(\w+):\?", file.read_text())}
    path = tmp_path_factory.mktemp("env") / "secrets"
    path.write_text("".join(f"{name}=x\n" for name in sorted(needed)))
    return str(path)


@pytest.fixture(scope="module", params=COMBINATIONS, ids=lambda files: files[-1])
def services(request: pytest.FixtureRequest, secrets: str) -> dict[str, dict[str, Any]]:
    """All services of one combination, as Compose would start them."""
    done = config(request.param, "--format", "json", env=secrets)
    assert done.returncode == 0, done.stderr
    # Nor does Compose warn of anything, as of a variable that is not set.
    assert done.stderr == ""
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


def test_each_image_has_a_version(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert re.fullmatch(r"(baozi|rabbitmq|postgres):\d[\w.-]*", service["image"]), name


def test_no_service_has_more_permissions_than_it_needs(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & service.keys(), name
        if name in OFFICIAL:
            assert service["user"] == service["image"].partition(":")[0], name
        else:  # of our image, whose user is no root
            assert service["read_only"], name
        for volume in service.get("volumes", []):
            assert volume["type"] == "volume" or volume["read_only"], (name, volume)
            assert "docker.sock" not in volume["source"]


def test_each_service_has_resource_limits(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits.keys() >= {"cpus", "memory", "pids"}, name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        # One of each, but for those whom `--scale` makes.
        assert service.get("scale", 1) == (0 if name == "worker" else 1), name


def test_only_this_machine_can_come_in(services: dict[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert "host" not in {service.get("network_mode") for service in services.values()}


def test_each_service_that_others_wait_for_has_a_health_check(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for other, wanted in service.get("depends_on", {}).items():
            assert wanted["condition"] in {"service_healthy", "service_completed_successfully"}, name
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in services[other], (name, other)


def test_of_a_clone_that_only_its_owner_can_read_the_containers_can_read_what_is_mounted(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    for name in ("deploy", "tasks"):
        shutil.copytree(ROOT / name, clone / name)
    for path in clone.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    # A project whose volumes this machine does not have.
    environment = {**os.environ, "COMPOSE_PROJECT_NAME": "baozi-private-clone"}
    made = subprocess.run(
        [clone / "deploy/secrets"], env=environment, check=False, capture_output=True, text=True, timeout=60
    )
    assert (made.returncode, made.stdout) == (0, "Made .env.\n"), made.stderr
    sources = [
        Path(volume["source"]) for service in services.values() for volume in service.get("volumes", [])
    ]
    here = [
        path.relative_to(ROOT) for path in (*sources, ROOT / "tasks/flowerconfig.py") if ROOT in path.parents
    ]
    mounted = [path for path in here if path.parts[0] != "certificates"]  # deploy/certificates makes those
    assert len(mounted) > 2
    assert [path for path in mounted if not (clone / path).stat().st_mode & 0o004] == []
    assert (clone / ".env").stat().st_mode & 0o077 == 0


def test_without_secrets_compose_says_what_to_do() -> None:
    done = config((BASE,), "--quiet", env="/dev/null")
    assert done.returncode != 0
    assert "run `make secrets` first" in done.stderr
