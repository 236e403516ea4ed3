"""Dangers of the process that calls a task: its results, its transactions and its broker."""

import time

from baozi.prove.dangers.demonstration import demonstrates
from baozi.prove.dangers.impostor import Impostor
from baozi.prove.dangers.trial import DEAD, DangerTrial

_FIVE_CLIENTS = """
import threading, time, shop
shop.app.finalize()
def client():
    shop.work.delay()
    time.sleep(60)
for _ in range(5):
    threading.Thread(target=client).start()
"""


@demonstrates(
    "BZ128",
    "queues for the results of five clients",
    'result_backend = "rpc://"',
    'result_backend = "rpc://"\ntask_ignore_result = True',
)
def results(trial: DangerTrial) -> int:
    """Each of five clients makes a call. None of them has ended yet."""
    trial.start_python(_FIVE_CLIENTS)
    trial.wait_until(lambda: trial.ready("work") == 5, "five calls", 60)
    time.sleep(2)  # the management API is up to date
    return sum(it["name"] not in {"work", DEAD} for it in trial.queues())


_BUYS = """
engine = create_engine("sqlite:///shop.sqlite3")


@app.task
def work():
    pass


def buy():
    with engine.begin() as connection:
        connection.execute(text("create table if not exists orders (number)"))
        {first}
        {then}
"""
_CARD = 'raise ValueError("The card is refused.")'


@demonstrates(
    "BZ135",
    "tasks sent for orders that were rolled back",
    of=5,
    tasks=_BUYS.format(first="work.delay()", then=_CARD),
    fix="",
    fixed_tasks=_BUYS.format(first=_CARD, then="").rstrip() + "\n    work.delay()\n",
)
def rollback(trial: DangerTrial) -> int:
    """Five orders are rolled back, because the card is refused. A task is sent for each order."""
    trial.call()  # Celery makes the queue
    trial.run_python(
        "import contextlib, shop\n"
        "for _ in range(5):\n"
        "    with contextlib.suppress(ValueError):\n"
        "        shop.buy()\n"
    )
    return trial.ready("work") - 1


@demonstrates(
    "BZ136",
    "calls that arrive at another broker",
    'broker_url = os.environ["SHOP_BROKER"]',
    'broker_url = os.environ["SHOP_BROKER"]',
    of=5,
    instead="unset CELERY_BROKER_URL",
    finds=(),
)
def other_broker(trial: DangerTrial) -> int:
    """The app's settings name one broker, and CELERY_BROKER_URL another. Five calls are made."""
    other = f"{trial.name}-other"
    with trial.broker.virtual_host(other):
        environment = dict.fromkeys(("CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"), "")
        environment["CELERY_BROKER_URL"] = "" if trial.fixed else trial.url_of(other)
        trial.run_python(
            "import shop\nfor _ in range(5):\n    shop.work.delay()", SHOP_BROKER=trial.url, **environment
        )
        return trial.ready("work", other)


_CONNECTS = """
import contextlib, shop
for _ in range(3):
    with contextlib.suppress(Exception), shop.app.connection(connect_timeout=5) as connection:
        connection.connect()
"""


@demonstrates(
    "BZ137",
    "connections that speak to a server of another name",
    'broker_url = "amqps://localhost//"',
    'import ssl\n\nbroker_url = "amqps://localhost//"\n'
    'broker_use_ssl = {"ca_certs": "ca.pem", "cert_reqs": ssl.CERT_REQUIRED,\n'
    '                  "server_hostname": "localhost"}',
    of=3,
)
def wrong_certificate(trial: DangerTrial) -> int:
    """Three connections meet a server with a trusted certificate, but for another name."""
    assert trial.app_folder is not None  # noqa: S101  # a mypy narrowing
    with Impostor(trial.app_folder) as impostor:
        url = f"amqps://localhost:{impostor.port}//"
        names = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
        trial.run_python(_CONNECTS, SSL_CERT_FILE=str(impostor.certificate), **dict.fromkeys(names, url))
        return min(3, impostor.deceived)
