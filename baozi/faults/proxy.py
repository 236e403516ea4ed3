"""A TCP proxy between a broker and its clients that can delay, stop or cut their connections.

Toxiproxy and the proxy of aio-pika's tests do the same: https://github.com/Shopify/toxiproxy#toxics.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

#: Host and port.
Address = tuple[str, int]
#: SO_LINGER with 0 seconds: a close sends RST and drops the bytes that are not sent yet.
_RESET = struct.pack("ii", 1, 0)
#: Bytes read at once; seconds between two checks whether a stopped direction moves again.
_CHUNK, _CHECK_EVERY = 65_536, 0.02
#: Seconds that the broker may take to accept a connection.
_CONNECT = 5


@dataclass(frozen=True)
class NetworkCondition:
    """The condition of the network; by default, good."""

    up: bool = True
    """Whether bytes from the clients reach the broker."""
    down: bool = True
    """Whether bytes from the broker reach the clients."""
    latency: float = 0
    """Seconds by which each chunk is delayed, in each direction."""
    jitter: float = 0
    """The largest difference from ``latency``, in seconds; it is random."""
    one_by_one: bool = False
    """Whether each byte is sent by itself."""
    halt_after: int | None = None
    """Bytes from the broker on each connection; the bytes after them do not arrive."""
    cut_after: int | None = None
    """Bytes in both directions after which a connection is reset."""


class _Link:
    """The connection of one client, and its connection to the broker."""

    def __init__(self, client: socket.socket, broker: socket.socket) -> None:
        self.ends = (client, broker)
        self.moved = 0
        """Bytes since the condition changed."""
        self.from_broker = 0
        """Bytes from the broker since the condition changed."""
        self.dropped = False
        """Whether no byte of it arrives any more, in either direction."""

    def end(self, reset: bool) -> None:
        for end in self.ends:
            with suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                else:
                    end.shutdown(socket.SHUT_RDWR)
            if reset:
                # A thread that reads keeps the socket open. The shutdown wakes it, and the socket is closed.
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RD)
            end.close()


class Proxy:
    """Listens on a free port of loopback, and passes bytes on as the network condition allows."""

    def __init__(self, target: Callable[[], Address], seed: int = 0) -> None:
        """Start to listen.

        Args:
            target: returns the broker's address. It is called for each connection: the address can change.
            seed: the seed of the jitter.
        """
        self.target = target
        self._chance = Random(seed)
        self.accepted = 0
        """How many connections clients have made."""
        self._condition = NetworkCondition()
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        """The port to which clients connect."""
        threading.Thread(target=self._accept, daemon=True).start()

    def set_condition(self, condition: NetworkCondition) -> None:
        """Change the condition of all connections, present and future."""
        with self._lock:
            for link in self._links:
                link.moved = link.from_broker = 0
            self._condition = condition

    def cut(self, reset: bool = False) -> int:
        """Close every connection, with a reset or without; return how many there were."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.end(reset)
        return len(links)

    def drop(self) -> None:
        """Drop every connection without telling either end, as a firewall does. New connections work."""
        with self._lock:
            for link in self._links:
                link.dropped = True

    def close(self) -> None:
        """Accept no more connections, and close all."""
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        while not (self._condition.up and self._condition.down) and not self._closed:
            time.sleep(_CHECK_EVERY)  # the first packet must not arrive either
        try:
            broker = socket.create_connection(self.target(), _CONNECT)
        except OSError:
            client.close()
            return
        broker.settimeout(None)
        link = _Link(client, broker)
        for end in link.ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._links.add(link)
        if self._closed:
            self._end(link)
            return
        for ends, upwards in ((link.ends, True), (link.ends[::-1], False)):
            threading.Thread(target=self._pump, args=(link, *ends, upwards), daemon=True).start()

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._wait_for_way(link, upwards)
                condition = self._condition
                if condition.latency:
                    time.sleep(condition.latency + self._chance.uniform(-condition.jitter, condition.jitter))
                if condition.cut_after is not None:
                    data = data[: condition.cut_after - link.moved]
                if condition.halt_after is not None and not upwards:
                    data = self._halt(link, sink, data, condition)
                if condition.one_by_one:
                    for place in range(len(data)):
                        sink.sendall(data[place : place + 1])
                else:
                    sink.sendall(data)
                link.moved += len(data)
                if condition.cut_after is not None and link.moved >= condition.cut_after:
                    self._end(link, reset=True)
                    return
        self._end(link)

    def _wait_for_way(self, link: _Link, upwards: bool) -> None:
        while link.dropped or not (self._condition.up if upwards else self._condition.down):
            self._pause_while_connected(link)

    def _halt(self, link: _Link, sink: socket.socket, data: bytes, condition: NetworkCondition) -> bytes:
        """Pass on the bytes that are still allowed, wait for another condition, and return the rest."""
        may_come = max(0, (condition.halt_after or 0) - link.from_broker)
        link.from_broker += len(data)
        sink.sendall(data[:may_come])
        while may_come < len(data) and self._condition is condition:
            self._pause_while_connected(link)
        return data[may_come:]

    def _pause_while_connected(self, link: _Link) -> None:
        if link not in self._links:
            raise ConnectionAbortedError
        time.sleep(_CHECK_EVERY)

    def _end(self, link: _Link, reset: bool = False) -> None:
        with self._lock:
            self._links.discard(link)
        link.end(reset)
