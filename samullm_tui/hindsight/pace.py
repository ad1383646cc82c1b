"""How fast engines really were: their seconds of a step over the model's.

The journal does not say in which order requests that were sent at the same moment came. Two orders are tried, that of
the table and that of when each must have begun, and the one that explains the answers' times better is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import exp, inf, log

import numpy as np
from msgspec import structs

from samullm_tui.domain.request import IntArray
from samullm_tui.hindsight.observed import FloatArray, Observed
from samullm_tui.latency.model import IterationLatency
from samullm_tui.simulate.application import LLMModel, Problem, ShapeModel
from samullm_tui.simulate.engine import simulate_requests

__all__ = ["Shape", "paces_of", "with_loads", "with_paces"]

Shape = tuple[str, int]
"""An LLM's name and its tp."""

FEWEST = 5
"""Fewer answers say nothing about a shape."""
EXACT = 2e-3
SLOWEST, FASTEST = 50.0, 0.02


def paces_of(problem: Problem, observed: Observed) -> dict[Shape, float]:
    """For each shape with answers the factor on all its steps with which requests stay in its engines as long as
    they did: each engine is simulated with the requests it had, arriving when they were sent, and the sum of
    (answered - sent) is matched. Queueing inside the engine is simulated, so that it does not pass for slow steps.
    Engines that also worked on requests answered elsewhere count only where there are no others.
    """
    calm: dict[Shape, list[IntArray]] = {}
    every: dict[Shape, list[IntArray]] = {}
    for number, replica in enumerate(observed.engines):
        shape = problem.llms[problem.index(replica.llm)].shape(replica.tp)
        mine = _fitting(shape, observed, np.flatnonzero(observed.engine == number))
        for groups in (every,) if replica.name in observed.disturbed else (every, calm):
            groups.setdefault((replica.llm, replica.tp), []).append(mine)
    found = {}
    for (llm, tp), groups_of in every.items():
        chosen = next((g for g in (calm.get((llm, tp), []), groups_of) if sum(map(len, g)) >= FEWEST), None)
        if chosen is not None:
            found[llm, tp] = _pace(problem, problem.llms[problem.index(llm)].shape(tp), observed, chosen)
    return found


def _fitting(shape: ShapeModel, observed: Observed, requests: IntArray) -> IntArray:
    """Those that the modelled engine can take."""
    tokens = observed.prompt_tokens[requests] + observed.output_tokens[requests]
    return requests[(observed.prompt_tokens[requests] >= 1) & (tokens <= shape.config.most_tokens)]


def _pace(problem: Problem, shape: ShapeModel, observed: Observed, groups: list[IntArray]) -> float:
    """That of the better order."""
    orders = [
        [g[np.argsort(observed.sent_s[g], kind="stable")] for g in groups if len(g)],
        [g[np.lexsort((_begun_s(observed, g), observed.sent_s[g]))] for g in groups if len(g)],
    ]
    best, least_s = 1.0, inf
    for order in orders:
        engines = _Engines(problem, shape, observed, order)
        pace = engines.pace()
        off_s = engines.off_s(pace)
        if off_s < least_s:
            best, least_s = pace, off_s
    return best


def _begun_s(observed: Observed, requests: IntArray) -> FloatArray:
    """[n] when each would have begun if all its tokens had taken as long as those of the least held up long answers."""
    tokens = observed.output_tokens[requests]
    stay_s = observed.finish_s[requests] - observed.sent_s[requests]
    long = tokens >= np.median(tokens)
    return observed.finish_s[requests] - tokens * float(np.quantile(stay_s[long] / tokens[long], 0.1))


@dataclass(frozen=True)
class _Engines:
    """The engines of one shape, each with its requests in the order in which they came."""

    problem: Problem
    shape: ShapeModel
    observed: Observed
    requests: list[IntArray]

    def pace(self) -> float:
        """The factor at which the simulated stay is the observed one; the stay grows with it."""
        from scipy.optimize import brentq

        observed = self.observed
        stayed_s = sum(float((observed.finish_s[g] - observed.sent_s[g]).sum()) for g in self.requests)

        def excess(log_pace: float) -> float:
            finishes = self.finish_s(exp(log_pace))
            pairs = zip(finishes, self.requests, strict=True)
            return log(sum(float((end_s - observed.sent_s[g]).sum()) for end_s, g in pairs) / stayed_s)

        if stayed_s <= 0 or abs(excess(0.0)) < EXACT:
            return 1.0
        if excess(log(SLOWEST)) <= 0:
            return SLOWEST
        if excess(log(FASTEST)) >= 0:
            return FASTEST
        return exp(brentq(excess, log(FASTEST), log(SLOWEST), xtol=EXACT))

    def off_s(self, pace: float) -> float:
        """By how many seconds the simulated answers are off, summed over requests."""
        pairs = zip(self.finish_s(pace), self.requests, strict=True)
        return sum(float(np.abs(end_s - self.observed.finish_s[g]).sum()) for end_s, g in pairs)

    def finish_s(self, pace: float) -> list[FloatArray]:
        """For each engine when its requests would finish."""
        latency = scaled(self.shape.latency, pace)
        return [self._engine(latency, requests) for requests in self.requests]

    def _engine(self, latency: IterationLatency, requests: IntArray) -> FloatArray:
        problem, observed = self.problem, self.observed
        table, prefix = problem.table, problem.prefix
        return simulate_requests(
            self.shape.config,
            latency,
            observed.sent_s[requests],
            observed.prompt_tokens[requests],
            observed.output_tokens[requests],
            max_tokens=table.max_tokens[requests],
            prefix=None if prefix is None else prefix[requests],
            prefix_tokens=None if table.prefix_tokens is None else table.prefix_tokens[requests],
            priority=None if problem.priority is None else problem.priority[requests],
        ).finish_s


def scaled(latency: IterationLatency, factor: float) -> IterationLatency:
    """Every step takes `factor` times as long."""
    return structs.replace(latency, coefficients=tuple(factor * c for c in latency.coefficients))


def with_paces(problem: Problem, paces: Mapping[Shape, float]) -> Problem:
    """The problem with these factors on the steps. A shape that was not seen has the mean factor of its LLM's others."""

    def change(llm: str, shape: ShapeModel) -> ShapeModel:
        seen = [pace for (name, _), pace in paces.items() if name == llm]
        pace = paces.get((llm, shape.tp), sum(seen) / len(seen) if seen else 1.0)
        return structs.replace(shape, latency=scaled(shape.latency, pace))

    return _changed(problem, change)


def with_loads(problem: Problem, load_s: Mapping[Shape, float]) -> Problem:
    """The problem with these load times. A shape that was not seen is as much slower as its LLM's others are."""

    def change(llm: str, shape: ShapeModel) -> ShapeModel:
        shapes = problem.llms[problem.index(llm)].shapes
        seen = [load_s[llm, s.tp] / s.load_s for s in shapes if (llm, s.tp) in load_s and s.load_s > 0]
        guess = shape.load_s * (sum(seen) / len(seen) if seen else 1.0)
        return structs.replace(shape, load_s=load_s.get((llm, shape.tp), guess))

    return _changed(problem, change)


def _changed(problem: Problem, change: Callable[[str, ShapeModel], ShapeModel]) -> Problem:
    llms = tuple(
        LLMModel(llm.name, tuple(change(llm.name, shape) for shape in llm.shapes), llm.flops_per_token)
        for llm in problem.llms
    )
    return replace(problem, llms=llms)
