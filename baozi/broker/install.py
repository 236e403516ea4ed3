"""The distribution's RabbitMQ package, put on a Debian-like machine without a broker of the system's."""

import os
import shutil
import subprocess
from pathlib import Path

from baozi.broker.programs import run_to_its_end
from baozi.errors import BrokerNotInstalled

#: Seconds that apt may take in all. It fetches some 40 MB and waits for another apt for up to two minutes.
_DEADLINE = 600

#: Run as root by one shell, so that the guard goes away whatever becomes of the Python process. The guard is
#: Debian's own way to install a service without starting it (policy-rc.d, "invoke-rc.d" in the Debian
#: Policy Manual); where the administrator has one already, theirs stands. A service that came with this
#: install is not left enabled either, or it would listen on every address after the next boot.
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
    """Whether this is a Debian-like machine, and we are root or may use sudo without a password."""
    return Path("/usr/bin/apt-get").exists() and _as_root() is not None


def install() -> None:
    """Install the package ``rabbitmq-server``. Takes up to ten minutes; leaves no broker running.

    Raises:
        BrokerNotInstalled: apt failed or took too long; says its last line.
    """
    become = _as_root()
    if become is None:
        raise BrokerNotInstalled
    # ``timeout`` ends apt even where sudo made it another user's process, which we could not.
    command = [*become, "timeout", "--kill-after=30", str(_DEADLINE), "sh", "-c", _SCRIPT]
    # A session of its own: a Ctrl-C must not reach dpkg in the middle of its work.
    done = run_to_its_end(command, start_new_session=True)
    if done.returncode == 124:
        raise BrokerNotInstalled(f"The package rabbitmq-server was not installed within {_DEADLINE} seconds.")
    if done.returncode != 0:
        raise BrokerNotInstalled(f"The package rabbitmq-server was not installed: {_reason(done.stdout)}.")


def _as_root() -> list[str] | None:
    """The words to put before a command that root must run; ``None`` if there are none."""
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
    """Apt's first error, for the later ones follow from it; else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
    return (errors or lines[-1:] or ["apt said nothing"])[0].rstrip(".")
