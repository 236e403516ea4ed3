"""Where a comparison is made, and with which versions."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

from side_by_side.results import Machine

#: What has a part in the speed.
_LIBRARIES = ("celery", "kombu", "amqp", "billiard", "pydantic", "sqlalchemy", "psutil")


def this_machine(broker: str | None) -> Machine:
    """Describe this machine; ``broker`` is RabbitMQ's version, None where there is none."""
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
