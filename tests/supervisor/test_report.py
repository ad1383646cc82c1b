"""The report of a run or a recording: made from the journal and the application as it was, or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from samullm_tui.domain.errors import InputError
from samullm_tui.domain.event import (
    AnyEvent,
    EngineFailed,
    RequestFinished,
    RequestRetried,
    RunCreated,
    RunEnded,
    SupervisorStarted,
)
from samullm_tui.domain.length_report import RunLengths
from samullm_tui.domain.run_report import RunReport
from samullm_tui.journal.compressed import zstd
from samullm_tui.journal.reader import read_events
from samullm_tui.journal.writer import JournalWriter
from samullm_tui.locations import RECORDINGS
from samullm_tui.supervisor.report import lengths_of_run, main, report_of

RECORDING = RECORDINGS / "selftest-real-engines.jsonl.zst"


def changed(folder: Path, change: Callable[[AnyEvent], AnyEvent]) -> Path:
    """The recording with other events."""
    path = folder / "changed.jsonl"
    with JournalWriter(path) as journal:
        for event in read_events(RECORDING):
            journal.append(change(event))
    return path


def test_the_recorded_real_run_survives_a_crash_of_an_engine_and_of_its_supervisor() -> None:
    events = [type(event) for event in read_events(RECORDING)]
    assert events.count(EngineFailed) == 1
    assert events.count(SupervisorStarted) == 2
    assert events.count(RequestRetried) > 0
    assert events.count(RequestFinished) == 198


def test_the_parts_of_a_real_run_add_up_and_name_what_was_slow() -> None:
    report = report_of(RECORDING)
    assert sum(part.seconds for part in report.parts) == pytest.approx(report.actual_s - report.predicted_s)
    largest = max(report.parts, key=lambda part: part.seconds)
    assert largest.source == "loads", "engines took twice as long to start as estimated"
    assert all(one.load_s and one.load_s > one.planned_load_s for one in report.shapes)
    assert {one.planner for one in report.others} >= {"min-heuristic", "max-heuristic"}
    assert sum(one.answers for one in report.tokens) == 198


@pytest.mark.parametrize("recording", sorted(RECORDINGS.glob("*.zst")), ids=lambda path: path.name)
def test_every_recording_that_ships_is_small_and_has_its_application(recording: Path) -> None:
    assert recording.stat().st_size < 150_000
    assert lengths_of_run(recording).seen, "which needs the application as it was"


def test_a_run_that_did_not_succeed_has_no_report(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda e: replace(e, status="stopped") if isinstance(e, RunEnded) else e)
    with pytest.raises(InputError, match="it is stopped"):
        report_of(path)


def test_another_application_of_the_same_name_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = changed(
        tmp_path, lambda e: replace(e, application_sha256="1" * 64) if isinstance(e, RunCreated) else e
    )
    assert main(["report", str(path)]) == 2
    assert b"is not here as it was" in capsysbinary.readouterr().out


def test_lengths_of_a_recording_are_those_until_the_moment_asked_for(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    whole, half = lengths_of_run(RECORDING), lengths_of_run(RECORDING, 60.0)
    assert sum(one.answers for one in half.seen) < sum(one.answers for one in whole.seen) == 198
    assert [one.llm for one in whole.seen] == [one.llm for one in whole.report.llms]
    assert not whole.simulated
    assert all(
        len(one.cdf) == len(row.cdf_tokens) for one, row in zip(whole.seen, whole.report.llms, strict=True)
    )
    assert main(["lengths", str(RECORDING)]) == 0
    assert msgspec.json.decode(capsysbinary.readouterr().out, type=RunLengths) == whole


def test_what_is_printed_is_read_back(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["report", str(RECORDING)]) == 0
    printed = msgspec.json.decode(capsysbinary.readouterr().out, type=RunReport)
    assert printed == report_of(RECORDING)


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstd.compress(b"nothing\n"))
    assert main(["report", str(path)]) == 2
