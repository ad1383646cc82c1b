"""The chart of engines over time tells the truth in as many cells as it has."""

from __future__ import annotations

import math

import pytest
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
from samullm_tui.console.layout.window import CLOSEST, Window
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


# Zoom, and more GPUs than lines

WINDOWS = st.builds(
    Window, st.sampled_from([1, 2, 8, CLOSEST]), st.one_of(st.none(), st.floats(-50, 2000)), st.integers(0, 9)
)
NOWS = st.one_of(st.none(), st.floats(0, 1000))


@given(WINDOWS, st.floats(1, 1000), NOWS, st.lists(st.sampled_from([-0.5, 0.5, 2.0]), max_size=9))
def test_a_window_is_its_share_of_the_whole_and_never_beyond_it(
    window: Window, end_s: float, now_s: float | None, moves: list[float]
) -> None:
    for move in (0.0, *moves):
        window = window.moved(move, end_s, now_s)
        axis = window.axis(end_s, now_s, 40)
        assert axis.end_s - axis.start_s == pytest.approx(end_s / window.zoom)
        assert axis.start_s >= 0
        assert axis.end_s <= end_s * (1 + 1e-9)


def test_a_window_follows_now_until_it_is_moved() -> None:
    window = Window().zoomed(2).zoomed(2)
    assert [window.axis(1000, now_s, 10).start_s for now_s in (0, 500, 600, 1000)] == [0, 375, 475, 750]
    held = window.moved(0.5, 1000, 500.0)
    assert [held.axis(1000, now_s, 10).start_s for now_s in (500, 1000)] == [500, 500]
    assert held.zoomed(0.5).zoomed(0.5) == Window()


@given(st.integers(1, 63), st.integers(2, 40))
def test_moving_on_shows_every_second(zoom: int, width: int) -> None:
    window, seen_s = Window(zoom=zoom), 0.0
    while True:
        axis = window.axis(1000.0, None, width)
        assert axis.start_s <= seen_s + 1e-6
        if axis.end_s >= 1000.0 - 1e-6:
            return
        assert axis.end_s > seen_s
        seen_s, window = axis.end_s, window.moved(0.5, 1000.0, None)


@given(st.lists(spans(), max_size=8), WINDOWS, NOWS)
def test_a_part_shows_what_the_whole_chart_shows_there(
    every: list[Span], window: Window, now_s: float | None
) -> None:
    """Drawn so finely that a cell of both is the same time."""
    width = 40
    part = Chart(window.axis(1000.0, now_s, width), MARKS, now_s)
    whole = Chart(Axis(0.0, 1000.0, width * window.zoom), MARKS, now_s)
    first = round(part.axis.start_s / 1000 * whole.axis.width)
    if not math.isclose(first * 1000 / whole.axis.width, part.axis.start_s, abs_tol=1e-9):
        return
    for zoomed, row in zip(gantt_rows(every, 10, part), gantt_rows(every, 10, whole), strict=True):
        there = row.cells[first : first + width]
        assert sum(a[0] != b[0] for a, b in zip(zoomed.cells, there, strict=True)) <= len(every)


def test_what_ended_before_the_window_is_not_in_it_and_a_load_before_it_is_over() -> None:
    chart = Chart(Axis(500.0, 1000.0, 10), MARKS, now_s=900.0, past_only=True)
    over, loaded = Span("x", (0,), 0, 100, 450), Span("y", (1,), 300, 450, None)
    rows = ["".join(glyph for glyph, _ in row.cells) for row in gantt_rows([over, loaded], 2, chart)]
    assert rows == ["········│ ", "BBBBBBBB│ "]
    before = Chart(Axis(500.0, 1000.0, 10), MARKS, now_s=400.0, past_only=True)
    assert "".join(glyph for glyph, _ in gantt_rows([loaded], 2, before)[1].cells) == " " * 10


@given(st.integers(1, 30), st.integers(2, 12))
def test_pages_show_every_gpu_once_and_turn_round(gpus: int, height: int) -> None:
    every = [Span("x", (gpu,), gpu, gpu + 1, gpu + 40) for gpu in range(gpus)]
    rows = gantt_rows(every, gpus, Chart(Axis(0.0, 100.0, 100), MARKS))
    assert len({row.cells for row in rows}) == gpus
    label = label_width(gpus, height)
    pages = -(-gpus // (height - 1)) if gpus > height else 1
    seen = [plain(line) for page in range(pages) for line in gantt_lines(rows, height, label, page)]
    shown = [int(line.split("┃")[0]) for line in seen if "┃" in line]
    assert shown == list(range(gpus))
    assert gantt_lines(rows, height, label, pages) == gantt_lines(rows, height, label, 0)


def test_a_page_shows_the_same_gpus_of_every_chart() -> None:
    """Of one plan neighbours do the same, of the other none do."""
    chart = Chart(Axis(0.0, 100.0, 100), MARKS)
    alike = gantt_rows([Span("x", (gpu,), gpu // 2, 5, gpu // 2 + 40) for gpu in range(16)], 16, chart)
    unlike = gantt_rows([Span("y", (gpu,), gpu, 20, gpu + 40) for gpu in range(16)], 16, chart)
    for page in range(6):
        shown = [
            [plain(line).split("┃")[0] for line in gantt_lines(rows, 4, 5, page)] for rows in (alike, unlike)
        ]
        assert shown[0] == shown[1]
