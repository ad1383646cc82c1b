"""The process that thinks about plans: it answers as this one would, and whatever becomes of it is an error, no more."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scripted_engine import candidate_of, state_of, table_of
from scripted_thinker import situation_of

from samullm_tui.domain.errors import RunError
from samullm_tui.domain.plan import Placement
from samullm_tui.engines.processes import alive
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.planner.reschedule import Situation, reconsider
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.problem import LLMModel, Problem, ShapeModel
from samullm_tui.supervisor.reschedule_thinker import ThinkingHere, ThinkingProcess

SILENT = (sys.executable, "-c", "import time; time.sleep(1000)")
DYING = (sys.executable, "-c", "import sys; sys.exit(7)")
NOISY = (
    sys.executable,
    "-c",
    "import socket, sys; socket.socket(fileno=int(sys.argv[1])).sendall(b'x' * 99)",
)
Until = Callable[[Callable[[], bool]], None]


def a_situation(requests: int = 6) -> Situation:
    """Before anything runs: `a` on one GPU of four, though there is room for more."""
    state = state_of(table_of("a", [("a", ())] * requests), candidate_of(([Placement("a", 1, 1, (0,))], "a")))
    steps = IterationLatency(tuple(0.02 if name == "constant_s" else 0.0 for name in COEFFICIENTS), 0, 0)
    shape = ShapeModel(1, steps, 0.5, EngineConfig(4, 128, 200, 16, 512))
    rough = situation_of(state, 0.0)
    problem = Problem(rough.problem.table, (LLMModel("a", (shape,), 1e9),), 4, ((0, 1, 2, 3),))
    return Situation(problem, rough.progress, frozenset(), 0.0, rough.stages, rough.draws)


def test_the_process_answers_as_this_one_would_and_goes_on() -> None:
    situation, other = a_situation(), a_situation(9)

    async def main() -> list[object]:
        thinker = ThinkingProcess()
        try:
            answers: list[object] = [await thinker.reconsider(situation, (1, 2))]
            pid = thinker.pid
            answers += [await thinker.forecast(situation), await thinker.forecast(other)]
            assert thinker.pid == pid
        finally:
            await thinker.close()
        assert pid is not None
        assert not alive(pid)
        return answers

    here = ThinkingHere()
    answers = asyncio.run(main())
    assert answers[0] == reconsider(situation, np.random.default_rng((1, 2)))
    assert answers[1:] == [asyncio.run(here.forecast(situation)), asyncio.run(here.forecast(other))]
    assert answers[1] != answers[2], "another table is sent anew"


@pytest.mark.parametrize(
    ("command", "cause"),
    [(SILENT, "no answer after 0 s"), (DYING, "ended with status 7"), (NOISY, "ended with status")],
)
def test_a_process_that_does_not_answer_is_an_error_and_the_next_question_starts_another(
    command: tuple[str, ...], cause: str
) -> None:
    async def main() -> None:
        thinker = ThinkingProcess(0.3, 0.3 if command is SILENT else 60.0, command)
        try:
            for _ in range(2):
                with pytest.raises(RunError, match=cause):
                    await thinker.forecast(a_situation())
                assert thinker.pid is None
        finally:
            await thinker.close()

    asyncio.run(main())


def test_a_question_that_cannot_be_answered_is_an_error_and_the_process_stays() -> None:
    good = a_situation()
    bad = replace(good, draws=())

    async def main() -> None:
        thinker = ThinkingProcess()
        try:
            with pytest.raises(RunError, match="rescheduler: "):
                await thinker.reconsider(bad, (1,))
            pid = thinker.pid
            await thinker.forecast(good)
            assert thinker.pid == pid
        finally:
            await thinker.close()

    asyncio.run(main())


def test_the_event_loop_goes_on_while_the_process_thinks() -> None:
    async def main() -> int:
        thinker = ThinkingProcess(command=SILENT)
        thought = asyncio.create_task(thinker.forecast(a_situation()))
        turns = 0
        for _ in range(1000):
            await asyncio.sleep(0)
            turns += not thought.done()
        await thinker.close()
        with pytest.raises(RunError):
            await thought
        return turns

    assert asyncio.run(main()) == 1000


PARENT = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from test_reschedule_thinker import a_situation
from samullm_tui.supervisor.reschedule_thinker import ThinkingProcess

async def main():
    thinker = ThinkingProcess()
    await thinker.forecast(a_situation())
    print(thinker.pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def test_the_process_dies_with_the_one_that_started_it(until: Until) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert alive(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    until(lambda: not alive(pid))
