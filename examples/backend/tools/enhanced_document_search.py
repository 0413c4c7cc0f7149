"""Answers a question from documents: ranks them by embeddings, then asks about the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from openai import OpenAI
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion

from llmquota import guarded
from llmquota.retry import Retry
from services.attribution import attribution_headers

EMBEDDING_MODEL = "text-embedding-3-small"
ANSWER_MODEL = "gpt-4o-mini"
RETRY = Retry(deadline=10)  # a person waits for the answer
USED_DOCUMENTS = 2


@dataclass(frozen=True)
class SearchResult:
    """The answer, the documents that it was made from, the best first, and what it cost."""

    answer: str
    documents: list[str]
    tokens_used: int


class EnhancedDocumentSearch:
    """The search. Its methods block: call them from a worker thread, such as that of a ``def`` route."""

    def __init__(self, client: OpenAI | None = None) -> None:
        self._given_client = client

    @cached_property
    def _client(self) -> OpenAI:
        # The guard cannot see retries inside the SDK, and makes them itself.
        return self._given_client or OpenAI(max_retries=0)

    def search(
        self,
        question: str,
        documents: Sequence[str],
        *,
        workspace_id: str,
        goal_id: str | None = None,
        task_id: str | None = None,
    ) -> SearchResult:
        """The answer to a question from at least one document, for a workspace: two calls, each admitted and counted.

        Raises ``QuotaExceeded`` where a limit is in the way, and the SDK's own errors.
        """
        embedded = self._embed([question, *documents], workspace_id=workspace_id, goal_id=goal_id, task_id=task_id)
        asked, *vectors = [item.embedding for item in embedded.data]
        ranked = sorted(zip(documents, vectors, strict=True), key=lambda pair: -_similarity(asked, pair[1]))
        best = [document for document, _ in ranked[:USED_DOCUMENTS]]
        completion = self._ask(question, best, workspace_id=workspace_id, goal_id=goal_id, task_id=task_id)
        tokens = embedded.usage.total_tokens + (completion.usage.total_tokens if completion.usage else 0)
        return SearchResult(completion.choices[0].message.content or "", best, tokens)

    @guarded(workspace="workspace_id", goal="goal_id", task="task_id", model="model", retry=RETRY)
    def _embed(
        self,
        texts: Sequence[str],
        model: str = EMBEDDING_MODEL,
        *,
        workspace_id: str,
        goal_id: str | None,
        task_id: str | None,
    ) -> CreateEmbeddingResponse:
        return self._client.embeddings.create(
            model=model, input=list(texts), extra_headers=attribution_headers(workspace_id, goal_id)
        )

    @guarded(workspace="workspace_id", goal="goal_id", task="task_id", model="model", retry=RETRY)
    def _ask(
        self,
        question: str,
        documents: Sequence[str],
        model: str = ANSWER_MODEL,
        *,
        workspace_id: str,
        goal_id: str | None,
        task_id: str | None,
    ) -> ChatCompletion:
        context = "\n\n".join(documents)
        return self._client.chat.completions.create(
            model=model,
            messages=[
                {"role": "system", "content": f"Answer from these documents alone:\n\n{context}"},
                {"role": "user", "content": question},
            ],
            extra_headers=attribution_headers(workspace_id, goal_id),
        )


def _similarity(one: Sequence[float], other: Sequence[float]) -> float:
    # The provider's vectors have length 1: the dot product is the cosine.
    return sum(a * b for a, b in zip(one, other, strict=True))


document_search = EnhancedDocumentSearch()
