"""The models of a forecast, corrected by what the engines of a run have shown. Pure.

Of each window (see `observed`) the seconds that it took are set against those that the model gives its steps: of which
some compute prompts, as many as there are requests that began, and the others only decode. The median of the ratios,
shrunk to 1 where there are few windows, multiplies every coefficient of the latency.

One factor, not one for each kind of step: a run sees each engine at few compositions, mostly near those that are still to
come, so that it cannot tell coefficients apart but knows their level there. What level alone leaves wrong is the change
between the batch of now and the small batch of a tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import structs

from samullm_tui.latency.model import IterationLatency
from samullm_tui.simulate.problem import LLMModel, Problem, ShapeModel
from samullm_tui.supervisor.observed import Watch, Window

__all__ = ["corrected", "latency_factors", "window_s"]

PRIOR_WINDOWS = 0.5
"""Windows that the model counts as: the error of one is some percent, that of an unmeasured LLM's model 20 or more."""
LEAST, MOST = 0.1, 10.0
UNSURE = 1.1
"""A window is left out whose prompts, in as few steps as possible or one by one, would take times that differ by more."""


def corrected(problem: Problem, watch: Watch) -> Problem:
    """`problem` with the latencies and loads that were observed."""
    factors = latency_factors(problem, watch)
    loads = _load_factors(problem, watch.loads_s)
    if not factors and not loads:
        return problem
    llms = tuple(_llm(llm, factors, loads) for llm in problem.llms)
    return problem.with_llms(llms)


def latency_factors(problem: Problem, watch: Watch) -> dict[tuple[str, int], float]:
    """Observed seconds of a step over the model's, for each LLM and tp that was observed."""
    found = {}
    for (llm, tp), windows in watch.windows.items():
        shape = problem.llms[problem.index(llm)].shape(tp)
        ratios = [w.seconds / s for w in windows if (s := window_s(shape, w)) > 0]
        if ratios:
            weight = len(ratios) / (len(ratios) + PRIOR_WINDOWS)
            found[llm, tp] = float(np.clip(np.median(ratios), LEAST, MOST) ** weight)
    return found


def window_s(shape: ShapeModel, window: Window) -> float:
    """Seconds that the model gives the steps of a window; 0 where it depends on what the window does not tell."""
    least = min(window.steps, -(-window.prefill_tokens // shape.config.max_num_batched_tokens))
    most = min(window.steps, max(least, window.began))
    few, many = (_seconds(shape.latency, window, steps) for steps in (least, most))
    return 0.0 if max(few, many) > UNSURE * min(few, many) else (few + many) / 2


def _seconds(latency: IterationLatency, window: Window, prefills: int) -> float:
    """With the prompts computed in so many steps. Every step decodes as much as the others."""
    decodes = round(window.output_tokens / window.steps)
    context = window.context_tokens
    decode_s = latency.seconds(decodes, 0, 0.0, decodes, context)
    if not prefills:
        return window.steps * decode_s
    tokens = round(window.prefill_tokens / prefills)
    sequences = decodes + max(1, round(window.began / prefills))
    mixed_s = latency.seconds(sequences, tokens, tokens * window.prompt_tokens / 2, decodes, context)
    return (window.steps - prefills) * decode_s + prefills * mixed_s


def _load_factors(
    problem: Problem, loads_s: Mapping[tuple[str, int], Sequence[float]]
) -> dict[tuple[str, int], float]:
    """Observed seconds of a load over the model's. A load of 0 s says nothing about others."""
    models = {(llm, tp): problem.llms[problem.index(llm)].shape(tp).load_s for llm, tp in loads_s}
    return {key: float(np.median(some)) / models[key] for key, some in loads_s.items() if models[key] > 0}


def _llm(
    llm: LLMModel, factors: Mapping[tuple[str, int], float], loads: Mapping[tuple[str, int], float]
) -> LLMModel:
    shapes = tuple(
        structs.replace(
            shape,
            latency=_scaled(shape.latency, _factor(llm.name, shape.tp, factors)),
            load_s=shape.load_s * _factor(llm.name, shape.tp, loads),
        )
        for shape in llm.shapes
    )
    return structs.replace(llm, shapes=shapes)


def _factor(llm: str, tp: int, factors: Mapping[tuple[str, int], float]) -> float:
    """That of this tp, else the geometric mean of those of the LLM's other tp, else 1."""
    own = [factor for (name, _), factor in factors.items() if name == llm]
    if not own:
        return 1.0
    return factors.get((llm, tp), float(np.exp(np.mean(np.log(own)))))


def _scaled(latency: IterationLatency, factor: float) -> IterationLatency:
    return structs.replace(latency, coefficients=tuple(factor * one for one in latency.coefficients))
