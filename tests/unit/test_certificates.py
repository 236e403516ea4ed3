"""``deploy/certificates``: no server's certificate serves for another server."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.requirements import need

ROOT = Path(__file__).parents[2]
#: The names by which clients call each server, in the compose files and from this machine.
NAMES = {
    "rabbitmq": {"rabbitmq", "rabbitmq-2", "rabbitmq-3", "localhost"},
    "postgres": {"postgres"},
}


def openssl(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the program, and nothing made yet."""
    need(shutil.which("openssl") is not None, "this machine has no openssl")
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "certificates", tmp_path / "deploy")
    return tmp_path


def certificates(clone: Path) -> Path:
    subprocess.run(["deploy/certificates"], cwd=clone, capture_output=True, timeout=60, check=True)
    return clone / "certificates"


def test_each_certificate_is_for_its_own_servers_names_alone(clone: Path) -> None:
    folder = certificates(clone)
    for server, names in NAMES.items():
        for name in set().union(*NAMES.values()):
            said = openssl(folder, "x509", "-in", f"{server}.crt", "-noout", "-checkhost", name)
            assert ("does NOT match" not in said) is (name in names), (server, name)
    said = openssl(folder, "x509", "-in", "postgres.crt", "-noout", "-checkip", "127.0.0.1")
    assert "does NOT match" in said


def test_a_certificate_stays_and_one_with_other_names_is_made_anew(clone: Path) -> None:
    folder = certificates(clone)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    certificates(clone)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    # As an earlier release made it.
    shutil.copy(folder / "rabbitmq.crt", folder / "postgres.crt")
    certificates(clone)
    names = openssl(folder, "x509", "-in", "postgres.crt", "-noout", "-ext", "subjectAltName")
    assert "localhost" not in names
    assert (folder / "rabbitmq.crt").read_bytes() == before["rabbitmq.crt"]
    assert (folder / "ca.crt").read_bytes() == before["ca.crt"]
