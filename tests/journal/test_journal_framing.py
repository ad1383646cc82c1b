"""Promise 4: a journal is a prefix of what was acknowledged; a torn tail is cut, never misread."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.journal.framing import FrameScan, frame, looks_framed, unframe

PAYLOADS = st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b), max_size=8)
SMALL = [b'{"a":1}', b'{"text":"0000000a 12345678 {}"}', b'{"c":[1,2,3]}']


def framed(payloads: list[bytes]) -> bytes:
    return b"".join(map(frame, payloads))


def test_a_frame_is_one_readable_line() -> None:
    assert frame(b'{"event":"X"}') == b'0000000d f742da3b {"event":"X"}\n'


@given(PAYLOADS)
def test_what_was_framed_comes_back(payloads: list[bytes]) -> None:
    data = framed(payloads)
    assert unframe(data) == (payloads, len(data), "nothing")


def test_every_truncation_gives_a_prefix() -> None:
    data = framed(SMALL)
    ends = [len(framed(SMALL[:k])) for k in range(len(SMALL) + 1)]
    for cut in range(len(data) + 1):
        frames = unframe(data[:cut])
        whole = sum(end <= cut for end in ends) - 1
        assert frames.payloads == SMALL[:whole]
        assert frames.good_bytes == ends[whole]
        assert frames.rest == ("nothing" if cut in ends else "torn")


def test_every_flipped_bit_is_noticed_where_it_is() -> None:
    data = framed(SMALL)
    ends = [len(framed(SMALL[:k])) for k in range(len(SMALL) + 1)]
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        frames = unframe(bytes(flipped))
        hit = sum(end <= bit // 8 for end in ends) - 1
        assert frames.payloads == SMALL[:hit]
        # In the last frame it cannot be told from an interrupted write. The newline before the last frame
        # is no exception: the frame behind it is still found.
        assert frames.rest == ("torn" if hit == len(SMALL) - 1 else "damaged"), bit


@pytest.mark.parametrize("zeros", [1, 17, 18, 500])
def test_a_zeroed_tail_is_torn(zeros: int) -> None:
    data = framed(SMALL)
    assert unframe(data + bytes(zeros)) == (SMALL, len(data), "torn")
    # Also when the zeros took the end of the last frame with them.
    frames = unframe(data[:-5] + bytes(zeros))
    assert (frames.payloads, frames.rest) == (SMALL[:2], "torn")


def test_a_hole_before_whole_frames_is_damage_not_a_tail() -> None:
    data = framed(SMALL)
    hole = bytearray(data)
    hole[30:40] = bytes(10)
    frames = unframe(bytes(hole))
    assert (frames.rest, frames.good_bytes) == ("damaged", len(frame(SMALL[0])))


@given(PAYLOADS, st.lists(st.integers(0, 400), max_size=6))
def test_chunks_of_any_size_give_the_same_frames(payloads: list[bytes], cuts: list[int]) -> None:
    data = framed(payloads) + b"0000"
    scan = FrameScan()
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    found = [p for start, end in pairwise(edges) for p in scan.feed(data[start:end])]
    assert found == payloads
    assert (scan.good_bytes, scan.rest, scan.damaged) == (len(data) - 4, b"0000", False)


@pytest.mark.parametrize("data", [b"hello", b"{}", b"PK\x03\x04", b"0000000D f742da3b x", b"\0\0x", b"\n"])
def test_other_files_do_not_look_like_a_journal(data: bytes) -> None:
    assert not looks_framed(data)


def test_every_beginning_of_a_frame_looks_like_one() -> None:
    line = frame(b'{"event":"X"}')
    assert all(looks_framed(line[:cut]) for cut in range(len(line) + 1))
    assert looks_framed(bytes(4096))
