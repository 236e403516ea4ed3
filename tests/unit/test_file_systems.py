"""A ledger's file on a network file system is found in the kernel's table of mounts."""

from pathlib import Path

import pytest

from baozi import file_systems
from baozi.errors import ExitCode, OnTheNetwork
from baozi.file_systems import network_file_system
from baozi.ledger import Ledger
from baozi.ledger_url import file_url


def with_mounts(monkeypatch: pytest.MonkeyPatch, folder: Path, *lines: str) -> None:
    table = folder / "mounts"
    table.write_text("".join(f"{line}\n" for line in ("/dev/vda / ext4 rw,relatime 0 0", *lines)))
    monkeypatch.setattr(file_systems, "MOUNTS", table)


def escaped(path: Path) -> str:
    return str(path).replace("\\", r"\134").replace(" ", r"\040").replace("\n", r"\012")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph", "fuse.glusterfs"])
def test_a_network_file_system_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    shared = tmp_path / "shared"
    with_mounts(monkeypatch, tmp_path, f"server:/export {escaped(shared)} {kind} rw,vers=4.2 0 0")
    assert network_file_system(shared / "not" / "there yet" / "ledger.sqlite3") == kind
    assert network_file_system(tmp_path / "shared-not" / "ledger.sqlite3") is None


@pytest.mark.parametrize(
    "kind", ["overlay", "9p", "virtiofs", "btrfs", "xfs", "fuse.grpcfuse", "tmpfs", "fuseblk"]
)
def test_a_file_system_of_one_host_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    with_mounts(monkeypatch, tmp_path, f"host {escaped(tmp_path)} {kind} rw 0 0")
    assert network_file_system(tmp_path / "ledger.sqlite3") is None


def test_the_mount_that_is_nearest_to_the_file_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_mounts(
        monkeypatch,
        tmp_path,
        f"/dev/vdb {escaped(tmp_path / 'home' / 'local')} ext4 rw 0 0",
        f"server:/home {escaped(tmp_path / 'home')} nfs4 rw 0 0",
    )
    assert network_file_system(tmp_path / "home" / "ledger.sqlite3") == "nfs4"
    assert network_file_system(tmp_path / "home" / "local" / "ledger.sqlite3") is None


def test_of_two_mounts_at_one_place_the_later_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = escaped(tmp_path)
    with_mounts(monkeypatch, tmp_path, f"auto {place} autofs rw 0 0", f"server:/home {place} nfs rw 0 0")
    assert network_file_system(tmp_path / "ledger.sqlite3") == "nfs"
    with_mounts(monkeypatch, tmp_path, f"server:/home {place} nfs rw 0 0", f"/dev/vdb {place} ext4 rw 0 0")
    assert network_file_system(tmp_path / "ledger.sqlite3") is None


def test_a_mount_point_with_any_letters_is_found_also_by_a_link(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared = tmp_path / "my \\ 包子"
    shared.mkdir()
    with_mounts(monkeypatch, tmp_path, f"server:/export {escaped(shared)} nfs4 rw 0 0")
    (tmp_path / "link").symlink_to(shared)
    assert network_file_system(tmp_path / "link" / "ledger.sqlite3") == "nfs4"


def test_a_system_without_such_a_table_refuses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "not there")
    assert network_file_system(tmp_path / "ledger.sqlite3") is None


def test_a_ledger_on_a_network_file_system_is_one_sentence_and_no_file_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    with_mounts(monkeypatch, tmp_path, f"server:/export {escaped(shared)} nfs4 rw 0 0")
    ledger = Ledger(file_url(shared / "ledger.sqlite3"))
    for use in (ledger.open, ledger.upgrade):
        with pytest.raises(OnTheNetwork, match=r"network file system \(nfs4\)") as caught:
            use()
        assert caught.value.exit_code is ExitCode.NO_LEDGER
    assert list(shared.iterdir()) == []
    ledger.close()


def test_this_machine_s_own_disk_is_taken(tmp_path: Path) -> None:
    Ledger(file_url(tmp_path / "ledger.sqlite3")).open().close()
