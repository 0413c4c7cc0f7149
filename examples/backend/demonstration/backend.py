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
from typing import IO

import httpx

FOLDER = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 10.0


class BackendFailed(RuntimeError):
    """It did not start, or did not stay; the message has its output."""


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

    Raises ``BackendFailed`` if it does not answer within a minute, or if it has gone before the block is left.
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
                raise BackendFailed(f"the backend did not start:\n{_text_of(output)}")
            yield url
            if process.poll() is not None:
                raise BackendFailed(f"the backend ended by itself:\n{_text_of(output)}")
        except httpx.TransportError as error:
            raise BackendFailed(f"the backend hung up ({error!r}):\n{_text_of(output)}") from error
        finally:
            _stop(process)


def _text_of(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")


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
