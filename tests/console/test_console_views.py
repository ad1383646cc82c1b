"""Whatever the size of the terminal and of the run, no view leaves its cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from samullm_tui.console.actions import actions_of
from samullm_tui.console.describe import describe, log_of
from samullm_tui.console.layout.duration import duration
from samullm_tui.console.layout.gantt import marks_of
from samullm_tui.console.layout.text import Line, line_width, plain
from samullm_tui.console.views.application import ApplicationView, application_lines
from samullm_tui.console.views.approve import ApproveView, approve_lines
from samullm_tui.console.views.decision import decision_lines
from samullm_tui.console.views.help import ABOUT, help_lines, palette_body
from samullm_tui.console.views.lengths import LengthsView, lengths_body
from samullm_tui.console.views.library import Entry, library_body
from samullm_tui.console.views.plans import PlansView, plans_body, ranked
from samullm_tui.console.views.run import RunView, run_body, run_title, transport_line
from samullm_tui.console.views.run_charts import planned_ends_s
from samullm_tui.console.views.run_tables import llm_table
from samullm_tui.domain.event import (
    AnyEvent,
    EngineReady,
    EngineStarting,
    GpuQuarantined,
    GpuSample,
    NodeInfo,
    RunCreated,
)
from samullm_tui.domain.plan import Replica
from samullm_tui.journal.run_state import RunState
from samullm_tui.journal.state import fold
from tests.console.fakes import (
    APPLICATION,
    FORECAST,
    GIB,
    LENGTHS,
    PLACE,
    PROBLEMS,
    RUNS,
    SEEN,
    beginning,
    ending,
    middle,
    proposed,
    switched,
)

BODY_WIDTHS = st.integers(60, 220)
BODY_HEIGHTS = st.integers(13, 70)


def large(gpus: int, llms: int, kind: str) -> list[AnyEvent]:
    """A run with many GPUs and LLMs, one engine on each GPU."""
    created = beginning(kind)[0]
    assert isinstance(created, RunCreated)
    names = tuple(f"a-rather-long-name-of-an-llm-{i}" for i in range(llms))
    nodes = tuple(NodeInfo(f"node-{name}", name, 10_000 * i, "data", ()) for i, name in enumerate(names))
    replicas = [Replica(names[gpu % llms], (gpu,)) for gpu in range(gpus)]
    return [
        replace(
            created,
            gpus=gpus,
            llms=names,
            nodes=nodes,
            run="a-run-with-a-name-that-is-much-longer-than-others",
        ),
        *[EngineStarting(at_s=1.0, replica=replica, attempt=1) for replica in replicas],
        *[EngineReady(at_s=9.0 + gpu, replica=replica, load_s=8.0) for gpu, replica in enumerate(replicas)],
    ]


STATES: dict[str, list[AnyEvent]] = {
    "nothing": [],
    "planned": beginning(),
    "running": [*beginning(), *middle()],
    "ended": [*beginning(), *middle(), *ending()],
    "proposed": [*beginning(), *middle(), *proposed()],
    "switched": [*beginning(), *middle(), *proposed(), *switched()],
    "one GPU": large(1, 1, "gpu"),
    "64 GPUs, 11 LLMs": large(64, 11, "gpu"),
    "CPU slots": large(2, 3, "cpu"),
}


def keeps_to(lines: Sequence[Line], width: int, height: int | None) -> None:
    assert height is None or len(lines) <= height
    for line in lines:
        assert line_width(line) <= width, plain(line)


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("look", ["tables", "chart", "log", "trouble", "found"])
@settings(max_examples=15, deadline=None)
@given(width=BODY_WIDTHS, height=BODY_HEIGHTS, cursor=st.integers(0, 5))
def test_a_run_keeps_to_its_cells(name: str, look: str, width: int, height: int, cursor: int) -> None:
    state = fold(STATES[name])
    view = RunView(
        state=state,
        status=state.status,
        marks=marks_of(list(state.llms)),
        log=tuple(log_of(STATES[name])),
        decisions=state.decisions,
        find="kept" if look == "found" else None,
        cursor=cursor,
        chart=look == "chart",
        show_log=look == "log",
        trouble="no space left on device" * 9 if look == "trouble" else "",
        transport=transport_line(3.0, 90.0, 2.0, width - 2, playing=True, marks_s=(1.0, 80.0)),
    )
    keeps_to(run_body(view, width, height), width, height)


@given(width=st.integers(60, 200), status=st.sampled_from([None, "interrupted", "waiting for approval"]))
def test_the_title_never_cuts_the_state(width: int, status: str | None) -> None:
    for events in STATES.values():
        state = fold(events)
        left, right = run_title(state, status or state.status, width)
        assert (status or state.status) in plain(left)
        assert line_width(left) + line_width(right) + 11 <= width + 1


@settings(max_examples=40, deadline=None)
@given(BODY_WIDTHS, BODY_HEIGHTS, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(1, 64))
def test_plans_keep_to_their_cells(
    width: int, height: int, cursor: int, p90: bool, stages: bool, gpus: int
) -> None:
    candidates = ranked(FORECAST, by_p90=p90)
    marks = marks_of(["vicuna-13b", "Llama-2-70b"])
    view = PlansView(FORECAST, candidates, cursor, marks, gpus, p90, candidates[0], stages, top=3)
    lines = plans_body(view, width, height)
    keeps_to(lines, width, height)
    assert "▸" in plain(lines[1 + cursor])


@settings(max_examples=40, deadline=None)
@given(BODY_WIDTHS, BODY_HEIGHTS, st.booleans(), st.booleans())
def test_lengths_keep_to_their_cells(width: int, height: int, log: bool, run: bool) -> None:
    for llm, seen in zip(LENGTHS.llms, SEEN.seen, strict=True):
        mark = marks_of([llm.llm])[llm.llm]
        view = LengthsView(llm, mark, "gamma", log, seen if run else None, draw_seen=True)
        lines = lengths_body(view, width, height)
        keeps_to(lines, width, height)
        assert not any(plain(line).strip() == "%" for line in lines)


@settings(max_examples=40, deadline=None)
@given(BODY_WIDTHS, BODY_HEIGHTS, st.integers(0, 5), st.one_of(st.none(), st.text(max_size=9)))
def test_the_library_keeps_to_its_cells_and_shows_its_cursor(
    width: int, height: int, cursor: int, field: str | None
) -> None:
    entries = [Entry("application", f"application-{i}", Path(f"/a/{i}.toml")) for i in range(30)]
    entries += [Entry("run", run.run, Path(run.directory), run) for run in RUNS]
    previews = {Path("/a/0.toml"): APPLICATION, Path("/a/1.toml"): PROBLEMS}
    lines = library_body(entries, cursor * 6, previews, width, height, field)
    keeps_to(lines, width, height)
    assert any("▸" in plain(line)[:3] for line in lines)


@given(BODY_WIDTHS)
def test_texts_keep_to_their_width(width: int) -> None:
    requests = {"summarise": 1473, "judge": 400}
    view = ApplicationView(APPLICATION, requests, PROBLEMS, PLACE)
    busy = (GpuSample(3, 0.9, 70 * GIB, 80 * GIB),)
    approve = ApproveView(FORECAST, FORECAST.candidates[0], replace(PLACE, present=True), busy, Path("/runs"))
    state = fold(STATES["switched"])
    keeps_to(application_lines(view, width), width + 30, None)  # a deep graph may be cut by the pane
    keeps_to(approve_lines(approve, width), max(width, 80), None)
    for at_s, decision in state.decisions:
        keeps_to(decision_lines(at_s, decision, "", width), width, None)
    for screen in ABOUT:
        keeps_to(help_lines(screen, actions_of(screen), width), width, None)
        keeps_to(palette_body(actions_of(screen), 3, "x", width, 20), width, 20)


def test_gpus_that_others_use_are_named_before_a_start() -> None:
    busy = (GpuSample(3, 0.9, 70 * GIB, 80 * GIB), GpuSample(4, 0.0, GIB // 2, 80 * GIB))
    view = ApproveView(FORECAST, FORECAST.candidates[0], replace(PLACE, present=True), busy, Path("/runs"))
    text = "\n".join(plain(line) for line in approve_lines(view, 80))
    assert "GPU 3 holds 70 of 80 GiB" in text
    assert "GPU 4" not in text


def test_every_event_but_the_frequent_ones_has_a_line() -> None:
    events = [
        *STATES["ended"],
        *STATES["switched"],
        GpuQuarantined(at_s=1.0, gpu=1, cause="its memory stays in use"),
    ]
    silent = {type(event).__name__ for event in events if describe(event) is None}
    assert silent == {"RequestFinished", "Sampled"}


def test_a_state_of_nothing_says_that_it_plans() -> None:
    lines = run_body(RunView(RunState(), "planning", {}), 80, 22)
    assert any("planning …" in plain(line) for line in lines)


@pytest.mark.parametrize("late", [False, True])
def test_an_llm_with_requests_left_says_when_the_plan_ends_it_and_warns_when_that_is_over(late: bool) -> None:
    state = fold([*beginning(), *middle()])
    ends_s = planned_ends_s(state)
    assert set(ends_s) == set(state.llms)
    state.at_s = (state.started_s or 0.0) + (max(ends_s.values()) + 1 if late else 1.0)
    table = llm_table(state, marks_of(list(state.llms)), 70, 9, live=True)
    for llm, line in zip(state.llms, table[1:], strict=False):
        assert line[-1] == (f"{'~' + duration(ends_s[llm]):>9}", "warning" if late else "")
    done = llm_table(
        fold([*beginning(), *middle(), *ending()]), marks_of(list(state.llms)), 70, 9, live=False
    )
    assert all("~" not in plain(line) for line in done[1:3])
