"""A journal of many segments reads like one of one, whoever dies while a segment is closed or compressed."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from journal_examples import finished, small_run
from test_journal_writer import script

from samullm_tui.domain.errors import JournalError, RecordingError
from samullm_tui.domain.event import AnyEvent
from samullm_tui.domain.plan import Replica
from samullm_tui.journal import segments, writer
from samullm_tui.journal.compressed import zstd
from samullm_tui.journal.reader import JournalTail, read_events
from samullm_tui.journal.state import fold, state_sha256
from samullm_tui.journal.timeline import Timeline
from samullm_tui.journal.writer import JournalWriter

BYTES = 2000
EVENTS = [finished(float(k), "summary", str(k), Replica("small", (0,)), k) for k in range(120)]


def write(path: Path, events: list[AnyEvent], segment_bytes: int = BYTES) -> Path:
    with JournalWriter(path, segment_bytes=segment_bytes) as journal:
        for event in events:
            journal.append(event)
            journal.flush()
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return write(tmp_path / "journal.jsonl", EVENTS)


def closed(journal: Path) -> list[Path]:
    return sorted(path for path in journal.parent.iterdir() if path != journal)


def test_closed_segments_are_compressed_and_named_by_their_first_event(journal: Path) -> None:
    assert len(closed(journal)) >= 5
    first = 0
    for path in closed(journal):
        assert path.name == f"journal.{first:012d}.jsonl.zst"
        first += zstd.decompress(path.read_bytes()).count(b"\n")
    assert first + journal.read_bytes().count(b"\n") == len(EVENTS)


def test_they_are_read_as_one(journal: Path) -> None:
    assert list(read_events(journal)) == EVENTS
    assert list(read_events(journal.parent)) == EVENTS
    assert JournalTail(journal.parent).poll() == EVENTS


def test_only_the_owner_may_read_them(journal: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in journal.parent.iterdir()} == {0o600}


def test_the_state_is_that_of_one_file(tmp_path: Path) -> None:
    run = small_run()
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    one = write(tmp_path / "one" / "journal.jsonl", run, 10**9)
    many = write(tmp_path / "many" / "journal.jsonl", run, 1)
    assert len(closed(many)) == len(run)
    assert state_sha256(fold(read_events(many))) == state_sha256(fold(read_events(one)))
    assert Timeline(many.parent).whole().final == Timeline(one).whole().final


def test_a_writer_goes_on_where_the_last_one_stopped(journal: Path) -> None:
    with JournalWriter(journal, segment_bytes=BYTES) as again:
        assert again.next_sequence == len(EVENTS)
        assert again.append(EVENTS[0]) == len(EVENTS)
    assert list(read_events(journal)) == [*EVENTS, EVENTS[0]]


@pytest.mark.parametrize("max_bytes", [1, 100, 10**6])
def test_a_tail_in_bites_sees_everything_once(journal: Path, max_bytes: int) -> None:
    tail, seen = JournalTail(journal), list[AnyEvent]()
    while events := tail.poll(max_bytes):
        seen += events
    assert seen == EVENTS


def test_a_tail_beside_a_writer_misses_and_invents_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    thread = threading.Thread(target=write, args=(path, EVENTS * 5, 500))
    tail, seen, snapshots = JournalTail(path), list[AnyEvent](), 0
    thread.start()
    while thread.is_alive():
        seen += tail.poll()
        snapshot = list(read_events(path)) if path.exists() else []
        assert snapshot == (EVENTS * 5)[: len(snapshot)]
        snapshots += 1
    thread.join()
    assert seen + tail.poll() == EVENTS * 5
    assert snapshots > 1


def test_a_tail_that_stands_in_a_segment_as_it_is_closed_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path, segment_bytes=10**9) as journal:
        tail = JournalTail(path)
        journal.append(EVENTS[0])
        journal.flush()
        assert tail.poll() == EVENTS[:1]
        journal.append(EVENTS[1])
        journal.flush()
        path.rename(segments.closed_file(path, 0))
        assert tail.poll() == EVENTS[1:2], "between two renames there is no live file"
    segments.compress(segments.closed_file(path, 0))
    write(path, EVENTS[2:4])
    assert tail.poll() == EVENTS[2:4]


def test_segments_that_are_closed_while_a_reader_opens_the_live_one_are_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader has the live segment open; before it looks around, that one and the next were closed."""
    path = tmp_path / "journal.jsonl"
    write(path, EVENTS[:5], 10**9)
    real = segments.is_missing

    def late(journal: Path, first: int) -> bool:
        monkeypatch.setattr("samullm_tui.journal.reader.is_missing", real)
        write(path, EVENTS[5:], BYTES)
        return real(journal, first)

    monkeypatch.setattr("samullm_tui.journal.reader.is_missing", late)
    tail = JournalTail(path)
    seen = tail.poll()
    assert len(closed(path)) > 1
    assert seen + tail.poll() == EVENTS


