"""Promises 3, 4, 5 and 6: what was acknowledged stays, whatever dies; a failed write is heard of and can be retried."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from journal_examples import finished, small_run

from samullm_tui.domain.errors import JournalError
from samullm_tui.domain.event import AnyEvent
from samullm_tui.domain.plan import Replica
from samullm_tui.journal.codec import encode
from samullm_tui.journal.framing import frame
from samullm_tui.journal.reader import read_events
from samullm_tui.journal.writer import JournalWriter

RUN = small_run()
HOUR = 3600.0


def numbered(k: int) -> AnyEvent:
    return finished(float(k), "summary", str(k), Replica("small", (0,)), k)


def framed(events: list[AnyEvent]) -> bytes:
    return b"".join(frame(encode(event)) for event in events)


def test_appended_events_are_numbered_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path) as writer:
        assert [writer.append(event) for event in RUN] == list(range(len(RUN)))
        writer.flush()
        assert (writer.durable, writer.next_sequence) == (len(RUN), len(RUN))
        assert list(read_events(path)) == RUN
    with JournalWriter(path) as writer:
        assert (writer.recovered, writer.next_sequence) == (b"", len(RUN))
        assert writer.append(numbered(1)) == len(RUN)
    assert list(read_events(path)) == [*RUN, numbered(1)]


def test_only_the_owner_may_read_a_journal(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        JournalWriter(tmp_path / "new").close()
        (tmp_path / "old").touch(0o666)
        JournalWriter(tmp_path / "old").close()
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}


def test_opening_cuts_a_tail_torn_at_any_byte_and_says_what_it_cut(tmp_path: Path) -> None:
    path, events = tmp_path / "j", RUN[1:3]
    whole = framed(events[:1])
    for cut in range(len(whole) + 1, len(framed(events)), 7):
        path.write_bytes(framed(events)[:cut])
        with JournalWriter(path) as writer:
            assert writer.recovered == framed(events)[len(whole) : cut]
            assert writer.append(numbered(9)) == 1
        assert list(read_events(path)) == [events[0], numbered(9)]


def test_opening_cuts_a_zeroed_tail(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(framed(RUN)[:-3] + bytes(5000))
    with JournalWriter(path) as writer:
        assert writer.next_sequence == len(RUN) - 1
        assert len(writer.recovered) == len(framed(RUN[-1:])) - 3 + 5000
    assert list(read_events(path)) == RUN[:-1]


def test_damage_before_the_tail_stops_the_opening_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j"
    damaged = framed(RUN[:1]) + b"?" + framed(RUN[1:])
    path.write_bytes(damaged)
    with pytest.raises(JournalError, match=f"byte {len(framed(RUN[:1]))}: the journal is damaged"):
        JournalWriter(path)
    assert path.read_bytes() == damaged


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my only copy")
    with pytest.raises(JournalError, match="not a journal"):
        JournalWriter(path)
    assert path.read_text() == "my only copy"


def test_a_journal_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "j"):
        with pytest.raises(JournalError, match=str(path)):
            JournalWriter(path)


def test_a_full_group_is_written_without_waiting_for_the_time(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", group_s=HOUR, group_events=4) as writer:

        async def four() -> None:
            for k in range(4):
                writer.append(numbered(k))
            await writer.committed()

        asyncio.run(four())
        assert writer.durable == 4


def test_a_flush_does_not_wait_for_the_group(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", group_s=HOUR) as writer:
        writer.append(numbered(0))
        writer.flush()
        assert len(list(read_events(tmp_path / "j"))) == 1


def test_many_tasks_wait_for_their_own_events(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", group_s=0.001) as writer:

        async def one(k: int) -> bool:
            sequence = writer.append(numbered(k))
            await writer.committed()
            return writer.durable > sequence

        async def all_of_them() -> list[bool]:
            return await asyncio.gather(*(one(k) for k in range(500)))

        assert all(asyncio.run(all_of_them()))


def test_events_of_many_threads_are_all_there_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    numbers: dict[int, AnyEvent] = {}
    with JournalWriter(tmp_path / "j", group_s=0.001, group_events=5) as writer:

        def append(start: int) -> None:
            for k in range(start, start + 200):
                numbers[writer.append(numbered(k))] = numbered(k)
                if k % 50 == 0:
                    writer.flush()

        threads = [threading.Thread(target=append, args=(start,)) for start in (0, 1000, 2000, 3000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert list(read_events(tmp_path / "j")) == [numbers[k] for k in range(800)]


def test_nothing_is_taken_after_the_end(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j")
    writer.close()
    writer.close()
    for call in (lambda: writer.append(RUN[0]), writer.retry):
        with pytest.raises(JournalError):
            call()


# --- writes that fail ---


class Disk:
    """Makes `os.fdatasync` or `os.write` of this process fail while `broken`; a write may get half way first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
        self.broken = False
        self.calls = 0
        real_write, real_sync = os.write, os.fdatasync

        def write(descriptor: int, data: bytes) -> int:
            if self.broken and call == "write":
                self.calls += 1
                if len(data) > 1:
                    return real_write(descriptor, bytes(data)[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real_write(descriptor, data)

        def sync(descriptor: int) -> None:
            if self.broken and call == "fdatasync":
                self.calls += 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real_sync(descriptor)

        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(os, "fdatasync", sync)


@pytest.mark.parametrize(("call", "says"), [("write", "No space left"), ("fdatasync", "Input/output error")])
def test_a_failed_write_is_told_and_a_retry_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, says: str
) -> None:
    path, disk, told = tmp_path / "j", Disk(monkeypatch, call), []
    heard = threading.Event()

    def on_error(error: JournalError) -> None:
        told.append(error)
        heard.set()

    with JournalWriter(path, on_error=on_error, group_s=0.0) as writer:
        writer.append(numbered(0))
        writer.flush()
        disk.broken = True
        writer.append(numbered(1))
        assert heard.wait(60)
        assert says in str(told[0])
        assert f"{path}: byte {len(framed([numbered(0)]))}" in str(told[0])
        assert writer.append(numbered(2)) == 2, "the owner knows: events are kept until space returns"
        for wait in (writer.flush, lambda: asyncio.run(writer.committed()), writer.retry):
            with pytest.raises(JournalError, match=says):
                wait()
        assert (writer.durable, len(told)) == (1, 1)
        disk.broken = False
        writer.retry()
        assert (writer.durable, writer.error) == (3, None)
        writer.append(numbered(3))
        writer.flush()
    assert list(read_events(path)) == [numbered(k) for k in range(4)]


def test_without_a_listener_the_next_append_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, "fdatasync")
    writer = JournalWriter(tmp_path / "j", group_s=0.0)
    disk.broken = True
    writer.append(numbered(0))
    with pytest.raises(JournalError):
        writer.flush()
    with pytest.raises(JournalError, match="Input/output error"):
        writer.append(numbered(1))
    with pytest.raises(JournalError, match="Input/output error"):
        writer.close()


