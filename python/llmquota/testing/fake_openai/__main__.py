"""``python -m llmquota.testing.fake_openai``: the fake provider in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from .server import FakeOpenAI


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it. The first line on stdout is the base URL, once it listens."""
    options = _parser().parse_args(arguments)
    fake = FakeOpenAI(
        options.port,
        host=options.host,
        seed=options.seed,
        api_keys=options.api_key,
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
        group_by=options.group_by or ("x-workspace-id",),
        gzip=options.gzip,
        gzip_streams=options.gzip_streams,
        latency=options.latency,
        any_path=options.any_path,
    )
    if options.chunk_delay:
        fake.reply(chunk_delay=options.chunk_delay)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        fake.start()
    except OSError as error:
        print(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}", file=sys.stderr)
        return 1
    with fake:
        print(fake.base_url, flush=True)
        while not stop.wait(0.5):  # with a timeout, because Windows delivers no signal to a wait without one
            pass
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llmquota.testing.fake_openai",
        description="A fake OpenAI provider. Faults, replies and its books are under /__fake__/.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose (default)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers behind probable faults")
    parser.add_argument("--api-key", action="append", metavar="KEY", help="accept only this key; may be repeated")
    parser.add_argument("--requests-per-minute", type=int, metavar="N", help="a real limit for each model")
    parser.add_argument("--tokens-per-minute", type=int, metavar="N", help="a real limit for each model")
    parser.add_argument("--group-by", action="append", metavar="HEADER", help="default x-workspace-id; may be repeated")
    parser.add_argument("--gzip", choices=("auto", "always", "never"), default="auto")
    parser.add_argument("--gzip-streams", action="store_true", help="compress server-sent events too")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="of every answer")
    parser.add_argument("--any-path", action="store_true", help="answer unknown paths too, with an object or a list")
    parser.add_argument("--chunk-delay", type=float, default=0.0, metavar="SECONDS", help="between two events")
    return parser


if __name__ == "__main__":
    sys.exit(main())
