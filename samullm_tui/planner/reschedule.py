"""The decision while a run goes on: stay with the plan, or change it, and why. Pure: data in, data out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct

from samullm_tui.domain.errors import PlacementError
from samullm_tui.domain.plan import PlannedStage, Replica, Span, Stage
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.outlook import Task
from samullm_tui.planner.situation import Situation, forecast_rest, rest_of, simulate_rest
from samullm_tui.planner.words import duration, gpu_list
from samullm_tui.simulate.application import PlanTrace

__all__ = ["Margin", "Option", "Situation", "Verdict", "forecast_rest", "reconsider"]

REQUESTS = 700_000
"""The default effort: under a second."""
MOST = 5
"""Alternatives that are told."""


class Margin(Struct, frozen=True):
    """When a change is worth it: its gain, after all its costs, must be `least_s` seconds or the `share` of what is left
    to run, whichever is less, and it must gain in a share of `confidence` of the draws.

    load_share  so much of the seconds until its new engines serve comes on top: loads take longer than thought
    settle_s    right after a change twice as much is asked; so long after it, no more than usual
    """

    least_s: float = 10.0
    share: float = 0.03
    confidence: float = 0.8
    load_share: float = 0.1
    settle_s: float = 120.0

    def needed_s(self, left_s: float, cost_s: float, since_switch_s: float) -> float:
        """The gain that is asked for when the run has `left_s` to go."""
        least_s = min(self.least_s, self.share * left_s) + self.load_share * cost_s
        recent = max(0.0, 1.0 - since_switch_s / self.settle_s) if self.settle_s > 0 else 0.0
        return least_s * (1.0 + recent)


USUAL = Margin()


@dataclass(frozen=True)
class Option:
    """One way to go on. All times are simulated and on the run's clock.

    what     words for the operator
    stages   the first is entered at once
    ends_s   one for each of the draws it was simulated on, the first ones of the situation; inf: never
    cost_s   seconds of loading until its new engines serve, 0 when none starts now
    loads    engines that it starts in all
    planned, spans   its stages and engines in the draw whose end is the (lower) median; empty when it never ends
    """

    what: str
    stages: tuple[Stage, ...]
    planner: str
    ends_s: tuple[float, ...]
    cost_s: float
    loads: int
    planned: tuple[PlannedStage, ...] = ()
    spans: tuple[Span, ...] = ()

    @property
    def end_s(self) -> float:
        """The median over the draws."""
        return float(np.median(self.ends_s))


@dataclass(frozen=True)
class Verdict:
    """What was compared, and what was chosen.

    options  the first is to stay; then the best alternatives, best first
    chosen   which of them; 0: stay
    why      one line with its numbers
    gain_s   mean seconds that the chosen option (staying: the best alternative) ends sooner than staying; 0 without one
    margin   in words what a gain must exceed
    """

    options: tuple[Option, ...]
    chosen: int
    why: str
    gain_s: float = 0.0
    margin: str = ""


def reconsider(
    situation: Situation,
    rng: np.random.Generator,
    *,
    margin: Margin = USUAL,
    requests: int = REQUESTS,
) -> Verdict:
    """Staying against the best alternatives, each simulated whole on the same draws. The same for the same `rng`.

    `requests` bounds the effort, in requests simulated. Never raises for what the run may come to: where nothing can go
    on everything ends at inf, and staying is the answer.
    """
    del rng, requests  # greedy alone has no use for them
    stay = _option(situation, "stay", rest_of(situation.stages, situation.unfinished, situation.unusable), "")
    others = [_option(situation, what, stages, planner) for what, planner, stages in _alternatives(situation)]
    best = sorted((o for o in others if math.isfinite(o.end_s)), key=lambda o: (o.end_s, o.loads))[:MOST]
    return _verdict(situation, stay, best, margin)


def _alternatives(situation: Situation) -> Iterator[tuple[str, str, tuple[Stage, ...]]]:
    if not situation.unfinished:
        return
    try:
        task = Task(situation.problem, situation.draws[0], situation.beginning)
    except PlacementError:
        return
    plan = greedy(task.problem, task.output_tokens, task)
    stages = rest_of(plan.stages, situation.unfinished)
    if not any(situation.unusable & set(p.gpus) for stage in stages for p in stage.placements):
        yield _change(situation, stages), plan.planner, stages


def _option(situation: Situation, what: str, stages: Sequence[Stage], planner: str) -> Option:
    traces = [simulate_rest(situation, stages, draw) for draw in situation.draws]
    ends_s = tuple(trace.makespan_s if trace else math.inf for trace in traces)
    middle = traces[int(np.argsort(ends_s, kind="stable")[(len(ends_s) - 1) // 2])]
    planned = _planned(stages, middle) if middle else ()
    cost_s = _cost_s(situation, stages)
    loads = middle.loads if middle else 0
    spans = middle.spans if middle else ()
    return Option(what, tuple(stages), planner, ends_s, cost_s, loads, planned, spans)


def _planned(stages: Sequence[Stage], trace: PlanTrace) -> tuple[PlannedStage, ...]:
    return tuple(
        PlannedStage(start_s, end_s, stage, kept)
        for stage, (start_s, end_s), kept in zip(stages, trace.stage_times, trace.kept, strict=True)
    )


def _cost_s(situation: Situation, stages: Sequence[Stage]) -> float:
    """The longest load that begins at once."""
    if not stages:
        return 0.0
    problem = situation.problem
    new = [replica for replica in stages[0].replicas if replica not in situation.running]
    return max((problem.llms[problem.index(r.llm)].shape(r.tp).load_s for r in new), default=0.0)


def _verdict(situation: Situation, stay: Option, others: Sequence[Option], margin: Margin) -> Verdict:
    """The first that is worth it."""
    options = (stay, *others)
    for chosen, option in enumerate(others, start=1):
        gain_s, share = _gain(stay, option)
        needed_s = margin.needed_s(
            stay.end_s - situation.at_s, option.cost_s - stay.cost_s, situation.since_switch_s
        )
        if gain_s > needed_s and share >= margin.confidence:
            why = f"{option.what}: ends {duration(gain_s)} sooner" if math.isfinite(gain_s) else option.what
            return Verdict(options, chosen, why, gain_s)
    return Verdict(options, 0, "stay", _gain(stay, others[0])[0] if others else 0.0)


def _gain(stay: Option, other: Option) -> tuple[float, float]:
    """(mean seconds that the other ends sooner, the share of draws in which it does)."""
    gains = [_sooner(a, b) for a, b in zip(stay.ends_s, other.ends_s, strict=False)]
    return float(np.mean(gains)), float(np.mean([gain > 0 for gain in gains]))


def _sooner(stay_s: float, other_s: float) -> float:
    return 0.0 if stay_s == other_s else stay_s - other_s


def _change(situation: Situation, stages: Sequence[Stage]) -> str:
    """What the first stage changes, LLM by LLM."""
    wanted = {p.llm: p.replicas for p in stages[0].placements} if stages else {}
    said = [
        part
        for llm in situation.problem.table.llm_names
        if llm in situation.unfinished
        and (part := _of_llm(llm, [r for r in situation.running if r.llm == llm], wanted.get(llm, ())))
    ]
    return "; ".join(said) or "later stages otherwise"


def _of_llm(llm: str, running: Sequence[Replica], wanted: Iterable[Replica]) -> str:
    """`B ×1 → ×2 on GPU 4–5`; nothing where it goes on as it is."""
    after = list(wanted)
    if set(after) == set(running):
        return ""
    if not after:
        return f"{llm} stops"
    new = sorted(gpu for replica in after if replica not in running for gpu in replica.gpus)
    on = f" on {gpu_list(new)}" if new else ""
    return f"{llm} {f'{_size(running)} → ' if running else ''}{_size(after)}{on}"


def _size(replicas: Sequence[Replica]) -> str:
    return f"tp{replicas[0].tp} ×{len(replicas)}"
