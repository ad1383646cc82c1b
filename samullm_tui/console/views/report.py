"""How a run came out against its forecast: the answer, where the error comes from, what other plans would have taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from samullm_tui.console.layout.bands import axis_labels, band_axis, band_line
from samullm_tui.console.layout.bars import diverging, filled
from samullm_tui.console.layout.duration import clock, duration, signed_duration
from samullm_tui.console.layout.gantt import Mark
from samullm_tui.console.layout.numbers import plural, signed_percent
from samullm_tui.console.layout.text import Line, fit, heading, pad_line, wrap
from samullm_tui.console.layout.window import Window
from samullm_tui.console.views.common import note_lines, problem_lines
from samullm_tui.console.views.run_charts import charts
from samullm_tui.domain.errors import Problem
from samullm_tui.domain.plan import Band, Candidate
from samullm_tui.domain.run_report import ErrorPart, RunReport, ShapeSeen, TokensSeen
from samullm_tui.journal.run_state import RunState

__all__ = ["ReportView", "Section", "report_lines", "report_sections"]

LABEL = 12
MOST_DECISIONS = 40
SIMULATED = "simulated"


class ReportView(Struct, frozen=True):
    """`state` is how the run ended; `report` comes later, or `problems` say why it does not. `working`: meanwhile."""

    state: RunState
    marks: Mapping[str, Mark]
    report: RunReport | None = None
    working: str = ""
    problems: Sequence[Problem] = ()


class Section(Struct, frozen=True):
    """A heading with a note at its right, and what stands below it."""

    title: str
    note: str
    lines: list[Line]


def report_lines(view: ReportView, width: int) -> list[Line]:
    """All lines; the screen scrolls them."""
    inner = width - 2
    lines: list[Line] = []
    for section in report_sections(view, inner):
        lines += [heading(section.title, inner, section.note), *section.lines, []]
    return [[(" ", ""), *pad_line(line, inner)] for line in lines[:-1]]


def report_sections(view: ReportView, width: int) -> list[Section]:
    """Also what is exported."""
    state = view.state
    sections = [Section("Makespan", _counts(state), _makespan(view, width))]
    if view.report is not None:
        report = view.report
        sections += [
            Section("Where the error comes from", SIMULATED, _parts(report, width)),
            Section("Other plans", "simulated with what was observed", _others(report, width)),
            Section("LLMs", "expected → observed", _llms(report, view.marks, width)),
        ]
    else:
        said = [[(view.working, "dim")]] if view.working else problem_lines(view.problems, width)
        sections.append(Section("Where the error comes from", "", list(said)))
    pictures = charts(state, view.marks, width, 2 * state.gpu_count + 3, Window())
    sections.append(Section("Over time", "", pictures))
    if state.decisions:
        sections.append(Section("Decisions", str(len(state.decisions)), _decisions(state, width)))
    return sections


def _counts(state: RunState) -> str:
    parts = [f"{state.finished:,} of {plural(state.requests, 'request')}", plural(state.errors, "error")]
    parts += [f"{state.retries:,} sent again"] if state.retries else []
    return " · ".join(parts)


# The answer


def _approved(state: RunState) -> Candidate | None:
    return state.approved_plan


def _makespan(view: ReportView, width: int) -> list[Line]:
    state, plan = view.state, _approved(view.state)
    actual = state.makespan_s
    ended = "" if state.ended == "succeeded" else f"   {state.ended or state.status}: not all was done"
    lines: list[Line] = [
        [(fit("actual", LABEL), "dim"), (f" {duration(actual)}", "bold"), (ended, "warning")],
    ]
    if plan is None:
        return lines
    band = plan.makespan_s
    said = f"   p10 {duration(band.p10)}  p90 {duration(band.p90)}   plan {plan.rank} {plan.plan.planner}"
    lines.append([(fit("predicted", LABEL), "dim"), (f"~{duration(band.p50)}", "bold"), (said, "dim")])
    if actual is None or state.ended != "succeeded" or band.p50 <= 0:
        return lines
    lines.append([(fit("error", LABEL), "dim"), *_error(actual, band)])
    return [*lines, *_picture(actual, band, width)]


def _error(actual: float, band: Band) -> Line:
    off = signed_duration(actual - band.p50)
    share = signed_percent(actual / band.p50 - 1)
    if actual > band.p90:
        return [(f" {off}  {share}", "bold"), ("   slower than nine in ten draws", "warning")]
    if actual < band.p10:
        return [(f" {off}  {share}", "bold"), ("   faster than nine in ten draws", "good")]
    return [(f" {off}  {share}", "bold"), ("   within the band", "good")]


def _picture(actual: float, band: Band, width: int) -> list[Line]:
    """The predicted band, and where the actual makespan is on the same axis."""
    ends = Band(actual, actual, actual, actual)
    axis = band_axis((band, ends), min(band.p10, actual), max(20, width - LABEL - 1))
    indent: Line = [(" " * (LABEL + 1), "")]
    here = axis.cell(actual)
    return [
        [*indent, *band_line(band, axis, "dim")],
        [*indent, (" " * here, ""), ("▲", "accent"), (" actual" if here < axis.width - 8 else "", "dim")],
        [*indent, (axis_labels(axis, max(2, axis.width // 10)), "dim")],
    ]


# The parts


def _parts(report: RunReport, width: int) -> list[Line]:
    most = max((abs(part.seconds) for part in report.parts), default=0.0)
    bar = min(31, max(11, width // 4)) | 1
    room = width - LABEL - 9 - bar - 2
    lines: list[Line] = []
    for part in report.parts:
        first, *rest = wrap(_cause(part, report), room) or [""]
        lines.append(
            [
                (fit(part.source, LABEL), ""),
                (f"{signed_duration(part.seconds):>8} ", "bold"),
                *diverging(part.seconds, most, bar, "bad", "good"),
                ("  ", ""),
                (first, "dim"),
            ]
        )
        lines += [[(" " * (LABEL + 11 + bar), ""), (line, "dim")] for line in rest]
    total = report.actual_s - report.predicted_s
    lines.append([(fit("together", LABEL), "dim"), (f"{signed_duration(total):>8}", "dim")])
    for note in report.notes:
        lines += note_lines(note, width)
    return lines


def _cause(part: ErrorPart, report: RunReport) -> str:
    """What was observed, of the LLM where it was most."""
    if part.source == "lengths":
        shares = [(_longer(one), one.llm) for one in report.tokens if one.expected_tokens and one.answers]
        if not shares:
            return ""
        share, llm = max(shares, key=lambda pair: abs(pair[0]))
        return f"answers of {llm} {signed_percent(share)} tokens"
    if part.source == "latency":
        paced = [(one.pace - 1, one) for one in report.shapes if one.pace is not None]
        if not paced:
            return "too few answers to say"
        share, shape = max(paced, key=lambda pair: abs(pair[0]))
        return f"steps of {shape.llm} tp{shape.tp} {signed_percent(share)}"
    if part.source == "loads":
        loads = [(one.load_s - one.planned_load_s, one) for one in report.shapes if one.load_s is not None]
        if not loads:
            return ""
        _, shape = max(loads, key=lambda pair: abs(pair[0]))
        return f"{shape.llm} in {duration(shape.load_s)}, {duration(shape.planned_load_s)} planned"
    return "the rest: sending, failures"


def _longer(one: TokensSeen) -> float:
    return one.tokens / one.expected_tokens - 1


# Other plans


def _others(report: RunReport, width: int) -> list[Line]:
    rows = [report.plan, *report.others]
    most = max(row.makespan_s for row in rows)
    bar = max(8, width - 18 - 10 - 12)
    lines: list[Line] = []
    for row in rows:
        ours = row is report.plan
        speedup = row.makespan_s / report.plan.makespan_s if report.plan.makespan_s > 0 else 1.0
        lines.append(
            [
                (fit(row.planner, 18), "bold" if ours else ""),
                (f"{'~' + duration(row.makespan_s):>9} ", ""),
                *filled(row.makespan_s / most if most else None, bar, "accent" if ours else "dim"),
                ("   this plan" if ours else f"   {speedup:.2f}×", "accent" if ours else "bold"),
            ]
        )
    bound = f"{'~' + duration(report.lower_bound_s):>9}"
    lines.append([(fit("no plan can beat", 18), "dim"), (bound, "dim")])
    return lines


# LLMs


def _llms(report: RunReport, marks: Mapping[str, Mark], width: int) -> list[Line]:
    name = max(10, min(24, width - 2 - 8 - 22 - 9 - 20))
    head = f"{fit('LLM', name + 2)}{'answers':>8}{'tokens each':>22}{'steps':>9}{'load':>18}"
    lines: list[Line] = [[(head, "dim")]]
    for one in report.tokens:
        mark = marks.get(one.llm, Mark("?", 0))
        shapes = [shape for shape in report.shapes if shape.llm == one.llm]
        tokens = "–"
        if one.answers:
            expected, seen = one.expected_tokens / one.answers, one.tokens / one.answers
            share = f" {signed_percent(_longer(one))}" if one.expected_tokens else ""
            tokens = f"{expected:,.0f} → {seen:,.0f}{share}"
        for i, shape in enumerate(shapes or [None]):
            lines.append(
                [
                    (f"{mark.letter} " if i == 0 else "  ", f"{mark.text_style} bold"),
                    (fit(one.llm if i == 0 else "", name), ""),
                    (f"{one.answers:>8,}{tokens:>22}" if i == 0 else " " * 30, ""),
                    *_shape(shape),
                ]
            )
    return [pad_line(line, width) for line in lines]


def _shape(shape: ShapeSeen | None) -> Line:
    if shape is None:
        return []
    pace = f"×{shape.pace:.2f}" if shape.pace is not None else "–"
    loads = f"{duration(shape.planned_load_s)} → {duration(shape.load_s)}"
    return [(f"{pace:>9}", ""), (f"{loads:>18}", "")]


def _decisions(state: RunState, width: int) -> list[Line]:
    lines: list[Line] = []
    for at_s, decision in state.decisions[-MOST_DECISIONS:]:
        first, *rest = wrap(decision.what, max(20, width - 18)) or [""]
        lines.append([(f"{clock(at_s):>8} ", "dim"), (f"{decision.kind:<8} ", "accent"), (first, "")])
        lines += [[(" " * 18 + line, "")] for line in rest]
    left = len(state.decisions) - MOST_DECISIONS
    return [[(f"… {left} earlier ones", "dim")], *lines] if left > 0 else lines
