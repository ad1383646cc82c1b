"""`--read-only`: everything can be looked at, and no key starts or changes a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from samullm_tui.console.actions import ACTIONS
from samullm_tui.console.app import SamullmApp, Start
from tests.console.conftest import press, shown
from tests.console.fakes import RUN, FakeSources, beginning, middle, proposed

CHANGES = {"launch", "resume", "control", "replan", "answer", "approve"}
KEYS = sorted({key for action in ACTIONS if action.glyph for key in action.keys.split(",")} - {"q", "escape"})


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("start", "first", "word"),
    [(Start(run=RUN), "l", "stop"), (Start(application=Path("/apps/chain-summary.toml")), "p", "start")],
    ids=["a run", "plans"],
)
async def test_only_without_it_keys_change_something(
    tmp_path: Path, start: Start, first: str, word: str, read_only: bool
) -> None:
    """Each key, and what a question that it might open wants to hear."""
    sources = FakeSources(tmp_path, [*beginning(), *middle(), *proposed()])
    app = SamullmApp(sources, replace(start, read_only=read_only), theme="dark")
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, first)
        for key in KEYS:
            await press(pilot, key)
            await press(pilot, *word, "enter", "escape")
    assert any(call[0] in CHANGES for call in sources.calls) == (not read_only)


@pytest.mark.parametrize("read_only", [True, False])
async def test_the_title_says_so_and_the_key_line_offers_no_change(tmp_path: Path, read_only: bool) -> None:
    sources = FakeSources(tmp_path, [*beginning(), *middle()])
    app = SamullmApp(sources, Start(run=RUN, read_only=read_only), theme="dark")
    async with app.run_test(size=(120, 40)) as pilot:
        while "● running" not in shown(pilot):
            await pilot.pause(0.01)
        picture = shown(pilot)
    assert ("samullm  read-only" in picture) == read_only
    assert ("space pause" in picture) == (not read_only)
    assert "l log" in picture
