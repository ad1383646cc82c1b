"""Whether a change of the plan is worth it, and the decision in the operator's words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from samullm_tui.domain.plan import PlannedStage, Replica, Span, Stage
from samullm_tui.planner.situation import Situation
from samullm_tui.planner.words import duration, gpu_list, joined, percent, sized

__all__ = ["USUAL", "Margin", "Option", "Verdict", "change_words", "weighed"]


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
        """The gain that is asked for when the run has `left_s` to go and the new engines serve after `cost_s`."""
        least_s = min(self.least_s, self.share * left_s) + self.load_share * cost_s
        recent = max(0.0, 1.0 - since_switch_s / self.settle_s) if self.settle_s > 0 else 0.0
        return least_s * (1.0 + recent)


USUAL = Margin()


@dataclass(frozen=True)
class Option:
    """One way to go on. All times are simulated and on the run's clock.

    what     words for the operator
    stages   the first is entered at once
    ends_s   one for each of the draws it was simulated on, the same ones for all options: the first of the situation, or
             those after them; inf: never
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
        """The median over the draws, as it is told."""
        return float(np.median(self.ends_s))

    @property
    def mean_s(self) -> float:
        """The mean over the draws, by which options are compared."""
        return float(np.mean(self.ends_s))


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


def weighed(situation: Situation, stay: Option, others: Sequence[Option], margin: Margin) -> Verdict:
    """The best of the others, best first, that is worth it; else to stay."""
    options = (stay, *others)
    if not math.isfinite(stay.mean_s):
        return _stuck(options)
    if not others:
        return Verdict(options, 0, "no other way to go on was found")
    gains = [_gain(situation, stay, other, margin) for other in others]
    chosen = next((k for k, gain in enumerate(gains, start=1) if gain.enough), 0)
    gain, best = gains[max(0, chosen - 1)], options[max(1, chosen)]
    asked = f"over {duration(gain.needed_s)}, and sooner in {percent(margin.confidence)} of the draws"
    words = _switch_words if chosen else _keep_words
    return Verdict(options, chosen, words(best, gain, asked), gain.mean_s, asked)


def _stuck(options: tuple[Option, ...]) -> Verdict:
    if len(options) == 1:
        return Verdict(options, 0, "the plan in force cannot finish everything, and nothing else can either")
    why = f"the plan in force cannot finish everything any more: {options[1].what}"
    return Verdict(options, 1, why, math.inf, "none: the plan in force cannot go on")


class _Gain(NamedTuple):
    """What an option gains over staying: mean seconds, those asked for, in how many of the draws it ends sooner."""

    mean_s: float
    needed_s: float
    won: int
    draws: int
    enough: bool


def _gain(situation: Situation, stay: Option, other: Option, margin: Margin) -> _Gain:
    gains = [a - b for a, b in zip(stay.ends_s, other.ends_s, strict=True)]
    left_s = stay.mean_s - situation.at_s
    needed_s = margin.needed_s(left_s, other.cost_s, situation.since_switch_s)
    won, mean_s = sum(gain > 0 for gain in gains), float(np.mean(gains))
    enough = mean_s > needed_s and won >= margin.confidence * len(gains)
    return _Gain(mean_s, needed_s, won, len(gains), enough)


def _switch_words(option: Option, gain: _Gain, asked: str) -> str:
    """`B ×1 → ×2 on GPU 4–5: saves 38 s, costs 22 s of loading; sooner in 5 of 5 draws (asked: over 12 s, …)`."""
    costs = f", costs {duration(option.cost_s)} of loading" if option.cost_s else ""
    sooner = f"sooner in {gain.won} of {gain.draws} draws"
    return f"{option.what}: saves {duration(gain.mean_s)}{costs}; {sooner} (asked: {asked})"


def _keep_words(best: Option, gain: _Gain, asked: str) -> str:
    """`best change saves 3 s in the mean, sooner in 2 of 5 draws (asked: over 10 s, …): B ×1 → ×2 on GPU 4–5`."""
    word = "saves" if gain.mean_s > 0 else "costs"
    if abs(gain.mean_s) < 0.05:
        return f"nothing ends sooner; as good: {best.what}"
    sooner = f"sooner in {gain.won} of {gain.draws} draws"
    costs = f", loads for {duration(best.cost_s)}" if best.cost_s else ""
    return f"best change {word} {duration(abs(gain.mean_s))}{costs}, {sooner} (asked: {asked}): {best.what}"


def change_words(situation: Situation, stages: Sequence[Stage]) -> str:
    """What the first stage changes at once, LLM by LLM; where nothing, what the next ones do."""
    wanted = {placement.llm: placement.replicas for placement in stages[0].placements}
    names = [llm for llm in situation.problem.table.llm_names if llm in situation.unfinished]
    said = [
        _change(llm, [r for r in situation.running if r.llm == llm], wanted.get(llm, ())) for llm in names
    ]
    if any(said):
        return "; ".join(filter(None, said))
    for before, after in pairwise(stages):
        new = [p for p in after.placements if p not in before.placements]
        if new:
            return f"as now, then {joined([f'{sized(p)} on {gpu_list(p.gpus)}' for p in new])}"
    return "as now to the end"


def _change(llm: str, running: Sequence[Replica], wanted: Iterable[Replica]) -> str:
    """`Llama-2-70b ×1 → ×2 on GPU 4–5`; nothing where it goes on as it is."""
    after = list(wanted)
    if set(after) == set(running):
        return ""
    if not after:
        return f"{llm} stops"
    new = sorted(gpu for replica in after if replica not in running for gpu in replica.gpus)
    on = f" on {gpu_list(new)}" if new else ""
    if not running:
        return f"{llm} starts tp{after[0].tp} ×{len(after)}{on}"
    if {replica.tp for replica in running} != {replica.tp for replica in after}:
        return f"{llm} tp{running[0].tp} ×{len(running)} → tp{after[0].tp} ×{len(after)}{on}"
    if len(after) == len(running):
        return f"{llm} moves to {gpu_list(new)}"
    return f"{llm} ×{len(running)} → ×{len(after)}{on}"
