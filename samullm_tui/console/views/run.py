"""A run at one moment: what the answer is, then why. The replay shows the same on a recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from samullm_tui.console.describe import LogLine
from samullm_tui.console.layout.bars import filled
from samullm_tui.console.layout.duration import clock, duration
from samullm_tui.console.layout.gantt import Mark
from samullm_tui.console.layout.numbers import plural, signed_percent
from samullm_tui.console.layout.text import (
    Line,
    clean,
    columns,
    fit,
    heading,
    line_width,
    pad_line,
    spread,
    styled,
)
from samullm_tui.console.layout.window import Window
from samullm_tui.console.views.common import STATUS
from samullm_tui.console.views.decision import gained
from samullm_tui.console.views.run_charts import charts, strips
from samullm_tui.console.views.run_tables import gpu_table, gpu_width, llm_table
from samullm_tui.domain.event import Decision, Proposed
from samullm_tui.journal.run_state import RunState

__all__ = ["ROOMY", "RunView", "run_body", "run_title", "transport_line"]

LOW = 18
"""A body higher than this has an empty line to spare."""

BRAND = 11
"""Cells of the title line that every screen has."""

BESIDE = 74
"""Lines narrower than this have no room for GPUs beside the LLMs: the chart has them."""

ROOMY = 34
"""A body at least this high shows tables and charts together."""

DECISION_STYLE = {"start": "good", "keep": "dim", "switch": "accent", "finish": "good"}


class RunView(Struct, frozen=True):
    """`status` is the honest one: it may be `interrupted`. `cursor` counts decisions from the latest (0).

    `chart` shows GPUs over time in place of the tables, `show_log` everything that happened in place of decisions.
    `log` and `decisions` hold what `find` asks for; `typing` while that is still typed.
    """

    state: RunState
    status: str
    marks: Mapping[str, Mark]
    log: Sequence[LogLine] = ()
    decisions: Sequence[tuple[float, Decision]] = ()
    cursor: int = 0
    chart: bool = False
    show_log: bool = False
    transport: Line | None = None
    trouble: str = ""
    note: Line = []
    find: str | None = None
    typing: bool = False
    window: Window = Window()


def run_title(state: RunState, status: str, width: int) -> tuple[Line, Line]:
    """What it is and its state, which is never cut; what is expected of it, as much as there is room for."""
    glyph, style = STATUS.get(status, ("?", "dim"))
    since = state.makespan_s
    text = f"{glyph} {status}" + (f" {duration(since)}" if since is not None else "")
    name, room = clean(state.run) or "…", width - BRAND - len(text) - 3
    expected = _expected(state)
    while expected and len(name) + line_width(expected) > room:
        expected = expected[:-1]
    shown = name if len(name) <= room else fit(name, max(4, room))
    return [(shown, "bold"), ("  ", ""), (text, style)], expected


def _expected(state: RunState) -> Line:
    band = state.forecast
    if band is None:
        return [(state.application, "dim")]
    approved = state.approved_plan
    if state.ended == "succeeded" and state.makespan_s and approved is not None and approved.makespan_s.p50:
        planned = approved.makespan_s.p50
        share = signed_percent(state.makespan_s / planned - 1)
        return [(f"plan ~{duration(planned)}", "dim"), (f"  actual {share}", "")]
    return [
        (f"forecast ~{duration(band.p50)}", ""),
        (f"  p10 {duration(band.p10)}  p90 {duration(band.p90)}", "dim"),
    ]


def run_body(view: RunView, width: int, height: int) -> list[Line]:
    """Progress, tables, plan and actual over time, decisions. What does not fit is behind a key."""
    inner = width - 2
    head = [view.transport] if view.transport is not None else []
    head.append(_progress(view.state, inner))
    proposal = view.state.proposal if view.state.ended is None else None
    if proposal is not None:
        head.append(_proposal(view.state, proposal, inner))
    if view.trouble:
        head.append(pad_line([("! ", "bad bold"), (view.trouble, "bad")], inner))
    elif proposal is None and (height > LOW or view.note):
        head.append(view.note)
    lines = [*head, *_middle(view, inner, height - len(head), roomy=height >= ROOMY)]
    lines += _history(view, inner, max(2, height - len(lines)))
    return [[(" ", ""), *line] for line in lines[:height]]


def _proposal(state: RunState, proposal: Proposed, width: int) -> Line:
    """What is proposed, and how long there is to answer: both are never cut."""
    left = f"  stays in {duration(max(0.0, proposal.deadline_s - state.at_s))}"
    room = width - len("? switch: ") - line_width([(left, "")])
    return [
        ("? switch: ", "accent bold"),
        (fit(proposal.decision.what, max(1, room)), "bold"),
        (left, "warning bold"),
    ]


def _middle(view: RunView, width: int, room: int, *, roomy: bool) -> list[Line]:
    state = view.state
    rows = max(state.gpu_count, len(state.llms) + 2, 4)
    whole = 2 * state.gpu_count + 3
    if roomy:
        tables = _tables(view, width, min(rows, max(4, room - 22)) + 1)
        return [
            *tables,
            [],
            *charts(state, view.marks, width, min(whole, room - len(tables) - 6), view.window),
            [],
        ]
    if view.show_log:
        return strips(state, view.marks, width, view.window)
    if view.chart:
        return charts(state, view.marks, width, min(whole, room - 2), view.window)
    tables = _tables(view, width, min(rows, max(3, room - 8)) + 1)
    return [*tables, [], *strips(state, view.marks, width, view.window)]


def _tables(view: RunView, width: int, height: int) -> list[Line]:
    live = view.state.ended is None and view.status != "interrupted"
    if width < BESIDE:
        return llm_table(view.state, view.marks, width, height, live=live)
    left = gpu_width(view.state, width)
    right = width - left - 3
    gpus = gpu_table(view.state, view.marks, left, height, live=live)
    llms = llm_table(view.state, view.marks, right, height, live=live)
    rows = max(len(gpus), len(llms))
    gpus += [[] for _ in range(rows - len(gpus))]
    llms += [[] for _ in range(rows - len(llms))]
    return [columns([(a, left), ([], 3), (b, right)]) for a, b in zip(gpus, llms, strict=True)]


def _progress(state: RunState, width: int) -> Line:
    ended, requests = state.finished + state.errors, state.requests
    share = ended / requests if requests else None
    text: Line = [
        (f" {100 * share:3.0f} %" if share is not None else "    –", "bold"),
        (
            f"   {ended:,} of {plural(requests, 'request')}"
            if width >= BESIDE
            else f"   {ended:,} of {requests:,}",
            "",
        ),
        (f"   {plural(state.errors, 'error')}", "bad bold" if state.errors else "dim"),
        (f"   {state.retries:,} retried", "warning" if state.retries else "dim"),
    ]
    return [*filled(share, max(8, width - line_width(text)), "accent"), *text]


# Decisions and log


def _history(view: RunView, width: int, height: int) -> list[Line]:
    title = heading(_list_name(view), width, _trouble(view.state), "warning")
    if view.show_log:
        return [title, *_log(view.log, view.cursor, width, height - 1)]
    return [title, *_decisions(view, width, height - 1)]


def _list_name(view: RunView) -> str:
    """What is listed, what is looked for in it, and how much is newer than the line that is looked at."""
    name = "Log" if view.show_log else "Decisions"
    rows = len(view.log if view.show_log else view.decisions)
    if view.find is not None:
        name += f" /{view.find}{'▏' if view.typing else ''}  {rows:,} found"
    return f"{name}  held, {view.cursor:,} newer: End" if view.cursor else name


def _trouble(state: RunState) -> str:
    """The last problem. Requests that wait again have a count of their own: a switch of the plan makes them too."""
    last = next((problem for problem in reversed(state.problems) if problem.kind != "retry"), None)
    return "" if last is None else f"! {clock(last.at_s)} {last.where}: {last.cause}"


def _decisions(view: RunView, width: int, height: int) -> list[Line]:
    """The latest at the bottom; the window follows the cursor."""
    decisions = view.decisions
    if not decisions:
        return [[("nothing contains that" if view.state.decisions else _nothing_yet(view), "dim")]]
    chosen = max(0, len(decisions) - 1 - view.cursor)
    first = max(0, min(chosen - height // 2, len(decisions) - height))
    shown = decisions[first : first + height]
    return [
        _decision(view.state, at_s, what, width, here=first + i == chosen)
        for i, (at_s, what) in enumerate(shown)
    ]


def _nothing_yet(view: RunView) -> str:
    return {
        "planning": "planning …",
        "waiting for approval": "none before the plan is approved",
        "interrupted": "none; its supervisor is gone, r goes on where it stopped",
    }.get(view.status, "none yet")


def _decision(state: RunState, at_s: float, decision: Decision, width: int, *, here: bool) -> Line:
    outcome = state.outcomes.get(decision.number) if decision.number and decision.kind == "switch" else None
    came = f"{'in the end' if outcome.final else 'so far'} {gained(outcome)}: " if outcome else ""
    line = pad_line(
        [
            ("▸" if here else " ", "accent"),
            (f"{clock(at_s):>7} ", "dim"),
            (f"{decision.kind:<7} ", DECISION_STYLE.get(decision.kind, "")),
            (came, "bold"),
            (decision.what, ""),
            (f"   {decision.saw}" if decision.saw else "", "dim"),
        ],
        width,
    )
    return styled(line, "cursor") if here else line


def _log(log: Sequence[LogLine], back: int, width: int, height: int) -> list[Line]:
    end = max(min(height, len(log)), len(log) - back)
    shown = log[max(0, end - height) : end]
    if not shown:
        return [[("nothing contains that", "dim")]]
    return [pad_line([(f"{clock(line.at_s):>8} ", "dim"), (line.text, line.style)], width) for line in shown]


def transport_line(
    at_s: float,
    duration_s: float,
    speed: float,
    width: int,
    *,
    playing: bool,
    marks_s: Sequence[float],
    is_whole: bool = True,
) -> Line:
    """`▶ 04:12 ━━━━●──◆────── 31:05  ×8`: where the replay is, where decisions are, and how far it was read."""
    left: Line = [("▶ " if playing else "‖ ", "accent"), (f"{clock(at_s)} ", "bold")]
    read = "" if is_whole else " read so far …"
    right: Line = [
        (f" {clock(duration_s)}{read}", "dim"),
        ("  max" if math.isinf(speed) else f"  ×{speed:g}", ""),
    ]
    room = max(4, width - line_width(left) - line_width(right))
    cells = ["─"] * room
    place = [min(room - 1, int(moment / max(duration_s, 1e-9) * room)) for moment in marks_s]
    for cell in place:
        cells[cell] = "◆"
    here = min(room - 1, max(0, int(at_s / max(duration_s, 1e-9) * room)))
    bar: Line = [
        ("".join(cells[:here]).replace("─", "━"), "accent"),
        ("●", "accent bold"),
        ("".join(cells[here + 1 :]), "dim"),
    ]
    return spread([*left, *bar], right, width)