# --- deaths ---


@pytest.mark.parametrize("call", ["rename", "replace", "unlink", "fsync"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_death_while_segments_are_closed_or_compressed_loses_and_doubles_nothing(
    tmp_path: Path, call: str, nth: int
) -> None:
    import subprocess

    body = f"""
        real, calls = os.{call}, 0
        def deadly(*arguments, **options):
            global calls
            calls += 1
            if calls == {nth}: os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        writer = JournalWriter(path, segment_bytes={BYTES})
        os.{call} = deadly
        for k in range(100):
            writer.append(numbered(k))
            writer.flush()
            print(k, flush=True)
        writer.close()
        os._exit(3)
    """
    path = tmp_path / "journal.jsonl"
    done = subprocess.run([*script(body), str(path)], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -9
    acknowledged = len(done.stdout.split())
    kept = list(read_events(path))
    assert len(kept) >= acknowledged
    assert [event.id for event in kept] == [str(k) for k in range(len(kept))]  # type: ignore[union-attr]
    with JournalWriter(path, segment_bytes=BYTES) as again:
        assert again.next_sequence == len(kept)
        for event in EVENTS[len(kept) :]:
            again.append(event)
            again.flush()
    assert list(read_events(path)) == EVENTS
    assert {p.suffix for p in closed(path) if p.suffix not in {".part", ".new"}} == {".zst"}


# --- no room ---


@pytest.mark.parametrize("call", ["open", "rename", "replace"])
def test_a_segment_that_cannot_be_closed_or_compressed_now_is_written_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real: Callable[..., object] = getattr(os, call)
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path, segment_bytes=BYTES) as journal:

        def full(*arguments: object, **options: object) -> object:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, call, full)
        for event in EVENTS[:60]:
            journal.append(event)
            journal.flush()
        assert journal.error is None
        monkeypatch.setattr(os, call, real)
        for event in EVENTS[60:]:
            journal.append(event)
            journal.flush()
    assert list(read_events(path)) == EVENTS
    assert closed(path)


# --- damage ---


def test_a_missing_segment_is_named(journal: Path) -> None:
    closed(journal)[1].unlink()
    for read in (lambda: list(read_events(journal)), lambda: JournalTail(journal).poll()):
        with pytest.raises(
            RecordingError, match=r"journal\.jsonl: line \d+: a segment of the journal is missing"
        ):
            read()


@pytest.mark.parametrize("which", [0, -1])
def test_a_closed_segment_that_is_torn_is_damaged(journal: Path, which: int) -> None:
    """Only the live one may end in the middle of a frame."""
    path = closed(journal)[which]
    path.write_bytes(zstd.compress(zstd.decompress(path.read_bytes())[:-3]))
    with pytest.raises(RecordingError, match="the journal is damaged"):
        list(read_events(journal))
    with pytest.raises(JournalError, match="the journal is damaged"):
        JournalTail(journal).poll()
    if which == -1:
        with pytest.raises(JournalError, match="the journal is damaged"):
            JournalWriter(journal)


def test_an_empty_closed_segment_ends_no_reader_in_a_circle(journal: Path) -> None:
    closed(journal)[0].write_bytes(zstd.compress(b""))
    for read in (lambda: list(read_events(journal)), lambda: JournalTail(journal).poll()):
        with pytest.raises((RecordingError, JournalError), match="the journal is damaged"):
            read()


def test_segments_are_large_unless_told(tmp_path: Path) -> None:
    assert writer.SEGMENT_BYTES >= 16 * 1024**2
    write(tmp_path / "journal.jsonl", EVENTS, writer.SEGMENT_BYTES)
    assert closed(tmp_path / "journal.jsonl") == []
