"""What all results files have in common: a base class, and the machine of the measurement."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

#: The libraries whose versions influence the speed.
_LIBRARIES = ("celery", "kombu", "amqp", "billiard", "pydantic", "sqlalchemy", "psutil")


class ResultModel(BaseModel):
    """A part of a results file. It cannot be changed, and an unknown key in the file is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Machine(ResultModel):
    """The machine of the measurement. It has no host name: that says nothing about speed."""

    system: str
    processor: str
    cores: int
    memory: int
    """Bytes."""
    python: str
    versions: dict[str, str]
    """Versions of the libraries and of the broker, by name."""


def this_machine(broker: str | None) -> Machine:
    """Return a description of this machine.

    Args:
        broker: RabbitMQ's version; None if there is no broker.
    """
    versions = {name: version(name) for name in _LIBRARIES}
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        python=platform.python_version(),
        versions=versions | ({"rabbitmq": broker} if broker else {}),
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not on Linux
    return platform.processor() or platform.machine()
