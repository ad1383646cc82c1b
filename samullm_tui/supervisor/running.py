"""The state that decisions are made from: the plan, the stage, the engines, the requests, the operator's wishes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from samullm_tui.domain.plan import Candidate, Replica, Stage
from samullm_tui.supervisor.begun import BegunAnswers
from samullm_tui.supervisor.in_flight import InFlight
from samullm_tui.supervisor.ledger import Ledger
from samullm_tui.supervisor.observed import Watch

__all__ = ["EngineState", "EngineStatus", "RunningState"]

EngineStatus = Literal["loading", "serving", "stopping", "waiting", "gave up"]


@dataclass(slots=True)
class EngineState:
    """One engine as the supervisor knows it.

    `waiting`: it failed and starts again at `retry_at_s`. `starts` counts starts since it last finished a request.
    `queued`: how many of its requests had not begun when another replica of its LLM became ready.
    `started_s`, `ready_s`: when its last start began, and when it served.
    `fresh`: it became ready and nothing was moved to it yet.
    `failures`: attempts that failed since the last that did not; it gets nothing new before `hold_until_s`.
    `in_flight`: how much it is given at a time; None: it does not serve yet.
    `casualties`: these attempts by request. An engine that dies mostly fails what it has before it is seen to be dead.
    """

    replica: Replica
    status: EngineStatus = "loading"
    starts: int = 0
    retry_at_s: float = 0.0
    cause: str = ""
    queued: int = 0
    fresh: bool = False
    hold_until_s: float = 0.0
    started_s: float = 0.0
    ready_s: float = 0.0
    failures: int = 0
    in_flight: InFlight | None = None
    casualties: Counter[int] = field(default_factory=Counter)

    @property
    def on_gpus(self) -> bool:
        """Whether it holds its GPUs."""
        return self.status in {"loading", "serving", "stopping"}


@dataclass(slots=True)
class RunningState:
    """Everything `decide` looks at.

    `stage` is -1 before the first one, which is `begin`: 0, or the stage that an earlier supervisor was in.
    `started_s`: when the run's first stage began. `replans`: how often the plan was replaced, `replanned_s`: when last.
    """

    candidate: Candidate
    ledger: Ledger
    begin: int = 0
    resumed: bool = False
    stage: int = -1
    started_s: float | None = None
    replans: int = 0
    replanned_s: float = -math.inf
    engines: dict[str, EngineState] = field(default_factory=dict)
    wish: Literal["run", "pause", "drain", "stop"] = "run"
    trouble: str = ""
    """Why nothing can be recorded now; while it is so, nothing is sent. Empty: all is well."""
    quarantined: dict[int, str] = field(default_factory=dict)
    """GPUs that are in use by others, and how."""
    errors: dict[str, int] = field(default_factory=dict)
    """Error rows for each LLM."""
    broken: str = ""
    """Why the run cannot succeed any more: an engine gave up, or a request got no answer. Empty: it can."""
    is_fresh: bool = False
    """The plan was replaced and no stage of the new one entered yet."""
    hold_stage: bool = False
    """A decision on the plan is under way: the run does not go on to its next stage before it is made."""
    hold_losses: bool = False
    """It is decided whether another plan can do without what was lost: no LLM is given up before."""
    begun: BegunAnswers = field(default_factory=BegunAnswers)
    """Of requests that engines were stopped in: the tokens that they have."""
    watch: Watch = field(default_factory=Watch)
    """What the engines have shown so far."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.candidate.plan.stages

    @property
    def present(self) -> Stage:
        return self.stages[self.stage]

    @property
    def is_last_stage(self) -> bool:
        return self.stage == len(self.stages) - 1

    def is_finished(self, llm: str) -> bool:
        return self.ledger.unfinished[llm] == 0

    def holding(self) -> list[EngineState]:
        """Engines that hold GPUs."""
        return [engine for engine in self.engines.values() if engine.on_gpus]

    def take_plan(self, candidate: Candidate, now_s: float) -> None:
        """What is left is done by this plan from now on; its first stage is entered next."""
        self.candidate, self.stage, self.begin = candidate, -1, 0
        self.replans, self.replanned_s = self.replans + 1, now_s
        self.is_fresh = True

    def lost(self, replica: Replica) -> str:
        """Why no engine will serve as this replica; empty: one may."""
        engine = self.engines.get(replica.name)
        if engine is not None and engine.status == "gave up":
            return engine.cause
        return next(
            (f"GPU {gpu}: {self.quarantined[gpu]}" for gpu in replica.gpus if gpu in self.quarantined), ""
        )

    def busy_gpus(self) -> set[int]:
        return {gpu for engine in self.holding() for gpu in engine.replica.gpus}
