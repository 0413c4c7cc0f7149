"""Headlines, by a module that knows nothing of quotas: it makes a client of its own, as forgotten corners do.

``instrument()`` in ``main.py`` counts its calls all the same, and the SDK's own retries with them. Whose they are says
the ``quota_context`` of whoever calls it.
"""

from __future__ import annotations

from openai import OpenAI
from openai.types.chat import ChatCompletion


def headline(text: str, model: str) -> ChatCompletion:
    """A headline for a text. Blocks: call it from a worker thread, such as that of a ``def`` route."""
    with OpenAI() as client:
        return client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": f"A headline of five words for this: {text}"}]
        )
