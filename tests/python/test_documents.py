"""What the documents tell a reader to run, run: each snippet in a fresh process, each command against the Makefile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmquota.testing import FakeOpenAI

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [fence["body"] for fence in FENCE.finditer(text) if fence["language"] == language]


def named(snippets: list[str]) -> list[object]:
    return [pytest.param(snippet, id=snippet.strip().splitlines()[0][:40]) for snippet in snippets]


def run(arguments: list[str], cwd: Path, base_url: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LLMQUOTA_", "OPENAI_"))}
    environment |= {"OPENAI_API_KEY": "test", "OPENAI_BASE_URL": base_url}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("snippet", named(blocks("README.md", "python")))
def test_a_snippet_of_the_readme_runs_as_printed(snippet: str, tmp_path: Path) -> None:
    with FakeOpenAI() as fake:
        if "def test_" in snippet:
            (tmp_path / "test_snippet.py").write_text(snippet, encoding="utf-8")
            finished = run(
                ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "test_snippet.py"],
                tmp_path,
                fake.base_url,
            )
            assert "1 passed" in finished.stdout, finished.stdout
        else:
            (tmp_path / "snippet.py").write_text(snippet, encoding="utf-8")
            finished = run(["snippet.py"], tmp_path, fake.base_url)
        assert finished.returncode == 0, finished.stderr
        assert not finished.stderr, finished.stderr


def test_the_readmes_ten_lines_print_what_they_promise(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(blocks("README.md", "python")[0], encoding="utf-8")
    printed = run(["snippet.py"], tmp_path).stdout
    assert re.fullmatch(r"tokens_per_minute is in the way; wait (60|61)\.?\d* seconds\n", printed), printed


@pytest.mark.parametrize("snippet", named(blocks("docs/instrument.md", "python")))
def test_a_snippet_about_instrumented_calls_prints_what_it_says(snippet: str, tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(snippet, encoding="utf-8")
    assert run(["snippet.py"], tmp_path).stdout.splitlines() == re.findall(
        r"^print\(.*  # (.*)$", snippet, re.MULTILINE
    )


def commands(document: str) -> list[str]:
    lines = (line for block in blocks(document, "sh") for line in block.splitlines())
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


@pytest.mark.parametrize("command", commands("README.md"))
def test_a_command_of_the_readme_is_one(command: str) -> None:
    program, *words = command.split()
    assert program == "make", f"{command}: say how a test runs it"
    finished = subprocess.run(
        ["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("document", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")))
def test_a_link_of_a_document_leads_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    missing = [link for link in links if not (ROOT / document).parent.joinpath(link).exists()]
    assert not missing


def test_a_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []
