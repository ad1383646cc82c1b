"""What the rescheduler thought, as it is recorded: decisions in words with their numbers, plans, forecasts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from samullm_tui.domain.event import Alternative, Decision
from samullm_tui.domain.plan import Band, Candidate, Plan
from samullm_tui.planner.reschedule import Option, Situation, Verdict
from samullm_tui.supervisor.words import in_time

__all__ = ["band_of", "candidate_of", "decision_of", "failure_of", "lengths_seen", "stays_instead"]


def decision_of(verdict: Verdict, number: int, saw: str) -> Decision:
    chosen = verdict.options[verdict.chosen]
    gain_s = verdict.gain_s if math.isfinite(verdict.gain_s) and len(verdict.options) > 1 else None
    return Decision(
        kind="switch" if verdict.chosen else "keep",
        what=_costs(chosen, gain_s) if verdict.chosen else _keeps(verdict, gain_s),
        saw=saw,
        alternatives=tuple(
            Alternative(o.what, o.end_s if math.isfinite(o.end_s) else None, o.cost_s)
            for o in verdict.options
        ),
        chosen=verdict.chosen,
        number=number,
        margin=verdict.margin,
        gain_s=gain_s,
    )


def _costs(option: Option, gain_s: float | None) -> str:
    gain = "without it the run cannot end" if gain_s is None else f"saves {in_time(gain_s)}"
    return f"{option.what}: {gain}, costs {in_time(option.cost_s)}"


def _keeps(verdict: Verdict, gain_s: float | None) -> str:
    if gain_s is None:
        return "the plan stays: there is no other"
    best = verdict.options[1]
    gain = f"saves {in_time(gain_s)}" if gain_s > 0 else f"takes {in_time(-gain_s)} longer"
    gain = gain if round(gain_s) else "saves nothing"
    return f"the plan stays: the best change ({best.what}) {gain}, costs {in_time(best.cost_s)}"


def stays_instead(decision: Decision, why: str) -> Decision:
    """A switch that is not made."""
    return Decision(
        kind="keep",
        what=f"the plan stays: {why} ({decision.what})",
        saw=decision.saw,
        alternatives=decision.alternatives,
        chosen=0,
        number=decision.number,
        margin=decision.margin,
        gain_s=decision.gain_s,
    )


def failure_of(cause: str, reason: str) -> Decision:
    """Thinking about the plan came to nothing."""
    return Decision("keep", f"the plan stays: thinking about it failed ({cause})", reason)


def lengths_seen(situation: Situation) -> str:
    """Of each LLM that has requests left: how many, the mean tokens still to come of each, and the mean of whole ones
    that was expected before the run.
    """
    problem, progress = situation.problem, situation.progress
    left = np.flatnonzero(~progress.done)
    to_come = np.mean([draw[left] - progress.generated[left] for draw in situation.draws], axis=0)
    prior = problem.expected_tokens[left]
    llm, parts = problem.table.llm[left], []
    for index, model in enumerate(problem.llms):
        mine = llm == index
        if mine.any():
            residual, before = to_come[mine].mean(), prior[mine].mean()
            parts.append(
                f"{model.name}: {int(mine.sum()):,} requests left, residual mean {residual:.0f} tokens "
                f"(prior {before:.0f})"
            )
    return "; ".join(parts)


def candidate_of(option: Option, rank: int, why: str) -> Candidate:
    """The rest of a run as a plan. Times on the run's clock."""
    gpu_s = sum(len(span.gpus) * ((span.end_s or span.start_s) - span.start_s) for span in option.spans)
    return Candidate(
        rank=rank,
        plan=Plan(planner=option.planner, stages=option.stages),
        makespan_s=band_of(option.ends_s),
        gap=0.0,
        gpu_hours=gpu_s / 3600,
        loads=option.loads,
        stages=option.planned,
        spans=option.spans,
        explanation=(why,),
        makespans_s=option.ends_s,
    )


def band_of(ends_s: Sequence[float]) -> Band:
    """Of finite ends."""
    p10, p50, p90 = np.percentile(ends_s, (10, 50, 90)).tolist()
    return Band(float(np.mean(ends_s)), p10, p50, p90)
