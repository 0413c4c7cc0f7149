"""Azure's paths for the same API: a deployment in the path stands for the model in the body.

- ``/openai/deployments/{deployment}/chat/completions`` and the like;
- ``/openai/v1/chat/completions``, the newer form;
- ``/openai/responses``, for what needs no deployment.

The ``api-version`` may be any, or missing.
"""

from __future__ import annotations

__all__ = ["openai_path"]


def openai_path(path: str) -> tuple[str, str]:
    """The path that OpenAI has for the same, and the deployment or ``""``. A path of OpenAI's own is itself."""
    rest = path.removeprefix("/openai/")
    if rest == path:
        return path, ""
    deployment = ""
    if rest.startswith("deployments/"):
        _, deployment, *parts = rest.split("/")
        rest = "/".join(parts)
    return f"/v1/{rest.removeprefix('v1/')}", deployment
