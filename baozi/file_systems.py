"""Finds the file system of a file, because an SQLite file must not be on a network file system.

In WAL mode the processes that use a database share memory, which does not work over a network, and the locks
of a network file system are often not those of a disk (SQLite, "Write-Ahead Logging" and "How To Corrupt An
SQLite Database File", section 2.1).
"""

import re
from pathlib import Path

#: The kernel's table of this process's mounts: a container has its own. Other systems than Linux have none.
MOUNTS = Path("/proc/self/mounts")

#: File systems that several machines use at once. Those by which a virtual machine or a container uses a disk
#: of its own host (9p, virtiofs, overlay and others) are not among them.
NETWORK = {
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "davfs",
    "fuse.ceph-fuse",
    "fuse.glusterfs",
    "fuse.juicefs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "ocfs2",
    "smb3",
    "smbfs",
}

#: How the table writes a space, a tab, a line's end and a backslash.
_OCTAL = re.compile(r"\\([0-7]{3})")


def network_file_system(file: Path) -> str | None:
    """Return the type of the network file system on which ``file`` is, or would be.

    Returns:
        A type such as ``nfs4``, or None if it is on no network file system, or if that cannot be known.
    """
    try:
        table = MOUNTS.read_text(errors="surrogateescape")
        place = file.resolve()
    except (OSError, RuntimeError):  # the second: links that lead in a circle
        return None
    longest, found = -1, ""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:  # device, mount point, type
            continue
        mount_point = Path(_OCTAL.sub(_letter, fields[1]))
        # Of two mounts at one place the later one is seen.
        if len(mount_point.parts) >= longest and place.is_relative_to(mount_point):
            longest, found = len(mount_point.parts), fields[2]
    return found if found in NETWORK else None


def _letter(octal: re.Match[str]) -> str:
    return chr(int(octal[1], 8))
