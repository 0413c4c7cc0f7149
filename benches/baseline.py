"""Builds and loads what is divided by: the extension in ``benches/baseline``, as the wheel is built."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import subprocess
import sys
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType

from llmquota import QuotaTracker

ROOT = Path(__file__).resolve().parent.parent
NAME = "llmquota_baseline"
PACKAGE = "llmquota-baseline"
# The interpreter provides Python's symbols, which the linker of macOS wants to be told.
LINKER = ["--", "-C", "link-arg=-undefined", "-C", "link-arg=dynamic_lookup"] if sys.platform == "darwin" else []


def load() -> ModuleType:
    """The extension, built for release. Raises where its empty method is not that of the tracker."""
    path = _build()
    loader = ExtensionFileLoader(NAME, str(path))
    spec = importlib.util.spec_from_file_location(NAME, path, loader=loader)
    if spec is None:
        raise ImportError(f"no extension at {path}")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    for method in ("record_request", "can_make_request"):
        ours, empty = (inspect.signature(getattr(owner, method)) for owner in (QuotaTracker, module.Tracker))
        if ours != empty:
            raise RuntimeError(f"the baseline's {method}{empty} is not the tracker's {method}{ours}")
    return module


def _build() -> Path:
    command = ["cargo", "rustc", "--release", "--quiet", "--package", PACKAGE, "--features", f"{PACKAGE}/abi3"]
    environment = {"PYO3_PYTHON": sys.executable, **os.environ}
    done = subprocess.run(
        [*command, "--message-format=json-render-diagnostics", *LINKER],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["target"]["name"] == NAME:
            return Path(message["filenames"][0])
    raise RuntimeError(f"cargo told of no {NAME}")
