"""The empty method that the benchmarks divide by has the arguments of the method that they measure."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def declared(path: str, method: str) -> str:
    """The signature of a method in Rust as PyO3 reads it: its attribute, its arguments and their types."""
    source = (ROOT / path).read_text(encoding="utf-8")
    attribute = r"#\[pyo3\(\s*signature = (?:(?!#\[pyo3).)*?"
    function = rf"(?:pub\(crate\) )?(fn {method}\b.*?->)"
    found = re.search(rf"({attribute})\)\]\s*#\[allow\([\w:]+\)\]\s*{function}", source, re.DOTALL)
    assert found, f"no {method} in {path}"
    return " ".join(" ".join(found.groups()).split())


def test_the_empty_method_takes_what_the_tracker_takes() -> None:
    ours = declared("pyext/src/tracker.rs", "record_request")
    assert "service_tier: Given<" in ours
    assert declared("benches/baseline/src/lib.rs", "record_request") == ours
