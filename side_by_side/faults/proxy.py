"""A TCP proxy on loopback whose network goes bad on demand: between the broker and everybody who uses it.

What Toxiproxy and aio-pika's proxy do for their tests: https://github.com/Shopify/toxiproxy#toxics.
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
#: SO_LINGER switched on with no seconds: a close sends RST, and throws away what is under way.
_RESET = struct.pack("ii", 1, 0)
#: Bytes read at once; seconds between two looks whether a stopped direction moves again.
_CHUNK, _LOOK_EVERY = 65_536, 0.02
#: Seconds that the broker may take to accept a connection.
_CONNECT = 5


@dataclass(frozen=True)
class Weather:
    """How the network is: as a default, good."""

    up: bool = True
    """Whether bytes move from the clients to the broker."""
    down: bool = True
    """Whether they move from the broker to the clients."""
    latency: float = 0
    """Seconds that each chunk is held up, in each direction, …"""
    jitter: float = 0
    """… give or take so many."""
    one_by_one: bool = False
    """Whether each byte travels by itself."""
    halt_after: int | None = None
    """Bytes from the broker, on each connection, after which the rest does not come."""
    cut_after: int | None = None
    """Bytes, of both directions, after which a connection is reset."""


class _Link:
    """One client's connection and the broker's end of it."""

    def __init__(self, client: socket.socket, broker: socket.socket) -> None:
        self.ends = (client, broker)
        self.moved = 0
        """Bytes, since the weather changed; …"""
        self.from_broker = 0
        """… of them, from the broker, where it may halt."""

    def end(self, reset: bool) -> None:
        for end in self.ends:
            with suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                else:
                    end.shutdown(socket.SHUT_RDWR)
            if reset:
                # A thread that reads holds the socket open: only when it has woken up is it closed.
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RD)
            end.close()


class Proxy:
    """Listens on a free port of loopback, and passes on what comes, as the weather is."""

    def __init__(self, target: Callable[[], Address], seed: int = 0) -> None:
        """Take what tells where the broker is: asked at each connection, for it may have moved.

        Args:
            target: the broker's address now.
            seed: of the jitter.
        """
        self.target = target
        self._chance = Random(seed)
        self._weather = Weather()
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        """Where clients are to connect."""
        threading.Thread(target=self._accept, daemon=True).start()

    def become(self, weather: Weather) -> None:
        """Change the weather, for those connected and those to come."""
        with self._lock:
            for link in self._links:
                link.moved = link.from_broker = 0
            self._weather = weather

    def cut(self, reset: bool = False) -> int:
        """End every connection, in good order or with a reset; return how many there were."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.end(reset)
        return len(links)

    def close(self) -> None:
        """Take no more connections, and end those there are."""
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
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        while not (self._weather.up and self._weather.down) and not self._closed:
            time.sleep(_LOOK_EVERY)  # the first packet does not arrive either
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
                weather = self._weather
                if weather.latency:
                    time.sleep(weather.latency + self._chance.uniform(-weather.jitter, weather.jitter))
                if weather.cut_after is not None:
                    data = data[: weather.cut_after - link.moved]
                if weather.halt_after is not None and not upwards:
                    data = self._halt(link, sink, data, weather)
                if weather.one_by_one:
                    for place in range(len(data)):
                        sink.sendall(data[place : place + 1])
                else:
                    sink.sendall(data)
                link.moved += len(data)
                if weather.cut_after is not None and link.moved >= weather.cut_after:
                    self._end(link, reset=True)
                    return
        self._end(link)

    def _wait_for_way(self, link: _Link, upwards: bool) -> None:
        while not (self._weather.up if upwards else self._weather.down):
            self._pause_while_connected(link)

    def _halt(self, link: _Link, sink: socket.socket, data: bytes, weather: Weather) -> bytes:
        """Pass on as much as may still come, wait for another weather, and return the rest."""
        may_come = max(0, (weather.halt_after or 0) - link.from_broker)
        link.from_broker += len(data)
        sink.sendall(data[:may_come])
        while may_come < len(data) and self._weather is weather:
            self._pause_while_connected(link)
        return data[may_come:]

    def _pause_while_connected(self, link: _Link) -> None:
        if link not in self._links:
            raise ConnectionAbortedError
        time.sleep(_LOOK_EVERY)

    def _end(self, link: _Link, reset: bool = False) -> None:
        with self._lock:
            self._links.discard(link)
        link.end(reset)
