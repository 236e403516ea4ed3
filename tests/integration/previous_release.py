"""What the release before the ledger's schema had versions did with a ledger: its SQL, as it sent it."""

from sqlalchemy import Connection, text

#: Number of rows in each table that :func:`make` makes.
EATEN, ORDERS = 3, 2

_TABLES = (
    """CREATE TABLE eaten (
        baozi_id VARCHAR NOT NULL, run VARCHAR NOT NULL, producer VARCHAR NOT NULL, number BIGINT NOT NULL,
        consumer VARCHAR NOT NULL, machine VARCHAR NOT NULL, made_at FLOAT NOT NULL, eaten_at FLOAT NOT NULL,
        deliveries INTEGER NOT NULL, PRIMARY KEY (baozi_id))""",
    "CREATE INDEX ix_eaten_run ON eaten (run)",
    """CREATE TABLE orders (
        run VARCHAR NOT NULL, producer VARCHAR NOT NULL, accepted BIGINT NOT NULL, attempted BIGINT NOT NULL,
        closed_at FLOAT NOT NULL, PRIMARY KEY (run, producer))""",
)
_EAT = """INSERT INTO eaten
    (baozi_id, run, producer, number, consumer, machine, made_at, eaten_at, deliveries)
    VALUES (:id, :run, :producer, :number, '小红', 'here', 1.0, 2.0, 1)
    ON CONFLICT (baozi_id) DO UPDATE SET deliveries = eaten.deliveries + 1 RETURNING eaten.deliveries"""
_REDELIVER = "UPDATE eaten SET deliveries = eaten.deliveries + 1 WHERE eaten.baozi_id = :id"
_CLOSE = """INSERT INTO orders (run, producer, accepted, attempted, closed_at)
    VALUES (:run, :producer, :accepted, :accepted, 3.0)
    ON CONFLICT (run, producer) DO UPDATE SET accepted = {greater}(orders.accepted, excluded.accepted),
    attempted = {greater}(orders.attempted, excluded.attempted),
    closed_at = {greater}(orders.closed_at, excluded.closed_at)"""
#: What its ``Ledger.open`` did to find a ledger that it may not write.
_PROBE = "UPDATE orders SET accepted=0 WHERE orders.run = ''"


def make(connection: Connection) -> None:
    """Make its tables, with rows: ``alex`` has a closed order and one duplicate, ``egon`` lost one."""
    for statement in _TABLES:
        connection.execute(text(statement))
    for producer, numbers in (("alex", (0, 1)), ("egon", (1,))):
        for number in numbers:
            eat(connection, number, producer)
        close(connection, 2, producer)
    eat(connection, 0, "alex")
    connection.commit()


def open_again(connection: Connection) -> None:
    """Do what its worker did at the start."""
    connection.execute(text(_PROBE))


def eat(connection: Connection, number: int, producer: str = "alex") -> bool:
    """Record one baozi; return whether it was new."""
    row = {"id": f"course/{producer}/{number}", "run": "course", "producer": producer, "number": number}
    return bool(connection.execute(text(_EAT), row).scalar_one() == 1)


def redeliver(connection: Connection, number: int, producer: str = "alex") -> bool:
    """Count one more delivery; return whether the baozi had been eaten."""
    return connection.execute(text(_REDELIVER), {"id": f"course/{producer}/{number}"}).rowcount == 1


def close(connection: Connection, accepted: int, producer: str = "alex") -> None:
    """Close an order."""
    greater = "greatest" if connection.dialect.name == "postgresql" else "max"
    row = {"run": "course", "producer": producer, "accepted": accepted}
    connection.execute(text(_CLOSE.format(greater=greater)), row)
