"""The supervisor as a process: it survives its terminal, is killed, resumed, controlled, and stays honest."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from samullm_tui.cli.main import main
from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.errors import RunError, RunNotFoundError
from samullm_tui.domain.event import Decided, RequestFinished, RunEnded, Sampled, SupervisorStarted
from samullm_tui.journal.reader import read_events
from samullm_tui.journal.state import fold
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.export import export_rows
from samullm_tui.supervisor.launch import follow, spawn_supervisor
from samullm_tui.supervisor.liveness import is_locked, read_heartbeat
from samullm_tui.supervisor.runs import list_runs, result, run_summary
from samullm_tui.supervisor.spec import RunPaths, existing_run, read_spec, write_spec

REQUESTS = 2000
MakeRun = Callable[..., RunPaths]
Until = Callable[[Callable[[], bool]], None]


def outputs(paths: RunPaths) -> int:
    return fold(read_events(paths.journal)).finished


def pid_of(paths: RunPaths) -> int:
    heartbeat = read_heartbeat(paths.heartbeat)
    assert heartbeat is not None
    return heartbeat.pid


def test_a_run_runs_to_its_end_in_a_process_of_its_own(make_run: MakeRun) -> None:
    paths = make_run()
    spawn_supervisor(paths.run)
    events = list(follow(paths.run))
    outcome = result(paths.run)
    assert (outcome.status, outcome.requests, outcome.outputs, outcome.errors) == (
        "succeeded",
        REQUESTS,
        REQUESTS,
        0,
    )
    assert outcome.replans == 0
    assert outcome.makespan_s is not None
    assert outcome.predicted_makespan_s is not None
    # The lengths are others than those planned with, the engines are the same: this close it comes on any machine.
    assert outcome.makespan_s == pytest.approx(outcome.predicted_makespan_s, rel=0.25)
    assert isinstance(events[-1], RunEnded)
    assert events[-1].counts == {"requests": REQUESTS, "outputs": REQUESTS, "errors": 0}
    assert [event for event in events if isinstance(event, Decided)]
    sampled = [event for event in events if isinstance(event, Sampled)]
    assert all(gpu.simulated for event in sampled for gpu in event.gpus)
    assert any(gpu.utilization for event in sampled for gpu in event.gpus)
    assert max(sum(one.output_tokens_per_s for one in event.engines) for event in sampled) > 0
    assert paths.log.read_text() == ""


def test_rows_are_the_contract_s_and_each_is_exported_once(make_run: MakeRun) -> None:
    paths = make_run()
    spawn_supervisor(paths.run)
    for _ in follow(paths.run):
        pass
    rows = list(export_rows(paths.run))
    assert Counter((row["node"], row["id"]) for row in rows).most_common(1)[0][1] == 1
    assert {row["node"] for row in rows} == {"answer", "judge"}
    assert len(rows) == REQUESTS
    assert set(rows[0]) == {"id", "node", "output", "finish_reason", "prompt_tokens", "output_tokens", "llm"}
    assert [json.loads(line) for line in paths.outputs.read_text().splitlines()] == rows


def test_the_answers_of_a_node_are_a_batch_s_result(make_run: MakeRun, tmp_path: Path) -> None:
    paths = make_run()
    spawn_supervisor(paths.run)
    for _ in follow(paths.run):
        pass
    out = tmp_path / "batch.jsonl"
    assert main(["export", paths.run, "-o", str(out), "--batch", "judge"]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    rows = {row["id"]: row for row in export_rows(paths.run) if row["node"] == "judge"}
    assert sorted(line["custom_id"] for line in lines) == sorted(rows)
    for line in lines:
        row, response = rows[line["custom_id"]], line["response"]
        assert (line["error"], response["status_code"]) == (None, 200)
        assert response["body"]["choices"][0]["message"] == {"role": "assistant", "content": row["output"]}
        assert response["body"]["usage"]["completion_tokens"] == row["output_tokens"]


def test_a_batch_s_result_names_the_nodes_when_there_is_no_such_node(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_run()
    assert main(["export", paths.run, "-o", str(tmp_path / "x"), "--batch", "jugde"]) != 0
    assert "jugde: no node of this run; one of answer, judge" in capsys.readouterr().err


def test_everything_of_a_run_is_the_owner_s_alone(make_run: MakeRun, until: Until) -> None:
    paths = make_run(approved=False)
    spawn_supervisor(paths.run)
    until(lambda: ControlClient(paths.run).status().status == "waiting for approval")
    assert stat.S_IMODE(paths.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(paths.engines.stat().st_mode) == 0o700
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in paths.folder.iterdir() if not path.is_dir()
    }
    assert "control.sock" in modes
    assert set(modes.values()) == {0o600}
    ControlClient(paths.run).stop()


def test_a_killed_supervisor_leaves_an_interrupted_run_that_resumes_without_loss(
    make_run: MakeRun, until: Until
) -> None:
    paths = make_run(speed=20.0)
    spawn_supervisor(paths.run)
    until(lambda: outputs(paths) >= 40)
    assert run_summary(paths.run).status == "running"
    os.kill(pid_of(paths), signal.SIGKILL)
    until(lambda: not is_locked(paths.lock))
    summary = run_summary(paths.run)
    assert (summary.status, summary.pid, summary.heartbeat_age_s) == ("interrupted", None, None)
    assert [run.status for run in list_runs()] == ["interrupted"]
    kept = list(export_rows(paths.run))
    assert 40 <= len(kept) < REQUESTS

    spawn_supervisor(paths.run)
    events = list(follow(paths.run))
    assert result(paths.run).status == "succeeded"
    rows = list(export_rows(paths.run))
    assert rows[: len(kept)] == kept
    assert Counter(Counter((row["node"], row["id"]) for row in rows).values()) == {1: REQUESTS}
    assert [event.epoch for event in events if isinstance(event, SupervisorStarted)] == [1, 2]
    # What was cut off behind the last committed row is not there any more either.
    assert [json.loads(line) for line in paths.outputs.read_text().splitlines()] == rows
    times = [event.at_s for event in events]
    assert times == sorted(times)


def test_a_resumed_simulated_run_has_the_same_lengths(make_run: MakeRun, until: Until) -> None:
    whole, broken = make_run(), make_run(speed=20.0)
    spawn_supervisor(whole.run)
    spawn_supervisor(broken.run)
    until(lambda: outputs(broken) >= 20)
    os.kill(pid_of(broken), signal.SIGKILL)
    until(lambda: not is_locked(broken.lock))
    spawn_supervisor(broken.run)
    for paths in (whole, broken):
        for _ in follow(paths.run):
            pass

    def lengths(run: str) -> dict[object, object]:
        return {(row["node"], row["id"]): row["output_tokens"] for row in export_rows(run)}

    assert lengths(whole.run) == lengths(broken.run)


@pytest.fixture
def hangs_up() -> Iterator[None]:
    """Whoever runs the tests may ignore SIGHUP, and children inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangs_up")
