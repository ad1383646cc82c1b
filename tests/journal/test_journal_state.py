"""The fold of a journal, and what the Run screen reads off it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from journal_examples import A0, B01, CANDIDATE, EVENTS, REST, beginning, created, sampled, small_run

from samullm_tui.domain.errors import RecordingError
from samullm_tui.domain.event import (
    AnyEvent,
    Approved,
    ControlReceived,
    Decided,
    EngineReady,
    EngineStarting,
    PlanningFinished,
    ProposalAnswered,
    Proposed,
    Replanned,
    RequestFailed,
    RequestFinished,
    RequestRetried,
    RunEnded,
    SupervisorStarted,
)
from samullm_tui.domain.plan import Span
from samullm_tui.journal import timeline as timeline_module
from samullm_tui.journal.codec import encode
from samullm_tui.journal.framing import frame
from samullm_tui.journal.state import RunState, copy_state, fold, state_sha256
from samullm_tui.journal.timeline import Timeline


def write(path: Path, events: Sequence[AnyEvent]) -> Path:
    path.write_bytes(b"".join(frame(encode(event)) for event in events))
    return path


def test_the_hash_sees_every_difference_and_no_order_of_keys() -> None:
    state = fold(small_run())
    turned = copy_state(state)
    turned.nodes = dict(reversed(turned.nodes.items()))
    assert state_sha256(turned) == state_sha256(state)
    turned.nodes["judge"].output_tokens += 1
    assert state_sha256(turned) != state_sha256(state)


def test_counts_of_a_whole_run() -> None:
    state = fold(small_run())
    assert (state.requests, state.finished, state.errors, state.retries, state.late_answers) == (
        5,
        4,
        1,
        1,
        1,
    )
    assert (state.nodes["summary"].finished, state.nodes["summary"].failed) == (2, 1)
    assert (state.nodes["judge"].prompt_tokens, state.nodes["judge"].output_tokens) == (200, 40)
    assert (state.llms["small"].requests, state.llms["small"].retried, state.llms["large"].finished) == (
        3,
        1,
        2,
    )
    assert list(state.llms) == ["small", "large"]
    assert state.counts == {"outputs": 4, "errors": 1}
    assert (state.status, state.events, state.at_s, state.makespan_s) == (
        "succeeded",
        len(small_run()),
        56.0,
        54.0,
    )
    assert (state.stage, state.stages, state.replans, state.epoch) == (0, [(2.0, 0), (29.0, 0)], 1, 2)
    assert state.forecast is not None
    assert state.forecast.p50 == 58.5


def test_a_new_plan_takes_the_place_of_the_approved_one_which_stays_to_be_drawn() -> None:
    state = fold(small_run())
    assert (state.plan, state.approved_plan) == (REST, CANDIDATE)
    assert state.former_plans == [(28.0, CANDIDATE)]
    events = small_run()
    at = next(k for k, event in enumerate(events) if isinstance(event, Replanned))
    between = fold(events[: at + 1])
    assert (between.stage, between.stages) == (-1, [(2.0, 0)])
    assert between.placements == fold(events[:at]).placements, (
        "its engines are still those of the stage before"
    )


def test_a_proposal_is_open_until_it_is_answered_or_the_run_ends() -> None:
    events = small_run()
    at = next(k for k, event in enumerate(events) if isinstance(event, Proposed))
    opened = fold(events[: at + 1])
    assert opened.proposal == events[at]
    assert fold([RunEnded(at_s=30.0, status="stopped")], copy_state(opened)).proposal is None
    other = ProposalAnswered(at_s=28.0, number=7, answer="refused", by="")
    assert fold([other], copy_state(opened)).proposal == events[at]
    ended = fold(events)
    assert (ended.proposal, ended.answers) == (None, {1: "accepted"})
    assert (ended.outcomes[1].ended_s, ended.outcomes[1].final) == (56.0, True)


def test_the_actual_gantt_closes_what_failed_what_was_orphaned_and_what_the_end_stopped() -> None:
    assert fold(small_run()).spans == [
        Span("small", (0,), 2.0, 7.0, 20.0),  # its supervisor was replaced
        Span("small", (1,), 2.0, None, 8.0),  # it failed while loading
        Span("small", (1,), 9.0, 14.0, 20.0),
        Span("small", (0,), 20.0, 25.0, 28.5),  # it was stopped
        Span("large", (0, 1), 29.0, 39.0, 56.0),  # the run ended
    ]
    assert [span.end_s for span in fold(beginning()).spans] == [None, None]


def test_a_replica_shows_its_latest_start_and_what_it_served_in_all() -> None:
    state = fold(small_run()[:-1])
    assert state.replicas[A0.name].status == "stopped"
    assert (state.replicas[A0.name].finished, state.replicas[A0.name].started_s) == (2, 20.0)
    serving = state.replicas[B01.name]
    assert (serving.status, serving.running, serving.kv_usage, serving.load_s) == ("serving", 2, 0.75, 10.0)
    failed = fold(small_run()[:9]).replicas["small.1"]
    assert (failed.status, failed.ended_s, failed.cause[:8], failed.running) == ("failed", 8.0, "CUDA out", 0)


def test_every_word_of_the_contract_is_reached() -> None:
    def status(*events: AnyEvent) -> str:
        return fold(events).status

    def told(command: str) -> ControlReceived:
        return msgspec.convert({"at_s": 3.0, "command": command, "by": ""}, ControlReceived)

    first, owner, planned, approved = beginning()[:4]
    run = (first, owner, planned, approved)
    assert status() == status(first) == status(first, owner) == "planning"
    assert status(first, planned) == "waiting for approval"
    assert status(*run) == "running"
    assert status(*run, told("pause")) == "paused"
    assert status(*run, told("pause"), told("resume")) == status(*run, told("replan")) == "running"
    assert status(first, told("pause"), planned) == "waiting for approval"
    assert status(*run, told("pause"), told("drain")) == status(*run, told("stop")) == "draining"
    for word in ("succeeded", "failed", "stopped"):
        ended = msgspec.convert({"at_s": 9.0, "status": word}, RunEnded)
        assert status(*run, told("drain"), ended) == word
        # A resumed run goes on; planning anew changes nothing about that.
        again = SupervisorStarted(at_s=10.0, epoch=2, pid=1, unix_s=0.0)
        assert status(*run, told("drain"), ended, again, planned) == "running"


def test_histories_are_bounded_and_keep_the_latest() -> None:
    failures = [RequestFailed(at_s=0.0, node="n", id=str(k), llm="a", cause="", offset=0) for k in range(60)]
    state = fold([created(), *(sampled(float(k)) for k in range(300)), *failures])
    assert [len(h) for h in state.gpu_utilization.values()] == [120, 120]
    assert (len(state.throughput), state.throughput[0], state.throughput[-1]) == (
        240,
        (60.0, 0.0),
        (299.0, 0.0),
    )
    assert (len(state.problems), state.problems[-1].where) == (50, "n 59")


@settings(max_examples=150)
@given(EVENTS)
def test_any_sequence_of_events_folds_and_the_counts_add_up(events: list[AnyEvent]) -> None:
    state = fold(events)
    kinds = Counter(map(type, events))
    assert state.events == len(events)
    assert state.finished == kinds[RequestFinished] == sum(n.finished for n in state.nodes.values())
    assert state.finished == sum(llm.finished for llm in state.llms.values())
    assert state.errors == kinds[RequestFailed] == sum(n.failed for n in state.nodes.values())
    assert state.errors == sum(llm.failed for llm in state.llms.values())
    assert state.retries == kinds[RequestRetried] >= sum(llm.retried for llm in state.llms.values())
    assert state.output_tokens == sum(n.output_tokens for n in state.nodes.values())
    assert len(state.spans) == kinds[EngineStarting]
    assert state.requests == sum(llm.requests for llm in state.llms.values())
    # Every engine that lives has exactly one open span.
    alive = sum(replica.status in {"loading", "serving"} for replica in state.replicas.values())
    assert alive == sum(span.end_s is None for span in state.spans)
    assert state_sha256(state) == state_sha256(fold(events))


@given(EVENTS, EVENTS)
def test_a_copy_is_independent(before: list[AnyEvent], after: list[AnyEvent]) -> None:
    state = fold(before)
    hash_before = state_sha256(state)
    twin = copy_state(state)
    assert twin == state
    fold(after, twin)
    assert state_sha256(state) == hash_before
    assert state_sha256(twin) == state_sha256(fold([*before, *after]))


# --- the replay's timeline ---


def long_run() -> list[AnyEvent]:
    """Longer than a few short blocks, so that seeking starts from several of them."""
    run = small_run()
    return [*run[:12], *(sampled(15.0 + k / 1000) for k in range(400)), *run[12:]]


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Events of a block, so few that a small recording has several."""
    monkeypatch.setattr(timeline_module, "BLOCK_EVENTS", 64)
    return 64


