"""A proposal of a real supervisor, refused by keys: the plan stays, and the journal says who said so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.pilot import Pilot

from samullm_tui.console.app import SamullmApp, Start
from samullm_tui.console.local import LocalSources
from samullm_tui.console.sources import Settings
from samullm_tui.domain.event import AnyEvent, Decided, ProposalAnswered, Proposed, Replanned, RunEnded
from samullm_tui.journal.reader import read_events
from samullm_tui.journal.state import fold
from samullm_tui.supervisor.launch import spawn_supervisor
from samullm_tui.supervisor.liveness import is_locked
from tests.console.conftest import shown
from tests.supervisor.supervised import stories


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, _plain_home: None) -> None:
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path / "home"))


async def until(pilot: Pilot[object], words: str) -> None:
    """The screen says so (the test's own timeout bounds it)."""
    while words not in shown(pilot):
        await pilot.pause(0.05)


async def test_a_refused_proposal_changes_nothing_and_is_told(tmp_path: Path) -> None:
    # At the pace of the clock, so that it has much left to do when the proposal comes.
    paths = stories(tmp_path, replan="ask", replan_wait_s=10_000.0, speed=1.0)
    await asyncio.to_thread(spawn_supervisor, paths.run)
    async with SamullmApp(LocalSources(Settings()), Start(run=paths.run), theme="dark").run_test() as pilot:
        await until(pilot, "n re-plan")
        await pilot.press("n")
        await until(pilot, "? switch")
        await pilot.press("x")
        await until(pilot, "Stay with the plan")
        await pilot.press(*"stay", "enter")
        await until(pilot, "proposal 1: the plan stays")
        await pilot.press("s")
        await until(pilot, "Stop now")
        await pilot.press(*"stop", "enter")
        await until(pilot, "stopped")
    while is_locked(paths.lock):  # noqa: ASYNC110  (another process does not tell)
        await asyncio.sleep(0.05)
    check(list(read_events(paths.journal)))


def check(events: list[AnyEvent]) -> None:
    """Proposed once, refused by the console; the plan is that of before, and the decision is on record."""
    (proposal,) = [event for event in events if isinstance(event, Proposed)]
    (answer,) = [event for event in events if isinstance(event, ProposalAnswered)]
    assert (answer.number, answer.answer, answer.by) == (proposal.number, "refused", "console")
    assert not [event for event in events if isinstance(event, Replanned)]
    (decision,) = [e.decision for e in events if isinstance(e, Decided) and e.decision.number]
    assert (decision.number, decision.kind) == (proposal.number, "keep")
    state = fold(events)
    assert (state.proposal, state.replans, state.former_plans) == (None, 0, [])
    assert isinstance(events[-1], RunEnded)
