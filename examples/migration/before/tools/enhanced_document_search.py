"""Answers a question from documents: ranks them by embeddings, then asks about the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from openai import OpenAI
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion

EMBEDDING_MODEL = "text-embedding-3-small"
ANSWER_MODEL = "gpt-4o-mini"
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
        return self._given_client or OpenAI()

    def search(self, question: str, documents: Sequence[str]) -> SearchResult:
        """The answer to a question from at least one document. Raises the SDK's own errors."""
        embedded = self._embed([question, *documents])
        asked, *vectors = [item.embedding for item in embedded.data]
        ranked = sorted(zip(documents, vectors, strict=True), key=lambda pair: -_similarity(asked, pair[1]))
        best = [document for document, _ in ranked[:USED_DOCUMENTS]]
        completion = self._ask(question, best)
        tokens = embedded.usage.total_tokens + (completion.usage.total_tokens if completion.usage else 0)
        return SearchResult(completion.choices[0].message.content or "", best, tokens)

    def _embed(self, texts: Sequence[str]) -> CreateEmbeddingResponse:
        return self._client.embeddings.create(model=EMBEDDING_MODEL, input=list(texts))

    def _ask(self, question: str, documents: Sequence[str]) -> ChatCompletion:
        context = "\n\n".join(documents)
        return self._client.chat.completions.create(
            model=ANSWER_MODEL,
            messages=[
                {"role": "system", "content": f"Answer from these documents alone:\n\n{context}"},
                {"role": "user", "content": question},
            ],
        )


def _similarity(one: Sequence[float], other: Sequence[float]) -> float:
    # The provider's vectors have length 1: the dot product is the cosine.
    return sum(a * b for a, b in zip(one, other, strict=True))


document_search = EnhancedDocumentSearch()
