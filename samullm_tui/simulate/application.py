"""Whole applications: many engines at once, stage by stage."""

from __future__ import annotations

from samullm_tui.domain.plan import Plan, Replica, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.problem import LLMModel, PlanTrace, Problem, Progress, ShapeModel, StageTrace

__all__ = [
    "LLMModel",
    "PlanTrace",
    "Problem",
    "Progress",
    "ShapeModel",
    "StageTrace",
    "simulate_plan",
    "simulate_stage",
]


def simulate_stage(
    problem: Problem,
    output_tokens: IntArray,
    progress: Progress,
    stage: Stage,
    warm: frozenset[Replica],
    start_s: float,
    *,
    until: tuple[str, ...] | None = None,
) -> StageTrace:
    raise NotImplementedError


def simulate_plan(problem: Problem, plan: Plan, output_tokens: IntArray) -> PlanTrace:
    raise NotImplementedError
