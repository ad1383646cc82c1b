"""What if an LLM had to run otherwise: pins, the new makespan beside the old one, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from samullm_tui.console.layout.bands import Axis, axis_labels, band_axis, band_line
from samullm_tui.console.layout.duration import duration, signed_duration
from samullm_tui.console.layout.gantt import Chart, Mark, gantt_axis, gantt_lines, gantt_rows, label_width
from samullm_tui.console.layout.numbers import plural, signed_percent
from samullm_tui.console.layout.text import Line, fit, heading, pad_line, styled, wrap
from samullm_tui.console.layout.window import Window
from samullm_tui.console.pins import FIELDS, Pins
from samullm_tui.console.views.common import problem_lines
from samullm_tui.console.views.plans import end_of, placement_story
from samullm_tui.domain.errors import Problem
from samullm_tui.domain.plan import Candidate, Forecast, faster_draws

__all__ = ["WhatIfView", "whatif_body"]

LABEL, FIGURE = 18, 10
CELL = {"tp": 7, "dp": 7, "gpus": 11, "stage": 8}
HEADS = {"tp": "tp", "dp": "×", "gpus": "GPUs", "stage": "stage"}
FREE = "–"


class WhatIfView(Struct, frozen=True):
    """`base` is the best plan without pins; `pinned` the forecast with `pins`, once there is one.

    `cursor` is (row, column) in the table; `field` what is being typed there, None while nothing is.
    """

    base: Candidate
    llms: Sequence[str]
    marks: Mapping[str, Mark]
    gpus: int
    pins: Pins
    cursor: tuple[int, int]
    field: str | None = None
    pinned: Forecast | None = None
    working: str = ""
    problems: Sequence[Problem] = ()
    window: Window = Window()

    @property
    def chart_end_s(self) -> float:
        """Seconds of the charts: to the end of the later plan."""
        return max(end_of(plan) for plan in (self.base, self.best) if plan is not None)

    @property
    def best(self) -> Candidate | None:
        return self.pinned.candidates[0] if self.pinned and self.pinned.candidates else None


def whatif_body(view: WhatIfView, width: int, height: int) -> list[Line]:
    """Answer first, then the pins, then both charts."""
    inner = width - 2
    lines = [*_bands(view, inner), [], *_pins(view, inner, max(4, height - 15))]
    if view.problems:
        lines += [[], heading("No plan keeps this", inner), *problem_lines(view.problems, inner)]
    elif view.best is not None:
        lines += [heading("Differs", inner, _won(view.base, view.best)), *_differs(view, inner)]
    lines += _charts(view, inner, height - len(lines))
    return [[(" ", ""), *pad_line(line, inner)] for line in lines[:height]]


# The answer


def _bands(view: WhatIfView, width: int) -> list[Line]:
    best = view.best
    bands = (view.base.makespan_s, best.makespan_s) if best else (view.base.makespan_s,)
    axis = band_axis(bands, min(band.p10 for band in bands), max(8, width - LABEL - FIGURE - 9))
    head = f"{'':{LABEL}}{'p50':>{FIGURE - 2}}  {axis_labels(axis, max(2, axis.width // 8))}"
    lines: list[Line] = [[(head, "dim")], _band("without pins", view.base, axis, "dim", None)]
    if best is not None:
        lines.append(_band("with these pins", best, axis, "accent", view.base))
    elif view.working:
        lines.append([(fit("with these pins", LABEL), "bold"), (view.working, "dim")])
    elif view.problems:
        lines.append([(fit("with these pins", LABEL), "bold"), ("no plan", "warning")])
    else:
        lines.append([(fit("with these pins", LABEL), "dim"), ("nothing is pinned: type a number", "dim")])
    if best is not None:
        looked = f"{best.plan.planner}, {plural(best.draws, 'draw')}" if best.draws else best.plan.planner
        lines.append(
            [(" " * LABEL, ""), (looked, "dim"), (f"   {view.working}" if view.working else "", "dim")]
        )
    else:
        lines.append([])
    return lines


def _band(label: str, candidate: Candidate, axis: Axis, style: str, base: Candidate | None) -> Line:
    p50 = candidate.makespan_s.p50
    before = base.makespan_s.p50 if base else 0.0
    share, look = "", ""
    if before > 0:
        share, look = signed_percent(p50 / before - 1), "bad" if p50 > before else "good"
    return [
        (fit(label, LABEL), "bold" if base else "dim"),
        (f"{'~' + duration(p50):>{FIGURE - 1}}  ", "bold" if base else ""),
        *band_line(candidate.makespan_s, axis, style),
        (f"{share:>8}", f"{look} bold".strip()),
    ]


# The pins


def _pins(view: WhatIfView, width: int, rows: int) -> list[Line]:
    name = max(12, min(24, width - sum(CELL.values()) - 30))
    head: Line = [(fit("LLM", name + 3), "dim")]
    head += [(f"{HEADS[field]:>{CELL[field]}}", "dim") for field in FIELDS]
    lines: list[Line] = [[*head, ("   without pins", "dim")]]
    here = view.cursor[0]
    first = max(0, min(here - (rows - 1) // 2, len(view.llms) - (rows - 1)))
    stories = placement_story(view.base)
    for row, llm in list(enumerate(view.llms))[first : first + rows - 1]:
        mark = view.marks.get(llm, Mark("?", 0))
        line: Line = [
            ("▸" if row == here else " ", "accent"),
            (f"{mark.letter} ", f"{mark.text_style} bold"),
            (fit(llm, name), "bold" if row == here else ""),
        ]
        for column, field in enumerate(FIELDS):
            line += _cell(view, llm, field, at=(row, column))
        lines.append([*line, (f"   {stories.get(llm, '–')}", "dim")])
    return [pad_line(line, width) for line in lines]


def _cell(view: WhatIfView, llm: str, field: str, at: tuple[int, int]) -> Line:
    text, width = view.pins.get((llm, field), FREE), CELL[field]
    if at != view.cursor:
        return [(f"{text:>{width}}", "dim" if text == FREE else "accent bold")]
    if view.field is not None:
        text = view.field + "▏"
    return styled([(" " * max(1, width - len(text) - 1), ""), (f" {text}", "bold cursor")], "")


# What differs


def _won(base: Candidate, best: Candidate) -> str:
    slower, draws = faster_draws(base, best)
    if not draws:
        return "simulated"
    faster = faster_draws(best, base)[0]
    return f"faster in {faster} of {draws} draws, slower in {slower}"


def _differs(view: WhatIfView, width: int) -> list[Line]:
    best = view.best
    if best is None:
        return []
    before, after = placement_story(view.base), placement_story(best)
    lines: list[Line] = []
    for llm in view.llms:
        old, new = before.get(llm, "–"), after.get(llm, "–")
        if old != new:
            mark = view.marks.get(llm, Mark("?", 0))
            lines.append(
                [
                    (f"{mark.letter} ", f"{mark.text_style} bold"),
                    (f"{llm}  ", ""),
                    (f"{old}  →  ", "dim"),
                    (new, ""),
                ]
            )
    figures = (
        f"loads {view.base.loads} → {best.loads}   GPU-hours {view.base.gpu_hours:.2f} → {best.gpu_hours:.2f}"
    )
    figures += f"   median {signed_duration(best.makespan_s.p50 - view.base.makespan_s.p50)}"
    lines = lines or [[("the same sizes of every LLM", "dim")]]
    lines.append([(figures, "dim")])
    for note in view.pinned.notes if view.pinned else ():
        lines += [[(line, "warning")] for line in wrap(note, width)]
    return lines


def _charts(view: WhatIfView, width: int, room: int) -> list[Line]:
    """Both plans on one axis, as many rows as there is room for."""
    plans = [("Without pins", view.base)] + ([("With these pins", view.best)] if view.best else [])
    rows = (room - len(plans) - 1) // len(plans)
    if rows < 1:
        return []
    rows = min(rows, view.gpus)
    label = label_width(view.gpus, rows)
    axis = view.window.axis(view.chart_end_s, None, max(1, width - label - 2))
    chart, page = Chart(axis, view.marks), view.window.page
    lines: list[Line] = []
    for title, plan in plans:
        lines.append(heading(title, width, "simulated"))
        lines += gantt_lines(gantt_rows(plan.spans, view.gpus, chart), rows, label, page)
    return [*lines, gantt_axis(axis, label, view.window.label)]
