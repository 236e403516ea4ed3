"""Waits until a node is ready (sd_notify(3)), and checks that a broker answers."""

import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from baozi.broker_url import MEMORY, nodes, safe_url
from baozi.errors import BrokerAway, UsageError
from baozi.library_sentences import recognized

#: The first bytes of an AMQP 0-9-1 client. The broker answers with Connection.Start and its properties.
_HELLO = b"AMQP\x00\x00\x09\x01"
#: A field of the server's properties: its name, ``S``, four bytes of length, the text.
_VERSION = re.compile(rb"\x07versionS\x00\x00\x00.([0-9A-Za-z.+~-]+)", re.DOTALL)
#: The most characters of the socket's folder. A socket's path has at most 108 bytes on Linux and 104
#: elsewhere.
_LONGEST_PATH = 100


class ReadySocket:
    """The socket to which a node sends ``READY=1``. RabbitMQ's systemd guide: NOTIFY_SOCKET, Type=notify."""

    def __enter__(self) -> Self:
        """Open the socket in a folder that only this user can read."""
        self._folder = tempfile.TemporaryDirectory(prefix="baozi-")
        if len(self._folder.name) > _LONGEST_PATH:
            self._folder.cleanup()
            self._folder = tempfile.TemporaryDirectory(prefix="baozi-", dir="/tmp")
        self.path = str(Path(self._folder.name) / "s")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self._socket.close()
        self._folder.cleanup()

    def wait(self, process: subprocess.Popen[bytes], deadline: float) -> bool | None:
        """Wait until the node is ready (True), has ended (False), or ``deadline`` has passed (None).

        ``deadline`` is a time of ``time.monotonic``.
        """
        while time.monotonic() < deadline:
            try:
                said = self._socket.recv(4096)
            except TimeoutError:
                if process.poll() is not None:
                    return False
            else:
                if b"READY=1" in said.splitlines():
                    return True
        return None


def check_broker_answers(url: str, timeout: float) -> str | None:
    """Check that a broker answers at ``url``, or at one URL of several, within ``timeout`` seconds each.

    Returns:
        The broker's version; None if it is unknown, as with TLS and ``memory://``.

    Raises:
        BrokerAway: no broker answers.
        UsageError: ``url`` is invalid.
    """
    try:
        named = nodes(url)
    except ValueError as error:
        raise UsageError("The broker's URL is invalid: {error}.", error=recognized(str(error))) from None
    for node in named:
        if node.scheme == MEMORY:
            return None
        try:
            with socket.create_connection((node.host, node.port), timeout) as stream:
                if node.scheme == "amqps":
                    return None
                stream.sendall(_HELLO)
                if answer := stream.recv(4096):
                    version = _VERSION.search(answer)
                    return version[1].decode() if version else None
        except OSError:
            continue
    raise BrokerAway(
        "No broker answers at {url}. Check that it runs and that the address is right.", url=safe_url(url)
    )
