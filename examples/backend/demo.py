"""The main job, to look at: three workspaces behind one backend, one of them noisy, counted and reconciled.

``python demo.py`` starts a provider on loopback and the backend of this folder under uvicorn, with four worker
processes on one shared store, and drives it over HTTP for 20 seconds. In the middle it kills a worker (SIGKILL) that
has calls open. It ends with what the provider counted against what llmquota counted, call by call, matched by the hold
that was sent along. It exits with 1 where they differ by more than the killed worker's open calls, or where a quiet
workspace was refused.

``DEMO_PROVIDER=openai`` with ``OPENAI_API_KEY`` takes the real API, which costs a few cents; no worker is killed then,
for that provider's books cannot be asked. ``KEEP=1`` leaves everything up until Ctrl-C. Where the system has no shared
store, one worker runs on ``memory:``, and lives.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import FrameType

import httpx
from rich.console import Console, RenderableType
from rich.live import Live

from demonstration import showing
from demonstration.backend import FOLDER, BackendFailed, free_port, running_backend
from demonstration.books import Reconciliation, reconcile_when_settled, reconcile_with_answers
from demonstration.tenants import BOOKS, TENANTS, set_up_provider
from demonstration.traffic import Seen, drive
from demonstration.watching import View, listen, poll
from demonstration.workers import Workers
from llmquota.testing import FakeOpenAI

PORT = 8000
WORKERS = 4
PLAIN_LINE_SECONDS = 5.0
WIDTH = 100
ADMIN_KEY = "demo-admin-key"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it: 0 where the books agree, 1 where they do not, 2 where it could not run."""
    options = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    signal.signal(signal.SIGTERM, _leave)  # so that the backend is stopped on the way out
    environment = {"LLMQUOTA_LIMITS": str(FOLDER / "limits.toml"), "QUOTA_ADMIN_RESET_KEY": ADMIN_KEY}
    try:
        with contextlib.ExitStack() as stack:
            fake = None
            if os.environ.get("DEMO_PROVIDER", "fake") == "openai":
                if not os.environ.get("OPENAI_API_KEY"):
                    console.print("DEMO_PROVIDER=openai needs OPENAI_API_KEY")
                    return 2
            else:
                fake = stack.enter_context(FakeOpenAI(group_by=BOOKS, latency=0.05))
                set_up_provider(fake)
                environment |= {"OPENAI_BASE_URL": fake.base_url, "OPENAI_API_KEY": "demo"}
            store = _store(stack, console)
            environment["LLMQUOTA_STORE"] = store
            port = free_port(PORT)
            if port != PORT:
                console.print(f"Port {PORT} is taken: the backend listens on {port}.")
            number = WORKERS if store.startswith("shared:") else 1
            url = stack.enter_context(running_backend(port, environment, number))
            console.print(
                f"Backend {url}, {number} uvicorn worker{'s' if number > 1 else ''}, "
                f"provider {fake.base_url if fake else 'OpenAI'}.",
                soft_wrap=True,
            )
            console.print(f"Store {store}{', removed at the end' if number > 1 else ''}.", markup=False, soft_wrap=True)
            workers = Workers()
            if fake is not None and number > 1:
                workers.kill_after = options.seconds / 2
                workers.tell = lambda killed: console.print(showing.kill(killed))
            table, result = asyncio.run(_run(console, url, fake, options.seconds, workers))
            result = _verified(result, environment)
            if workers.kill_after is not None and workers.killed is None:
                console.print("No worker was killed: none was in the middle of an answer in time.")
            pictures = (table, showing.answers(workers), "", showing.reconciliation(result, workers.killed))
            console.print(*pictures, sep="\n")
            if options.save_svg is not None:
                picture = Console(record=True, width=WIDTH, file=io.StringIO())
                picture.print(*pictures, sep="\n")
                picture.save_svg(options.save_svg, title="make demo")
            if os.environ.get("KEEP", "") not in ("", "0"):
                _keep(console, url, store)
            return 0 if result.holds else 1
    except BackendFailed as error:
        console.print(str(error), markup=False)
        return 2
    except KeyboardInterrupt:
        return 130


