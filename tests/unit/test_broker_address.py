import pytest

from baozi.broker import Broker, safe_url


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("amqp://u:secret@h:5672/v", "amqp://u:***@h:5672/v"),
        ("amqp://u:se@cr/et;x@h/v", "amqp://u:***@h/v"),
        ("amqp://:secret@h//", "amqp://:***@h//"),
        ("amqps://u:secret@a;amqp://v:secret@b//", "amqps://u:***@a;amqp://v:***@b//"),
        ("u:secret@h", "u:***@h"),
        ("amqp://h:5672//", "amqp://h:5672//"),
        ("amqp://u@h:5672//", "amqp://u@h:5672//"),
        ("amqp://[::1]:5672//", "amqp://[::1]:5672//"),
        ("memory://", "memory://"),
    ],
)
def test_a_safe_url_says_all_but_the_password(url: str, safe: str) -> None:
    assert safe_url(url) == safe


def test_a_brokers_repr_does_not_show_the_password() -> None:
    broker = Broker(kind="url", url="amqp://u:secret@h//")
    assert "secret" not in repr(broker)
    assert broker.safe_url == "amqp://u:***@h//"
