"""A container is started although a port that the engine chose for it is in use."""

from pathlib import Path

import pytest

from baozi.broker import engine

TAKEN = "Error starting userland proxy: listen tcp4 127.0.0.1:32777: bind: address already in use"


def docker_that_fails(monkeypatch: pytest.MonkeyPatch, folder: Path, times: int, says: str) -> Path:
    """Put a `docker` in the way that fails so many times; return the file that has a line for each try."""
    tries = folder / "tries"
    docker = folder / "docker"
    docker.write_text(
        f'#!/bin/bash\necho "$@" >> {tries}\n'
        f'if [ "$(wc -l < {tries})" -le {times} ]; then echo "{says}"; exit 1; fi\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return tries


@pytest.mark.parametrize(
    ("times", "says", "done", "tries"),
    [(0, "", True, 1), (2, TAKEN, True, 3), (99, TAKEN, False, 5), (99, "No such container: b", False, 1)],
)
def test_another_port_is_tried_a_few_times(
    times: int, says: str, done: bool, tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = docker_that_fails(monkeypatch, tmp_path, times, says)
    started, said = engine.start("b", timeout=20)
    assert (started, said.strip()) == (done, "" if done else says)
    assert made.read_text().splitlines() == ["start b"] * tries