def _store(stack: contextlib.ExitStack, console: Console) -> str:
    """The store's name: a directory that is removed with the stack, where the system can share one."""
    if sys.platform != "linux":
        console.print("Stores are shared on Linux alone: one worker on memory:, and none is killed.")
        return "memory:"
    return f"shared:{stack.enter_context(tempfile.TemporaryDirectory(prefix='llmquota-demo-'))}"


def _verified(result: Reconciliation, environment: Mapping[str, str]) -> Reconciliation:
    """With what ``llmquota verify`` says of the store, from outside of the backend."""
    if not environment["LLMQUOTA_STORE"].startswith("shared:"):
        return result
    command = [sys.executable, "-m", "llmquota", "verify"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode == 0:
        return replace(result, verified=True)
    return replace(result, differences=[*result.differences, f"llmquota verify: {done.stdout}{done.stderr}".strip()])


async def _run(
    console: Console, url: str, fake: FakeOpenAI | None, seconds: float, workers: Workers
) -> tuple[RenderableType, Reconciliation]:
    views = [View(tenant.workspace_id) for tenant in TENANTS]
    seen = {tenant.workspace_id: Seen() for tenant in TENANTS}
    # A connection for each call, as from many callers: whichever worker is free takes it.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        watchers = [asyncio.create_task(poll(client, view)) for view in views]
        watchers += [asyncio.create_task(listen(url, view)) for view in views]
        watchers.append(asyncio.create_task(_show(console, views, seen, seconds)))
        workers.start()
        callers = [drive(client, tenant, seconds, seen[tenant.workspace_id], workers) for tenant in TENANTS]
        try:
            await asyncio.gather(*callers)
        finally:
            for watcher in watchers:
                watcher.cancel()
            ended = await asyncio.gather(*watchers, return_exceptions=True)
        for problem in ended:  # a watcher that failed by itself has something to say
            if isinstance(problem, Exception):
                raise problem
        if fake is not None:
            result = await reconcile_when_settled(client, fake, views, seen)
        else:
            for view in views:
                await view.refresh(client)
            result = reconcile_with_answers(views, seen)
    return showing.workspaces(views, seen, f"After {seconds:g} seconds"), result


async def _show(console: Console, views: Sequence[View], seen: dict[str, Seen], seconds: float) -> None:
    """The table while calls are made; a line now and then where nobody sits at a terminal."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(PLAIN_LINE_SECONDS)
            states = ", ".join(f"{view.workspace_id} {view.status}, {view.requests} requests" for view in views)
            console.print(f"... {states}")
    title = f"Three workspaces for {seconds:g} seconds"
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(showing.workspaces(views, seen, title), refresh=True)
            await asyncio.sleep(0.25)


def _keep(console: Console, url: str, store: str) -> None:
    look = f"\n  {sys.executable} -m llmquota history --store {store} --limit 20" if store != "memory:" else ""
    console.print(
        f"\nStill up, until Ctrl-C:\n"
        f"  {url}/docs\n"
        f"  {url}/api/quota/status?workspace_id=acme\n"
        f"  {url}/api/quota/usage?workspace_id=noisy-corp&period=total\n"
        f"  {url}/api/quota/history?workspace_id=acme\n"
        f"  ws{url.removeprefix('http')}/api/quota/ws?workspace_id=acme\n"
        f"  curl -X POST -H 'X-Admin-Key: {ADMIN_KEY}' '{url}/api/quota/reset?workspace_id=noisy-corp'"
        f"{look}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long calls are made (default 20)")
    parser.add_argument("--save-svg", metavar="FILE", help="save the final table and the reconciliation as a picture")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
