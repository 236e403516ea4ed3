"""Finds a broker for one machine, or starts one.

Code that uses a broker calls :func:`find`. Commands that manage one call :func:`start` and :func:`stop`. The
command line is :mod:`baozi.broker.command`; the order of choice is :mod:`baozi.broker.choice`.
"""

from baozi.broker.address import Broker
from baozi.broker.choice import find, start, stop
from baozi.broker_url import safe_url

__all__ = ["Broker", "find", "safe_url", "start", "stop"]
