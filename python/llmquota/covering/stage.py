"""Where the methods are driven: a provider, books and clients that nobody else has, and no way to anywhere else."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmquota.errors import QuotaInputError
from llmquota.instrument import instrument, uninstrument
from llmquota.instrument.patching import is_instrumented
from llmquota.manager import QuotaManager
from llmquota.testing import FakeOpenAI

from .fence import fenced_in
from .knowledge import FILE, WEBHOOK_SECRET

__all__ = ["Endless", "Stage", "staged"]

MAX_REQUESTS = 30
"""Of one call: more of them is a loop that nothing ends."""


class Endless(BaseException):
    """A call makes request after request. No ``Exception``: the SDK would try again."""


@dataclass
class Stage:
    """What is there while methods are driven."""

    sdk: Any
    fake: FakeOpenAI
    manager: QuotaManager
    folder: Path
    objects: dict[str, str] = field(default_factory=dict)
    """Ids of what the provider has, by the name of the argument that takes one."""
    _left: int = MAX_REQUESTS

    def connect(self) -> Any:
        """A client whose calls block."""
        http = self.sdk.DefaultHttpxClient(verify=False, trust_env=False, event_hooks={"request": [self._count]})
        return self.sdk.OpenAI(http_client=http, **self._options(self.sdk.OpenAI))

    def connect_async(self) -> Any:
        """A client for a running loop."""

        async def count(request: Any) -> None:
            self._count(request)

        http = self.sdk.DefaultAsyncHttpxClient(verify=False, trust_env=False, event_hooks={"request": [count]})
        return self.sdk.AsyncOpenAI(http_client=http, **self._options(self.sdk.AsyncOpenAI))

    def for_workspace(self, client: Any, workspace: str) -> Any:
        """The client, whose calls are a workspace's also where the SDK makes them in threads of its own."""
        self._left = MAX_REQUESTS
        return client.with_options(default_headers={"X-LLMQuota-Workspace": workspace})

    def open_holds(self, workspace: str) -> int:
        """How many of its requests have not ended in our books."""
        return int(self.manager.snapshot(workspace)["holds"]["open"])

    def _options(self, kind: Any) -> dict[str, Any]:
        options = {"api_key": "test", "admin_api_key": "test", "webhook_secret": WEBHOOK_SECRET}
        known = inspect.signature(kind).parameters
        given = {name: value for name, value in options.items() if name in known}
        return {**given, "base_url": self.fake.base_url, "max_retries": 0, "timeout": 10.0}

    def _count(self, _request: Any) -> None:
        # Taken together by threads of the SDK's it may be one too many, which is no harm.
        self._left -= 1
        if self._left < 0:
            raise Endless(f"it made more than {MAX_REQUESTS} requests")

    def furnish(self, client: Any) -> None:
        """Makes what methods ask for."""
        client = self.for_workspace(client, "stage")
        hello = {"messages": [{"role": "user", "content": "Hello"}]}
        thread = client.post("/threads", body=hello, cast_to=object)["id"]
        run = client.post(f"/threads/{thread}/runs", body={"assistant_id": "asst-1"}, cast_to=object)["id"]
        # What it used is told when it is first fetched.
        client.get(f"/threads/{thread}/runs/{run}", cast_to=object)
        body = {"model": "gpt-4o", "input": "Hello", "background": True}
        response = client.post("/responses", body=body, cast_to=object)
        while response["status"] != "completed":
            response = client.get(f"/responses/{response['id']}", cast_to=object)
        self.objects.update(thread_id=thread, run_id=run, response_id=response["id"])


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    """Sets it up, and takes it down. Raises :class:`QuotaInputError` where there is no SDK, or it cannot be alone."""
    if is_instrumented():
        raise QuotaInputError(
            "coverage counts in books of its own, and this process is instrumented already: run it in another",
            "instrumented",
        )
    with contextlib.ExitStack() as stack:
        # Of the SDK's: that it will not have a method for ever.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        try:
            import openai
        except ImportError as error:
            raise QuotaInputError(
                f"there is no SDK to drive ({error}): pip install 'llmquota[openai]'", "no_sdk", "openai"
            ) from error
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmquota-coverage-")))
        (folder / FILE).write_text("Hello", encoding="utf-8")
        fake = stack.enter_context(FakeOpenAI(any_path=True))
        fake.reply("Hello", cached_tokens=3, reasoning_tokens=2)
        stack.enter_context(fenced_in(fake.port))
        manager = QuotaManager()
        stack.callback(manager.close)
        instrument(manager, providers={fake.base_url: "openai"})
        stack.callback(uninstrument)
        yield Stage(openai, fake, manager, folder)
