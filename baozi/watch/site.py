"""Serves one page with Server-Sent Events and a few actions, to those who know its address.

The address contains a random token, and a password may be asked for, too. The page loads nothing from
elsewhere. A request is refused

- if its ``Host`` is a name other than ``localhost``: with DNS rebinding, a foreign page could reach the
  server under its own name, but not under an address;
- if it lacks the token or the password;
- if it is a POST that does not come from the page itself, by ``Origin`` and ``Content-Type``.
"""

import asyncio
import errno
import hashlib
import ipaddress
import json
import re
import secrets
import socket
import threading
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baozi.errors import BaoziError, PortInUse, UsageError
from baozi.language import Sentence, in_each_language
from baozi.shown import to_json
from baozi.watch.feed import Feed, Viewer

Result = TypeVar("Result")

#: The user's name where there is a password, as in Flower.
USER = "baozi"
#: Random bytes of the token.
_TOKEN_BYTES = 24
#: Bytes of a request's body: an action has a name or an id.
_LONGEST_BODY = 4096
#: Requests at the same time: a viewer has one as long as it looks.
_CONCURRENT = 100
#: Seconds after which a stream without news sends a comment, so that a viewer that is gone is noticed.
_HEARTBEAT = 5
#: Seconds that an answer may still take when the server ends.
_GRACE = 1
_BLOCK = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)

#: What a page may request: takes the request's JSON, returns the answer's. It runs in a thread of its own.
Action = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Site:
    """A page on this machine."""

    def __init__(
        self,
        page: str,
        feed: Feed,
        actions: Mapping[str, Action],
        host: str = "127.0.0.1",
        port: int = 0,
        password: str | None = None,
        read_only: bool = False,
    ) -> None:
        """Listen. Requests are answered once :meth:`serve` or :meth:`start` is called.

        Args:
            page: the HTML. Only its own ``<style>`` and ``<script>`` are executed.
            feed: what the page shows.
            actions: what it may request, by their names.
            host: the address to listen on.
            port: the port; 0 for one that is free.
            password: asked for in addition to the token, with the user ``baozi``; None for none.
            read_only: whether all actions are refused.

        Raises:
            UsageError: this machine does not have the address, or without a password it is not loopback.
            PortInUse: another process listens there.
        """
        self._socket = _listening(host, port, password)
        self._host = host
        self._page = page
        self._feed = feed
        self._actions = actions
        self._password = password
        self._read_only = read_only
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        routes = [
            Route("/", self._send_page),
            Route("/events", self._send_events),
            Route("/{action}", self._act, methods=["POST"]),
        ]
        config = uvicorn.Config(
            _Guard(Starlette(routes=routes), self._refusal, self._headers()),
            # The access log would have the token.
            access_log=False,
            log_config=None,
            log_level="error",
            lifespan="off",
            loop="asyncio",
            http="h11",
            ws="none",
            server_header=False,
            limit_concurrency=_CONCURRENT,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Server(config)

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        host, port = self._socket.getsockname()[:2]
        if self._socket.family is socket.AF_INET6:
            host = f"[{host}]"
        return f"http://{host}:{port}/{self._token}/"

    def serve(self) -> None:
        """Answer requests until a signal comes, which is then raised again.

        Raises:
            KeyboardInterrupt: as the signal's handler says.
        """
        self._feed.start()
        self._server.run(sockets=[self._socket])

    def start(self) -> None:
        """Answer requests in a thread, until :meth:`stop`."""
        threading.Thread(target=self.serve, name="site", daemon=True).start()

    def stop(self) -> None:
        """End what :meth:`start` has started."""
        self._server.end()

    def _headers(self) -> Mapping[str, str]:
        blocks: dict[str, list[str]] = {"style": [], "script": []}
        for kind, text in _BLOCK.findall(self._page):
            digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
            blocks[kind].append(f"'sha256-{digest}'")
        policy = {
            "default-src": "'none'",
            "style-src": " ".join(blocks["style"]),
            "script-src": " ".join(blocks["script"]),
            "connect-src": "'self'",
            "img-src": "data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        return {
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def _refusal(self, request: Request, token: str) -> Response | None:
        """Return why a request is refused; None if it is not."""
        if not _is_address(request.headers.get("host", ""), self._host):
            return _refused(421, Sentence("This server has no such name; use its address, or localhost."))
        if self._password is not None and not _has_login(request, self._password):
            return Response(status_code=401, headers={"WWW-Authenticate": 'Basic realm="baozi watch"'})
        if request.url.path == "/" and self._password is not None:
            return Response(status_code=307, headers={"Location": f"/{self._token}/"})
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            return _refused(403, Sentence("The address lacks the token that the command has printed."))
        if request.method == "POST":
            return self._refusal_of_action(request)
        return None

    def _refusal_of_action(self, request: Request) -> Response | None:
        # A page of another origin has another Origin, and may not send JSON without this server's permission.
        origin = urlsplit(request.headers.get("origin", ""))
        same = origin.scheme in {"http", "https"} and origin.netloc == request.headers.get("host")
        if not same or request.headers.get("content-type") != "application/json":
            return _refused(403, Sentence("Only the page itself may request this."))
        if self._read_only:
            return _refused(403, Sentence("This page is read-only."))
        return None

    async def _send_page(self, _request: Request) -> Response:
        return HTMLResponse(self._page)

    async def _send_events(self, request: Request) -> Response:
        return StreamingResponse(self._events(request), media_type="text/event-stream")

    async def _events(self, request: Request) -> AsyncIterator[str]:
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(news.set)

        viewer = Viewer(wake)
        self._feed.add(viewer)
        try:
            with self._server.stream(news):
                yield f"event: settings\ndata: {to_json({'read_only': self._read_only})}\n\n"
                while not (self._server.should_exit or await request.is_disconnected()):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_HEARTBEAT):
                            await news.wait()
                    news.clear()
                    yield "".join(f"data: {reading}\n\n" for reading in viewer.take()) or ": nothing new\n\n"
        finally:
            self._feed.remove(viewer)

    async def _act(self, request: Request) -> Response:
        action = self._actions.get(request.path_params["action"])
        if action is None:
            return _refused(404, Sentence("There is no such action."))
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LONGEST_BODY:
                return _refused(413, Sentence("The request is too long."))
        try:
            wanted = json.loads(body)
        except ValueError:
            wanted = None
        if not isinstance(wanted, dict):
            return _refused(400, Sentence("The request must be a JSON object."))
        try:
            answer = await _in_thread(lambda: action(wanted))
        except BaoziError as error:
            return _refused(409, error.sentence)
        return JSONResponse(answer)


class _Guard:
    """Refuses requests, takes the token out of the paths of the others, and adds headers to all answers."""

    def __init__(
        self,
        app: ASGIApp,
        refusal: Callable[[Request, str], Response | None],
        headers: Mapping[str, str],
    ) -> None:
        self._app = app
        self._refusal = refusal
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._headers]}
            await send(message)

        token, _, rest = scope["path"][1:].partition("/")
        refusal = self._refusal(Request(scope), token)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
        else:
            await self._app({**scope, "path": f"/{rest}"}, receive, send_with_headers)


