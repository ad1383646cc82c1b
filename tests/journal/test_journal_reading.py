"""Reading: recordings in every shape, files that are none, and a journal that grows meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from journal_examples import finished, small_run
from msgspec.structs import replace

from samullm_tui.domain.errors import JournalError, RecordingError
from samullm_tui.domain.event import AnyEvent, RequestFailed, RequestFinished
from samullm_tui.domain.plan import Replica
from samullm_tui.journal.codec import decode, encode
from samullm_tui.journal.compressed import zstd
from samullm_tui.journal.framing import frame
from samullm_tui.journal.reader import JournalTail, read_events
from samullm_tui.journal.requests import committed
from samullm_tui.journal.writer import JournalWriter

RUN = small_run()
DATA = b"".join(frame(encode(event)) for event in RUN)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_every_kind_of_event_survives_the_way_through_the_file() -> None:
    assert [decode(encode(event)) for event in RUN] == RUN


def test_a_file_a_folder_and_a_gz_read_the_same(tmp_path: Path) -> None:
    write(tmp_path / "journal.jsonl", DATA)
    write(tmp_path / "other.jsonl.zst", zstd.compress(DATA))
    for path in (tmp_path, tmp_path / "journal.jsonl", tmp_path / "other.jsonl.zst"):
        assert list(read_events(path)) == RUN


def test_a_journal_cut_anywhere_gives_a_prefix(tmp_path: Path) -> None:
    data = b"".join(frame(encode(event)) for event in RUN[:3])
    lengths = set()
    for cut in range(len(data) + 1):
        read = list(read_events(write(tmp_path / "j", data[:cut])))
        assert read == RUN[: len(read)]
        lengths.add(len(read))
    assert lengths == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"hello\n", "byte 0: not a journal"),
        (b'{"event":"RunCreated"}\n', "byte 0: not a journal"),
        (bytes(10) + b"x", "byte 0: not a journal"),
        (frame(b'{"event":"FromTheFuture","at_s":1}'), "line 1: not an event of this version"),
        (frame(b"\xff\xfe"), "line 1: not an event of this version"),
        (
            frame(b'{"event":"Approved","at_s":"soon","rank":1,"by":""}'),
            "line 1: not an event of this version",
        ),
        (frame(encode(RUN[0])) + b"x" + DATA, f"byte {len(frame(encode(RUN[0])))}: the journal is damaged"),
    ],
    ids=["text", "bare JSON", "zeros", "future event", "not UTF-8", "wrong type", "damaged"],
)
def test_what_is_no_recording_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    path = write(tmp_path / "journal.jsonl", data)
    with pytest.raises(RecordingError) as raised:
        list(read_events(path))
    assert f"{path}: {says}" in str(raised.value)
    assert raised.value.exit_status == 2


@pytest.mark.parametrize(
    "data",
    [zstd.compress(DATA)[:-20], b"not zstd", zstd.compress(DATA)[:30] + bytes(90)],
    ids=["cut short", "not zstd", "zeroed"],
)
def test_a_broken_gz_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(RecordingError, match="not a whole Zstandard file"):
        list(read_events(write(tmp_path / "r.zst", data)))


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(RecordingError, match="No such file"):
            list(read_events(path))


def test_an_error_shows_nothing_of_the_file_that_could_act_on_a_terminal(tmp_path: Path) -> None:
    path = write(tmp_path / "j", frame(b'{"event":"\\u001b[2J","at_s":1}'))
    with pytest.raises(RecordingError) as raised:
        list(read_events(path))
    assert "\x1b" not in str(raised.value)


# --- following ---


def test_a_tail_waits_for_the_file_and_for_whole_frames(tmp_path: Path) -> None:
    run = tmp_path / "run"
    tail = JournalTail(run)
    assert tail.poll() == []
    run.mkdir()
    assert tail.poll() == []
    path = run / "journal.jsonl"
    seen: list[AnyEvent] = []
    data = b"".join(frame(encode(event)) for event in RUN[:4])
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        seen += tail.poll()
        assert seen == list(read_events(path))
    assert seen == RUN[:4]


def test_a_tail_outlives_a_torn_frame_that_is_cut_and_written_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.jsonl", frame(encode(RUN[0])) + frame(encode(RUN[1]))[:20])
    tail = JournalTail(path)
    assert tail.poll() == [RUN[0]]
    path.write_bytes(frame(encode(RUN[0])))
    assert tail.poll() == []
    path.write_bytes(frame(encode(RUN[0])) + frame(encode(RUN[5])))
    assert tail.poll() == [RUN[5]]


@pytest.mark.parametrize("max_bytes", [1, 100, 5000])
def test_a_tail_in_small_bites_sees_everything_once(tmp_path: Path, max_bytes: int) -> None:
    tail = JournalTail(write(tmp_path / "j", DATA))
    seen: list[AnyEvent] = []
    while events := tail.poll(max_bytes):
        seen += events
    assert seen == RUN
    assert (tail.events, tail.good_bytes) == (len(RUN), len(DATA))


def test_a_tail_says_when_the_journal_is_damaged_or_none(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"byte \d+: the journal is damaged"):
        JournalTail(write(tmp_path / "j", DATA[:40] + b"\0" + DATA[41:])).poll()
    with pytest.raises(RecordingError, match="not a journal"):
        JournalTail(write(tmp_path / "k", b"#!/bin/sh\n")).poll()


def test_a_tail_beside_a_writer_misses_and_invents_nothing(tmp_path: Path) -> None:
    events = [finished(float(k), "summary", str(k), Replica("small", (0,)), k) for k in range(3000)]
    tail = JournalTail(tmp_path / "journal.jsonl")

    def append_all() -> None:
        with JournalWriter(tmp_path / "journal.jsonl", group_s=0.0, group_events=7) as writer:
            for event in events:
                writer.append(event)

    thread = threading.Thread(target=append_all)
    thread.start()
    seen: list[AnyEvent] = []
    while thread.is_alive():
        seen += tail.poll()
    thread.join()
    seen += tail.poll()
    assert seen == events


# --- what ended ---


def ended(events: Iterable[AnyEvent]) -> dict[tuple[str, str], tuple[int, int]]:
    """Offset and output tokens (-1: an error row) of each request."""
    done = committed(events)
    return {key: (done.offsets[number], done.tokens[number]) for key, number in done.ends()}


def test_ended_requests_are_found_with_their_rows() -> None:
    tokens = {(e.node, e.id): e.output_tokens for e in RUN if isinstance(e, RequestFinished)}
    offsets = {("summary", "1"): 0, ("summary", "2"): 180, ("judge", "1"): 360, ("judge", "2"): 540}
    finished = {key: (offset, tokens[key]) for key, offset in offsets.items()}
    assert ended(RUN) == finished | {("summary", "3"): (0, -1)}
    assert len(committed(RUN)) == 5


def test_a_request_ends_once_even_if_a_journal_says_it_twice() -> None:
    again = [replace(event, offset=9999) for event in RUN if hasattr(event, "offset")]
    twisted = RequestFailed(at_s=60.0, node="judge", id="1", llm="large", cause="", offset=5)
    assert ended([*RUN, *again, twisted]) == ended(RUN)
    assert len(committed([*RUN, *again, twisted])) == 5


def test_new_events_are_read_in_parts_and_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long journal is never in memory as a whole."""
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path) as writer:
        for event in RUN:
            writer.append(event)
    monkeypatch.setattr("samullm_tui.journal.reader.CHUNK_BYTES", 400)
    tail, most = JournalTail(path), 0
    for k, _ in enumerate(tail.new()):
        most = max(most, tail.events - k)
    assert tail.events == len(RUN)
    assert 0 < most < len(RUN) / 2
    assert list(tail.new()) == []