def test_those_who_wait_when_the_write_fails_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, "write")
    writer = JournalWriter(tmp_path / "j", group_s=HOUR, group_events=3)

    async def wait_and_break() -> list[object]:
        disk.broken = True
        waits = []
        for k in range(3):
            writer.append(numbered(k))
            waits.append(asyncio.ensure_future(writer.committed()))
        return await asyncio.gather(*waits, return_exceptions=True)

    assert {type(result) for result in asyncio.run(wait_and_break())} == {JournalError}
    disk.broken = False
    writer.close()
    assert list(read_events(tmp_path / "j")) == [numbered(k) for k in range(3)]


# --- processes that die ---

PRELUDE = f"""
    import os, resource, signal, sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from pathlib import Path
    from journal_examples import finished
    from samullm_tui.domain.errors import JournalError
    from samullm_tui.domain.plan import Replica
    from samullm_tui.journal.reader import read_events
    from samullm_tui.journal.writer import JournalWriter
    path = Path(sys.argv[1])
    def numbered(k): return finished(float(k), "summary", str(k), Replica("small", (0,)), k)
"""


def script(body: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(body)]


def test_a_process_that_ends_at_once_keeps_all_that_was_flushed(tmp_path: Path) -> None:
    body = """
        writer = JournalWriter(path, group_s=3600.0)
        for k in range(1000): writer.append(numbered(k))
        writer.flush()
        for k in range(1000, 1100): writer.append(numbered(k))
        os._exit(7)
    """
    assert subprocess.run([*script(body), str(tmp_path / "j")], check=False).returncode == 7
    assert list(read_events(tmp_path / "j")) == [numbered(k) for k in range(1000)]


