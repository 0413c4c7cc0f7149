"""For LangChain: whose the model calls of a run are, as a callback.

    model.invoke("Hello", config={"callbacks": [QuotaCallbackHandler("acme", goal_id="goal-1")]})

It counts nothing: ``instrument()`` does, where the call leaves. LangChain's embeddings have no callbacks: put a
``quota_context`` around them. Needs ``langchain-core``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from .context import named_in, quota_context

try:
    from langchain_core.callbacks import BaseCallbackHandler
except ImportError as error:
    raise ImportError("llmquota.langchain needs langchain-core: pip install langchain-core") from error

__all__ = ["QuotaCallbackHandler"]


class QuotaCallbackHandler(BaseCallbackHandler):
    """Says whose the model calls of a run are: synchronous and asynchronous, in batches and as streams.

    ``workspace_id``, ``goal_id``, ``task_id`` and ``user_id`` of the run's ``config["metadata"]`` go before the
    handler's own, and both before a ``quota_context`` around the run. One handler serves any number of runs at once.
    """

    # Else an asynchronous run calls it in a context of its own, which the model's call never sees.
    run_inline = True

    def __init__(
        self,
        workspace_id: str | None = None,
        goal_id: str | None = None,
        task_id: str | None = None,
        user_id: str | None = None,
    ) -> None:
        self._names = {"workspace_id": workspace_id, "goal_id": goal_id, "task_id": task_id, "user_id": user_id}
        self._open: dict[UUID, quota_context] = {}

    def on_chat_model_start(
        self,
        serialized: Any,
        messages: Any,
        *,
        run_id: UUID,
        metadata: Mapping[str, Any] | None = None,
        **_more: Any,
    ) -> None:
        """A chat model is about to be called."""
        self._begin(run_id, metadata)

    def on_llm_start(
        self, serialized: Any, prompts: Any, *, run_id: UUID, metadata: Mapping[str, Any] | None = None, **_more: Any
    ) -> None:
        """A model that completes texts is about to be called."""
        self._begin(run_id, metadata)

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **_more: Any) -> None:
        """The request has left. What the reader of a stream calls between two pieces is not this run's."""
        self._end(run_id)

    def on_llm_end(self, response: Any, *, run_id: UUID, **_more: Any) -> None:
        """The model has answered."""
        self._end(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_more: Any) -> None:
        """The model failed, or its stream was left."""
        self._end(run_id)

    def _begin(self, run_id: UUID, metadata: Mapping[str, Any] | None) -> None:
        said: dict[str, str | None] = {**named_in(metadata or {})}
        # As a context inside the handler's: another workspace does not inherit its goal.
        if said.get("workspace_id", self._names["workspace_id"]) == self._names["workspace_id"]:
            said = {**self._names, **said}
        self._open[run_id] = context = quota_context(**said)
        context.__enter__()

    def _end(self, run_id: UUID) -> None:
        context = self._open.pop(run_id, None)
        if context is not None:
            # An asynchronous run ends in a task of its own, from where its beginner's context is out of reach.
            context.is_over = True
