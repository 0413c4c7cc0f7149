"""Starting and stopping: again and again, with clients in the middle of something, and nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
import warnings

import pytest
from fake_clients import HELLO, connect, eventually

from llmquota.testing import FakeOpenAI


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "llmquota-fake-openai"]


def test_stop_joins_the_thread_and_frees_the_port():
    fake = FakeOpenAI().start()
    port = fake.port
    assert threads() == ["llmquota-fake-openai"]
    fake.stop()
    assert threads() == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
    fake.stop()  # twice is once


def test_start_again_on_the_same_port_keeps_the_books():
    with FakeOpenAI() as first:
        port = first.port
    fake = FakeOpenAI(port)
    for number in range(1, 4):
        with fake, connect(fake) as client:
            assert fake.start() is fake
            assert fake.port == port
            client.models.list()
        assert fake.served.requests == number


def test_many_starts_leak_nothing():
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def once() -> None:
        with FakeOpenAI() as fake, connect(fake) as client:
            client.models.list()
            socket.create_connection(("127.0.0.1", fake.port)).close()

    once()
    before = descriptors() if os.path.isdir("/proc/self/fd") else None
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(20):
            once()
        gc.collect()
    assert threads() == []
    if before is not None:
        assert descriptors() <= before


def test_stop_does_not_wait_for_clients():
    fake = FakeOpenAI().start()
    fake.fail("timeout", when={"endpoint": "/v1/chat/completions"})
    fake.reply("x" * 4000, chunk_delay=1)
    outcomes: list[object] = []

    def call(create) -> None:
        with connect(fake, timeout=30) as client:
            try:
                outcomes.append(create(client))
            except Exception as error:
                outcomes.append(error)

    callers = [
        threading.Thread(target=call, args=[lambda c: c.chat.completions.create(model="gpt-4o", messages=HELLO)]),
        threading.Thread(target=call, args=[lambda c: list(c.responses.create(model="m", input="x", stream=True))]),
    ]
    for caller in callers:
        caller.start()
    idle = socket.create_connection(("127.0.0.1", fake.port))
    half = socket.create_connection(("127.0.0.1", fake.port))
    half.sendall(b"POST /v1/moderations HTTP/1.1\r\ncontent-length: 10\r\n\r\n{")
    assert eventually(lambda: fake.served.requests == 2 and fake.open_connections == 4)
    started = time.monotonic()
    fake.stop()
    assert time.monotonic() - started < 2
    for caller in callers:
        caller.join(10)
    assert len(outcomes) == 2
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    assert fake.served.unreported_requests == 2
    idle.close()
    half.close()


def test_stop_does_not_wait_for_a_client_that_does_not_read():
    fake = FakeOpenAI().start()
    fake.reply("x" * 8_000_000)
    body = b'{"model": "m", "messages": [{}]}'
    with socket.create_connection(("127.0.0.1", fake.port)) as deaf:
        deaf.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        assert eventually(lambda: fake.served.requests == 1)
        started = time.monotonic()
        fake.stop()
        assert time.monotonic() - started < 2
    assert threads() == []


def test_stop_while_clients_keep_connecting_closes_them_all():
    def hammer(port: int, enough: threading.Event) -> None:
        while not enough.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(b"GET /v1/models HTTP/1.1\r\n\r\n")
                client.recv(10)

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(5):
            fake, enough = FakeOpenAI().start(), threading.Event()
            callers = [threading.Thread(target=hammer, args=[fake.port, enough]) for _ in range(20)]
            for caller in callers:
                caller.start()
            assert eventually(lambda fake=fake: fake.served.requests >= 20)
            started = time.monotonic()
            fake.stop()
            assert time.monotonic() - started < 2
            enough.set()
            for caller in callers:
                caller.join(10)
        gc.collect()  # a socket that was left open is an error now
    assert threads() == []


def test_a_port_that_is_taken_is_an_os_error():
    with FakeOpenAI() as fake:
        other = FakeOpenAI(fake.port)
        with pytest.raises(OSError, match=str(fake.port)):
            other.start()
        assert threads() == ["llmquota-fake-openai"]
        with pytest.raises(RuntimeError, match="not started"):
            _ = other.base_url


def test_base_url_needs_a_start():
    with pytest.raises(RuntimeError, match="not started"):
        _ = FakeOpenAI().base_url
