"""The wire, without an SDK: framing, gzip, keep-alive, and requests that are not HTTP."""

from __future__ import annotations

import gzip
import http.client
import json
import socket

import pytest
from fake_clients import HELLO

from llmquota.testing import FakeOpenAI
from llmquota.testing.fake_openai.http1 import accepts_gzip, head

BODY = json.dumps({"model": "gpt-4o", "messages": HELLO})


def post(
    client: http.client.HTTPConnection, body: str = BODY, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    client.request("POST", "/v1/chat/completions", body, {"content-type": "application/json", **names})
    response = client.getresponse()
    return response, response.read()


@pytest.fixture
def connection(fake):
    connection = http.client.HTTPConnection("127.0.0.1", fake.port, timeout=10)
    yield connection
    connection.close()


def raw(fake: FakeOpenAI, data: bytes) -> bytes:
    """What comes back for ``data`` until the server hangs up."""
    with socket.create_connection(("127.0.0.1", fake.port), timeout=10) as client:
        client.sendall(data)
        received = b""
        while part := client.recv(65536):
            received += part
    return received


def test_gzip_when_asked(connection):
    response, body = post(connection, accept_encoding="gzip, deflate")
    assert response.headers["content-encoding"] == "gzip"
    assert body[:2] == b"\x1f\x8b"
    assert json.loads(gzip.decompress(body))["object"] == "chat.completion"
    assert int(response.headers["content-length"]) == len(body)


@pytest.mark.parametrize("accept", ["identity", "gzip;q=0", "br"])
def test_no_gzip_when_not_asked(connection, accept):
    response, body = post(connection, accept_encoding=accept)
    assert "content-encoding" not in response.headers
    assert json.loads(body)["object"] == "chat.completion"


@pytest.mark.parametrize(("mode", "accept", "zipped"), [("always", "identity", True), ("never", "gzip", False)])
def test_gzip_forced_and_switched_off(mode, accept, zipped):
    with FakeOpenAI(gzip=mode) as fake:
        connection = http.client.HTTPConnection("127.0.0.1", fake.port, timeout=10)
        _, body = post(connection, accept_encoding=accept)
        connection.close()
    assert (body[:2] == b"\x1f\x8b") is zipped


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP;q=0.5, br", True),
        ("gzip; q=0", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=x", False),
    ],
)
def test_accept_encoding(value, accepted):
    assert accepts_gzip(value) is accepted


def test_keep_alive_serves_many_requests_on_one_connection(fake, connection):
    for _ in range(5):
        response, _ = post(connection)
        assert response.status == 200
        assert not response.will_close
    assert fake.open_connections == 1
    response, _ = post(connection, connection="close")
    assert response.will_close


def test_a_stream_is_chunked_and_ends_with_done(connection):
    response, body = post(connection, json.dumps({"model": "gpt-4o", "messages": HELLO, "stream": True}))
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.headers["content-type"].startswith("text/event-stream")
    events = body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: {") for event in events[:-2])
    assert post(connection)[0].status == 200, "the connection lives on"


def test_chunked_request_body(connection):
    parts = [BODY[:10].encode(), BODY[10:].encode()]
    connection.request("POST", "/v1/chat/completions", iter(parts), encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 200
    response.read()
    assert post(connection)[0].status == 200, "nothing of the body was left over"


def test_requests_sent_ahead_are_answered_in_order(fake):
    one = b"GET /v1/models/gpt-4o HTTP/1.1\r\nhost: x\r\n\r\n"
    two = b"GET /v1/models/gpt-4.1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    fake.fail("latency", seconds=0.05)  # the second arrives while the first is held
    received = raw(fake, one + two)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.index(b'"gpt-4o"') < received.index(b'"gpt-4.1"')


def test_http_1_0_streams_until_the_connection_closes(fake):
    body = json.dumps({"model": "gpt-4o", "messages": HELLO, "stream": True}).encode()
    received = raw(fake, b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    headers, _, events = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in headers
    assert events.endswith(b"data: [DONE]\n\n")


def test_expect_continue(fake):
    lines = [b"POST /v1/moderations HTTP/1.1", b"expect: 100-continue", b"connection: close", b"content-length: 13"]
    with socket.create_connection(("127.0.0.1", fake.port), timeout=10) as client:
        client.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(b'{"input":"x"}')
        assert client.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET /v1/models\r\n\r\n",
        b"GET /v1/models HTTP/2.0\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"POST /v1/moderations HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/moderations HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        b"POST /v1/moderations HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000,
    ],
)
def test_what_is_not_http_is_answered_400_and_harms_nobody(fake, connection, data):
    assert raw(fake, data).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert post(connection)[0].status == 200


def test_a_body_that_is_no_json_is_400(connection):
    for body in ("{", "\ud800".encode("utf-16-le", "surrogatepass").decode("latin-1"), "[" * 100_000):
        response, answer = post(connection, body)
        assert response.status == 400
        assert "JSON" in json.loads(answer)["error"]["message"]


def test_a_value_cannot_break_out_of_its_header():
    assert head(200, [("x", "a\r\nset-cookie: b")]).count(b"\r\n") == 3
