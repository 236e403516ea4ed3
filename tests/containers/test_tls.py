"""The override for TLS: the main job through it, and none of it for who trusts another authority."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.compose import ROOT, Project
from tests.requirements import need
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """The main job, up, over TLS."""
    need(shutil.which("openssl") is not None, "this machine has no openssl")
    subprocess.run(["deploy/certificates"], cwd=ROOT, check=True, timeout=30, capture_output=True)
    files = {"COMPOSE_FILE": "docker-compose.yml:docker-compose.tls.yml", "AMQPS_PORT": "0"}
    project = Project(f"baozi-tls-{os.getpid()}", files)
    try:
        project.up()
        yield project
    finally:
        project.remove()


@pytest.fixture(scope="module")
def another_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of an authority that signed nothing of ours."""
    folder = tmp_path_factory.mktemp("authority")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=another"),
            *("-keyout", "key", "-out", "ca.crt"),
        ],
        cwd=folder,
        check=True,
        timeout=60,
        capture_output=True,
    )
    (folder / "ca.crt").chmod(0o644)
    return folder / "ca.crt"


@pytest.mark.timeout(900)
def test_the_main_job_works_over_tls(project: Project) -> None:
    wait_until(lambda: project.services().get("audit", {}).get("State") == "exited", "the audit to end", 180)
    assert "30 accepted, 30 eaten, 0 lost, 0 duplicated" in project.logs("audit")
    ciphers = project.rabbitmqctl("list_connections", "--silent", "user", "ssl", "ssl_protocol").splitlines()
    assert ciphers
    assert all("true" in line for line in ciphers), ciphers


def test_a_broker_of_another_authority_is_refused(project: Project, another_authority: Path) -> None:
    trust = [
        "--volume",
        f"{another_authority}:/run/another.crt:ro",
        "--env",
        "SSL_CERT_FILE=/run/another.crt",
    ]
    done = project.compose(
        "run", "--rm", "--no-deps", "-T", *trust, "produce", "--count", "1", "--timeout", "1"
    )
    assert done.returncode == 3
    assert "certificate verify failed" in done.stderr


def test_a_ledger_of_another_authority_is_refused(project: Project, another_authority: Path) -> None:
    program = (
        "from baozi.ledger import Ledger; from baozi.settings import settings;"
        "Ledger(settings().ledger.update_query_dict({'sslrootcert': '/run/another.crt'})).open()"
    )
    trust = ["--volume", f"{another_authority}:/run/another.crt:ro", "--entrypoint", "python3"]
    done = project.compose("run", "--rm", "--no-deps", "-T", *trust, "xiaoming", "-c", program)
    assert done.returncode != 0
    assert "certificate verify failed" in done.stderr


def test_a_connection_without_tls_is_refused(project: Project) -> None:
    broker = project.compose(
        *("run", "--rm", "--no-deps", "-T", "--env", "BAOZI_BROKER_URL=amqp://a:b@rabbitmq:5672/baozi"),
        *("produce", "--count", "1", "--timeout", "1"),
    )
    assert broker.returncode == 3
    program = (
        "from baozi.ledger import Ledger; from baozi.settings import settings;"
        "Ledger(settings().ledger.update_query_dict({'sslmode': 'disable'})).open()"
    )
    ledger = project.as_user("xiaoming", program)
    assert ledger.returncode != 0
    assert "no encryption" in ledger.stderr
