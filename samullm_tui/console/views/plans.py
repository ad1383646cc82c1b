"""Candidate plans side by side, and the chart and the words of the selected one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from samullm_tui.console.layout.bands import Axis, axis_labels, band_axis, band_line
from samullm_tui.console.layout.duration import duration
from samullm_tui.console.layout.gantt import Chart, Mark, gantt_axis, gantt_lines, gantt_rows, label_width
from samullm_tui.console.layout.numbers import plural, signed_percent
from samullm_tui.console.layout.text import Line, heading, line_width, pad_line, styled, wrap
from samullm_tui.console.layout.window import Window
from samullm_tui.domain.plan import Candidate, Forecast, PlannedStage, faster_draws

__all__ = ["PlansView", "chart_end_s", "end_of", "placement_story", "plans_body", "ranked"]

NAME, FIGURE, GAP, HOURS, LOADS = 15, 10, 8, 8, 7


class PlansView(Struct, frozen=True):
    """Candidates in the order shown, and which is selected. `compared` is kept below it."""

    forecast: Forecast
    candidates: Sequence[Candidate]
    cursor: int
    marks: Mapping[str, Mark]
    gpus: int
    by_p90: bool = False
    compared: Candidate | None = None
    stages: bool = False
    top: int = 0
    window: Window = Window()


def ranked(forecast: Forecast, *, by_p90: bool) -> list[Candidate]:
    """Best first, by the median or by the 90 % worst case."""
    if not by_p90:
        return list(forecast.candidates)
    return sorted(forecast.candidates, key=lambda candidate: candidate.makespan_s.p90)


def end_of(candidate: Candidate) -> float:
    """Where its chart ends."""
    ends = [stage.end_s for stage in candidate.stages] + [
        span.end_s for span in candidate.spans if span.end_s
    ]
    return max(ends, default=candidate.makespan_s.p50)


def placement_story(candidate: Candidate) -> dict[str, str]:
    """For each LLM how it is placed from stage to stage: `tp2 ×1 → ×4`."""
    story: dict[str, list[tuple[int, int]]] = {}
    for planned in candidate.stages:
        for placement in planned.stage.placements:
            shapes = story.setdefault(placement.llm, [])
            if not shapes or shapes[-1] != (placement.tp, placement.dp):
                shapes.append((placement.tp, placement.dp))
    return {llm: _shapes(shapes) for llm, shapes in story.items()}


def _shapes(shapes: Sequence[tuple[int, int]]) -> str:
    words, before = [], 0
    for tp, dp in shapes:
        words.append(f"×{dp}" if tp == before else f"tp{tp} ×{dp}")
        before = tp
    return " → ".join(words)


def plans_body(view: PlansView, width: int, height: int) -> list[Line]:
    """The table, then the chart and words of the selected plan, or its stages in full."""
    inner = width - 2
    lines = [*_table(view, inner), *_notes(view, inner)]
    room = height - len(lines)
    chosen = view.candidates[view.cursor]
    if view.stages:
        lines += _window(
            [heading(_title(chosen), inner, "stages"), *_stages(view, chosen, inner)], view.top, room
        )
    else:
        lines += _charts(view, chosen, inner, room)
    return [[(" ", ""), *line] for line in lines[:height]]


def _window(text: list[Line], top: int, room: int) -> list[Line]:
    """A part of a long text, and how much is below it."""
    top = min(top, max(0, len(text) - room))
    shown = text[top : top + room]
    below = len(text) - top - len(shown)
    return [*shown[:-1], [(f"↓ {below + 1} more lines: PgDn", "dim")]] if below and shown else shown


def _title(candidate: Candidate) -> str:
    return f"Plan {candidate.rank} {candidate.plan.planner}"


# The table


def _name_width(width: int) -> int:
    """The plan's name gives way to the band where it is narrow."""
    return NAME if width >= 70 else NAME - 5


