"""The AI routes under ``/api/ai``: one for each kind of client (async, streaming, sync)."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import StreamingResponse
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel, Field, StringConstraints

from ai_agents.conversational_simple import conversational_agent
from llmquota import quota_context
from services.ai_provider_abstraction import PROVIDER_TYPES, ai_provider_manager
from services.headlines import headline
from tools.enhanced_document_search import document_search

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/api/ai", tags=["ai"])

Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
DEFAULT_MODEL = "gpt-4o-mini"


class Caller(BaseModel):
    """For whom a call is made."""

    workspace_id: Id
    goal_id: Id | None = None
    task_id: Id | None = None

    def attribution(self) -> dict[str, Any]:
        """The same as keyword arguments of the services."""
        return {"workspace_id": self.workspace_id, "goal_id": self.goal_id, "task_id": self.task_id}


class ChatRequest(Caller):
    """One prompt."""

    prompt: Text
    model: str = DEFAULT_MODEL
    instructions: str = "Answer briefly."
    provider_type: str = "chat"


class StreamRequest(Caller):
    """One message of a conversation."""

    message: Text
    model: str = DEFAULT_MODEL


class SearchRequest(Caller):
    """A question to documents."""

    question: Text
    documents: Annotated[list[Text], Field(min_length=1, max_length=100)]


class HeadlineRequest(Caller):
    """A text that needs a headline."""

    text: Text
    model: str = DEFAULT_MODEL


@router.post("/chat")
async def chat(request: ChatRequest) -> dict[str, Any]:
    """The whole answer, with the provider's usage."""
    if request.provider_type not in PROVIDER_TYPES:
        raise HTTPException(422, f"provider_type must be one of {', '.join(PROVIDER_TYPES)}")
    agent = {"name": "assistant", "model": request.model, "instructions": request.instructions}
    answer = await ai_provider_manager.call_ai(request.provider_type, agent, request.prompt, **request.attribution())
    return {**answer, "usage": _usage(answer["usage"])}


@router.post("/search")
def search(request: SearchRequest) -> dict[str, Any]:
    """The answer from the best documents. Not ``async``: the client blocks, so a worker thread runs this."""
    result = document_search.search(request.question, request.documents, **request.attribution())
    return {"success": True, "content": result.answer, "documents": result.documents, "tokens_used": result.tokens_used}


@router.post("/headline")
def headlines(request: HeadlineRequest) -> dict[str, Any]:
    """The headline. The module behind it has no guard and knows no workspace: the context says whose call it is."""
    with quota_context(**request.attribution()):
        completion = headline(request.text, request.model)
    return {"success": True, "content": completion.choices[0].message.content, "usage": _usage(completion.usage)}


@router.post("/stream")
async def stream(request: StreamRequest) -> StreamingResponse:
    """Server-sent events: ``{"text"}`` for each piece, at last with ``usage``; ``event: error`` if it breaks off."""
    chunks = conversational_agent.stream_reply(request.message, model=request.model, **request.attribution())
    # The first step is taken here, while a refusal or an error can still be the status of the answer.
    first = await anext(chunks)
    return StreamingResponse(_events(first, chunks), media_type="text/event-stream")


async def _events(
    first: ChatCompletionChunk, rest: AsyncGenerator[ChatCompletionChunk, None]
) -> AsyncGenerator[str, None]:
    async with aclosing(rest):  # a reader who leaves ends the call at the provider too
        yield _event(first)
        try:
            async for chunk in rest:
                yield _event(chunk)
        except Exception as error:  # the status is sent: the reader can be told in the stream alone
            logger.warning("a stream broke off", exc_info=error)
            yield f"event: error\ndata: {json.dumps({'detail': str(error)})}\n\n"


def _event(chunk: ChatCompletionChunk) -> str:
    data: dict[str, Any] = {"text": "".join(choice.delta.content or "" for choice in chunk.choices)}
    if chunk.usage is not None:
        data["usage"] = _usage(chunk.usage)
    return f"data: {json.dumps(data)}\n\n"


def _usage(usage: Any) -> dict[str, int]:
    # Each of OpenAI's interfaces has a class of its own for it; this much they share.
    return {"total_tokens": usage.total_tokens}
