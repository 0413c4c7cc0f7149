"""The example backend: AI routes whose every provider call is counted by llmquota, and the quota routes beside them.

``python main.py`` serves it on port 8000, or on ``PORT``, by as many worker processes as ``WEB_CONCURRENCY`` says; more
than one need ``LLMQUOTA_STORE=shared:/a/directory`` to have one quota. ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL`` are
read by the OpenAI SDK, everything else by llmquota: see docs/settings.md.
"""

from __future__ import annotations

import math
import os

import openai
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from llmquota import QuotaExceeded, instrument
from llmquota.errors import QuotaInputError
from routes import ai_api, quota_api, quota_socket
from services.openai_quota_tracker import workspace_quota_manager
from services.served_by import ServedBy

# Every call of this process to the provider, also of modules that know nothing of it (services/headlines.py).
instrument()

app = FastAPI(title="llmquota example backend")
app.include_router(ai_api.router)
app.include_router(quota_api.router)
app.include_router(quota_socket.router)
app.add_middleware(ServedBy)


@app.exception_handler(QuotaExceeded)
async def refused(request: Request, error: QuotaExceeded) -> JSONResponse:
    """429: which limits are in the way, and when the same call would fit."""
    headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
    language = request.headers.get("Accept-Language", "en")
    text = workspace_quota_manager.refusal_text(error.decision, language)["message"]
    return JSONResponse({"detail": text, "decision": error.decision}, status_code=429, headers=headers)


@app.exception_handler(QuotaInputError)
async def invalid(request: Request, error: QuotaInputError) -> JSONResponse:
    """400: for example a workspace id with control characters."""
    return JSONResponse({"detail": str(error), "code": error.code}, status_code=400)


@app.exception_handler(openai.APIError)
async def provider_failed(request: Request, error: openai.APIError) -> JSONResponse:
    """502: the provider said no, or nothing, after all attempts."""
    status = error.status_code if isinstance(error, openai.APIStatusError) else None
    body = {"detail": f"The provider failed: {error}", "code": error.code, "provider_status": status}
    return JSONResponse(body, status_code=502)


if __name__ == "__main__":
    # By name, for each worker imports it by itself.
    uvicorn.run("main:app", host="127.0.0.1", port=int(os.environ.get("PORT", "8000")), log_level="warning")