def test_a_run_does_not_notice_that_its_terminal_is_gone(make_run: MakeRun, until: Until) -> None:
    paths = make_run(speed=20.0)
    spawn_supervisor(paths.run)
    until(lambda: outputs(paths) >= 1)
    pid = pid_of(paths)
    assert os.getsid(pid) != os.getsid(0)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, terminal = int(fields[1]), int(fields[4])
    assert parent != os.getpid()
    assert terminal == 0
    os.kill(pid, signal.SIGHUP)
    for _ in follow(paths.run):
        pass
    assert result(paths.run).status == "succeeded"
    assert len([e for e in read_events(paths.journal) if isinstance(e, SupervisorStarted)]) == 1


def test_nothing_starts_before_it_is_approved(make_run: MakeRun, until: Until) -> None:
    paths = make_run(approved=False, plan=None)
    spawn_supervisor(paths.run)
    client = ControlClient(paths.run)
    until(lambda: run_summary(paths.run).status == "waiting for approval")
    state = fold(read_events(paths.journal))
    assert len(state.candidates) >= 3
    assert state.spans == []
    with pytest.raises(RunError, match="has no plan 99"):
        client.approve(99)
    with pytest.raises(RunError, match="cannot pause: it is waiting for approval"):
        client.pause()
    assert client.approve(2, by="a test").status == "running"
    for _ in follow(paths.run):
        pass
    state = fold(read_events(paths.journal))
    assert (state.approved_rank, state.approved_by, state.ended) == (2, "a test", "succeeded")


def test_a_pause_holds_the_run_and_a_drain_ends_it_after_what_is_in_flight(
    make_run: MakeRun, until: Until
) -> None:
    paths = make_run(speed=20.0)
    spawn_supervisor(paths.run)
    client = ControlClient(paths.run)
    until(lambda: client.status().outputs >= 10)
    assert client.pause().status == "paused"
    with pytest.raises(RunError, match="cannot pause: it is paused"):
        client.pause()
    # Whatever was in flight is done long before so many seconds of the run have gone by.
    began_s = client.status().at_s
    until(lambda: client.status().at_s > began_s + 30)
    held = client.status()
    until(lambda: client.status().at_s > began_s + 50)
    assert client.status().outputs == held.outputs < REQUESTS
    assert client.resume().status == "running"
    client.drain()
    for _ in follow(paths.run):
        pass
    state = fold(read_events(paths.journal))
    assert state.ended == "stopped"
    assert held.outputs < state.finished < REQUESTS
    assert state.retries == 0
    assert all(replica.status == "stopped" for replica in state.replicas.values())


