"""Somebody who thinks about plans as a script says, on the scripted engines' bench."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scripted_engine import Tape

from samullm_tui.domain.errors import Problem as Wrong
from samullm_tui.domain.errors import RunError
from samullm_tui.domain.plan import Placement, Stage
from samullm_tui.engines.protocol import EngineStats
from samullm_tui.planner.reschedule import Option, Situation, Verdict
from samullm_tui.simulate.problem import LLMModel, Problem, Progress
from samullm_tui.supervisor.ledger import DONE
from samullm_tui.supervisor.reschedule import Rescheduler
from samullm_tui.supervisor.reschedule_past import Past
from samullm_tui.supervisor.running import RunningState

LOAD_S = 5.0


@dataclass
class Thinking:
    """Chooses `switch` when it can: what to change to (None: stay). `asked`: the situations, `takes_s` each time.

    `ends_s`: when the run is said to end by its plan; `gain_s` sooner by another.
    """

    switch: Callable[[Situation], tuple[Stage, ...] | None] = lambda _: None
    takes_s: float = 0.0
    fails: int = 0
    gain_s: float = 20.0
    ends_s: float = 100.0
    asked: list[Situation] = field(default_factory=list)
    planned: dict[tuple[Stage, ...], float] = field(default_factory=dict)
    looks: int = 0

    async def reconsider(self, situation: Situation, seed: Sequence[int]) -> Verdict:
        self.asked.append(situation)
        await asyncio.sleep(self.takes_s)
        if self.fails:
            self.fails -= 1
            raise RunError(Wrong("rescheduler", "", "no answer after 60 s"))
        stages = self.switch(situation)
        stay_s = self._end_s(situation)
        stay = Option("stay", situation.stages, "", (stay_s,), 0.0, 0)
        if stages is None:
            return Verdict((stay,), 0, "stay")
        self.planned[stages] = stay_s - self.gain_s
        other = Option("another", stages, "test", (self.planned[stages],), LOAD_S, 1)
        return Verdict((stay, other), 1, "better", self.gain_s, "10 s")

    async def forecast(self, situation: Situation) -> tuple[float, ...]:
        self.looks += 1
        return (self._end_s(situation),)

    def _end_s(self, situation: Situation) -> float:
        return self.planned.get(situation.stages, self.ends_s)

    async def close(self) -> None:
        pass


def situation_of(state: RunningState, now_s: float) -> Situation:
    """What the words need, and what a script may want to look at."""
    table = state.ledger.table
    done = np.frombuffer(bytes(state.ledger.status), np.uint8) >= DONE
    problem = Problem(table, tuple(LLMModel(llm, (), 1.0) for llm in table.llm_names), 4, ((0, 1, 2, 3),))
    progress = Progress(done, np.zeros(len(table), np.int64), np.full(len(table), np.nan))
    running = frozenset(e.replica for e in state.holding() if e.status != "stopping")
    lengths = np.full(len(table), 7, np.int64)
    stages = state.stages[max(0, state.stage) :]
    return Situation(problem, progress, running, now_s, stages, (lengths,), frozenset(state.quarantined))


def with_thinking(
    thinking: Thinking,
    mode: Literal["auto", "ask"] = "auto",
    *,
    wait_s: float = 30.0,
    past: Past | None = None,
) -> Callable[[RunningState, Tape], Rescheduler]:
    """For `run_bench`."""

    def make(state: RunningState, tape: Tape) -> Rescheduler:
        def clock() -> float:
            return asyncio.get_running_loop().time()

        def believe(stats: Mapping[str, EngineStats], now_s: float) -> Situation:
            return situation_of(state, now_s)

        return Rescheduler(
            state,
            mode=mode,
            wait_s=wait_s,
            seed=(1,),
            past=past or Past(expected_s=thinking.ends_s),
            load_s={(llm, tp): LOAD_S for llm in state.ledger.table.llm_names for tp in (1, 2)},
            believe=believe,
            thinker=thinking,
            recorder=tape,
            clock=clock,
        )

    return make


def drawn_stages(rng: np.random.Generator, llms: Sequence[str], gpus: int = 4) -> tuple[Stage, ...]:
    """Stages of disjoint placements, every LLM in one of them at least; they may use GPUs that are lost."""
    stages = []
    left = list(llms)
    while left:
        members = [str(llm) for llm in rng.permutation(left)[: int(rng.integers(1, len(left) + 1))]]
        free = rng.permutation(gpus).tolist()
        placements = []
        for k, llm in enumerate(members):
            room = len(free) - (len(members) - k - 1)
            tp = int(rng.choice([1, 2])) if room >= 2 else 1
            dp = int(rng.integers(1, room // tp + 1))
            placements.append(Placement(llm, tp, dp, tuple(free[: tp * dp])))
            free = free[tp * dp :]
        stages.append(Stage(tuple(placements), (members[0],)))
        left = [llm for llm in left if llm not in members]
    return tuple(stages)
