"""Which part of the fake answers which request, and what those parts keep."""

from __future__ import annotations

from collections.abc import Callable

from .answers import Answer
from .catalogue import list_models, moderate, retrieve_model
from .chat import create as create_chat_completion
from .completions import create as create_completion
from .embeddings import create as create_embeddings
from .http1 import Request
from .images import edit as edit_images, generate as generate_images
from .replies import Reply
from .responses import Responses
from .routes import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    IMAGE_EDITS,
    IMAGES,
    MESSAGES,
    MODEL,
    MODELS,
    MODERATIONS,
    RESPONSE,
    RESPONSE_CANCEL,
    RESPONSES,
    RUN,
    RUNS,
    SPEECH,
    THREAD_AND_RUN,
    THREADS,
    TRANSCRIPTIONS,
    TRANSLATIONS,
)
from .speech import speak
from .threads import Threads
from .transcriptions import transcribe, translate

__all__ = ["Endpoints"]


class Endpoints:
    """The table of them, by method and endpoint."""

    def __init__(self) -> None:
        self._responses = Responses()
        self._threads = Threads()
        self.with_reply: dict[tuple[str, str], Callable[[Request, Reply], Answer]] = {
            ("POST", CHAT): create_chat_completion,
            ("POST", COMPLETIONS): create_completion,
            ("POST", IMAGES): generate_images,
            ("POST", IMAGE_EDITS): edit_images,
            ("POST", TRANSCRIPTIONS): transcribe,
            ("POST", TRANSLATIONS): translate,
            ("POST", SPEECH): speak,
            ("POST", RUNS): self._threads.create_run,
            ("POST", THREAD_AND_RUN): self._threads.create_with_run,
            ("POST", RESPONSES): self._responses.create,
        }
        """Those that say what ``FakeOpenAI.reply`` told them."""
        self.without_reply: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", RESPONSE): self._responses.retrieve,
            ("DELETE", RESPONSE): self._responses.delete,
            ("POST", RESPONSE_CANCEL): self._responses.cancel,
            ("POST", THREADS): self._threads.create,
            ("POST", MESSAGES): self._threads.add_message,
            ("GET", MESSAGES): self._threads.list_messages,
            ("GET", RUN): self._threads.retrieve_run,
            ("POST", EMBEDDINGS): create_embeddings,
            ("GET", MODELS): lambda request: list_models(),
            ("GET", MODEL): retrieve_model,
            ("POST", MODERATIONS): moderate,
        }

    def reset(self) -> None:
        """Forgets what was made."""
        self._responses.reset()
        self._threads.reset()
