"""The main job, to look at: three workspaces behind one backend, one of them noisy, counted and reconciled.

``python demo.py`` starts a provider on loopback and the backend of this folder under uvicorn, drives it over HTTP for
20 seconds, and ends with what the provider counted against what llmquota counted. It exits with 1 where they differ, or
where a quiet workspace was refused. ``DEMO_PROVIDER=openai`` with ``OPENAI_API_KEY`` takes the real API, which costs a
few cents; ``KEEP=1`` leaves everything up until Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

import httpx
from rich.console import Console, RenderableType
from rich.live import Live

from demonstration import showing
from demonstration.backend import FOLDER, BackendFailed, free_port, running_backend
from demonstration.books import Reconciliation, reconcile_with_answers, reconcile_with_fake
from demonstration.tenants import TENANTS, set_up_provider
from demonstration.traffic import Seen, drive
from demonstration.watching import View, listen, poll
from llmquota.testing import FakeOpenAI

PORT = 8000
PLAIN_LINE_SECONDS = 5.0
WIDTH = 100
ADMIN_KEY = "demo-admin-key"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it: 0 where the books agree, 1 where they do not, 2 where it could not run."""
    options = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    signal.signal(signal.SIGTERM, _leave)  # so that the backend is stopped on the way out
    environment = {
        "LLMQUOTA_STORE": "memory:",
        "LLMQUOTA_LIMITS": str(FOLDER / "limits.toml"),
        "QUOTA_ADMIN_RESET_KEY": ADMIN_KEY,
    }
    try:
        with contextlib.ExitStack() as stack:
            fake = None
            if os.environ.get("DEMO_PROVIDER", "fake") == "openai":
                if not os.environ.get("OPENAI_API_KEY"):
                    console.print("DEMO_PROVIDER=openai needs OPENAI_API_KEY")
                    return 2
            else:
                fake = stack.enter_context(FakeOpenAI(group_by=("x-workspace-id", "x-goal-id"), latency=0.05))
                set_up_provider(fake)
                environment |= {"OPENAI_BASE_URL": fake.base_url, "OPENAI_API_KEY": "demo"}
            port = free_port(PORT)
            if port != PORT:
                console.print(f"Port {PORT} is taken: the backend listens on {port}.")
            url = stack.enter_context(running_backend(port, environment))
            console.print(f"Backend {url}, provider {fake.base_url if fake else 'OpenAI'}.")
            table, result = asyncio.run(_run(console, url, fake, options.seconds))
            pictures = (table, "", showing.reconciliation(result))
            console.print(*pictures, sep="\n")
            if options.save_svg is not None:
                picture = Console(record=True, width=WIDTH, file=io.StringIO())
                picture.print(*pictures, sep="\n")
                picture.save_svg(options.save_svg, title="make demo")
            if os.environ.get("KEEP", "") not in ("", "0"):
                _keep(console, url)
            return 0 if result.holds else 1
    except BackendFailed as error:
        console.print(str(error), markup=False)
        return 2
    except KeyboardInterrupt:
        return 130


async def _run(
    console: Console, url: str, fake: FakeOpenAI | None, seconds: float
) -> tuple[RenderableType, Reconciliation]:
    views = [View(tenant.workspace_id) for tenant in TENANTS]
    seen = {tenant.workspace_id: Seen() for tenant in TENANTS}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        watchers = [asyncio.create_task(poll(client, view)) for view in views]
        watchers += [asyncio.create_task(listen(url, view)) for view in views]
        watchers.append(asyncio.create_task(_show(console, views, seen, seconds)))
        callers = [drive(client, tenant, seconds, seen[tenant.workspace_id]) for tenant in TENANTS]
        try:
            await asyncio.gather(*callers)
        finally:
            for watcher in watchers:
                watcher.cancel()
            ended = await asyncio.gather(*watchers, return_exceptions=True)
        for problem in ended:  # a watcher that failed by itself has something to say
            if isinstance(problem, Exception):
                raise problem
        for view in views:
            await view.refresh(client)
        if fake is not None:
            result = await reconcile_with_fake(client, fake.served, views, seen)
        else:
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


def _keep(console: Console, url: str) -> None:
    console.print(
        f"\nStill up, until Ctrl-C:\n"
        f"  {url}/docs\n"
        f"  {url}/api/quota/status?workspace_id=acme\n"
        f"  {url}/api/quota/usage?workspace_id=noisy-corp&period=total\n"
        f"  ws{url.removeprefix('http')}/api/quota/ws?workspace_id=acme\n"
        f"  curl -X POST -H 'X-Admin-Key: {ADMIN_KEY}' '{url}/api/quota/reset?workspace_id=noisy-corp'",
        markup=False,
        highlight=False,
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
