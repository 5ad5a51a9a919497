"""What every server of this project asks for: credentials, and an address of this machine in the Host header."""

import base64
import binascii
import hmac
import json
import socket
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

HOST = "127.0.0.1"
USER = "cclm"
CLOSE = (b"connection", b"close")  # the header of an answer after which the connection ends
LOOPBACK = ("127.0.0.1", "localhost", "::1")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI application in front of another one: passes on requests with the right token and a known Host header.

    The token is sent as `Authorization: Bearer TOKEN`, or as the password of basic authentication with any user name,
    which is what browsers and MLflow's clients send. Other requests get 401, also those for a health check. A request
    whose Host or Origin is not this machine gets 403: it comes from a page that a browser loaded from elsewhere.

    Args:
        app: the application to protect.
        token: the token; None: requests need none, but the Host header is still checked.
        hosts: host names that a request may name; the port does not matter, because of SSH tunnels.
        open_paths: paths without secrets that anyone may read, for load balancers.
    """

    def __init__(
        self, app: App, token: str | None, hosts: Iterable[str] = LOOPBACK, open_paths: Iterable[str] = ()
    ) -> None:
        if token is not None and not token.strip():
            raise ValueError("token must not be empty.")
        self.app, self.token, self.hosts, self.open_paths = app, token, frozenset(hosts), frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI defines it."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in self.open_paths):
            await self.app(scope, receive, send)
            return
        refusal = self.refusal([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await refuse(send, *refusal)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def refusal(self, headers: Iterable[tuple[str, str]]) -> tuple[int, str] | None:
        """The status and the reason if a request with these headers is refused; None if it is accepted."""
        pairs = [(name.lower(), value) for name, value in headers]
        for name, what in (("host", "Host"), ("origin", "Origin")):
            values = [value for key, value in pairs if key == name]
            if (name == "host" and len(values) != 1) or any(_host(value) not in self.hosts for value in values):
                return 403, f"the header {what} must name this machine, got {', '.join(values)[:100]!r}."
        if self.token is None:
            return None
        values = [value for key, value in pairs if key == "authorization"]
        if len(values) == 1 and self._is_right(values[0]):
            return None
        return 401, "credentials are missing or wrong. Send `Authorization: Bearer TOKEN`."

    def _is_right(self, authorization: str) -> bool:
        assert self.token is not None
        scheme, _, value = authorization.partition(" ")
        given = value.strip().encode("latin-1")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given, self.token.encode("utf-8"))


def bound_socket(port: int, host: str = HOST) -> socket.socket:
    """A socket that is bound to `port` but does not listen yet, so nobody else can take the port.

    Raises:
        OSError: the port is in use, or `host` is not an address of this machine.
        OverflowError: it is not a port.
    """
    # With the protocol, asyncio switches Nagle's algorithm off. Otherwise each answer would wait 40 ms for an ACK.
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made


async def refuse(send: Send, status: int, message: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Sends an error as JSON: `{"error": message}`."""
    all_headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *headers]
    if status == 401:
        all_headers.append((b"www-authenticate", b'Basic realm="cclm", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": message}).encode("utf-8")})


def _host(value: str) -> str:
    """The host in a Host header (`127.0.0.1:5000`) or an Origin (`http://localhost:5000`); "" if absent."""
    try:
        return (urllib.parse.urlsplit(value if "://" in value else f"//{value}").hostname or "").lower()
    except ValueError:
        return ""