def test_a_stopped_run_can_be_resumed(make_run: MakeRun, until: Until) -> None:
    paths = make_run(speed=20.0)
    spawn_supervisor(paths.run)
    until(lambda: outputs(paths) >= 10)
    ControlClient(paths.run).stop()
    for _ in follow(paths.run):
        pass
    assert run_summary(paths.run).status == "stopped"
    spawn_supervisor(paths.run)
    for _ in follow(paths.run):
        pass
    assert result(paths.run).status == "succeeded"
    assert len(list(export_rows(paths.run))) == REQUESTS


def test_the_first_signal_drains_and_the_second_stops(make_run: MakeRun, until: Until) -> None:
    paths = make_run(speed=1.0)
    spawn_supervisor(paths.run)
    client = ControlClient(paths.run)
    until(lambda: client.status().status == "running")
    os.kill(pid_of(paths), signal.SIGTERM)
    os.kill(pid_of(paths), signal.SIGINT)
    for _ in follow(paths.run):
        pass
    state = fold(read_events(paths.journal))
    assert state.ended == "stopped"


def test_a_run_is_stopped_while_it_is_planned_or_waits(make_run: MakeRun) -> None:
    paths = make_run(approved=False)
    spawn_supervisor(paths.run)
    ControlClient(paths.run).stop()
    for _ in follow(paths.run):
        pass
    assert run_summary(paths.run).status == "stopped"


def test_a_run_has_one_supervisor(make_run: MakeRun, until: Until) -> None:
    paths = make_run(approved=False)
    spawn_supervisor(paths.run)
    with pytest.raises(RunError, match="has a supervisor already"):
        spawn_supervisor(paths.run)
    ControlClient(paths.run).stop()
    until(lambda: not is_locked(paths.lock))


def test_a_finished_run_is_not_resumed(make_run: MakeRun) -> None:
    paths = make_run()
    spawn_supervisor(paths.run)
    for _ in follow(paths.run):
        pass
    before = paths.journal.read_bytes()
    with pytest.raises(RunError, match="is over: it succeeded"):
        spawn_supervisor(paths.run)
    assert paths.journal.read_bytes() == before


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        (
            "small.toml",
            "max_tokens = 400",
            "max_tokens = 300",
            "nodes.answer.sampling.max_tokens: has changed",
        ),
        (
            "questions.jsonl",
            "What is 7 times 7?",
            "What is 7 times 8?",
            "questions.jsonl: line 8: has changed",
        ),
    ],
)
def test_a_changed_application_is_not_resumed_and_the_difference_is_named(
    make_run: MakeRun, application: Path, until: Until, file: str, old: str, new: str, says: str
) -> None:
    paths = make_run(approved=False)
    spawn_supervisor(paths.run)
    ControlClient(paths.run).stop()
    until(lambda: not is_locked(paths.lock))
    changed = application.parent / file
    changed.write_text(changed.read_text().replace(old, new))
    before = paths.journal.read_bytes()
    with pytest.raises(RunError, match=says):
        spawn_supervisor(paths.run)
    assert paths.journal.read_bytes() == before


def test_a_run_that_nobody_supervises_says_so(make_run: MakeRun) -> None:
    paths = make_run()
    assert run_summary(paths.run).status == "interrupted"
    with pytest.raises(RunError, match="its supervisor does not answer"):
        ControlClient(paths.run).status()
    with pytest.raises(RunError, match="its supervisor is gone"):
        list(follow(paths.run))


@pytest.mark.parametrize("name", ["nothing", "", ".", "..", "../runs"])
def test_a_run_s_name_is_a_plain_name(runs_home: Path, name: str) -> None:
    with pytest.raises(RunNotFoundError):
        existing_run(name)


def test_planning_that_breaks_ends_the_run_with_its_cause(make_run: MakeRun) -> None:
    """A plan that was checked, for a machine that is smaller than it was."""
    paths = make_run()
    spec = read_spec(paths)
    write_spec(paths, replace(spec, cluster=cluster_from_preset("cpu:1")))
    spawn_supervisor(paths.run)
    events = list(follow(paths.run))
    assert isinstance(events[-1], RunEnded)
    assert events[-1].status == "failed"
    assert "GPU" in events[-1].cause
    assert not [event for event in events if isinstance(event, RequestFinished)]
