"""A broker for one machine: found where there is one, started where there is none.

:func:`find` is for whoever uses a broker, :func:`start` and :func:`stop` for whoever looks after it. The
command line is :mod:`baozi.broker.command`; the order of choice is :mod:`baozi.broker.choice`.
"""

from baozi.broker.address import Broker
from baozi.broker.choice import find, start, stop
from baozi.broker_url import safe_url

__all__ = ["Broker", "find", "safe_url", "start", "stop"]
