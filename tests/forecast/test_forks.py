"""A study in forked processes: the same results as in one, whatever becomes of the forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

from samullm_tui.engines.processes import alive
from samullm_tui.forecast.forks import forked
from samullm_tui.planner.study import Study

TIMEOUT_S = 300
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "planner")}
BEGIN = """
import os, signal, sys, time
from planning_problems import drawn, ensemble
from samullm_tui.domain.errors import PlanError, Problem
from samullm_tui.forecast.forks import Forked, forked
from samullm_tui.planner.study import Study, bound_s
some = ensemble()
study = Study(some, [drawn(some, seed) for seed in range(12)])
parent = os.getpid()
"""


def program(script: str) -> list[str]:
    """Of one thread; whoever runs these tests may have more."""
    return [sys.executable, "-c", BEGIN + textwrap.dedent(script)]


def run(script: str) -> str:
    done = subprocess.run(
        program(script), capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=ENVIRONMENT
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_results_come_in_order_and_from_several_processes() -> None:
    out = run(
        """
        together = os.path.join("/tmp", f"forks-{parent}")
        os.mkfifo(together)
        def call(study, number):
            if number < 2:  # two that are there at the same time
                with open(together, "r" if number else "w"):
                    pass
            return bound_s(study, number % 12), os.getpid()
        import samullm_tui.forecast.forks as forks
        forks.CHUNK_REQUESTS = 1
        with forked(study, 2) as faster:
            found = faster.run(call, [(number,) for number in range(40)])
        os.unlink(together)
        assert [bound for bound, _ in found] == [bound_s(study, number % 12) for number in range(40)]
        pids = {pid for _, pid in found}
        print(len(pids), parent in pids)
        """
    )
    assert out.split() == ["2", "False"]


def test_what_has_begun_goes_on_beside_this_process() -> None:
    out = run(
        """
        read, write = os.pipe()
        def call(study, number):
            assert os.read(read, 1) == b"x"
            return bound_s(study, number), os.getpid() == parent
        with forked(study, 2) as faster:
            begun = faster.begin(call, 5)
            os.write(write, b"x")  # a call that were made only when asked for would wait for this for ever
            print(begun() == (bound_s(study, 5), False), study.begin(lambda study: 7)())
        """
    )
    assert out == "True 7\n"


def test_a_process_with_further_threads_has_no_forks() -> None:
    study = Study.__new__(Study)
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with forked(study, 2) as same:
            assert same is study
    finally:
        done.set()
        other.join()
    with forked(study, 1) as same:
        assert same is study


def test_what_a_fork_raises_is_raised_here() -> None:
    out = run(
        """
        def call(study, number):
            if number == 3:
                raise PlanError(Problem("app.toml", "stage 2", "never ends", "run the LLM"))
        with forked(study, 2) as faster:
            begun = faster.begin(call, 3)
            for give in (lambda: faster.run(call, [(number,) for number in range(8)]), begun):
                try:
                    give()
                except PlanError as error:
                    print(error.problems[0].place, error.exit_status == PlanError.exit_status)
        """
    )
    assert out == "stage 2 True\n" * 2


def test_when_a_fork_is_killed_its_calls_are_made_here() -> None:
    out = run(
        """
        def call(study, number):
            if number == 5 and os.getpid() != parent:
                os.kill(os.getpid(), signal.SIGKILL)
            return number * number
        with forked(study, 2) as faster:
            begun = faster.begin(call, 5)
            print(begun(), faster.run(call, [(number,) for number in range(8)]), faster.begin(call, 6)())
        """
    )
    assert out == f"25 {[number * number for number in range(8)]} 36\n"


def test_when_a_fork_is_refused_there_is_none() -> None:
    out = run(
        """
        def call(study, number):
            return number * number
        fork, asked = os.fork, []
        def refused():
            asked.append(1)
            if len(asked) % 2 == 0:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return fork()
        os.fork = refused
        with forked(study, 3) as faster:
            begun = faster.begin(call, 5)
            print(begun(), faster.run(call, [(number,) for number in range(4)]), len(asked))
        """
    )
    assert out == "25 [0, 1, 4, 9] 4\n"


def test_forks_end_with_the_process_they_work_for() -> None:
    script = """
        def call(study, number):
            os.write(1, f"{os.getpid()}\\n".encode())
            time.sleep(3600)
        with forked(study, 2) as faster:
            faster.begin(call, 0), faster.begin(call, 1)
            time.sleep(3600)
    """
    with subprocess.Popen(program(script), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as owner:
        assert owner.stdout is not None
        pids = [int(owner.stdout.readline()) for _ in range(2)]
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT_S
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
