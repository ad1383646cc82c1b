"""What a live run sends through the link, byte by byte, at 80×24: counted for each second of the run, not timed."""

from __future__ import annotations

import pytest
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot

from benchmarks.live_run import opening, second
from benchmarks.terminal import Picture
from samullm_tui.console.screens.run import RunScreen
from tests.console.conftest import MakeApp, press, settle, shown
from tests.console.fakes import FakeSources, FakeTail

BUDGET_BYTES = 2_000
"""A second of a run that samples once a second, however many requests end in it. It takes half of that; promised are
5,000, at any pace of the link and the polls.
"""
SECONDS = 8


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each write to the terminal: the headless one would not even be asked to draw."""
    writes: list[str] = []
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(HeadlessDriver, "is_headless", property(lambda _: False))
    monkeypatch.setattr(HeadlessDriver, "write", lambda _, data: writes.append(data))
    return writes


def size(writes: list[str]) -> int:
    """In bytes."""
    return sum(len(data.encode()) for data in writes)


async def ticks(pilot: Pilot[object], sources: FakeSources, number: int, finished: int) -> None:
    """One second of the run: two polls of its journal, of which one finds something."""
    screen = pilot.app.screen
    assert isinstance(screen, RunScreen)
    sources.tail_of_run.events += second(number, finished)
    for _ in range(2):
        screen._tick()
        await settle(pilot)


@pytest.mark.parametrize("finished", [8, 999], ids=["calm", "a thousand events a second"])
async def test_a_live_run_keeps_its_byte_budget(
    make_app: MakeApp, sources: FakeSources, written: list[str], finished: int
) -> None:
    sources.tail_of_run = FakeTail([*opening(), *second(1, finished)])
    async with make_app(run="live").run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert size(written) > BUDGET_BYTES, "the first picture is whole: the counter counts"
        written.clear()
        for number in range(2, 2 + SECONDS):
            await ticks(pilot, sources, number, finished)
        assert f" {(1 + SECONDS) * finished:,} of" in shown(pilot)
        assert 0 < size(written) <= BUDGET_BYTES * SECONDS


async def test_the_terminal_shows_what_the_screen_holds(
    make_app: MakeApp, sources: FakeSources, written: list[str]
) -> None:
    sources.tail_of_run = FakeTail([*opening(), *second(1, 8)])
    async with make_app(run="live").run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for number in range(2, 2 + SECONDS):
            await ticks(pilot, sources, number, 8)
        for key in ("l", "up", "g", "g", "l", "question_mark", "escape", "slash", "x"):
            await press(pilot, key)
            picture = Picture()
            picture.feed("".join(written))
            assert picture.text == shown(pilot), f"after {key}"


async def test_nothing_is_written_while_nothing_happens(
    make_app: MakeApp, sources: FakeSources, written: list[str]
) -> None:
    sources.tail_of_run = FakeTail([*opening(), *second(1, 8)])
    async with make_app(run="live").run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "l", "l")
        written.clear()
        for _ in range(SECONDS):
            pilot.app.screen._tick()  # type: ignore[attr-defined]
            await settle(pilot)
        assert not written


async def test_a_paused_recording_writes_nothing(
    make_app: MakeApp, recording: object, written: list[str]
) -> None:
    async with make_app(recording=recording, playing=False).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "n", "n")
        written.clear()
        for _ in range(SECONDS):
            pilot.app.screen._tick()  # type: ignore[attr-defined]
            await settle(pilot)
        assert not written
