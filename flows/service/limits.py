"""Limits on clients: the size of a body, and the time that it may take.

`Limited` answers with JSON. `timed_protocol` closes the connection of a client that cannot be answered, because it does
not finish its headers or does not read the answer.
"""

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from flows.servers.guard import CLOSE, App, Receive, Scope, Send, refuse

DROPPED_FACTOR = 100  # of a body beyond the limit, so much is read; then the connection is closed
_Message = MutableMapping[str, Any]


class BodyError(Exception):
    """A request whose body is refused: an HTTP status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Limited:
    """An ASGI application in front of another one, which passes on complete bodies of a limited size.

    It cancels the work on a request whose client has left.

    Args:
        app: the other application.
        max_bytes: the size of a body.
        seconds: the time in which a client must send it.
    """

    def __init__(self, app: App, max_bytes: int, seconds: float) -> None:
        self.app, self.max_bytes, self.seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI defines it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            async with asyncio.timeout(self.seconds):
                body = await self._body(receive)
        except TimeoutError:
            await refuse(send, 408, f"the body must arrive within {self.seconds:g} s.", [CLOSE])
            return
        except BodyError as error:
            await refuse(send, error.status, str(error), [CLOSE])
            return
        if body is not None:
            await self._answer(scope, body, receive, send)

    async def _body(self, receive: Receive) -> bytes | None:
        """The body; None if the client has left.

        What exceeds the limit is read and dropped, because clients read no answer while they send.
        """
        chunks: list[bytes] = []
        size, more = 0, True
        while more and size <= DROPPED_FACTOR * self.max_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self.max_bytes:
                chunks.append(chunk)
            else:
                chunks.clear()
            more = message.get("more_body", False)
        if size > self.max_bytes:
            raise BodyError(413, f"the body must have at most {self.max_bytes:,} bytes.")
        return b"".join(chunks)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Lets the application answer, until it is done or the client has left."""

        is_answered = False

        async def replay() -> _Message:
            """The body, once."""
            return {"type": "http.request", "body": body, "more_body": False}

        async def note(message: _Message) -> None:
            """Sends, and remembers the end of the answer, after which `receive` also tells of a client that left."""
            nonlocal is_answered
            is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        async def leave() -> None:
            """Waits until the client has left, or was answered."""
            while (await receive())["type"] != "http.disconnect":
                pass

        work, leaving = asyncio.ensure_future(self.app(scope, replay, note)), asyncio.ensure_future(leave())
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not is_answered:
                work.cancel()
            with suppress(asyncio.CancelledError):
                await work


def timed_protocol(client_seconds: float, answer_seconds: float) -> type[asyncio.Protocol]:
    """Uvicorn's HTTP protocol, with time limits that it does not have itself.

    Args:
        client_seconds: from the connection, or the first byte of a later request, to the end of the headers.
        answer_seconds: from the end of the headers until the answer was sent.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class Timed(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        """Closes the connection when the time of its phase is over."""

        _timer: asyncio.TimerHandle | None = None
        _in_headers = False

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            """Starts the time for the headers."""
            super().connection_made(transport)
            self._start(client_seconds, is_headers=True)

        def data_received(self, data: bytes) -> None:
            """Starts the time for the headers with their first byte, and for the answer when they are complete."""
            before = self.cycle
            if (before is None or before.response_complete) and not self._in_headers:
                self._start(client_seconds, is_headers=True)
            super().data_received(data)
            if self.cycle is not before and not self.cycle.response_complete:
                self._start(answer_seconds)

        def on_response_complete(self) -> None:
            """Starts the time for reading the answer. A pipelined request starts its own."""
            before = self.cycle
            self._start(client_seconds)
            super().on_response_complete()
            if self.cycle is not before:
                self._start(answer_seconds)

        def connection_lost(self, exc: Exception | None) -> None:
            """Ends the time."""
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _start(self, seconds: float, is_headers: bool = False) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._in_headers = is_headers
            self._timer = self.loop.call_later(seconds, self._expire)

        def _expire(self) -> None:
            # After an answer the connection may be idle; Uvicorn closes it when it has been so for too long.
            is_answered = self.cycle is not None and self.cycle.response_complete
            if self._in_headers or not is_answered or self.transport.get_write_buffer_size():
                self.transport.abort()

    return Timed
