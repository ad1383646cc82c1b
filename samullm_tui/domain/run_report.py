"""How a run came out against its forecast: what hindsight says and the console shows."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["ErrorPart", "ErrorSource", "PlanCompared", "RunReport", "ShapeSeen", "TokensSeen"]

ErrorSource = Literal["lengths", "latency", "loads", "dispatch"]


class ErrorPart(Struct, frozen=True):
    """Seconds of the makespan's error that come from one source; negative: the run was faster for it."""

    source: ErrorSource
    seconds: float


class TokensSeen(Struct, frozen=True, kw_only=True):
    """The answers of one LLM: the sum of the tokens expected of those requests before the run, and of those that came."""

    llm: str
    answers: int
    requests: int
    expected_tokens: int
    tokens: int


class ShapeSeen(Struct, frozen=True, kw_only=True):
    """One LLM at one tp. `pace` is the seconds of a step over the model's (None: too little was seen to say)."""

    llm: str
    tp: int
    pace: float | None
    planned_load_s: float
    load_s: float | None


class PlanCompared(Struct, frozen=True):
    """A plan simulated with what the run showed."""

    planner: str
    makespan_s: float


class RunReport(Struct, frozen=True, kw_only=True):
    """Predicted against actual. Everything but `actual_s`, tokens and loads is simulated.

    predicted_s  median of the approved plan before the run
    parts        what adds up to actual_s - predicted_s, in the order in which the observed values were put in
    plan, others the approved plan and the baselines, all with observed lengths, latency and loads
    lower_bound_s  that no plan can beat under the same
    notes        what else a reader should know
    """

    run: str
    predicted_s: float
    actual_s: float
    parts: tuple[ErrorPart, ...]
    tokens: tuple[TokensSeen, ...]
    shapes: tuple[ShapeSeen, ...]
    plan: PlanCompared
    others: tuple[PlanCompared, ...]
    lower_bound_s: float
    notes: tuple[str, ...] = ()
