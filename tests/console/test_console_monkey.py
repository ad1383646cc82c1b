"""Random keys on recordings and a run that goes on: no exception, no screen that does not answer or cannot be left."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from benchmarks.live_run import opening, second
from samullm_tui.console.actions import ACTIONS
from samullm_tui.console.app import SamullmApp, Start
from samullm_tui.console.screens.base import ConsoleScreen
from samullm_tui.console.screens.library import LibraryScreen
from samullm_tui.console.sources import Vitals
from samullm_tui.domain.errors import Problem, RunError
from samullm_tui.locations import RECORDINGS
from tests.console.conftest import quick_keys, settle, shown
from tests.console.fakes import FakeSources, FakeTail, proposed

KEYS = sorted({key for action in ACTIONS for key in action.keys.split(",")})
WORDS = ("start", "stop", "drain", "switch", "stay")
TYPED = (*"abcXYZ019 ,-[é漢", "backspace", "tab", "f1", "ctrl+w", "ctrl+u")
RECORDED = RECORDINGS / "three-decisions.jsonl.zst"
SIZES = ((80, 24), (120, 40), (60, 15), (200, 60), (59, 14), (80, 24))
LEAVING = frozenset({"back", "quit", "interrupt", "first", "last"})
STEPS = 450
LONG_S = float(os.environ.get("SAMULLM_MONKEY_S", "60"))
"""How long each torture seed goes on; issue a long one with SAMULLM_MONKEY_S=1800."""
MOST_BACKS = 12
"""Deeper than any way through the screens that keys can take before the monkey is called back."""


class Stubborn(SamullmApp):
    """Stays when it is told to quit, so that the monkey can go on."""

    quits = 0

    def exit(self, *args: object, **kwargs: object) -> None:
        self.quits += 1


class Monkey:
    """One seeded sequence of keys, sizes and events. `past` is what it did last: what a failure is told with."""

    def __init__(self, pilot: Pilot[object], sources: FakeSources, seed: int) -> None:
        self._pilot = pilot
        self._sources = sources
        self._random = random.Random(seed)
        self._second = 0
        self.past: list[str] = []

    async def step(self) -> None:
        kinds = {"works": 45, "key": 25, "typed": 12, "word": 5, "world": 10, "size": 3}
        (kind,) = self._random.choices(list(kinds), list(kinds.values()))
        if kind in {"world", "size"}:
            await (self._world() if kind == "world" else self._size())
            return
        keys = {"works": self._working(), "key": KEYS, "typed": TYPED}.get(kind)
        pressed = [self._random.choice(keys)] if keys else [*self._random.choice(WORDS), "enter"]
        self.past += pressed
        await self._pilot.press(*pressed)
        if self._random.random() < 0.5:
            await settle(self._pilot)

    def _working(self) -> list[str]:
        """The keys that work now, without which it would see little; those that go back only now and then."""
        screen = self._pilot.app.screen
        assert isinstance(screen, ConsoleScreen)
        leaves = self._random.random() < 0.2
        return [
            action.keys.split(",")[0] for action in screen.available() if leaves or action.id not in LEAVING
        ] or ["escape"]

    async def _size(self) -> None:
        size = self._random.choice(SIZES)
        self.past.append(f"{size[0]}×{size[1]}")
        await self._pilot.resize_terminal(*size)

    async def _world(self) -> None:
        """The run goes on, asks, loses its supervisor, finds one again, refuses."""
        self._second += 1
        kind = self._random.choice(("events", "proposal", "vitals", "refuse", "wait"))
        self.past.append(f"({kind})")
        if kind == "events":
            self._sources.tail_of_run.events += second(self._second, self._random.randrange(20))
        elif kind == "proposal":
            self._sources.tail_of_run.events += proposed(50.0 + self._second, 90.0 + self._second)
        elif kind == "vitals":
            self._sources.vitals_of_run = Vitals(alive=self._random.random() < 0.7, trouble="disk full")
        elif kind == "refuse":
            refused = RunError(Problem("run", "", "its supervisor does not answer"))
            self._sources.refuse = refused if self._random.random() < 0.5 else None
        await settle(self._pilot)

    async def comes_home(self) -> None:
        """Escapes bring it to the library, which answers a key with another picture."""
        await self._pilot.resize_terminal(80, 24)
        for _ in range(MOST_BACKS):
            await settle(self._pilot)
            if isinstance(self._pilot.app.screen, LibraryScreen):
                break
            await self._pilot.press("escape")
        else:
            pytest.fail(f"cannot be left:\n{shown(self._pilot)}\nafter {self.past[-60:]}")
        await self._pilot.press("escape")
        before = shown(self._pilot)
        await self._pilot.press("question_mark")
        await settle(self._pilot)
        assert shown(self._pilot) != before, f"does not answer after {self.past[-60:]}"
        await self._pilot.press("escape")
        self.past.append("(home)")

    def goes_out(self) -> None:
        """Begins somewhere else."""
        app = self._pilot.app
        assert isinstance(app, SamullmApp)
        place = self._random.choice(("run", "recording", "application"))
        self.past.append(f"({place})")
        if place == "run":
            app.open_run("live")
        elif place == "recording":
            app.open_recording(RECORDED)
        else:
            app.open_application(Path("/apps/chain-summary.toml"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_keys(monkeypatch)


@pytest.fixture
def world(tmp_path: Path) -> FakeSources:
    """The recordings that ship, and a live run of nine LLMs."""
    sources = FakeSources(tmp_path)
    sources.tail_of_run = FakeTail([*opening(), *second(1, 5)])
    sources.recordings = lambda: sorted(RECORDINGS.glob("*.jsonl.zst"))  # type: ignore[method-assign]
    sources.folder = lambda run: RECORDED  # type: ignore[method-assign]
    return sources


STARTS = (
    Start(recording=RECORDED, speed=16.0),
    Start(run="live"),
    Start(recording=RECORDINGS / "chain-summary.jsonl.zst", playing=False),
)


def turns(seconds: float | None) -> Iterator[int]:
    """STEPS of them, or as many as go into so many seconds."""
    until = None if seconds is None else time.monotonic() + seconds
    number = 0
    while number < STEPS if until is None else time.monotonic() < until:
        yield number
        number += 1


async def play(sources: FakeSources, seed: int, seconds: float | None = None) -> int:
    """Returns how many steps were taken."""
    app = Stubborn(sources, STARTS[seed % len(STARTS)], theme="dark")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        monkey = Monkey(pilot, sources, seed)
        number = 0
        for number in turns(seconds):
            await monkey.step()
            assert isinstance(app.screen, ConsoleScreen), f"after {monkey.past[-60:]}"
            if number % 50 == 49:
                await monkey.comes_home()
                monkey.goes_out()
        await monkey.comes_home()
    return number + 1


@pytest.mark.parametrize("seed", range(3))
async def test_random_keys_throw_nothing_and_leave_no_stuck_screen(
    world: FakeSources, quick: None, seed: int
) -> None:
    await play(world, seed)


@pytest.mark.torture
@pytest.mark.timeout(LONG_S + 300)
@pytest.mark.parametrize("seed", range(100, 103))
async def test_random_keys_for_long(world: FakeSources, quick: None, seed: int) -> None:
    assert await play(world, seed, LONG_S) > STEPS
