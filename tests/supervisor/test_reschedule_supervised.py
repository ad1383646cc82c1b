"""Whole runs with the real rescheduler: engines die, a GPU is lost, supervisors are killed, commands come."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from supervised import REQUESTS, Faults, cut, stories, supervised

from samullm_tui.domain.errors import RunError
from samullm_tui.domain.event import (
    AnyEvent,
    ControlReceived,
    Decided,
    Decision,
    EngineStarting,
    GpuQuarantined,
    PlanningFinished,
    ProposalAnswered,
    Proposed,
    Replanned,
    RequestFinished,
    RunCreated,
    RunEnded,
    StageStarted,
    SupervisorStarted,
)
from samullm_tui.domain.event import Outcome as Came
from samullm_tui.journal.state import fold
from samullm_tui.supervisor.export import export_rows
from samullm_tui.supervisor.runs import result
from samullm_tui.supervisor.spec import RunPaths
from samullm_tui.supervisor.supervise import Supervisor


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path / "home"))


def decisions(events: Sequence[AnyEvent]) -> list[Decision]:
    return [e.decision for e in events if isinstance(e, Decided) and e.decision.number]


def of(events: Sequence[AnyEvent], kind: type) -> list[AnyEvent]:
    return [event for event in events if isinstance(event, kind)]


def check_whole(paths: RunPaths, events: Sequence[AnyEvent]) -> None:
    """Every request has one output, and what was decided fits together."""
    assert isinstance(events[-1], RunEnded)
    assert (events[-1].status, events[-1].cause) == ("succeeded", "")
    rows = Counter((row["node"], row["id"]) for row in export_rows(paths.run))
    assert len(rows) == REQUESTS
    assert set(rows.values()) == {1}
    assert len(of(events, RequestFinished)) == REQUESTS
    numbers = [decision.number for decision in decisions(events)]
    assert len(numbers) == len(set(numbers))
    lost: set[int] = set()
    for event in events:
        if isinstance(event, SupervisorStarted):
            lost = set()
        elif isinstance(event, GpuQuarantined):
            lost.add(event.gpu)
        elif isinstance(event, EngineStarting):
            assert lost.isdisjoint(event.replica.gpus)


def of_the_run(events: Sequence[AnyEvent]) -> list[AnyEvent]:
    """Without names, times of day, and seconds of the wall."""
    return [e for e in events if not isinstance(e, RunCreated | SupervisorStarted | PlanningFinished)]


def test_a_bad_plan_is_replaced_says_why_and_repeats_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = stories(tmp_path)
    events = supervised(paths, monkeypatch)
    check_whole(paths, events)
    switches = [d for d in decisions(events) if d.kind == "switch"]
    assert switches
    first = switches[0]
    stay, chosen = first.alternatives[0], first.alternatives[first.chosen or 0]
    assert stay.what == "stay"
    assert first.gain_s is not None
    assert stay.ends_s is not None
    assert chosen.ends_s is not None
    assert first.gain_s == pytest.approx(stay.ends_s - chosen.ends_s, rel=0.2)
    assert "requests left, residual mean" in first.saw
    assert first.margin
    outcome = result(paths.run)
    assert outcome.replans == len(of(events, Replanned)) == len(switches)
    came = fold(events).outcomes[switches[-1].number]
    assert came.final
    assert came.ended_s == pytest.approx(came.predicted_s, rel=0.15), (
        "lengths are drawn, engines are as modelled"
    )
    again = stories(tmp_path)
    assert of_the_run(supervised(again, monkeypatch)) == of_the_run(events)


def test_without_rescheduling_nothing_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = stories(tmp_path, replan="off")
    refused: list[str] = []

    def then(supervisor: Supervisor) -> None:
        at(60.0, lambda: supervisor.replan("me"), refused)

    events = supervised(paths, monkeypatch, then=then)
    check_whole(paths, events)
    assert not decisions(events)
    assert not of(events, Replanned)
    assert [e.index for e in of(events, StageStarted)] == [0, 1]  # type: ignore[attr-defined]
    assert "--replan off" in refused[0]


def at(at_s: float, ask: object, said: list[str]) -> None:
    """Asks at this time, and keeps what was said, or why not."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def asks() -> None:
        try:
            said.append(str(await ask()))  # type: ignore[operator]
        except RunError as error:
            said.append(str(error))

    def begin() -> None:
        tasks.add(loop.create_task(asks()))

    loop.call_later(at_s, begin)