def test_the_state_at_an_index_is_the_fold_of_the_events_up_to_it(tmp_path: Path, short_blocks: int) -> None:
    events = long_run()
    timeline = Timeline(write(tmp_path / "r.jsonl", events)).whole()
    assert len(timeline) == len(events)
    state = RunState()
    assert timeline.state_at(-1) == state
    for index, event in enumerate(events):
        fold([event], state)
        assert timeline.state_at(index) == state
    assert timeline.state_at(10**9) == timeline.final == state


def test_a_recording_is_moved_along_while_it_is_read(tmp_path: Path, short_blocks: int) -> None:
    events = long_run()
    timeline = Timeline(write(tmp_path / "r.jsonl", events))
    read: list[AnyEvent] = []
    for block in timeline.read():
        read += block
        assert not timeline.is_whole
        assert len(timeline) == len(read)
        assert timeline.state_at(at_s=1e9) == timeline.final == fold(read)
        assert timeline.duration_s == timeline.at_s(len(read) - 1) == max(event.at_s for event in read)
        assert timeline.decision_indices == [k for k, event in enumerate(read) if isinstance(event, Decided)]
    assert (timeline.is_whole, read) == (True, events)


def test_what_is_done_to_a_state_does_not_change_the_recording(tmp_path: Path, short_blocks: int) -> None:
    timeline = Timeline(write(tmp_path / "r.jsonl", long_run())).whole()
    for index in (0, short_blocks - 1, short_blocks, len(timeline) - 1):
        before = timeline.state_at(index)
        fold(small_run(), timeline.state_at(index))
        assert timeline.state_at(index) == before


