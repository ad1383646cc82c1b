"""Plan and actual over time, on one axis, with a line at now."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec.structs import replace

from samullm_tui.console.layout.bands import Axis
from samullm_tui.console.layout.gantt import (
    Chart,
    Mark,
    Row,
    gantt_axis,
    gantt_lines,
    gantt_rows,
    gantt_strip,
    label_width,
)
from samullm_tui.console.layout.text import Line, heading
from samullm_tui.console.layout.window import Window
from samullm_tui.domain.plan import Span
from samullm_tui.journal.run_state import RunState

__all__ = ["chart_end_s", "charts", "moment_s", "planned_ends_s", "strips"]


def strips(state: RunState, marks: Mapping[str, Mark], width: int, window: Window) -> list[Line]:
    """Three lines: moments, the plan, what happened; each cell shows what most GPUs did."""
    label, now = 7, _now(state)
    axis = window.axis(chart_end_s(state), moment_s(state), max(1, width - label))
    lines = [gantt_axis(axis, label - 2, window.label)]
    for name, rows in (
        ("plan", _planned(state, marks, axis, now)),
        ("actual", _actual(state, marks, axis, now)),
    ):
        lines.append([(f"{name:<{label}}", "dim"), *gantt_strip(rows)])
    return lines


def charts(state: RunState, marks: Mapping[str, Mark], width: int, height: int, window: Window) -> list[Line]:
    """A row for each GPU, plan above actual, in at most `height` lines."""
    rows = max(1, (height - 3) // 2)
    label = label_width(state.gpu_count, rows)
    now = _now(state)
    axis = window.axis(chart_end_s(state), moment_s(state), max(1, width - label - 2))
    return [
        heading("Plan", width, "simulated"),
        *gantt_lines(_planned(state, marks, axis, now), rows, label, window.page),
        heading("Actual", width, "simulated engines" if state.engine == "simulated" else ""),
        *gantt_lines(_actual(state, marks, axis, now), rows, label, window.page),
        gantt_axis(axis, label, window.label),
    ]


def moment_s(state: RunState) -> float | None:
    """Seconds from the start of the first engine to this moment of the run; None before that."""
    return None if state.started_s is None else state.at_s - state.started_s


def _now(state: RunState) -> float | None:
    """Where the line at now is: nowhere when the run has ended."""
    return moment_s(state) if state.ended is None else None


def chart_end_s(state: RunState) -> float:
    """Seconds from the first engine's start to the latest of plan, forecast and now."""
    ends = [span.end_s for span in _plan_spans(state) if span.end_s is not None]
    ends += [state.forecast.p50] if state.forecast else []
    ends += [state.makespan_s] if state.makespan_s else []
    return max(ends, default=60.0)


def _planned(state: RunState, marks: Mapping[str, Mark], axis: Axis, now: float | None) -> list[Row]:
    return gantt_rows(_plan_spans(state), max(1, state.gpu_count), Chart(axis, marks, now))


def planned_ends_s(state: RunState) -> dict[str, float]:
    """When each LLM is planned to end, seconds since the start of the first engine. Simulated."""
    ends: dict[str, float] = {}
    for span in _plan_spans(state):
        if span.end_s is not None:
            ends[span.llm] = max(span.end_s, ends.get(span.llm, 0.0))
    return ends


def _plan_spans(state: RunState) -> list[Span]:
    """What was planned at each time: each plan until it was replaced, then the one in force. Seconds since the start.

    The approved plan counts from the start of the first engine, those that replaced it are on the run's clock.
    """
    start, from_s = state.started_s or 0.0, 0.0
    plans = [(at_s - start, plan) for at_s, plan in state.former_plans]
    plans += [(math.inf, state.plan)] if state.plan else []
    spans: list[Span] = []
    for number, (until_s, plan) in enumerate(plans):
        shifted = [_shifted(span, start) for span in plan.spans] if number else plan.spans
        spans += [_within(s, from_s, until_s) for s in shifted if s.start_s < until_s]
        from_s = until_s
    return [span for span in spans if span.end_s is None or span.end_s > span.start_s]


def _within(span: Span, from_s: float, until_s: float) -> Span:
    """The part of a span between two moments."""
    start_s = max(span.start_s, from_s)
    ready_s = None if span.ready_s is None else min(max(span.ready_s, start_s), until_s)
    end_s = (
        span.end_s if math.isinf(until_s) else min(until_s, math.inf if span.end_s is None else span.end_s)
    )
    return replace(span, start_s=start_s, ready_s=ready_s, end_s=end_s)


def _actual(state: RunState, marks: Mapping[str, Mark], axis: Axis, now: float | None) -> list[Row]:
    start = state.started_s or 0.0
    spans = [_shifted(span, start) for span in state.spans]
    return gantt_rows(spans, max(1, state.gpu_count), Chart(axis, marks, now, past_only=True))


def _shifted(span: Span, start_s: float) -> Span:
    return replace(
        span,
        start_s=span.start_s - start_s,
        ready_s=None if span.ready_s is None else span.ready_s - start_s,
        end_s=None if span.end_s is None else span.end_s - start_s,
    )