def _table(view: PlansView, width: int) -> list[Line]:
    name = _name_width(width)
    bands = tuple(candidate.makespan_s for candidate in view.candidates)
    axis = band_axis(
        bands, view.forecast.lower_bound_s, max(8, width - 4 - name - FIGURE - GAP - HOURS - LOADS)
    )
    shown = "p90" if view.by_p90 else "p50"
    labels = axis_labels(axis, max(2, axis.width // 5))
    head = f"  # {'plan':<{name}}{shown:>{FIGURE - 2}}  {labels}{'gap':>{GAP}}{'GPU·h':>{HOURS}}{'loads':>{LOADS}}"
    return [[(head, "dim")], *(_candidate(view, i, axis, width) for i in range(len(view.candidates)))]


def _candidate(view: PlansView, index: int, axis: Axis, width: int) -> Line:
    candidate = view.candidates[index]
    here = index == view.cursor
    makespan = candidate.makespan_s.p90 if view.by_p90 else candidate.makespan_s.p50
    gap = makespan / view.forecast.lower_bound_s - 1 if view.forecast.lower_bound_s > 0 else candidate.gap
    kept = view.compared is not None and candidate.rank == view.compared.rank
    line: Line = [
        ("▸" if here else " ", "accent"),
        (f"{candidate.rank:>2} ", ""),
        *pad_line(
            [(candidate.plan.planner, "bold" if here else ""), (" compared" if kept else "", "dim")],
            _name_width(width),
        ),
        (f"{'~' + duration(makespan):>{FIGURE - 1}}  ", ""),
        *band_line(candidate.makespan_s, axis, "accent" if here else "", view.forecast.lower_bound_s),
        (f"{signed_percent(gap):>{GAP - 1}}", ""),
        (f"{candidate.gpu_hours:>{HOURS}.2f}{candidate.loads:>{LOADS}}", ""),
    ]
    whole = pad_line(line, width)
    return styled(whole, "cursor") if here else whole


def _notes(view: PlansView, width: int) -> list[Line]:
    indent = " " * 4
    lines: list[Line] = [[(f"{indent}┊ no plan can beat {duration(view.forecast.lower_bound_s)}", "dim")]]
    if view.forecast.estimated:
        names = ", ".join(view.forecast.estimated)
        lines.append(pad_line([(f"{indent}≈ estimated, not measured: {names}", "warning")], width))
    return lines


# The chart and its words


def chart_end_s(view: PlansView) -> float:
    """Seconds of the chart: to the last end of the plans in it."""
    chosen = view.candidates[view.cursor]
    return max(end_of(candidate) for candidate in (chosen, *_others(view, chosen)))


def _others(view: PlansView, chosen: Candidate) -> list[Candidate]:
    return [view.compared] if view.compared is not None and view.compared.rank != chosen.rank else []


def _charts(view: PlansView, chosen: Candidate, width: int, room: int) -> list[Line]:
    others = _others(view, chosen)
    words = _words(view, chosen, width)
    rows = max(2, (room - 2 - len(others) - min(len(words), 3)) // (1 + len(others)))
    label = label_width(view.gpus, rows)
    window = view.window
    axis = window.axis(chart_end_s(view), None, max(1, width - label - 2))
    chart = Chart(axis, view.marks)
    lines = [heading(_title(chosen), width, _simulated(chosen)), gantt_axis(axis, label, window.label)]
    for candidate in (chosen, *others):
        if candidate is not chosen:
            lines.append(heading(_title(candidate), width, _against(candidate, chosen)))
        lines += gantt_lines(gantt_rows(candidate.spans, view.gpus, chart), rows, label, window.page)
    return _cut([*lines, *words], room)


def _simulated(candidate: Candidate) -> str:
    return f"simulated, {plural(candidate.draws, 'draw')}" if candidate.draws else "simulated"


def _against(compared: Candidate, chosen: Candidate) -> str:
    """In how many of the draws that they share each of the two is faster."""
    won, draws = faster_draws(chosen, compared)
    if not draws:
        return "compared"
    lost = faster_draws(compared, chosen)[0]
    if not won and not lost:
        return f"as fast as plan {chosen.rank} in all {draws} draws"
    return f"plan {chosen.rank} is faster in {won} of {draws} draws, plan {compared.rank} in {lost}"


def _cut(lines: list[Line], room: int) -> list[Line]:
    """Says where the rest is, when there is more than fits."""
    if len(lines) <= room or room < 1:
        return lines
    return [*lines[: room - 1], [(f"… {len(lines) - room + 1} more lines: ⏎ shows all", "dim")]]


def _words(view: PlansView, chosen: Candidate, width: int) -> list[Line]:
    lines = _legend(view, chosen, width)
    for text in chosen.explanation:
        first, *rest = wrap(text, width - 2) or [""]
        lines += [[(first, "")], *[[(f"  {line}", "")] for line in rest]]
    return lines


def _legend(view: PlansView, chosen: Candidate, width: int) -> list[Line]:
    """Letters and names, as many lines as they need."""
    lines: list[Line] = []
    current: Line = []
    story = placement_story(chosen)
    parts = [_legend_part(mark, llm, story[llm]) for llm, mark in view.marks.items() if llm in story]
    for part in [*parts, [("▒ loading", "dim")]]:
        if current and line_width(current) + line_width(part) + 3 > width:
            lines.append(current)
            current = []
        current = [*current, ("   ", ""), *part] if current else list(part)
    return [*lines, current]


def _legend_part(mark: Mark, llm: str, story: str) -> Line:
    return [(f"{mark.letter} ", f"{mark.text_style} bold"), (f"{llm} ", ""), (story, "dim")]


# The stages in full


def _stages(view: PlansView, chosen: Candidate, width: int) -> list[Line]:
    lines: list[Line] = []
    for i, planned in enumerate(chosen.stages, 1):
        lines += [*_stage(view, i, planned, width), []]
    for text in chosen.explanation:
        lines += [[(line, "dim")] for line in wrap(text, width)]
    for llm, how in view.forecast.estimated.items():
        lines += [[(line, "warning")] for line in wrap(f"≈ {llm} is estimated: {how}", width)]
    return lines


def _stage(view: PlansView, number: int, planned: PlannedStage, width: int) -> list[Line]:
    until = ", ".join(planned.stage.until)
    when = f"~{duration(planned.start_s)} to ~{duration(planned.end_s)}"
    lines: list[Line] = [
        [(f"Stage {number}  ", "bold"), (when, ""), (f"   until {until}" if until else "", "dim")]
    ]
    for placement, kept in zip(planned.stage.placements, planned.kept, strict=False):
        mark = view.marks.get(placement.llm, Mark("?", 0))
        lines.append(
            [
                (f"  {mark.letter} ", f"{mark.text_style} bold"),
                (f"{placement.llm} tp{placement.tp} ×{placement.dp}", ""),
                (f"  on GPU {_numbers(placement.gpus)}", "dim"),
                ("  kept, no load" if kept else "", "good"),
            ]
        )
    return [*lines, *[[(f"  {line}", "")] for line in wrap(planned.stage.why, width - 2)]]


def _numbers(gpus: Sequence[int]) -> str:
    """`0–3,6`."""
    parts: list[list[int]] = []
    for gpu in sorted(gpus):
        if parts and gpu == parts[-1][-1] + 1:
            parts[-1].append(gpu)
        else:
            parts.append([gpu])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts)
