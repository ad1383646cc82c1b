"""What if: pins are typed, planned with at once, and taken away again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samullm_tui.console.layout.gantt import marks_of
from samullm_tui.console.layout.text import line_width, plain
from samullm_tui.console.pins import pin_texts, wrong_pin
from samullm_tui.console.views.whatif import WhatIfView, whatif_body
from samullm_tui.domain.errors import PlanError, Problem
from samullm_tui.forecast.pins import read_pins
from tests.console.conftest import MakeApp, press, settle, shown
from tests.console.fakes import FORECAST, FakeSources

APP = Path("/apps/chain-summary.toml")


async def test_a_pin_is_planned_with_and_its_band_stands_beside_the_other(
    make_app: MakeApp, sources: FakeSources
) -> None:
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        assert "nothing is pinned" in await press(pilot, "p", "e")
        text = await press(pilot, "2")
        assert "2▏" in text
        assert text.splitlines()[-1].split() == ["⏎", "pin", "esc", "drop", "^p", "commands"], (
            "what works now"
        )
        assert not sources.calls, "nothing is planned while something is typed"
        text = await press(pilot, "enter")
        assert sources.calls == [("forecast", "vicuna-13b:tp=2", 10), ("forecast", "vicuna-13b:tp=2", None)]
        for words in ("without pins", "with these pins", "Differs", "loads", "min-heuristic"):
            assert words in text
        await press(pilot, "down", "right", "right", *"0-3", "enter")
        assert sources.calls[-1] == ("forecast", "vicuna-13b:tp=2", "Llama-2-70b:gpus=0-3", None)
        await press(pilot, "x")
        assert sources.calls[-1] == ("forecast", "vicuna-13b:tp=2", None)
        assert "nothing is pinned" in await press(pilot, "X")
        assert "Plans" in (await press(pilot, "escape")).splitlines()[0]


async def test_what_cannot_be_pinned_is_said_and_nothing_is_planned(
    make_app: MakeApp, sources: FakeSources
) -> None:
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        await press(pilot, "p", "e")
        assert "tp 0: a whole number from 1 up" in await press(pilot, "0", "enter")
        assert "▏" in await press(pilot, "a"), "a letter is no command while a number is typed"
        assert "▏" not in await press(pilot, "escape")
        assert not sources.calls


async def test_a_pin_that_no_plan_can_keep_says_what_would_be_right(
    make_app: MakeApp, sources: FakeSources
) -> None:
    sources.refuse = PlanError(Problem("", "pin vicuna-13b", "tp 3 is not possible here", "tp 1, 2"))  # type: ignore[assignment]
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "p", "e", "3", "enter")
        assert "pin vicuna-13b: tp 3 is not possible here" in text
        assert "a approve" not in text


async def test_planning_with_a_pin_can_be_ended(make_app: MakeApp, sources: FakeSources) -> None:
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        await press(pilot, "p", "e")
        sources.planning_may_end.clear()
        await pilot.press("2", "enter")
        await pilot.pause()
        assert "planning …" in shown(pilot)
        assert "esc cancel" in shown(pilot)
        text = await press(pilot, "escape")
        assert sources.cancelled
        assert "planning …" not in text
        assert "What if" in text


async def test_a_pinned_plan_is_started_only_after_the_question(
    make_app: MakeApp, sources: FakeSources
) -> None:
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        await press(pilot, "p", "e", "2", "enter")
        assert "Start plan 2 (min-heuristic)" in await press(pilot, "a")
        await press(pilot, *"start", "enter")
        assert sources.calls[-1] == ("launch", "chain-summary.toml", 2)


@pytest.mark.parametrize(
    ("field", "text", "fine"),
    [
        ("tp", "2", True), ("tp", "0", False), ("tp", "1-2", False), ("dp", "9" * 9, False), ("stage", "١", False),
        ("gpus", "0-3,6", True), ("gpus", "3-1", False), ("gpus", "8", False), ("gpus", "1,,2", False), ("gpus", "-", False),
    ],
)  # fmt: skip
def test_texts_are_checked_as_the_forecaster_reads_them(field: str, text: str, fine: bool) -> None:
    assert (wrong_pin(field, text, 8) == "") is fine
    if fine:
        assert not read_pins(pin_texts({("a", field): text}, ["a"]), [])[1]


@settings(max_examples=40, deadline=None)
@given(st.integers(60, 200), st.integers(13, 60), st.integers(0, 8), st.booleans(), st.booleans())
def test_what_if_keeps_to_its_cells_and_shows_its_cursor(
    width: int, height: int, row: int, answered: bool, wrong: bool
) -> None:
    llms = ["vicuna-13b", "Llama-2-70b", *(f"another-llm-{k}" for k in range(7))]
    view = WhatIfView(
        FORECAST.candidates[0],
        llms,
        marks_of(llms),
        8,
        {("vicuna-13b", "gpus"): "0-3,5,7"},
        (row, 2),
        "0-3" if wrong else None,
        FORECAST if answered else None,
        "planning … 3s",
        (Problem("", "pin", "wrong " * 40, "right"),) if wrong else (),
    )
    lines = whatif_body(view, width, height)
    assert len(lines) <= height
    assert all(line_width(line) <= width for line in lines)
    assert any("▸" in plain(line) for line in lines)
