"""Checks a running backend: the WebSocket tells a workspace's status, and tells it again when a call is made.

``python3 test_quota_websocket.py`` takes the backend on port 8000, and makes one short call to the provider through it.
It exits with 0 if the update came, else with 1. It needs the package ``websockets``.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.sync.connection import Connection

WAIT_SECONDS = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if the initial status and the update came."""
    options = _options(arguments)
    query = urllib.parse.urlencode({"workspace_id": options.workspace})
    url = f"ws{options.url.removeprefix('http')}/api/quota/ws?{query}"
    try:
        with connect(url, open_timeout=WAIT_SECONDS) as socket:
            print(f"connected to {url}")
            before = _next(socket, "quota_initial")
            print(f"initial: {_summary(before)}")
            _call(options.url, options.workspace)
            after = before
            while after["requests_per_minute"]["current"] <= before["requests_per_minute"]["current"]:
                after = _next(socket, "quota_update")
            print(f"update:  {_summary(after)}")
    except (OSError, TimeoutError, WebSocketException) as error:
        print(f"FAILED: {error or type(error).__name__}", file=sys.stderr)
        return 1
    print("OK: the update came over the WebSocket")
    return 0


def _next(socket: Connection, kind: str) -> dict[str, Any]:
    """The data of the next message of that type. Raises ``TimeoutError`` if none comes in time."""
    while True:
        message = json.loads(socket.recv(timeout=WAIT_SECONDS))
        if message["type"] == kind:
            data: dict[str, Any] = message["data"]
            return data


def _call(url: str, workspace: str) -> None:
    body = {"workspace_id": workspace, "goal_id": "websocket-check", "prompt": "Say hello."}
    request = urllib.request.Request(
        f"{url}/api/ai/chat", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=60).close()
    except urllib.error.HTTPError as error:
        # Not the end: a call that fails at the provider is counted, and so is an update.
        print(f"the call was answered with {error.code}: {error.read().decode(errors='replace')[:200]}")


def _summary(data: dict[str, Any]) -> str:
    requests, tokens = data["requests_per_minute"], data["tokens_per_minute"]
    return (
        f"{data['status']}, {requests['current']} of {requests['limit']} requests and "
        f"{tokens['current']} of {tokens['limit']} tokens in the last minute"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="of the backend (default %(default)s)")
    parser.add_argument("--workspace", default="test-workspace", help="(default %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
