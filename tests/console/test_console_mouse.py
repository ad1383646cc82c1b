"""With a mouse: the wheel and clicks do what keys do, and nothing that a key would not do now."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot

from samullm_tui.console.screens.base import ConsoleScreen
from samullm_tui.console.screens.library import LibraryScreen
from samullm_tui.console.screens.plans import PlansScreen
from tests.console.conftest import MakeApp, press, settle, shown
from tests.console.fakes import RUN, FakeSources

APP = Path("/apps/chain-summary.toml")


async def click(pilot: Pilot[object], words: str) -> None:
    """On the first of these words on the screen."""
    lines = shown(pilot).splitlines()
    y = next(y for y, line in enumerate(lines) if words in line)
    await pilot.click(offset=(lines[y].index(words), y))
    await settle(pilot)


async def roll(pilot: Pilot[object], wheel: type[events.MouseEvent], *, ctrl: bool = False) -> None:
    """One notch of the wheel in the middle of the screen."""
    at = {"x": 20, "y": 10, "screen_x": 20, "screen_y": 10, "delta_x": 0, "delta_y": 0, "button": 0}
    event = wheel(widget=None, shift=False, meta=False, ctrl=ctrl, **at)  # type: ignore[arg-type]
    pilot.app.screen._forward_event(event)  # as Pilot does with clicks; it knows no wheel
    await settle(pilot)


def selected(pilot: Pilot[object]) -> str:
    return next(line for line in shown(pilot).splitlines() if line.lstrip().startswith("▸"))


async def test_a_click_selects_and_another_opens(make_app: MakeApp) -> None:
    async with make_app().run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "end")
        last = selected(pilot)
        await click(pilot, " chain-summary  ")
        assert "chain-summary  " in selected(pilot)
        assert selected(pilot) != last
        await click(pilot, last.split()[1])
        assert selected(pilot) == last
        await click(pilot, " chain-summary  ")
        assert isinstance(pilot.app.screen, LibraryScreen)
        await click(pilot, " chain-summary  ")
        assert not isinstance(pilot.app.screen, LibraryScreen)


async def test_a_click_on_a_heading_goes_no_further_than_the_next_line(make_app: MakeApp) -> None:
    async with make_app().run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for y in range(1, 22):
            await pilot.click(offset=(5, y))
            await settle(pilot)
            while not isinstance(pilot.app.screen, LibraryScreen):
                await press(pilot, "escape")
            assert "▸" in shown(pilot)


async def test_a_click_on_the_bottom_line_presses_that_key(make_app: MakeApp) -> None:
    async with make_app(application=APP).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await click(pilot, "p plans")
        assert isinstance(pilot.app.screen, PlansScreen)
        await click(pilot, "esc back")
        assert not isinstance(pilot.app.screen, PlansScreen)


async def test_the_wheel_moves_and_with_ctrl_zooms(make_app: MakeApp) -> None:
    async with make_app(application=APP).run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "p")
        first = selected(pilot)
        await roll(pilot, events.MouseScrollDown)
        assert selected(pilot) != first
        await roll(pilot, events.MouseScrollUp)
        assert selected(pilot) == first
        whole = shown(pilot)
        await roll(pilot, events.MouseScrollUp, ctrl=True)
        assert any(line.startswith(" ×2 ") for line in shown(pilot).splitlines())
        await roll(pilot, events.MouseScrollDown, ctrl=True)
        assert shown(pilot) == whole


@pytest.mark.parametrize("wheel", [events.MouseScrollDown, events.MouseScrollUp])
async def test_the_wheel_and_clicks_answer_no_question(
    make_app: MakeApp, sources: FakeSources, wheel: type[events.MouseEvent]
) -> None:
    async with make_app(run=RUN).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "s")
        for y in range(1, 23, 3):
            await pilot.click(offset=(10, y))
            await roll(pilot, wheel)
        assert isinstance(pilot.app.screen, ConsoleScreen)
        assert pilot.app.screen.NAME == "confirm"
        assert not [call for call in sources.calls if call[0] == "control"]
