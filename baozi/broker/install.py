"""Installs the RabbitMQ package on a Debian-like machine, without starting the system's broker service."""

import os
import shutil
import subprocess
from pathlib import Path

from baozi.broker.programs import run_to_its_end
from baozi.errors import BrokerNotInstalled

#: Seconds for apt in all. It downloads about 40 MB and waits up to two minutes for another apt.
_DEADLINE = 600

#: Run as root by one shell, so that the guard is removed even if the Python process ends. The guard is
#: Debian's way to install a service without starting it (policy-rc.d, "invoke-rc.d" in the Debian Policy
#: Manual). An existing guard is kept. The installed service is disabled, because it would listen on every
#: address after the next boot.
_SCRIPT = """
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
guard=/usr/sbin/policy-rc.d
had_epmd=$(command -v epmd || true)
if [ ! -e "$guard" ]; then
    trap 'rm -f "$guard"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\\nexit 101\\n' >"$guard"
    chmod 755 "$guard"
fi
apt="apt-get -q -y -o DPkg::Lock::Timeout=120"
$apt install --no-install-recommends rabbitmq-server || {
    $apt update
    $apt install --no-install-recommends rabbitmq-server
}
if command -v systemctl >/dev/null; then
    systemctl --quiet disable rabbitmq-server.service || true
    [ -n "$had_epmd" ] || systemctl --quiet disable epmd.service epmd.socket || true
fi
"""


def can_install() -> bool:
    """Return whether this is a Debian-like machine, and this user is root or has sudo without a password."""
    return Path("/usr/bin/apt-get").exists() and _as_root() is not None


def install() -> None:
    """Install the package ``rabbitmq-server`` in at most ten minutes. No broker is started.

    Raises:
        BrokerNotInstalled: apt failed or took too long. The error has its first error line.
    """
    become = _as_root()
    if become is None:
        raise BrokerNotInstalled
    # ``timeout`` can also end apt if sudo runs it as another user, which this process cannot.
    command = [*become, "timeout", "--kill-after=30", str(_DEADLINE), "sh", "-c", _SCRIPT]
    # A new session, so that a Ctrl-C does not interrupt dpkg.
    done = run_to_its_end(command, start_new_session=True)
    if done.returncode == 124:
        raise BrokerNotInstalled(
            "The package rabbitmq-server was not installed within {deadline} seconds.", deadline=_DEADLINE
        )
    if done.returncode != 0:
        raise BrokerNotInstalled(
            "The package rabbitmq-server was not installed: {stdout}.", stdout=_reason(done.stdout)
        )


def _as_root() -> list[str] | None:
    """Return the words before a command that root must run; None if this user cannot become root."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    try:
        subprocess.run(
            [sudo, "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=10
        )
    except subprocess.SubprocessError:
        return None
    return [sudo, "-n"]


def _reason(output: str) -> str:
    """Return apt's first error, of which later ones are a result; without one, its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
    return (errors or lines[-1:] or ["apt said nothing"])[0].rstrip(".")
