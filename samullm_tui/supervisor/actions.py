"""What the supervisor can decide to do."""

from __future__ import annotations

from dataclasses import dataclass

from samullm_tui.domain.event import Decision, RunEndStatus
from samullm_tui.domain.plan import Replica

__all__ = [
    "Action",
    "Deal",
    "End",
    "EnterStage",
    "GiveUp",
    "MoveBack",
    "Note",
    "Send",
    "StartEngine",
    "Step",
    "StopEngine",
]


@dataclass(frozen=True, slots=True)
class EnterStage:
    """The run goes on to this stage of its plan."""

    index: int


@dataclass(frozen=True, slots=True)
class Note:
    """Tells the operator why."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class StartEngine:
    replica: Replica


@dataclass(frozen=True, slots=True)
class StopEngine:
    """Stops an engine now; its requests in flight wait again."""

    replica: Replica
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No engine of this LLM stays alive: its open requests become error rows."""

    llm: str
    cause: str


@dataclass(frozen=True, slots=True)
class MoveBack:
    """A new replica serves: these requests, which only wait in other engines' queues, may go to it."""

    replica: str
    requests: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Send:
    request: int
    replica: str


@dataclass(frozen=True, slots=True)
class Deal:
    """A ready request is kept for a replica that still loads."""

    request: int
    replica: str


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is left to do, and no engine is left."""

    status: RunEndStatus
    cause: str


Step = EnterStage | Note | StartEngine | StopEngine | GiveUp | MoveBack | Deal | Send
Action = Step | End
