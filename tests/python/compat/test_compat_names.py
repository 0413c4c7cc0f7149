"""A1, A2: the names, and which object each of them is."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from compat_clients import BACKEND

from llmquota import compat
from llmquota.compat import MultiWorkspaceQuotaManager, QuotaStatus, WorkspaceQuotaTracker

NAMES = {
    "quota_tracker",
    "quota_manager",
    "workspace_quota_manager",
    "openai_quota_tracker",
    "QuotaStatus",
    "WorkspaceQuotaTracker",
    "MultiWorkspaceQuotaManager",
    "OpenAIQuotaTracker",
    "WorkspaceQuotaManager",
    "get_usage_client",
}
LIMITER_NAMES = {
    "RateLimitStrategy",
    "RateLimitConfig",
    "TokenBucket",
    "APIRateLimiter",
    "api_rate_limiter",
    "acquire_api_permit",
    "execute_with_rate_limit",
    "get_rate_limit_stats",
}


def test_every_name_is_exported() -> None:
    assert set(compat.__all__) >= NAMES | LIMITER_NAMES
    namespace: dict[str, object] = {}
    exec("from llmquota.compat import *", namespace)
    assert set(namespace) >= NAMES | LIMITER_NAMES
    assert set(dir(compat)) >= set(compat.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        compat.nothing  # noqa: B018


@pytest.mark.parametrize(("module", "names"), [("openai_quota_tracker", NAMES), ("api_rate_limiter", LIMITER_NAMES)])
def test_the_backends_module_is_one_import(module: str, names: set[str]) -> None:
    body = ast.parse((BACKEND / "services" / f"{module}.py").read_text()).body
    statements = [each for each in body if not isinstance(each, ast.Expr)]
    assert len(statements) == 1
    assert isinstance(statements[0], ast.ImportFrom)
    assert statements[0].module == "llmquota.compat"
    assert {alias.name for alias in statements[0].names} == names


def test_the_global_tracker_has_four_names_and_is_one_object() -> None:
    for name in (None, "", "global", "_global"):
        assert compat.quota_manager.get_tracker(name) is compat.quota_tracker
    assert compat.quota_manager is compat.workspace_quota_manager
    assert importlib.import_module("llmquota").workspace_quota_manager is compat.quota_manager
    assert compat.quota_tracker.workspace_id == "global"


def test_the_objects_are_instances_of_the_exported_classes() -> None:
    assert isinstance(compat.quota_tracker, WorkspaceQuotaTracker)
    assert isinstance(compat.quota_tracker, compat.OpenAIQuotaTracker)
    assert isinstance(compat.quota_manager, MultiWorkspaceQuotaManager)
    assert isinstance(compat.quota_manager, compat.WorkspaceQuotaManager)
    assert isinstance(compat.api_rate_limiter, compat.APIRateLimiter)


def test_the_status_is_a_string_enum() -> None:
    assert [status.value for status in QuotaStatus] == [
        "normal",
        "warning",
        "rate_limited",
        "quota_exceeded",
        "degraded",
    ]
    assert issubclass(QuotaStatus, str)
    assert QuotaStatus.NORMAL == "normal"
    assert QuotaStatus("warning") in [QuotaStatus.WARNING]
    assert json.dumps(QuotaStatus.DEGRADED) == '"degraded"'


def test_importing_opens_no_store_until_a_name_is_used(in_backend: Callable[..., str]) -> None:
    code = "import os, llmquota.compat as c; os.environ['OPENAI_RATE_LIMIT_PER_MINUTE'] = '7'; {}"
    assert in_backend(code.format("print(c.quota_tracker.rate_limits['requests_per_minute'])")) == "7\n"


def test_one_object_for_threads_that_ask_at_once() -> None:
    code = """
import threading, llmquota.compat as c
found, gate = [], threading.Barrier(8)
def ask():
    gate.wait()
    found.append((c.quota_tracker, c.quota_manager, c.openai_quota_tracker, c.api_rate_limiter))
threads = [threading.Thread(target=ask) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert len({tuple(map(id, each)) for each in found}) == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
