"""A backend of several workers: ``uvicorn shared_app:app --workers 4``."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI

from llmquota import QuotaExceeded, workspace_quota_manager

app = FastAPI()


@app.post("/call/{workspace_id}")
def call(workspace_id: str) -> dict[str, Any]:
    """Makes a call of 10 tokens, where it fits, and says which worker did."""
    try:
        hold = workspace_quota_manager.get_tracker(workspace_id).reserve(10)
    except QuotaExceeded:
        return {"pid": os.getpid(), "granted": False}
    hold.settle(tokens=10)
    return {"pid": os.getpid(), "granted": True}
