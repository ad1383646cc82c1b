"""Every screen, as it was last looked at and found good, at 80×24 and at 120×40."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from samullm_tui.console.sources import Vitals
from tests.console.conftest import MakeApp, press, settle
from tests.console.fakes import RUN, FakeSources, FakeTail, beginning, proposed, switched

APP = Path("/apps/chain-summary.toml")
SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
SCREENS: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "library": ({}, ("down",)),
    "library_run": ({}, ("down", "down")),
    "library_problems": ({}, ("home",)),
    "application": ({"application": APP}, ()),
    "lengths": ({"application": APP}, ("l",)),
    "lengths_seen": ({"run": RUN}, ("o",)),
    "plans": ({"application": APP}, ("p",)),
    "plans_compared": ({"application": APP}, ("p", "c", "down")),
    "plans_stages": ({"application": APP}, ("p", "enter")),
    "whatif": ({"application": APP}, ("p", "e", "2", "enter")),
    "approve": ({"application": APP}, ("p", "a", *"start")),
    "run": ({"run": RUN}, ()),
    "run_chart": ({"run": RUN}, ("g",)),
    "run_zoomed": ({"run": RUN}, ("g", "plus", "plus")),
    "run_log": ({"run": RUN}, ("l",)),
    "stop": ({"run": RUN}, ("s",)),
    "decision": ({"run": RUN}, ("enter",)),
    "report": ({"recording": None, "playing": False}, ("R",)),
    "help": ({"run": RUN}, ("question_mark",)),
    "palette": ({"run": RUN}, ("ctrl+p",)),
    "replay": ({"recording": None, "playing": False}, ("n", "n")),
    "replay_end": ({"recording": None, "playing": False}, ("end",)),
}


@SIZES
@pytest.mark.parametrize("name", SCREENS)
def test_screen(snap_compare, make_app: MakeApp, recording: Path, name: str, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    start, keys = SCREENS[name]
    if "recording" in start:
        start = {**start, "recording": recording}

    async def reach(pilot: Pilot[object]) -> None:
        await settle(pilot)
        if keys:
            await press(pilot, *keys)

    assert snap_compare(make_app(**start), terminal_size=size, run_before=reach)


@SIZES
def test_waiting(snap_compare, make_app: MakeApp, sources: FakeSources, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    sources.tail_of_run = FakeTail(beginning())
    assert snap_compare(make_app(run=RUN), terminal_size=size, run_before=settle)


@SIZES
def test_proposed(snap_compare, make_app: MakeApp, sources: FakeSources, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    sources.tail_of_run.events += proposed()
    assert snap_compare(make_app(run=RUN), terminal_size=size, run_before=settle)


@SIZES
@pytest.mark.parametrize("key", ["g", "enter"])
def test_switched(  # type: ignore[no-untyped-def]
    snap_compare, make_app: MakeApp, sources: FakeSources, key: str, size: tuple[int, int]
) -> None:
    sources.tail_of_run.events += [*proposed(), *switched()]

    async def reach(pilot: Pilot[object]) -> None:
        await settle(pilot)
        await press(pilot, key)

    assert snap_compare(make_app(run=RUN), terminal_size=size, run_before=reach)


@SIZES
def test_interrupted(snap_compare, make_app: MakeApp, sources: FakeSources, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    sources.vitals_of_run = Vitals(alive=False)
    assert snap_compare(make_app(run=RUN), terminal_size=size, run_before=settle)


@pytest.mark.parametrize("theme", ["light", "high-contrast", "colour-blind", "sixteen"])
def test_theme(snap_compare, make_app: MakeApp, sources: FakeSources, theme: str) -> None:  # type: ignore[no-untyped-def]
    app = make_app(run=RUN)
    app._look = app._themes[theme]
    assert snap_compare(app, terminal_size=(80, 24), run_before=settle)


def test_small(snap_compare, make_app: MakeApp) -> None:  # type: ignore[no-untyped-def]
    assert snap_compare(make_app(run=RUN), terminal_size=(50, 12), run_before=settle)
