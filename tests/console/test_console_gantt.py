"""The chart of engines over time tells the truth in as many cells as it has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.console.layout.bands import Axis
from samullm_tui.console.layout.gantt import (
    IDLE,
    LOADING,
    NOW,
    Chart,
    gantt_axis,
    gantt_lines,
    gantt_rows,
    gantt_strip,
    label_width,
    marks_of,
)
from samullm_tui.console.layout.text import line_width, plain
from samullm_tui.domain.plan import Span

MARKS = marks_of(["x", "y", "z"])


@st.composite
def spans(draw: st.DrawFn) -> Span:
    start = draw(st.floats(0, 900))
    load = draw(st.floats(0.01, 200))
    ready = draw(st.one_of(st.none(), st.just(start + load)))
    end = draw(st.one_of(st.none(), st.just((ready or start) + draw(st.floats(0.01, 500)))))
    gpus = tuple(draw(st.sets(st.integers(0, 9), min_size=1, max_size=4)))
    return Span(draw(st.sampled_from("xyz")), gpus, start, ready, end)


@given(
    st.lists(spans(), max_size=12),
    st.integers(1, 8),
    st.integers(1, 120),
    st.one_of(st.none(), st.floats(0, 1000)),
)
def test_every_row_has_exactly_its_cells(
    every: list[Span], gpus: int, width: int, now_s: float | None
) -> None:
    rows = gantt_rows(every, gpus, Chart(Axis(0.0, 1000.0, width), MARKS, now_s))
    assert [row.gpus for row in rows] == [(gpu,) for gpu in range(gpus)]
    assert all(len(row.cells) == width for row in rows)
    if now_s is not None:
        assert all(sum(glyph == NOW for glyph, _ in row.cells) == 1 for row in rows)
    assert line_width(gantt_strip(rows)) == width


@given(st.floats(0, 990), st.floats(1e-3, 5), st.floats(1e-3, 5), st.integers(2, 60))
def test_a_load_never_vanishes_however_short(start: float, load: float, work: float, width: int) -> None:
    span = Span("x", (0,), start, start + load, start + load + work)
    (row,) = gantt_rows([span], 1, Chart(Axis(0.0, 1000.0, width), MARKS))
    assert any(glyph == LOADING for glyph, _ in row.cells)


@given(st.lists(spans(), max_size=8), st.integers(1, 40), st.integers(1, 12))
def test_joined_rows_name_every_gpu_that_is_shown(every: list[Span], gpus: int, height: int) -> None:
    label = label_width(gpus, height)
    rows = gantt_rows(every, gpus, Chart(Axis(0.0, 1000.0, 40), MARKS))
    lines = gantt_lines(rows, height, label)
    assert len(lines) <= height
    assert all(line_width(line) == label + 2 + 40 for line in lines if "more GPUs" not in plain(line))


def test_a_chart_reads_as_drawn() -> None:
    plan = [Span("x", (0, 1), 0, 100, 500), Span("y", (1,), 500, 600, 1000)]
    chart = Chart(Axis(0.0, 1000.0, 10), MARKS)
    lines = [plain(line) for line in gantt_lines(gantt_rows(plan, 2, chart), 2, 1)]
    assert lines == ["0 ┃▒AAAA·····", "1 ┃▒AAAA▒BBBB"]
    assert plain(gantt_axis(chart.axis, 1)).startswith("   0")


def test_the_future_of_what_happened_is_empty_not_idle() -> None:
    running = [Span("x", (0,), 0, 100, None)]
    chart = Chart(Axis(0.0, 1000.0, 10), MARKS, now_s=500.0, past_only=True)
    (row,) = gantt_rows(running, 1, chart)
    assert "".join(glyph for glyph, _ in row.cells) == "▒AAAA│    "
    (planned,) = gantt_rows(running, 1, Chart(chart.axis, MARKS, now_s=500.0))
    assert IDLE in {glyph for glyph, _ in planned.cells}
