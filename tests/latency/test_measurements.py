"""Promises of reading measured iterations: every mistake is named by file, line and column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.domain.errors import ProfileError
from samullm_tui.latency.measurements import COLUMNS, MIN_ROWS, parse_iterations

HEADER = ",".join(COLUMNS)
GOOD = "4,100,5000,3,900,0.02"


def file_with(line: str) -> str:
    """A good file whose third row (line 4) is `line`."""
    return "\n".join([HEADER, GOOD, GOOD, line, *[GOOD] * MIN_ROWS])


def test_columns_may_stand_in_any_order_among_others() -> None:
    header = "latency_s,id,decode_context,decode_seqs,prefill_context,prefill_tokens,num_seqs"
    text = "\n".join([header, *["0.02,a,900,3,5000,100,4"] * MIN_ROWS])
    rows = parse_iterations(b"\xef\xbb\xbf" + text.encode(), "i.csv")
    assert len(rows) == MIN_ROWS
    assert [getattr(rows, column)[0] for column in COLUMNS] == [4, 100, 5000, 3, 900, 0.02]
    assert len(rows[3:5]) == 2


@pytest.mark.parametrize(
    ("line", "column", "wrong"),
    [
        ("4,100,5000,3,900,nan", "latency_s", "'nan' is not a number"),
        ("4,100,5000,3,900,inf", "latency_s", "not a number"),
        ("4,100,5000,3,900,", "latency_s", "missing"),
        ("4,100,5000,3,900", "latency_s", "missing"),
        ("4,-100,5000,3,900,0.02", "prefill_tokens", "'-100'"),
        ("four,100,5000,3,900,0.02", "num_seqs", "'four'"),
        ("4,100,5000,3,900,0", "latency_s", "no time"),
        ("4,0,0,0,0,0.02", "prefill_tokens", "computes nothing"),
        ("2,100,5000,3,900,0.02", "num_seqs", "2 sequences"),
        ("4,0,5000,3,900,0.02", "prefill_context", "without prompt tokens"),
        ("4,100,5000,0,900,0.02", "decode_context", "without decoding"),
        ("4,100,5000,4,900,0.02", "num_seqs", "no sequence for the prompt tokens"),
        ("4,100,5000,3,900,1e9", "latency_s", "1e\\+09 is absurd"),
        ("4,100,5000,3,900,1e-300", "latency_s", "no time"),
        ("4,1e12,5000,3,900,0.02", "prefill_tokens", "1e\\+12 is absurd"),
        ("1e9,100,5000,3,900,0.02", "num_seqs", "1e\\+09 is absurd"),
        ("4,100,1e300,3,900,0.02", "prefill_context", "absurd"),
    ],
)
def test_a_wrong_value_is_named_by_line_and_column(line: str, column: str, wrong: str) -> None:
    with pytest.raises(ProfileError, match=wrong) as caught:
        parse_iterations(file_with(line), "i.csv")
    assert [problem.place for problem in caught.value.problems] == [f"line 4, column {column}"]
    assert caught.value.problems[0].file == "i.csv"


def test_all_mistakes_are_listed_at_once_up_to_twenty() -> None:
    with pytest.raises(ProfileError) as caught:
        parse_iterations("\n".join([HEADER, "x,100,5000,3,900,y", "4,100,5000,3,900,z"]), "i.csv")
    assert len(caught.value.problems) == 3
    with pytest.raises(ProfileError) as caught:
        parse_iterations("\n".join([HEADER, *["x,y,z,1,1,1"] * 30]), "i.csv")
    assert len(caught.value.problems) == 20


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        (HEADER.replace("latency_s", "seconds"), "column latency_s is missing"),
        (HEADER + ",num_seqs", "column num_seqs stands twice"),
        (HEADER, "0 rows"),
        ("\n".join([HEADER, *[GOOD] * (MIN_ROWS - 1)]), "at least 20"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (HEADER.encode() + b"\n1,2\n\xff", "line 3: not UTF-8"),
    ],
)
def test_a_file_of_another_kind_is_refused(text: str | bytes, wrong: str) -> None:
    with pytest.raises(ProfileError, match=wrong):
        parse_iterations(text, "i.csv")


@given(st.one_of(st.text(), st.binary()))
def test_no_input_makes_any_other_error(data: str | bytes) -> None:
    for text in (data, HEADER + "\n" + data if isinstance(data, str) else HEADER.encode() + b"\n" + data):
        with pytest.raises(ProfileError):
            parse_iterations(text, "i.csv")


def test_blank_lines_do_not_shift_the_line_numbers() -> None:
    with pytest.raises(ProfileError, match="line 5, column num_seqs"):
        parse_iterations("\n".join([HEADER, "", GOOD, "", "x,1,1,1,1,1"]), "i.csv")


def test_values_are_read_exactly() -> None:
    rows = parse_iterations(
        "\n".join([HEADER, *[f"{i + 1},{i + 1},0,0,0,{0.1 * (i + 1)}" for i in range(30)]]), "f"
    )
    np.testing.assert_array_equal(rows.num_seqs, np.arange(1, 31))
    np.testing.assert_array_equal(rows.latency_s, 0.1 * np.arange(1, 31))
