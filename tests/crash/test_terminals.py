"""Promise 8: whatever becomes of the terminal or the program in it, the run does not notice."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
from collections.abc import Callable
from threading import Thread

import pytest
from crash_runs import committed_rows, supervisor_pid, until

from samullm_tui.domain.event import ControlReceived, SupervisorStarted
from samullm_tui.engines.processes import alive
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.launch import follow, spawn_supervisor
from samullm_tui.supervisor.runs import list_runs, result
from samullm_tui.supervisor.spec import RunPaths, existing_run, read_spec

MakeRun = Callable[..., RunPaths]
RECORDS = 100
SPEED = 30.0


class Terminal:
    """A terminal with this verb in it, as behind an SSH connection."""

    def __init__(self, *arguments: str) -> None:
        self.seen = b""
        self.pid, self._descriptor = pty.fork()
        if not self.pid:
            # Whoever runs the tests may ignore it.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            known = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
            os.execve(sys.executable, [sys.executable, "-m", "samullm_tui", *arguments], known)
        stop, self._stop = os.pipe()
        self._reader = Thread(target=self._read, args=(stop,), daemon=True)
        self._reader.start()

    def _read(self, stop: int) -> None:
        while stop not in select.select([self._descriptor, stop], [], [])[0]:
            try:
                self.seen += os.read(self._descriptor, 65536)
            except OSError:
                return

    def close(self) -> None:
        """The connection drops: whoever is in the terminal gets SIGHUP, and errors from then on."""
        os.write(self._stop, b"x")
        self._reader.join()
        os.close(self._descriptor)
        os.waitpid(self.pid, 0)

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
        os.waitpid(self.pid, 0)


ENDS: dict[str, Callable[[Terminal], None]] = {
    "the terminal is closed": lambda terminal: terminal.close(),
    "SIGKILL": lambda terminal: terminal.kill(signal.SIGKILL),
    "SIGHUP": lambda terminal: terminal.kill(signal.SIGHUP),
}


def check_nothing_noticed(paths: RunPaths, pid: int) -> None:
    """The same supervisor, which nobody told anything, brought the run to its end."""
    assert alive(pid)
    assert supervisor_pid(paths) == pid
    for _ in follow(paths.run):
        pass
    assert result(paths.run).status == "succeeded"
    events = list(read_events(paths.journal))
    assert sum(isinstance(event, SupervisorStarted) for event in events) == 1
    assert not [event for event in events if isinstance(event, ControlReceived)]
    assert len(committed_rows(paths)) == 2 * RECORDS


@pytest.mark.parametrize(
    "how", [how if "closed" in how else pytest.param(how, marks=pytest.mark.torture) for how in ENDS]
)
def test_a_run_does_not_notice_what_becomes_of_a_console(make_run: MakeRun, how: str) -> None:
    paths = make_run(RECORDS, speed=SPEED, approved=False)
    spawn_supervisor(paths.run)
    pid = supervisor_pid(paths)
    terminal = Terminal("attach", paths.run)
    until(lambda: paths.run.encode() in terminal.seen)
    client = ControlClient(paths)
    until(lambda: client.status().status == "waiting for approval")
    client.approve(1)
    until(lambda: client.status().outputs > 0)
    ENDS[how](terminal)
    check_nothing_noticed(paths, pid)


@pytest.mark.torture
def test_a_run_outlives_the_terminal_that_it_was_started_in(make_run: MakeRun) -> None:
    made = make_run(RECORDS)
    application = read_spec(made).application
    plan = ("--engine", "simulated", "--cluster", "cpu:2", "--speed", str(SPEED), "--samples", "1")
    terminal = Terminal("run", application, "--yes", *plan)
    until(lambda: b"is ready" in terminal.seen)
    (paths,) = [existing_run(summary.run) for summary in list_runs() if summary.run != made.run]
    pid = supervisor_pid(paths)
    terminal.close()
    check_nothing_noticed(paths, pid)
