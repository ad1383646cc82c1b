"""Layout functions keep to their cells, whatever they are given, and lose nothing that must be seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.console.layout.bands import axis_labels, band_axis, band_line
from samullm_tui.console.layout.bars import filled, sparkline
from samullm_tui.console.layout.cdf import Curve, cdf_lines, interpolate
from samullm_tui.console.layout.duration import clock, duration, tick_label, tick_step
from samullm_tui.console.layout.gantt import marks_of
from samullm_tui.console.layout.graph import GraphNode, graph_lines
from samullm_tui.console.layout.histogram import histogram_lines, resample
from samullm_tui.console.layout.keyline import key_at, key_line
from samullm_tui.console.layout.numbers import compact, count, signed_percent
from samullm_tui.console.layout.text import (
    clean,
    columns,
    fit,
    heading,
    line_width,
    pad_line,
    plain,
    spread,
    wrap,
)
from samullm_tui.console.layout.ticks import labelled_axis
from samullm_tui.domain.plan import Band

WIDTHS = st.integers(0, 130)
SECONDS = st.floats(0, 1e7, allow_nan=False)
LINES = st.lists(st.tuples(st.text(max_size=30), st.sampled_from(["", "dim", "llm1 bold"])), max_size=6)


# Text


@given(st.text(), WIDTHS, st.sampled_from(["left", "right"]))
def test_a_fitted_text_has_exactly_its_width(text: str, width: int, align: str) -> None:
    assert line_width([(fit(text, width, align), "")]) == width  # type: ignore[arg-type]


@given(LINES, WIDTHS)
def test_a_padded_line_has_exactly_its_width_and_nothing_unprintable(
    line: list[tuple[str, str]], width: int
) -> None:
    padded = pad_line(line, width)
    assert line_width(padded) == width
    assert plain(padded).isprintable()


@given(LINES, LINES, WIDTHS)
def test_a_spread_line_has_exactly_its_width(
    left: list[tuple[str, str]], right: list[tuple[str, str]], width: int
) -> None:
    assert line_width(spread(left, right, width)) == width


@given(st.text(max_size=40), WIDTHS, st.text(max_size=20))
def test_a_heading_has_exactly_its_width(text: str, width: int, note: str) -> None:
    assert line_width(heading(text, width, note)) == width


@given(st.text(), st.integers(1, 60))
def test_wrapped_lines_fit_and_lose_no_word(text: str, width: int) -> None:
    lines = wrap(text, width)
    if width > 1:
        assert all(line_width([(line, "")]) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(clean(text).split())


def test_columns_stand_side_by_side() -> None:
    assert plain(columns([([("ab", "")], 4), ([("cdef", "")], 3)])) == "ab  cd…"


# Times and numbers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (7.44, "7.4s"),
        (9.96, "10s"),
        (59.6, "1m 00s"),
        (412, "6m 52s"),
        (3599.7, "1h 00m"),
        (7500, "2h 05m"),
        (86399, "1d 00h"),
        (273600, "3d 04h"),
        (-48, "−48s"),
        (None, "–"),
        (float("inf"), "–"),
    ],
)
def test_times_read_as_people_say_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@given(SECONDS)
def test_a_time_is_short_and_close_to_what_it_says(seconds: float) -> None:
    text = duration(seconds)
    sizes = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    said = sum(float(part[:-1]) * sizes[part[-1]] for part in text.split())
    assert len(text) <= 9
    assert abs(said - seconds) <= max(0.51, 0.042 * seconds)


@given(st.floats(0, 359999))
def test_a_moment_takes_five_to_eight_cells(seconds: float) -> None:
    assert 5 <= len(clock(seconds)) <= 8


@given(st.floats(0.01, 1e7), st.integers(1, 20))
def test_ticks_are_as_many_as_asked_for_at_most(end_s: float, ticks: int) -> None:
    assert end_s / tick_step(end_s, ticks) <= ticks + 1e-6


@pytest.mark.parametrize(
    ("seconds", "label"), [(0, "0"), (30, "30s"), (90, "1m30"), (3600, "1h"), (9000, "2h30")]
)
def test_ticks_are_labelled_without_a_loss(seconds: float, label: str) -> None:
    assert tick_label(seconds) == label


@given(st.floats(0, 1e12))
def test_compact_numbers_take_five_cells_at_most(value: float) -> None:
    assert len(compact(value)) <= 5


def test_numbers_read_as_people_write_them() -> None:
    assert (count(1402), compact(98400), compact(1.26e6), signed_percent(-0.031), signed_percent(0.0)) == (
        "1,402",
        "98.4k",
        "1.3M",
        "−3 %",
        "±0 %",
    )


# Bars, bands, axes


@given(st.one_of(st.none(), st.floats(-1, 2)), WIDTHS)
def test_a_bar_has_exactly_its_width(share: float | None, width: int) -> None:
    assert line_width(filled(share, width, "llm0")) == width


@given(st.lists(st.floats(0, 1e6), max_size=300), st.integers(0, 80))
def test_a_sparkline_has_exactly_its_width(values: list[float], width: int) -> None:
    assert line_width(sparkline(values, width, "dim")) == width


BANDS = st.lists(st.floats(0.1, 1e5), min_size=3, max_size=3).map(
    lambda values: Band(sum(values) / 3, *sorted(values))
)


@given(st.lists(BANDS, min_size=1, max_size=5), st.floats(0.1, 1e5), st.integers(1, 90))
def test_every_band_shows_its_median_on_the_common_axis(
    bands: list[Band], bound_s: float, width: int
) -> None:
    axis = band_axis(tuple(bands), bound_s, width)
    for band in bands:
        line = band_line(band, axis, "accent", bound_s)
        assert line_width(line) == width
        assert plain(line).count("█") == 1
        assert plain(line)[axis.cell(band.p50)] == "█"
    assert len(axis_labels(axis, 5)) == width


@given(st.floats(0, 1e5), st.floats(1, 1e6), st.integers(1, 120), st.booleans())
def test_an_axis_has_exactly_its_width(low: float, more: float, width: int, log: bool) -> None:
    assert [len(part) for part in labelled_axis(low, low + more, width, log=log)] == [width, width]


# Histogram and CDF

COUNTS = st.lists(st.floats(0, 1e4), min_size=1, max_size=60)


@given(COUNTS, st.integers(1, 100), st.booleans())
def test_resampling_keeps_the_sum(counts: list[float], bins: int, log: bool) -> None:
    edges = [17.0 * i for i in range(len(counts) + 1)]
    assert sum(resample(edges, counts, bins, log=log)) == pytest.approx(sum(counts))


@given(COUNTS, WIDTHS, st.integers(0, 30), st.booleans())
def test_a_histogram_keeps_to_its_cells(counts: list[float], width: int, height: int, log: bool) -> None:
    edges = [17.0 * i for i in range(len(counts) + 1)]
    lines = histogram_lines(edges, counts, width, height, "llm0", log=log)
    assert len(lines) == height
    assert all(line_width(line) in {0, width} for line in lines)


def test_a_bin_with_little_in_it_still_shows() -> None:
    lines = histogram_lines([0, 1, 2], [1.0, 1e6], 2, 6, "llm0")
    assert plain(lines[3])[0] == "▁"
    assert plain(lines[0])[1] == "█"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50), WIDTHS, st.integers(0, 25), st.booleans())
def test_a_cdf_keeps_to_its_cells(values: list[float], width: int, height: int, log: bool) -> None:
    curve = Curve([10.0 * i for i in range(len(values))], sorted(values), "llm0")
    lines = cdf_lines([curve, Curve(curve.x, curve.y, "accent", dotted=True)], width, height, log=log)
    assert len(lines) == height
    assert all(line_width(line) <= width for line in lines)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_a_curve_goes_through_its_points(values: list[float]) -> None:
    curve = Curve([float(i) for i in range(len(values))], values, "")
    for x, y in zip(curve.x, curve.y, strict=True):
        assert interpolate(curve, x) == pytest.approx(y)
    assert interpolate(curve, -1.0) is None


# Graph and key line

DAGS = st.lists(st.lists(st.integers(0, 30), max_size=3), min_size=1, max_size=25).map(
    lambda wanted: tuple(
        GraphNode(f"n{i}", f"m{i % 3}", "d", tuple(dict.fromkeys(f"n{s % i}" for s in sources)) if i else ())
        for i, sources in enumerate(wanted)
    )
)


@given(DAGS)
def test_every_node_stands_in_the_graph_once(nodes: tuple[GraphNode, ...]) -> None:
    lines = [plain(line) for line in graph_lines(nodes, marks_of(["m0", "m1", "m2"]))]
    drawn = [line.split("─▶ ")[1].split()[1] for line in lines if "─▶" in line]
    assert sorted(drawn) == sorted(node.name for node in nodes)


@given(
    st.lists(st.tuples(st.sampled_from("abcde?"), st.text("xyz", min_size=1, max_size=12)), max_size=12),
    WIDTHS,
)
def test_a_key_line_shows_keys_whole_or_not_at_all(keys: list[tuple[str, str]], width: int) -> None:
    line = key_line(keys, width)
    assert line_width(line) == width
    if len(keys) > 1 and "…" in plain(line):
        assert width < 20


@given(
    st.lists(st.tuples(st.sampled_from("abcde?"), st.text("xyz", min_size=1, max_size=12)), max_size=12),
    WIDTHS,
)
def test_a_click_on_a_key_line_finds_what_is_written_there(keys: list[tuple[str, str]], width: int) -> None:
    line = plain(key_line(keys, width))
    for x, cell in enumerate(line):
        found = key_at(keys, width, x)
        assert found is None or found in keys
        if found is None:
            assert cell in " …"
        elif cell not in " …":
            assert cell in "".join(found)


@given(st.integers(1, 40))
def test_a_per_cent_sign_stays_with_its_number(width: int) -> None:
    assert not any(
        line.startswith("%") for line in wrap("it is 11 % slower and 3 % of 100 % more", width) if width > 5
    )


def test_a_narrow_key_line_keeps_help_and_the_way_out() -> None:
    keys = [
        ("a", "approve the plan"),
        ("b", "something else"),
        ("esc", "back"),
        ("t", "theme"),
        ("?", "help"),
        ("q", "quit"),
    ]
    assert plain(key_line(keys, 34)).split() == ["esc", "back", "?", "help"], "who can go back need not quit"
    assert plain(key_line([*keys[:2], *keys[4:]], 19)).split() == ["?", "help", "q", "quit"]
