"""The console with fake sources."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.worker import WorkerCancelled

from samullm_tui.console.app import SamullmApp, Start
from samullm_tui.console.screens.base import ConsoleScreen
from tests.console.fakes import FakeSources, beginning, ending, middle, write_journal

MakeApp = Callable[..., SamullmApp]


@pytest.fixture(autouse=True)
def _plain_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No theme, run or cache of whoever runs the tests; the same words on every screen."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SAMULLM_HOME", "/home/operator/samullm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A whole run, recorded."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    return write_journal(folder / "recorded-run.jsonl", [*beginning(), *middle(), *ending()])


@pytest.fixture
def sources(recording: Path) -> FakeSources:
    return FakeSources(recording.parent, [*beginning(), *middle()])


@pytest.fixture
def make_app(sources: FakeSources) -> MakeApp:
    def make(**start: object) -> SamullmApp:
        return SamullmApp(sources, Start(**start), theme="dark")  # type: ignore[arg-type]

    return make


def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pilot waits at each key until the process has been idle for a while; who waits for what it wants can do without."""

    async def turns(*_: object) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    monkeypatch.setattr("textual.app.wait_for_idle", turns)
    monkeypatch.setattr("textual.pilot.wait_for_idle", turns)


async def settle(pilot: Pilot[object]) -> None:
    """Until all that was started has come to an end and is drawn."""
    for _ in range(2):
        # Work that gave way to newer work of its kind is no failure: that is waited for the next time round.
        with suppress(WorkerCancelled):
            await pilot.app.workers.wait_for_complete()
        await pilot.pause()


def shown(pilot: Pilot[object]) -> str:
    """The text of the present screen, as the terminal gets it."""
    screen = pilot.app.screen
    assert isinstance(screen, ConsoleScreen)
    panes = (screen.title_pane, screen.body_pane, screen.key_pane)
    strips = [pane.render_line(y).text for pane in panes for y in range(pane.size.height)]
    return "\n".join(strips)


Keys = Callable[..., Awaitable[str]]


async def press(pilot: Pilot[object], *keys: str) -> str:
    """Presses keys, waits for what they start, and returns the screen."""
    await pilot.press(*keys)
    await settle(pilot)
    return shown(pilot)