def test_time_and_decisions_lead_to_events(tmp_path: Path) -> None:
    timeline = Timeline(write(tmp_path / "r.jsonl", small_run())).whole()
    (decision,) = timeline.decision_indices
    assert len(timeline.state_at(decision).decisions) == 1
    assert len(timeline.state_at(decision - 1).decisions) == 0
    assert timeline.duration_s == 56.0
    assert timeline.index_at(-1.0) == -1
    assert timeline.index_at(2.0) == 6  # the last of the four events at 2.0
    assert timeline.state_at(at_s=16.25) == timeline.state_at(timeline.index_at(16.0))
    assert timeline.at_s(decision) == 28.0
    with pytest.raises(ValueError, match="either an index or a time"):
        timeline.state_at()


@pytest.mark.parametrize("events", [[], small_run()[1:]])
def test_a_recording_begins_with_its_run(tmp_path: Path, events: list[AnyEvent]) -> None:
    with pytest.raises(RecordingError, match=r"line 1: it (holds no event|does not begin)"):
        Timeline(write(tmp_path / "r.jsonl", events)).whole()


def test_a_second_approval_replaces_the_plan_and_an_unknown_rank_has_none() -> None:
    unknown = Approved(at_s=4.0, rank=9, by="")
    state = fold([*beginning(), unknown])
    assert (state.plan, state.approved_rank, state.status) == (None, 9, "running")
    replanned = PlanningFinished(
        at_s=5.0, planning_s=1.0, lower_bound_s=1.0, samples=1, candidates=(CANDIDATE,)
    )
    assert fold([*beginning(), replanned]).plan == CANDIDATE


def test_an_engine_that_was_never_started_is_left_alone() -> None:
    state = fold([created(), EngineReady(at_s=1.0, replica=A0, load_s=1.0)])
    assert (state.replicas, state.spans) == ({}, [])