@pytest.mark.parametrize("acknowledgements", [1, 3, 20])
def test_sigkill_loses_nothing_that_was_acknowledged(tmp_path: Path, acknowledgements: int) -> None:
    body = """
        writer = JournalWriter(path, group_s=0.0, group_events=3)
        for k in range(10**9):
            writer.append(numbered(k))
            if k % 10 == 9:
                writer.flush()
                print(writer.durable, flush=True)
    """
    with subprocess.Popen([*script(body), str(tmp_path / "j")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(acknowledgements)][-1]
        process.send_signal(signal.SIGKILL)
    kept = list(read_events(tmp_path / "j"))
    assert len(kept) >= acknowledged
    with JournalWriter(tmp_path / "j") as writer:
        assert writer.next_sequence == len(kept)
    assert kept == [numbered(k) for k in range(len(kept))]


@pytest.fixture(scope="session")
def strace() -> str:
    program = shutil.which("strace")
    probe = [program or "", "-o", os.devnull, "-e", "inject=fdatasync:error=EIO", "true"]
    if program is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no strace that may inject faults")
    return program


@pytest.mark.parametrize("nth", range(1, 7))
def test_sigkill_at_any_fdatasync_loses_nothing_that_was_acknowledged(
    tmp_path: Path, strace: str, nth: int
) -> None:
    body = """
        writer = JournalWriter(path, group_s=3600.0)
        for k in range(10):
            writer.append(numbered(k))
            writer.append(numbered(100 + k))
            writer.flush()
            print(writer.durable, flush=True)
    """
    inject = [
        strace,
        "-f",
        "-o",
        os.devnull,
        "-e",
        "trace=fdatasync",
        "-e",
        f"inject=fdatasync:signal=KILL:when={nth}",
    ]
    done = subprocess.run(
        [*inject, *script(body), str(tmp_path / "j")], stdout=subprocess.PIPE, text=True, check=False
    )
    acknowledged = [int(line) for line in done.stdout.split()]
    assert acknowledged == [2 * k for k in range(1, nth)]
    kept = list(read_events(tmp_path / "j"))
    assert kept == [numbered(k // 2 + 100 * (k % 2)) for k in range(2 * nth)]


def test_a_full_disk_at_any_write_loses_and_repeats_nothing(tmp_path: Path, strace: str) -> None:
    body = """
        told = []
        writer = JournalWriter(path, on_error=told.append, group_s=3600.0)
        for k in range(20):
            writer.append(numbered(k))
            try: writer.flush()
            except JournalError as error:
                assert "No space left on device" in str(error), error
                while writer.error:
                    try: writer.retry()
                    except JournalError: pass
        writer.close()
        sys.exit(0 if told else 3)
    """
    every_third = "inject=write:error=ENOSPC:when=2+3"
    path = str(tmp_path / "j")
    inject = [strace, "-f", "-o", os.devnull, "-P", path, "-e", "trace=write", "-e", every_third]
    subprocess.run([*inject, *script(body), path], check=True)
    assert list(read_events(tmp_path / "j")) == [numbered(k) for k in range(20)]


def test_a_file_system_that_takes_no_more_bytes_and_then_does(tmp_path: Path) -> None:
    body = """
        import threading
        heard = threading.Event()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
        writer = JournalWriter(path, on_error=lambda error: heard.set(), group_s=0.0)
        for k in range(100): writer.append(numbered(k))
        assert heard.wait(60)
        try: writer.flush()
        except JournalError as error: assert "File too large" in str(error), error
        else: raise AssertionError("the flush must fail")
        seen = list(read_events(path))
        assert seen == [numbered(k) for k in range(len(seen))] and len(seen) < 100
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        writer.append(numbered(100))
        writer.retry()
        writer.append(numbered(101))
        writer.close()
        assert list(read_events(path)) == [numbered(k) for k in range(102)]
    """
    subprocess.run([*script(body), str(tmp_path / "j")], check=True)
