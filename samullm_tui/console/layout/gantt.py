"""Engines over time as rows of cells: one row for a GPU, one letter and colour for an LLM, loads hatched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from msgspec import Struct

from samullm_tui.console.layout.bands import Axis, axis_labels
from samullm_tui.console.layout.text import Line
from samullm_tui.domain.plan import Span

__all__ = [
    "Chart",
    "Mark",
    "Row",
    "gantt_axis",
    "gantt_lines",
    "gantt_rows",
    "gantt_strip",
    "label_width",
    "marks_of",
]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
IDLE, LOADING, NOW = "·", "▒", "│"


class Mark(Struct, frozen=True):
    """How an LLM is drawn everywhere: a letter and the number of its colour."""

    letter: str
    colour: int

    @property
    def text_style(self) -> str:
        return f"llm{self.colour}"

    @property
    def bar_style(self) -> str:
        return f"bar{self.colour}"

    @property
    def head_style(self) -> str:
        """The first cell of a bar: its letter stands out, the others are quiet."""
        return f"head{self.colour}"


class Chart(Struct, frozen=True):
    """What the rows of one chart have in common: cells of time, marks, and where now is (seconds).

    What comes after now is left empty where `past_only`.
    """

    axis: Axis
    marks: Mapping[str, Mark]
    now_s: float | None = None
    past_only: bool = False


class Row(Struct, frozen=True):
    """GPUs with the same cells, drawn once. A cell is (glyph, style)."""

    gpus: tuple[int, ...]
    cells: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        first, last = self.gpus[0], self.gpus[-1]
        return str(first) if first == last else f"{first}–{last}"


def marks_of(llms: Sequence[str]) -> dict[str, Mark]:
    """Letters in the order of the application: A, B, C and so on."""
    return {llm: Mark(LETTERS[i % len(LETTERS)], i) for i, llm in enumerate(llms)}


def gantt_rows(spans: Sequence[Span], gpus: int, chart: Chart) -> list[Row]:
    """One row for each GPU 0 … gpus - 1. A span without an end goes on until now, or the end of the axis."""
    cells = [[(IDLE, "hairline")] * chart.axis.width for _ in range(gpus)]
    for span in sorted(spans, key=lambda s: s.start_s):
        for gpu in span.gpus:
            if 0 <= gpu < gpus:
                _draw(cells[gpu], span, chart)
    return [Row((gpu,), tuple(_with_now(row, chart))) for gpu, row in enumerate(cells)]


def _draw(cells: list[tuple[str, str]], span: Span, chart: Chart) -> None:
    """Draws one span, or what of it is on the axis.

    A load is at least one cell wide: it must never vanish. An engine that ran before has none.
    """
    axis = chart.axis
    horizon_s = axis.end_s if chart.now_s is None else chart.now_s
    end_s = horizon_s if span.end_s is None else span.end_s
    before = end_s <= axis.start_s and span.start_s < axis.start_s
    if not cells or before or span.start_s > axis.end_s:
        return
    mark = chart.marks.get(span.llm, Mark("?", 0))
    start = axis.cell(span.start_s)
    stop = max(start + 1, _edge(end_s, axis))
    ready = stop if span.ready_s is None else min(stop, max(start + 1, _edge(span.ready_s, axis)))
    if span.ready_s is not None and span.ready_s <= max(span.start_s, axis.start_s):
        ready = start
    for i in range(start, min(ready, len(cells))):
        cells[i] = (LOADING, mark.text_style)
    for i in range(ready, min(stop, len(cells))):
        cells[i] = (mark.letter, mark.head_style if i == ready else mark.bar_style)


def _edge(seconds: float, axis: Axis) -> int:
    """The first cell after a moment, rounded to the nearest edge."""
    span = max(axis.end_s - axis.start_s, 1e-9)
    return min(axis.width, max(0, round((seconds - axis.start_s) / span * axis.width)))


def _with_now(cells: list[tuple[str, str]], chart: Chart) -> list[tuple[str, str]]:
    axis = chart.axis
    if chart.now_s is None or not cells or chart.now_s > axis.end_s:
        return cells
    if chart.now_s < axis.start_s:
        return [(" ", "")] * len(cells) if chart.past_only else cells
    now = axis.cell(chart.now_s)
    after = [(" ", "")] * (len(cells) - now - 1) if chart.past_only else cells[now + 1 :]
    return [*cells[:now], (NOW, "accent"), *after]


def label_width(gpus: int, height: int) -> int:
    """Cells for the labels of `gpus` rows in `height` lines: joined rows need `12–15`, single ones `12`."""
    digits = len(str(max(0, gpus - 1)))
    return digits if gpus <= height else 2 * digits + 1


def gantt_lines(rows: Sequence[Row], height: int, label: int, page: int = 0) -> list[Line]:
    """At most `height` lines `0 ┃▒▒AAAA`: equal neighbours are joined where there is too little room.

    If that is not enough, GPUs come one by one in pages of one line less, so that charts below each other show the
    same ones; after the last page comes the first.
    """
    joined = rows if len(rows) <= height else _joined(rows)
    if len(joined) <= height or height < 1:
        return [_line(row, label) for row in joined[: max(0, height)]]
    size = max(1, height - 1)
    first = page % -(-len(rows) // size) * size
    shown = rows[first : first + size]
    lines = [_line(row, label) for row in shown][: height - 1]
    more = [(f"{'':{label}}   … {len(rows) - len(lines)} more GPUs: G", "dim")]
    return [*lines, *[[] for _ in range(height - 1 - len(lines))], more]


def _joined(rows: Sequence[Row]) -> list[Row]:
    groups = (list(group) for _, group in groupby(rows, key=lambda row: row.cells))
    return [Row(tuple(gpu for row in group for gpu in row.gpus), group[0].cells) for group in groups]


def _line(row: Row, width: int) -> Line:
    return [(f"{row.label:>{width}} ", "dim"), ("┃", "hairline"), *_runs(row.cells)]


def _runs(cells: Sequence[tuple[str, str]]) -> Line:
    """Neighbouring cells of one style as one segment: fewer bytes to the terminal."""
    return [
        ("".join(glyph for glyph, _ in group), style)
        for style, group in (
            (style, list(group)) for style, group in groupby(cells, key=lambda cell: cell[1])
        )
    ]


def gantt_axis(axis: Axis, label_width: int, zoom: str = "") -> Line:
    """The line of moments above the rows; how close it is, where the rows have their labels."""
    return [
        (f"{zoom:<{label_width + 2}}", "accent" if zoom else "dim"),
        (axis_labels(axis, max(1, axis.width // 9)), "dim"),
    ]


def gantt_strip(rows: Sequence[Row]) -> Line:
    """All GPUs in one line: in each cell what most of them do, idle only where all are."""
    if not rows:
        return []
    cells = []
    for column in zip(*(row.cells for row in rows), strict=True):
        busy = [cell for cell in column if cell[0] != IDLE] or list(column)
        cells.append(max(busy, key=lambda cell: (busy.count(cell), cell)))
    return _runs(cells)
