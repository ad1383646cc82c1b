"""A recording is shown and moved along while the rest of it is still read."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from textual.pilot import Pilot

from samullm_tui.console.app import SamullmApp, Start
from samullm_tui.console.screens import replay
from samullm_tui.domain.event import AnyEvent
from samullm_tui.journal import timeline
from samullm_tui.journal.timeline import Timeline
from tests.console.conftest import press, settle, shown
from tests.console.fakes import FakeSources, beginning, ending, middle, write_journal


class SlowTimeline(Timeline):
    """Comes from a slow disk: a block for each `let`."""

    def __init__(self, path: Path, gate: threading.Semaphore) -> None:
        super().__init__(path)
        self._gate = gate

    def read(self) -> Iterator[Sequence[AnyEvent]]:
        for block in super().read():
            self._gate.acquire()
            yield block
        self._gate.acquire()


class SlowSources(FakeSources):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gate = threading.Semaphore(0)

    def timeline(self, path: Path) -> Timeline:
        return SlowTimeline(path, self.gate)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowSources]:
    monkeypatch.setattr(timeline, "BLOCK_EVENTS", 8)
    monkeypatch.setattr(replay, "PIECE_S", 0.0)
    made = SlowSources(tmp_path)
    yield made
    made.gate.release(10_000)


async def until(pilot: Pilot[object], words: str) -> str:
    """The picture with the words (the test's own timeout bounds it)."""
    while words not in shown(pilot):
        await pilot.pause(0.01)
    return shown(pilot)


def app_of(sources: SlowSources) -> SamullmApp:
    # Not where the library looks: it would read, too.
    folder = sources.folder_of_tests / "elsewhere"
    folder.mkdir()
    path = write_journal(folder / "long.jsonl", [*beginning(), *middle(), *ending()])
    return SamullmApp(sources, Start(recording=path, playing=False), theme="dark")


async def test_what_was_read_is_moved_along_before_the_rest_is(sources: SlowSources) -> None:
    async with app_of(sources).run_test() as pilot:
        await until(pilot, "reading the recording …")
        sources.gate.release()
        await until(pilot, "read so far …")
        await pilot.press("right")
        assert "‖ 00:0" in await until(pilot, "read so far …")
        assert "succeeded" not in shown(pilot)
        assert "R report" not in shown(pilot), "nobody knows yet how it ended"
        sources.gate.release(10_000)
        await settle(pilot)
        assert "read so far" not in shown(pilot)
        assert "R report" in shown(pilot)
        assert "succeeded" not in shown(pilot), "it stays where the operator left it"


async def test_the_end_is_shown_when_it_comes(sources: SlowSources) -> None:
    async with app_of(sources).run_test() as pilot:
        sources.gate.release()
        await until(pilot, "read so far …")
        await pilot.press("end")
        assert "succeeded" not in shown(pilot)
        sources.gate.release(10_000)
        await settle(pilot)
        assert "✓ succeeded" in shown(pilot)
        assert "‖ 00:00" in await press(pilot, "home")


async def test_damage_far_inside_says_so(sources: SlowSources) -> None:
    app = app_of(sources)
    assert app.start.recording is not None
    data = bytearray(app.start.recording.read_bytes())
    data[len(data) // 2] ^= 1
    app.start.recording.write_bytes(data)
    async with app.run_test() as pilot:
        sources.gate.release(10_000)
        await settle(pilot)
        assert "This cannot be replayed" in shown(pilot)
        assert "damaged" in shown(pilot)


async def test_errors_are_jumped_to_one_after_the_other(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "errors.jsonl", [*beginning(), *middle(), *ending()])
    app = SamullmApp(FakeSources(tmp_path), Start(recording=path, playing=False), theme="dark")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, "next error")
        await press(pilot, "e")
        assert "CUDA out of memory" in shown(pilot)
        assert "prompt too long" not in shown(pilot)
        await press(pilot, "e")
        assert "prompt too long" in shown(pilot)
        assert "next error" not in shown(pilot), "there is no more"
