"""One run on two real CPU engines that everything befalls: `python demonstration.py FOLDER` as the root of a name space.

The console is killed, the supervisor, an engine core, an API server, and the disk is full for ten seconds. Every output
is there exactly once in the end. What happens is printed line by line.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samullm_tui.domain.event import EngineFailed
    from samullm_tui.journal.run_state import RunState

BYTES = 96 * 1024**2
COPIES = 80
MAX_NUM_SEQS = 8
FULL_S = 10.0
BEGAN_S = time.monotonic()
PATIENCE_S = 900


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN_S:6.1f} s  {text}", flush=True)


def until(happened: Callable[[], bool], what: str) -> float:
    """Returns how long it took."""
    began_s = time.monotonic()
    while not happened():
        assert time.monotonic() < began_s + PATIENCE_S, f"it did not happen: {what}"
        time.sleep(0.1)
    return time.monotonic() - began_s


class Console:
    """`samullm-tui attach RUN` in a terminal of its own."""

    def __init__(self, run: str) -> None:
        self.drawn = b""
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            known = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
            os.execve(sys.executable, [sys.executable, "-m", "samullm_tui", "attach", run], known)
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                select.select([self._terminal], [], [])
                self.drawn += os.read(self._terminal, 65536)
            except OSError:
                return

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Demonstration:
    """The run in `folder`, a small file system."""

    def __init__(self, folder: Path) -> None:
        from selftest_runs import make_selftest

        from samullm_tui.journal.reader import JournalTail
        from samullm_tui.journal.state import RunState

        self.folder = folder
        self.paths = make_selftest(folder / "app", COPIES, MAX_NUM_SEQS)
        self.run = self.paths.run
        self._tail, self._state = JournalTail(self.paths.folder), RunState()
        self._failed: list[EngineFailed] = []
        self._supervisors = 0

    def state(self) -> RunState:
        from samullm_tui.domain.event import EngineFailed
        from samullm_tui.journal.state import apply

        for event in self._tail.new():
            apply(self._state, event)
            if isinstance(event, EngineFailed):
                self._failed.append(event)
        return self._state

    def start(self) -> None:
        from crash_runs import supervisor_pid

        from samullm_tui.supervisor.launch import spawn_supervisor

        spawn_supervisor(self.run)
        self._supervisors += 1
        say(f"supervisor {supervisor_pid(self.paths)} has the run {self.run}")

    def both_serve(self) -> None:
        """Waits until both engines serve and some more outputs have come."""
        took_s = until(lambda: self._serving() == 2, "two engines")
        before = self.state().finished
        until(lambda: self.state().finished >= before + 20, "outputs")
        say(f"two engines serve after {took_s:.0f} s; {self.progress()}")

    def _serving(self) -> int:
        """Engines of the present supervisor that serve."""
        state = self.state()
        replicas = state.replicas.values() if state.epoch == self._supervisors else ()
        return sum(replica.status == "serving" for replica in replicas)

    def progress(self) -> str:
        state = self.state()
        return f"{state.finished:,} of {state.requests:,} outputs"

    def kill_the_console(self) -> None:
        from crash_runs import supervisor_pid

        console = Console(self.run)
        until(lambda: self.run.encode() in console.drawn, "the console")
        pid, before = supervisor_pid(self.paths), self.state().finished
        console.kill()
        say(f"KILLED the console (SIGKILL of {console.pid}, {len(console.drawn):,} bytes drawn)")
        until(lambda: self.state().finished >= before + 20, "outputs")
        assert supervisor_pid(self.paths) == pid
        say(f"supervisor {pid} goes on; {self.progress()}")

    def kill_the_supervisor(self) -> None:
        from crash_runs import supervisor_pid

        from samullm_tui.engines.processes import marked
        from samullm_tui.supervisor.liveness import is_locked
        from samullm_tui.supervisor.runs import run_summary

        pid, engines = supervisor_pid(self.paths), len(marked(self.run))
        os.kill(pid, signal.SIGKILL)
        say(f"KILLED the supervisor (SIGKILL of {pid}); its engines have {engines} processes")
        took_s = until(lambda: not marked(self.run), "no orphans")
        until(lambda: not is_locked(self.paths.lock), "the lock")
        assert took_s <= 10, "orphans after 10 s"
        say(f"no engine process is left after {took_s:.1f} s; the run is {run_summary(self.run).status}")
        self.start()

    def kill_of_engine(self, llm: str, what: str, find: Callable[[str], list[int]]) -> None:
        """Kills this process of the engine of `llm`, and with it the engine, which starts again."""
        before = len(self._failed)
        (pid,) = find(f"{self.run}/{llm}.{'0' if llm == 'llama' else '1'}")
        os.kill(pid, signal.SIGKILL)
        say(f"KILLED {what} (SIGKILL of {pid})")
        took_s = until(lambda: self.state().epoch > 0 and len(self._failed) > before, "it is noticed")
        failed = self._failed[-1]
        say(f"noticed after {took_s:.1f} s: {failed.replica.name}: {failed.cause}")

    def fill_the_disk(self) -> None:
        from samullm_tui.supervisor.client import ControlClient

        client, ballast = ControlClient(self.paths), self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                say("FILLED the disk")
        until(lambda: client.status().trouble != "", "the trouble is told")
        say(f"the run says: {client.status().trouble}")
        time.sleep(FULL_S)
        say(f"{FULL_S:.0f} s later: {self.progress()}")
        ballast.unlink()
        until(lambda: client.status().trouble == "", "the trouble is over")
        before = self.state().finished
        until(lambda: self.state().finished > before, "outputs")
        say(f"there is room again; {self.progress()}")

    def end(self) -> None:
        from crash_runs import Count
        from selftest_runs import check_selftest

        from samullm_tui.supervisor.launch import follow

        for _ in follow(self.run):
            pass
        count = Count()
        check_selftest(self.paths, count)
        state = self.state()
        say(
            f"the run {state.status}: {state.finished:,} outputs of {state.requests:,} requests, each exactly once "
            f"({count.lost} lost, {count.doubled} doubled, {count.orphans} orphans); "
            f"{state.retries} attempts went another time, {state.epoch} supervisors"
        )


def main(folder: Path) -> None:
    from selftest_runs import engine_cores, servers

    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={BYTES}", "tmpfs", str(folder)], check=True)
    os.environ["SAMULLM_HOME"] = str(folder / "home")
    demonstration = Demonstration(folder)
    demonstration.start()
    demonstration.both_serve()
    demonstration.kill_the_console()
    demonstration.kill_the_supervisor()
    demonstration.both_serve()
    demonstration.kill_of_engine("llama", "the API server of llama", servers)
    demonstration.kill_of_engine("qwen3", "the engine core of qwen3", engine_cores)
    demonstration.both_serve()
    demonstration.fill_the_disk()
    demonstration.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
