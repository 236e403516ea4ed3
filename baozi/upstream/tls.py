"""TLS to the broker: the certificate must be of a trusted authority *and* of the host that the URL names.

py-amqp checks the name only if it is told one, and kombu tells none for a bare ``amqps://``: any server
with another certificate of the same authority would get the password. kombu's ``server_hostname=None`` does
not help: it keeps the first node's name for all nodes of a cluster, and 127.0.0.1 where the URL says
localhost.

Importing :mod:`baozi.amqp.connection` puts this in the place of kombu's own transport, for each connection
of this process to ``amqps://``, also for those that Celery opens and clones.

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
            ssl.SSLCertVerificationError: its certificate is of another host or of an unknown authority.
                Nothing was sent to it.
        """
        named = self.client.hostname or "localhost"
        self._named = named.removesuffix(".")
        try:
            return super().establish_connection()
        finally:
            # kombu writes 127.0.0.1 in the place of localhost, for good.
            self.client.hostname = named

    def Connection(  # type: ignore[override]  # kombu calls it, and has a class there
        self, **options: Any
    ) -> Connection:
        """Return py-amqp's connection, not open yet; kombu calls this."""
        if options["ssl"] is True:
            options["ssl"] = {"cert_reqs": CERT_REQUIRED, "server_hostname": self._named}
        return Connection(**options)


def check_hosts() -> None:
    """Have every connection of this process to ``amqps://`` check the host's name."""
    for scheme in ("amqps", "pyamqps"):
        TRANSPORT_ALIASES[scheme] = _NAME
        # Somebody may have connected before.
        vars(transport)["_transport_cache"].pop(scheme, None)
