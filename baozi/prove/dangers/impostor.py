"""A TLS server whose certificate is for another name than the one that clients connect to."""

import socket
import ssl
import subprocess
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

from baozi.errors import UsageError

#: The name in the certificate; seconds for openssl, and for a client to send its first bytes.
_NAME, _OPENSSL, _FIRST_BYTES = "other.example", 60, 10


class Impostor:
    """Listens on loopback, and counts the clients that speak to it after the handshake."""

    def __init__(self, folder: Path) -> None:
        """Make a certificate, which clients trust if they trust ``certificate``.

        Raises:
            UsageError: there is no openssl.
        """
        self.certificate, key = folder / "ca.pem", folder / "ca.key"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={_NAME}",
        ]
        command += [
            "-addext",
            f"subjectAltName=DNS:{_NAME}",
            "-keyout",
            str(key),
            "-out",
            str(self.certificate),
        ]
        try:
            subprocess.run(command, check=True, timeout=_OPENSSL, capture_output=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise UsageError("openssl cannot make a certificate: {error}", error=error) from None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.deceived = 0
        """How many clients have sent something."""

    def __enter__(self) -> Self:
        """Accept connections."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(_FIRST_BYTES)
            with suppress(OSError), closing(self._context.wrap_socket(client, server_side=True)) as tls:
                self.deceived += bool(tls.recv(8))
