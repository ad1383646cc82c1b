"""Runs in the middle: a plan simulated up to the end of a stage, and what is not known from there on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samullm_tui.domain.plan import Plan, Replica
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.situation import Situation
from samullm_tui.simulate.application import Problem, Progress, simulate_stage

__all__ = ["given_progress", "situation_after"]


def situation_after(
    problem: Problem, plan: Plan, truth: IntArray, stages: int, draws: Sequence[IntArray] = ()
) -> Situation:
    """After so many stages with these true lengths. Without `draws` the true lengths are known."""
    progress, at_s = Progress.fresh(problem), 0.0
    running: frozenset[Replica] = frozenset()
    for stage in plan.stages[:stages]:
        trace = simulate_stage(problem, truth, progress, stage, running, at_s)
        progress, running, at_s = trace.progress, trace.replicas, trace.end_s
    drawn = tuple(given_progress(progress, draw) for draw in (draws or [truth]))
    return Situation(problem, progress, running, at_s, plan.stages[stages:], drawn)


def given_progress(progress: Progress, draw: IntArray) -> IntArray:
    """Lengths that agree with what has happened: those that finished are known, the others are longer than so far."""
    return np.where(progress.done, progress.generated, np.maximum(draw, progress.generated + 1))
