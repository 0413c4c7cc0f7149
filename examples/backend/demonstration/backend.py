"""The backend of this folder as processes of its own, under uvicorn."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import httpx

from .workers import worker_of

FOLDER = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 10.0
QUIET = ("--log-level", "warning")


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
def running_backend(port: int, environment: Mapping[str, str], workers: int = 1) -> Iterator[str]:
    """Runs it on the port until the block is left; yields its URL. ``environment`` adds to this process's own.

    Raises ``BackendFailed`` if not every worker answers within a minute, or if it has gone before the block is left.
    """
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port), "--workers", str(workers), *QUIET],
            cwd=FOLDER,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, so that no worker is left behind
        )
        try:
            if not _answers(process, url, workers):
                _kill(process)
                raise BackendFailed(f"the backend did not start:\n{_text_of(output)}")
            yield url
            if process.poll() is not None:
                raise BackendFailed(f"the backend ended by itself:\n{_text_of(output)}")
        except httpx.TransportError as error:
            raise BackendFailed(f"the backend hung up ({error!r}):\n{_text_of(output)}") from error
        finally:
            _stop(process)


def answering(url: str, workers: int) -> set[int]:
    """The process ids of workers that answer now: of all of them, if asked a few times."""

    def ask(_: int) -> int | None:
        # A connection of its own, so that any worker may take it.
        with suppress(httpx.TransportError):
            answer = httpx.get(f"{url}/api/quota/status", timeout=STOP_SECONDS)
            if answer.is_success:
                return worker_of(answer)
        return None

    # At once: whoever is idle would take them all.
    with ThreadPoolExecutor(2 * workers) as threads:
        return {pid for pid in threads.map(ask, range(2 * workers)) if pid is not None}


def _answers(process: subprocess.Popen[bytes], url: str, workers: int) -> bool:
    found: set[int] = set()
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        found |= answering(url, workers)
        if len(found) >= workers:
            return True
        time.sleep(0.05)
    return False


def _text_of(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Whatever is left of it: the workers too, where their supervisor ended without them."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
