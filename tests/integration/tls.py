"""Certificates of one authority, and a TLS server in front of a broker that remembers what it was sent."""

import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class Authority:
    """Signs certificates, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Make the authority's key and certificate."""
        self._folder = folder
        self.certificate = folder / "ca.crt"
        subject = ["-subj", "/CN=an authority", "-keyout", "ca.key", "-out", "ca.crt"]
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject)

    def certified(self, name: str, alternatives: str) -> ssl.SSLContext:
        """Return a server's context, with a certificate for ``alternatives``, as ``DNS:localhost``."""
        request = ["-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key"]
        self._openssl("req", "-new", *request, "-out", f"{name}.csr")
        (self._folder / f"{name}.ext").write_text(
            f"subjectAltName={alternatives}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"
        )
        signer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.crt", "-extfile", f"{name}.ext")
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, timeout=60, capture_output=True)


class TlsServer:
    """Takes TLS connections on 127.0.0.1 and hands what is in them to a broker, and back."""

    def __init__(self, context: ssl.SSLContext, broker: tuple[str, int]) -> None:
        """Listen on a free port."""
        self._context = context
        self._broker = broker
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.came = 0
        """How many connections came."""
        self.received = b""
        """All that clients have sent inside TLS."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.came += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            suppress(OSError),
            client,
            socket.create_connection(self._broker, 5) as broker,
            self._context.wrap_socket(client, server_side=True) as secure,
        ):
            while True:
                ready = [secure] if secure.pending() else select.select([secure, broker], [], [])[0]
                source, target = (secure, broker) if secure in ready else (broker, secure)
                piece = source.recv(65536)
                if not piece:
                    return
                if source is secure:
                    self.received += piece
                target.sendall(piece)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()


def urls(servers: Sequence[TlsServer], login: str, virtual_host: str, host: str = "localhost") -> str:
    """Return the URL for all ``servers``, as for the nodes of a cluster."""
    return ";".join(f"amqps://{login}@{host}:{server.port}/{virtual_host}" for server in servers)
