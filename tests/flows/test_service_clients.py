"""Slow clients are cut off: headers or bodies that do not arrive, answers that are not read, idle connections."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.flows.services import Given, Lengths, Service, until

SECONDS = 0.3
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: "


@pytest.fixture
def service() -> Iterator[Service]:
    with Service([Given(Lengths())], client_seconds=SECONDS, max_seconds=30) as running:
        yield running


def connect(service: Service) -> "closing[socket.socket]":
    """An open connection."""
    return closing(socket.create_connection(("127.0.0.1", service.port), timeout=30))


def rest(client: socket.socket) -> bytes:
    """What arrives until the server ends the connection."""
    content = b""
    try:
        while chunk := client.recv(65536):
            content += chunk
    except ConnectionResetError:
        pass
    return content


@pytest.mark.parametrize("sent", [b"", b"GET / HT", POST])
def test_headers_that_do_not_arrive_end_the_connection(service: Service, sent: bytes) -> None:
    started = time.monotonic()
    with connect(service) as client:
        client.sendall(sent)
        assert rest(client) == b"" and SECONDS * 0.9 < time.monotonic() - started < 10


def test_headers_that_arrive_byte_by_byte_end_the_connection(service: Service) -> None:
    with connect(service) as client, pytest.raises(ConnectionError):
        for _ in range(1000):
            client.sendall(b"X")
            time.sleep(0.02)


def test_a_body_that_does_not_arrive_is_408(service: Service) -> None:
    with connect(service) as client:
        client.sendall(POST + b'30\r\n\r\n{"texts": [')
        answer = rest(client)
        assert answer.startswith(b"HTTP/1.1 408 ") and b"the body must arrive within 0.3 s" in answer
        assert b"connection: close" in answer


def test_an_answer_that_is_not_read_ends_the_connection() -> None:
    body = b'{"texts": [%s]}' % b", ".join([b'"a"'] * 1000)
    with (
        Service([Given(Lengths(width=4000))], client_seconds=SECONDS) as service,  # answers of 16 MB
        closing(socket.socket()) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", service.port))
        client.sendall(POST.replace(b"predict", b"embed") + b"%d\r\n\r\n%s" % (len(body), body))
        until(lambda: service.metric("requests_total", route="/embed", status="200") == 1)
        until(lambda: not service.server.server_state.connections, 30)
        assert len(rest(client)) < 16_000_000
        assert service.ask("/health")[0] == 200


def test_a_client_that_is_quick_enough_may_ask_again_and_again(service: Service) -> None:
    body = b'{"texts": ["ab"]}'
    with connect(service) as client:
        for _ in range(4):
            client.sendall(POST + b"%d\r\n\r\n" % len(body))
            time.sleep(SECONDS / 3)
            client.sendall(body)
            content = b""
            while b'{"value":2}' not in content:
                content += client.recv(65536)
            time.sleep(SECONDS * 1.2)  # idle, which is not slow


def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    bodies = [b'{"texts": ["%s"]}' % (b"a" * length) for length in (1, 2, 3)]
    with connect(service) as client:
        client.sendall(b"".join(POST + b"%d\r\n\r\n%s" % (len(body), body) for body in bodies))
        content = b""
        while content.count(b"value") < 3:
            content += client.recv(65536)
    assert content.index(b'"value":1') < content.index(b'"value":2') < content.index(b'"value":3')


def test_what_is_no_http_is_refused(service: Service) -> None:
    with connect(service) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert rest(client).startswith(b"HTTP/1.1 400 ")
    assert service.ask("/health")[0] == 200
