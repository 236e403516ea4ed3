"""Calls RabbitMQ's management API, without any proxy or redirect."""

import json
from base64 import b64encode
from http.client import HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

#: Seconds to wait for an answer.
_TIMEOUT = 20


class _NoRedirects(HTTPRedirectHandler):
    """Does not follow redirects, to which urllib would send the password."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Return None, so that urllib raises an HTTPError."""


# An empty ProxyHandler replaces the one that reads http_proxy, because a proxy would get the password.
_opener = build_opener(ProxyHandler({}), _NoRedirects)


def ask(
    management_url: str,
    broker_url: str,
    method: str,
    path: str,
    body: object = None,
    timeout: float = _TIMEOUT,
) -> Any:
    """Call the management API.

    Args:
        management_url: ``http://host:port``.
        broker_url: the AMQP URL whose user and password log in.
        method: the HTTP method.
        path: the path after ``/api/``.
        body: sent as JSON; None for none.
        timeout: seconds for each wait.

    Returns:
        The answer, parsed as JSON; None if it is empty.

    Raises:
        OSError: no answer; or the answer is an error or a redirect (urllib.error.HTTPError).
    """
    login = urlsplit(broker_url)
    user, password = unquote(login.username or "guest"), unquote(login.password or "guest")
    headers = {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{management_url}/api/{path}", data, headers, method=method)
    try:
        with _opener.open(request, timeout=timeout) as answer:
            said = answer.read()
    except HTTPError as error:
        error.close()
        raise
    return json.loads(said) if said else None