def test_an_operator_s_wish_is_recorded_and_decided_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, said = stories(tmp_path), []  # type: ignore[var-annotated]
    events = supervised(paths, monkeypatch, then=lambda s: at(5.0, lambda: s.replan("me"), said))
    assert said == ["a decision is under way"]
    (asked,) = of(events, ControlReceived)
    first = next(e for e in events if isinstance(e, Decided) and e.decision.number)
    assert first.decision.saw.startswith("me asked; ")
    assert first.at_s == pytest.approx(asked.at_s, abs=0.01)
    check_whole(paths, events)


@pytest.mark.parametrize("seed", range(4))
def test_engines_that_die_and_a_gpu_that_is_lost_cost_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    paths = stories(tmp_path, seed=seed)
    faults = Faults(seed, dies=0.4, lost_s=30.0 + 20.0 * seed)
    events = supervised(paths, monkeypatch, faults)
    check_whole(paths, events)
    assert of(events, GpuQuarantined)
    check_calm(events)


def check_calm(events: Sequence[AnyEvent]) -> None:
    """No ping-pong: no plan is left for one that had been left before, unless something was lost."""
    switched = [e for e in events if isinstance(e, Replanned)]
    times = [e.at_s for e in switched]
    assert all(later - earlier >= 10.0 for earlier, later in pairwise(times)) or of(events, GpuQuarantined)
    assert len(switched) <= 4


def test_a_supervisor_killed_in_the_middle_of_a_switch_goes_on_in_the_plan_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at_each_step(tmp_path, monkeypatch, {Replanned})


@pytest.mark.torture
def test_a_supervisor_killed_at_any_step_of_a_switch_goes_on_in_the_plan_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at_each_step(tmp_path, monkeypatch, {Replanned, StageStarted, Decided})


def kill_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: set[type]) -> None:
    """Once before and once after each event of these kinds (of decisions only the rescheduler's)."""
    paths = stories(tmp_path)
    events = supervised(paths, monkeypatch)
    steps = [
        k
        for k, e in enumerate(events)
        if type(e) in kinds and (not isinstance(e, Decided) or e.decision.number)
    ]
    assert any(isinstance(events[k], Replanned) for k in steps)
    for count in sorted({*steps, *(k + 1 for k in steps)}):
        before = fold(events[:count])
        again = cut(paths, count, f"killed-{count}")
        whole = supervised(again, monkeypatch)
        check_whole(again, whole)
        first = next(e for e in whole[count:] if isinstance(e, StageStarted))
        assert before.plan is not None
        assert first.placements in [s.placements for s in before.plan.plan.stages[max(0, before.stage) :]]


def test_a_proposal_is_answered_through_the_supervisor_and_out_of_date_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, said = stories(tmp_path, replan="ask", replan_wait_s=100.0), []  # type: ignore[var-annotated]

    def then(supervisor: Supervisor) -> None:
        at(12.0, lambda: supervisor.replan("me"), said)
        at(45.0, lambda: supervisor.answer(2, "me", accept=True), said)
        at(50.0, lambda: supervisor.answer(1, "me", accept=True), said)
        at(55.0, lambda: supervisor.answer(1, "me", accept=True), said)
        at(56.0, lambda: supervisor.answer(1, "me", accept=False), said)

    events = supervised(paths, monkeypatch, then=then)
    check_whole(paths, events)
    assert said[0] == "a decision is under way"
    assert said[1].endswith("there is no proposal 2")
    assert said[2:4] == ["None", "None"]
    assert said[4].endswith("proposal 1 was accepted already")
    (answered, *_) = of(events, ProposalAnswered)
    assert (answered.answer, answered.by) == ("accepted", "me")  # type: ignore[attr-defined]
    (replanned, *_) = of(events, Replanned)
    assert (replanned.number, replanned.by) == (1, "me")  # type: ignore[attr-defined]

    proposed = next(k for k, e in enumerate(events) if isinstance(e, Proposed))
    again = cut(paths, proposed + 1, "killed")
    whole = supervised(again, monkeypatch)
    check_whole(again, whole)
    (outdated, *_) = of(whole, ProposalAnswered)
    assert (outdated.number, outdated.answer) == (1, "outdated")  # type: ignore[attr-defined]
    first = next(d for d in decisions(whole) if d.number == 1)
    assert first.kind == "keep"


def test_the_end_says_what_came_of_the_last_switch_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = stories(tmp_path)
    events = supervised(paths, monkeypatch)
    count = len(events) - 20
    again = cut(paths, count, "killed")
    whole = supervised(again, monkeypatch)
    came = whole[-2] if isinstance(whole[-2], Came) else None
    assert came is not None
    assert came.final
    assert came.number == max(e.number for e in whole if isinstance(e, Replanned))
