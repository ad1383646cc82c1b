"""Calls in forked processes: the same results as one after another, whatever becomes of the forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from samullm_tui.engines.processes import alive
from samullm_tui.forecast.forks import in_forks

TIMEOUT_S = 60


def run(script: str) -> str:
    """What a process with one thread prints; whoever runs these tests may have more."""
    begin = "import os, signal, sys\nfrom samullm_tui.forecast.forks import in_forks\n"
    argv = [sys.executable, "-c", begin + textwrap.dedent(script)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_results_come_in_order_and_from_several_processes() -> None:
    out = run(
        """
        offset = 1000
        together = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"forks-{os.getpid()}")
        os.mkfifo(together)
        def call(number):
            if number < 2:  # two that are there at the same time
                with open(together, "r" if number else "w"):
                    pass
            return number + offset, os.getpid()
        found = in_forks(2, 1)(call, range(40))
        os.unlink(together)
        assert [value for value, _ in found] == [number + offset for number in range(40)]
        pids = {pid for _, pid in found}
        print(len(pids), os.getpid() in pids)
        """
    )
    assert out.split() == ["2", "False"]


def test_few_calls_and_calls_beside_other_threads_are_made_here() -> None:
    assert set(in_forks(2, 3)(lambda _: os.getpid(), range(3))) == {os.getpid()}
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        assert set(in_forks(2, 0)(lambda _: os.getpid(), range(3))) == {os.getpid()}
    finally:
        done.set()
        other.join()


def test_what_a_fork_raises_is_raised_here() -> None:
    out = run(
        """
        from samullm_tui.domain.errors import PlanError, Problem
        def call(number):
            if number == 3:
                raise PlanError(Problem("app.toml", "stage 2", "never ends", "run the LLM"))
        try:
            in_forks(2, 0)(call, range(8))
        except PlanError as error:
            print(error.problems[0].place, error.exit_status == PlanError.exit_status)
        """
    )
    assert out == "stage 2 True\n"


def test_when_a_fork_is_killed_its_calls_are_made_here() -> None:
    out = run(
        """
        parent = os.getpid()
        def call(number):
            if number == 5 and os.getpid() != parent:
                os.kill(os.getpid(), signal.SIGKILL)
            return number * number
        print(in_forks(2, 0)(call, range(8)))
        """
    )
    assert out == str([number * number for number in range(8)]) + "\n"


@pytest.mark.skipif(sys.platform != "linux", reason="there are no forks elsewhere")
def test_forks_end_with_the_process_they_work_for() -> None:
    script = textwrap.dedent(
        """
        import os, time
        from samullm_tui.forecast.forks import in_forks
        def call(number):
            os.write(1, f"{os.getpid()}\\n".encode())
            time.sleep(3600)
        in_forks(2, 0)(call, range(2))
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [int(owner.stdout.readline()) for _ in range(2)]
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT_S
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
