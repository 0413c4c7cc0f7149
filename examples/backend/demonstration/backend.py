"""The backend of this folder as a process of its own, under uvicorn."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

FOLDER = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 10.0


class BackendFailed(RuntimeError):
    """It did not start; the message has its output."""


def free_port(wanted: int) -> int:
    """``wanted``, or the next port after it that nobody listens on."""
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            if os.name == "posix":  # elsewhere the option would share a port in use
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BackendFailed(f"no port is free from {wanted} to {wanted + 99}")


@contextmanager
def running_backend(port: int, environment: Mapping[str, str]) -> Iterator[str]:
    """Runs it on the port until the block is left; yields its URL. ``environment`` adds to this process's own.

    Raises ``BackendFailed`` if it does not answer within a minute.
    """
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, str(FOLDER / "main.py")],
            env={**os.environ, **environment, "PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if not _answers(process, url):
                process.kill()
                process.wait()
                output.seek(0)
                raise BackendFailed(f"the backend did not start:\n{output.read().decode(errors='replace')}")
            yield url
        finally:
            _stop(process)


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/api/quota/status").is_success:
                return True
        except httpx.TransportError:
            time.sleep(0.05)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
