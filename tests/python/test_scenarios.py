"""The behaviour that ``tests/scenarios/*.yaml`` describes, through the Python package.

``tests/engine/scenarios.rs`` plays the same files through the Rust API, so that one description holds for both.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from scenario_document import Mistake, read
from scenario_stage import play

from llmquota import QuotaError

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
WRONG = SCENARIOS / "wrong"


def files(folder: Path) -> list[object]:
    return [pytest.param(path, id=path.stem) for path in sorted(folder.glob("*.yaml"))]


def test_the_scenarios_are_there() -> None:
    assert len(files(SCENARIOS)) >= 25
    assert len(files(WRONG)) >= 15


@pytest.mark.parametrize("store", ["memory:", "shared:"])
@pytest.mark.parametrize("path", files(SCENARIOS))
def test_a_scenario_goes_as_it_is_written(path: Path, store: str, tmp_path: Path) -> None:
    play(read(path.read_text(encoding="utf-8")), f"shared:{tmp_path}?size=16MB" if store == "shared:" else store)


@pytest.mark.parametrize("path", files(WRONG))
def test_a_scenario_with_a_mistake_fails_and_the_failure_names_it(path: Path) -> None:
    """Its first line says what the failure names: ``# fails: WORDS``."""
    text = path.read_text(encoding="utf-8")
    first = text.partition("\n")[0]
    assert first.startswith("# fails: ")
    with pytest.raises((Mistake, QuotaError)) as failure:
        play(read(text))
    assert first.removeprefix("# fails: ") in str(failure.value)
