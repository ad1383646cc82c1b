"""How fast engines really were: their seconds of a step over the model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import exp, log

import numpy as np
from msgspec import structs

from samullm_tui.domain.request import IntArray
from samullm_tui.hindsight.observed import Observed
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
    """Those that the modelled engine can take, in the order in which they were sent."""
    requests = requests[np.argsort(observed.sent_s[requests], kind="stable")]
    tokens = observed.prompt_tokens[requests] + observed.output_tokens[requests]
    return requests[(observed.prompt_tokens[requests] >= 1) & (tokens <= shape.config.most_tokens)]


def _pace(problem: Problem, shape: ShapeModel, observed: Observed, groups: list[IntArray]) -> float:
    """The factor at which the simulated stay is the observed one; the stay grows with it."""
    from scipy.optimize import brentq

    stayed_s = sum(float((observed.finish_s[g] - observed.sent_s[g]).sum()) for g in groups)

    def excess(log_pace: float) -> float:
        latency = scaled(shape.latency, exp(log_pace))
        simulated_s = sum(_stay_s(problem, shape, latency, observed, g) for g in groups if len(g))
        return log(simulated_s / stayed_s)

    if stayed_s <= 0 or abs(excess(0.0)) < EXACT:
        return 1.0
    if excess(log(SLOWEST)) <= 0:
        return SLOWEST
    if excess(log(FASTEST)) >= 0:
        return FASTEST
    return exp(brentq(excess, log(FASTEST), log(SLOWEST), xtol=EXACT))


def _stay_s(
    problem: Problem, shape: ShapeModel, latency: IterationLatency, observed: Observed, requests: IntArray
) -> float:
    """Seconds in one engine, summed over its requests."""
    table, prefix = problem.table, problem.prefix
    trace = simulate_requests(
        shape.config,
        latency,
        observed.sent_s[requests],
        observed.prompt_tokens[requests],
        observed.output_tokens[requests],
        max_tokens=table.max_tokens[requests],
        prefix=None if prefix is None else prefix[requests],
        prefix_tokens=None if table.prefix_tokens is None else table.prefix_tokens[requests],
        priority=None if problem.priority is None else problem.priority[requests],
    )
    return float((trace.finish_s - observed.sent_s[requests]).sum())


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
