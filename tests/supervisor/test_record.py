"""Rows and events on disk: rows first, nothing lost when the disk is full, nothing misread after a crash."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path

import pytest
from msgspec import structs

from samullm_tui.domain.errors import JournalError
from samullm_tui.domain.event import EngineReady, RequestFailed, RequestFinished, RunCreated
from samullm_tui.domain.plan import Replica
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.history import read_history
from samullm_tui.supervisor.outputs import ErrorRow, OutputRow, RowFile, read_row, row_end
from samullm_tui.supervisor.record import Record
from samullm_tui.supervisor.spec import RunPaths


def row(k: int) -> OutputRow:
    return OutputRow(
        id=f"é{k}", node="n", output="x" * k, finish_reason="stop", prompt_tokens=3, output_tokens=k, llm="a"
    )


def finished(k: int) -> RequestFinished:
    return RequestFinished(
        at_s=float(k),
        node="n",
        id=f"é{k}",
        llm="a",
        replica="a.0",
        prompt_tokens=3,
        output_tokens=k,
        finish_reason="stop",
        sent_s=0.0,
        offset=0,
    )


def failed(k: int, cause: str = "refused: too long") -> RequestFailed:
    return RequestFailed(at_s=float(k), node="n", id=f"é{k}", llm="a", cause=cause, offset=0)


def created(requests: int) -> RunCreated:
    return RunCreated(
        at_s=0.0,
        run="r",
        application="app",
        application_sha256="",
        cluster="cpu:2",
        gpus=2,
        gpu_kind="cpu",
        engine="simulated",
        seed=0,
        created_unix_s=0.0,
        nodes=(),
        llms=("a",),
        version="0",
    )


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path)


def record_of(paths: RunPaths, troubles: list[str] | None = None, ends: tuple[int, int] = (0, 0)) -> Record:
    return Record(paths, *ends, on_trouble=(troubles if troubles is not None else []).append)


def test_every_event_points_at_its_row(paths: RunPaths) -> None:
    record = record_of(paths)
    for k in range(50):
        if k % 5:
            record.output(row(k), finished(k))
        else:
            record.error(ErrorRow(id=f"é{k}", node="n", error="refused", llm="a"), failed(k))
    record.close()
    events = list(read_events(paths.journal))
    assert [event.at_s for event in events] == list(range(50))
    for event in events:
        if isinstance(event, RequestFinished):
            assert read_row(paths.outputs, event.offset, OutputRow).id == event.id
        elif isinstance(event, RequestFailed):
            assert read_row(paths.errors, event.offset, ErrorRow).id == event.id


def test_committed_means_on_the_disk_with_its_row_before_it(paths: RunPaths) -> None:
    record = record_of(paths)

    async def main() -> None:
        record.output(row(1), finished(1))
        await record.committed()

    asyncio.run(main())
    assert len(list(read_events(paths.journal))) == 1
    assert len(paths.outputs.read_text().splitlines()) == 1
    record.close()


def test_a_full_disk_is_told_and_nothing_is_lost_when_it_has_room_again(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles: list[str] = []
    record = record_of(paths, troubles)
    real, failures = os.pwrite, iter([True, True])

    def full(descriptor: int, data: bytes, position: int) -> int:
        if next(failures, False):
            real(descriptor, bytes(data)[:3], position)  # a part of it still went in
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data, position)

    monkeypatch.setattr("samullm_tui.supervisor.record.RETRY_S", 0.01)
    monkeypatch.setattr(os, "pwrite", full)

    async def main() -> None:
        for k in range(5):
            record.output(row(k), finished(k))
        await record.committed()

    asyncio.run(main())
    record.close()
    assert "No space left" in troubles[0]
    assert troubles[-1] == ""
    assert [json.loads(line)["id"] for line in paths.outputs.read_text().splitlines()] == [
        f"é{k}" for k in range(5)
    ]
    assert len(list(read_events(paths.journal))) == 5


def test_a_journal_that_cannot_be_written_is_told_and_goes_on_later(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles: list[str] = []
    record = record_of(paths, troubles)
    real, failures = os.write, iter([True, True])

    def full(descriptor: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == paths.journal and next(failures, False):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(descriptor, data)

    monkeypatch.setattr("samullm_tui.supervisor.record.RETRY_S", 0.01)
    monkeypatch.setattr(os, "write", full)

    async def main() -> None:
        record.output(row(1), finished(1))
        await record.committed()

    asyncio.run(main())
    record.close()
    assert "Read-only file system" in troubles[0]
    assert troubles[-1] == ""
    assert len(list(read_events(paths.journal))) == 1


def test_rows_that_cannot_be_written_at_the_end_are_an_error(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(paths)

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("samullm_tui.supervisor.record.RETRY_S", 0.01)
    monkeypatch.setattr(os, "pwrite", broken)
    record.output(row(1), finished(1))
    with pytest.raises(JournalError, match="Input/output error"):
        record.close()
    assert list(read_events(paths.journal)) == []


@pytest.mark.parametrize("torn", [b"", b'{"id":"x"', b'{"id":"x"}\n'])
def test_rows_that_no_event_points_at_are_cut_off_by_the_next_supervisor(
    paths: RunPaths, torn: bytes
) -> None:
    record = record_of(paths)
    record.emit(created(3))
    record.output(row(1), finished(1))
    record.output(row(2), finished(2))
    record.error(ErrorRow(id="é3", node="n", error="refused", llm="a"), failed(3))
    record.close()
    for path in (paths.outputs, paths.errors):
        with path.open("ab") as file:
            file.write(torn)
    history = read_history(paths)
    record = record_of(paths, ends=(history.outputs_end(paths), history.errors_end(paths)))
    record.output(row(4), finished(4))
    record.close()
    assert [json.loads(line)["id"] for line in paths.outputs.read_text().splitlines()] == ["é1", "é2", "é4"]
    assert [json.loads(line)["id"] for line in paths.errors.read_text().splitlines()] == ["é3"]
    rows = read_history(paths).rows
    tokens = {key: rows.tokens[number] for key, number in rows.ends()}
    assert tokens == {("n", "é1"): 1, ("n", "é2"): 2, ("n", "é3"): -1, ("n", "é4"): 4}


def test_rows_that_the_journal_has_and_the_file_has_not_are_damage(paths: RunPaths) -> None:
    record = record_of(paths)
    record.output(row(9), finished(9))
    record.close()
    os.truncate(paths.outputs, 20)
    with pytest.raises(JournalError, match="not whole"):
        read_history(paths).outputs_end(paths)
    with pytest.raises(JournalError, match="rows that the journal has are not here"):
        RowFile(paths.outputs, 100)
    with pytest.raises(JournalError, match="is not here"):
        read_row(paths.outputs, 500, OutputRow)


def test_a_row_ends_behind_its_newline(paths: RunPaths) -> None:
    paths.outputs.write_bytes(b'{"a":1}\n{"b":22}\n')
    assert row_end(paths.outputs, 8) == 17


def test_a_history_knows_how_long_answers_were_whether_they_were_cut_and_what_loads_took(
    paths: RunPaths,
) -> None:
    record = record_of(paths)
    ready = EngineReady(at_s=1.0, replica=Replica("a", (0,)), load_s=33.0)
    record.emit(ready)
    record.output(row(3), finished(3))
    record.output(row(5), structs.replace(finished(5), finish_reason="length"))
    record.close()
    history = read_history(paths)
    rows = history.rows
    whole, cut = rows.numbers["n"]["é3"], rows.numbers["n"]["é5"]
    assert [rows.tokens[k] for k in (whole, cut)] == [3, 5]
    assert [rows.at_s[k] for k in (whole, cut)] == [finished(3).at_s, finished(5).at_s]
    assert [rows.cut[k] for k in (whole, cut)] == [False, True]
    assert history.loads == [ready]


def test_a_history_knows_what_breaks_a_run(paths: RunPaths) -> None:
    record = record_of(paths)
    record.error(ErrorRow(id="é1", node="n", error="refused: x", llm="a"), failed(1))
    record.close()
    assert read_history(paths).broken == ""
    history = read_history(paths)
    record = record_of(paths, ends=(0, history.errors_end(paths)))
    cause = "engine gave up: out of memory"
    record.error(ErrorRow(id="é2", node="n", error=cause, llm="a"), failed(2, cause))
    record.close()
    assert read_history(paths).broken == cause
