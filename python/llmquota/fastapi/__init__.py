"""For backends on FastAPI or Starlette: whose the calls of a request are, by a function of yours.

    app.add_middleware(QuotaContextMiddleware, whose=lambda request: request.headers.get("x-workspace-id"))

It sits around the whole request, so that ``instrument()``, guards and manual records below find the workspace: in
coroutines, in the threads of ``def`` routes, in streams, background tasks and WebSockets. It refuses nothing and keeps
nothing. Needs ``starlette``, which comes with FastAPI (extra ``fastapi``).
"""

from __future__ import annotations

from .attributing import QuotaContextMiddleware

__all__ = ["QuotaContextMiddleware"]