class _Server(uvicorn.Server):
    """Ends all streams when it ends. uvicorn would wait for the viewers to go."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._streams: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @contextmanager
    def stream(self, news: asyncio.Event) -> Iterator[None]:
        """In this block, set ``news`` when the server ends."""
        stream = asyncio.get_running_loop(), news
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.end()

    def end(self) -> None:
        """End, also from a signal handler or another thread."""
        self.should_exit = True
        for loop, news in list(self._streams):
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(news.set)


def _listening(host: str, port: int, password: str | None) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError("This machine has no address {host}.", host=host) from error
    if password is None and not ipaddress.ip_address(address[0]).is_loopback:
        raise UsageError(
            "{host} can be reached from other machines. Set BAOZI_WATCH_PASSWORD first.", host=host
        )
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        # So that a command that was just ended can be started again.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                "Another program listens on port {port}. Choose another with --port.", port=port
            ) from error
        problem = error.strerror or str(error)
        raise UsageError("Cannot listen on {host}: {problem}.", host=host, problem=problem) from error
    return listening


def _is_address(host_header: str, own: str) -> bool:
    """Return whether a ``Host`` is an address, ``localhost`` or the name on which the server listens."""
    try:
        name = urlsplit(f"//{host_header}").hostname or ""
    except ValueError:
        return False
    if name in {"localhost", own.lower()}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _has_login(request: Request, password: str) -> bool:
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        given = b64decode(encoded, validate=True) if kind.lower() == "basic" else b""
    except ValueError:
        return False
    return secrets.compare_digest(given, f"{USER}:{password}".encode())


def _refused(status: int, reason: Sentence) -> Response:
    return JSONResponse({"problem": in_each_language(reason)}, status)


async def _in_thread(function: Callable[[], Result]) -> Result:
    """Return what ``function`` returns, called in a thread that does not keep the process alive."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Result] = loop.create_future()

    def call() -> None:
        try:
            settle: Callable[[], None] = partial(answer.set_result, function())
        except Exception as error:  # raised again in the request
            settle = partial(answer.set_exception, error)
        with suppress(RuntimeError, asyncio.InvalidStateError):  # the loop is closed, or the viewer is gone
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=call, daemon=True).start()
    return await answer
