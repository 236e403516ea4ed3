"""TLS to the broker: the certificate must be of a trusted authority *and* of the URL's host.

py-amqp checks the host's name only if it gets one, and kombu passes none for a plain ``amqps://``. Any server
with a certificate of the same authority would get the password. kombu's ``server_hostname=None`` does
not help: it keeps the first node's name for all nodes of a cluster, and 127.0.0.1 where the URL says
localhost.

Importing :mod:`baozi.amqp.connection` replaces kombu's transport for all connections of this process to
``amqps://``, including those that Celery opens and clones.

Upstream: celery/kombu#744, celery/kombu#1366 (``server_hostname=None``), celery/kombu#1151 (the authority).
Checked with: kombu 5.7.0, amqp 5.4.2.
"""

from ssl import CERT_REQUIRED
from typing import Any

from kombu import transport
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.pyamqp import Connection, SSLTransport

_NAME = f"{__name__}:CheckingTransport"


class CheckingTransport(SSLTransport):
    """kombu's transport for ``amqps://``, with both checks.

    A connection that is given TLS options of its own (Celery's ``broker_use_ssl``) keeps them.
    """

    client: Any
    _named: str

    def establish_connection(self) -> Any:
        """Connect to the node that kombu has chosen.

        Raises:
            ssl.SSLCertVerificationError: the certificate is of another host or of an unknown authority.
                Nothing was sent to the server.
        """
        named = self.client.hostname or "localhost"
        self._named = named.removesuffix(".")
        try:
            return super().establish_connection()
        finally:
            # kombu has permanently replaced localhost by 127.0.0.1.
            self.client.hostname = named

    def Connection(  # type: ignore[override]  # kombu calls it, and has a class there
        self, **options: Any
    ) -> Connection:
        """Return py-amqp's connection, not yet open. kombu calls this."""
        if options["ssl"] is True:
            options["ssl"] = {"cert_reqs": CERT_REQUIRED, "server_hostname": self._named}
        return Connection(**options)


def check_hosts() -> None:
    """Make every connection of this process to ``amqps://`` check the host's name."""
    for scheme in ("amqps", "pyamqps"):
        TRANSPORT_ALIASES[scheme] = _NAME
        # There may have been a connection before.
        vars(transport)["_transport_cache"].pop(scheme, None)
