"""The small app of a demonstration: three files, as a user would write them.

``sound.py`` has all that the doctor advises. ``celeryconfig.py`` imports it and has the lines of the danger,
or those of the fix. So only these lines differ.
"""

from pathlib import Path

#: The name that `celery -A` takes.
APP = "shop"

SOUND = '''\
"""All that `baozi doctor` advises."""

from kombu import Exchange, Queue

_ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 2,
    "x-dead-letter-exchange": "work.dead",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


def queue(exchange="topic", **changes):
    """The queue of the app. A change of None leaves an argument out: x_delivery_limit=None."""
    arguments = _ARGUMENTS | {name.replace("_", "-"): value for name, value in changes.items()}
    arguments = {name: value for name, value in arguments.items() if value is not None}
    return Queue("work", Exchange("work", type=exchange), routing_key="work", queue_arguments=arguments)


def classic(**changes):
    """The same as a classic queue."""
    kept = {"x_dead_letter_exchange": "work.dead"} | changes
    return queue(**{name.replace("-", "_"): None for name in _ARGUMENTS} | kept)


broker_url = "amqp://localhost//"
broker_transport_options = {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}
broker_connection_max_retries = None
broker_channel_error_retry = True
control_queue_exclusive = False
control_queue_durable = True
task_queues = [queue()]
task_default_queue = task_default_exchange = task_default_routing_key = "work"
task_default_exchange_type = "topic"
task_create_missing_queues = False
task_acks_late = True
task_reject_on_worker_lost = True
task_acks_on_failure = False
task_acks_on_timeout = False
task_time_limit = 50
task_annotations = {"*": {"mandatory": True}}
worker_prefetch_multiplier = 1
worker_soft_shutdown_timeout = 20
worker_cancel_long_running_tasks_on_connection_loss = True
worker_max_memory_per_child = 500_000
'''

_CONFIG = """\
from sound import *  # all else is as the doctor advises

{lines}
"""

_SHOP = """\
{imports}

app = Celery("shop")
app.config_from_object("celeryconfig")


{tasks}
"""

#: What `shop.py` imports if its tasks use it.
_IMPORTS = {
    "os.": "import os",
    "signal.": "import signal",
    "time.": "import time",
    "Reliable(": "from baozi import Reliable",
    "app": "from celery import Celery",
    "create_engine(": "from sqlalchemy import create_engine, text",
}
#: The tasks of most demonstrations.
WORK = """
@app.task
def work(seconds=0):
    time.sleep(seconds)
"""


def write_app(folder: Path, lines: str, tasks: str = WORK) -> Path:
    """Write the files of an app to ``folder``, which is made.

    Args:
        folder: where `celery -A shop` will run.
        lines: those of ``celeryconfig.py``.
        tasks: the code of the tasks, in ``shop.py``.
    """
    folder.mkdir(parents=True)
    imports = "\n".join(line for use, line in _IMPORTS.items() if use in tasks)
    if "os.environ" in lines:
        lines = f"import os\n\n{lines}"
    (folder / "sound.py").write_text(SOUND)
    (folder / "celeryconfig.py").write_text(_CONFIG.format(lines=lines.strip()))
    (folder / "shop.py").write_text(_SHOP.format(imports=imports, tasks=tasks.strip()))
    return folder
