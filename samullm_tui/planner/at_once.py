"""How many requests an engine should run at a time: as many as its KV cache holds without computing them again.

vLLM admits requests while their prompts fit. Their answers grow; when the cache is full, the last ones are preempted
and computed again later. With long answers and a small cache that is most of them, and fewer at a time are faster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from msgspec.structs import replace

from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.application import LLMModel, Problem, ShapeModel
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.engine import simulate_requests
from samullm_tui.simulate.graph import prompts_of

__all__ = ["with_fitting_sequences"]

SHARES = (1.5, 1.25, 1.1, 1.0, 0.9, 0.8, 0.7)
"""What is tried: these shares of what fits on average. More than all fit where requests share their prompts."""
STEP, FROM = 16, 64
"""From so many sequences on only multiples of this are tried: kernels work on tiles of them."""
GAIN = 0.01
"""A setting that gains less than this share of the time is not worth being different."""
MOST, PIECES = 2000, 8
"""Requests that are simulated for a choice, in pieces from all over the table: neighbours may share their prompts."""


def with_fitting_sequences(
    problem: Problem, output_tokens: IntArray, fixed: Collection[str] = ()
) -> tuple[LLMModel, ...]:
    """The LLMs, `fixed` ones as they are, with the `max_num_seqs` of each shape lowered where these lengths are served
    sooner then.
    """
    prompts = prompts_of(problem.table, output_tokens)
    models = []
    for index, model in enumerate(problem.llms):
        mine = np.flatnonzero((problem.table.llm == index) & (model.name not in fixed))
        some = _some(mine)
        shapes = (_fitting(problem, shape, some, prompts, output_tokens) for shape in model.shapes)
        models.append(replace(model, shapes=tuple(shapes)))
    return tuple(models)


def _some(requests: IntArray) -> IntArray:
    if len(requests) <= MOST:
        return requests
    starts = np.linspace(0, len(requests) - MOST // PIECES, PIECES).astype(np.int64)
    return np.concatenate([requests[start : start + MOST // PIECES] for start in starts.tolist()])


def _fitting(
    problem: Problem, shape: ShapeModel, some: IntArray, prompts: IntArray, outputs: IntArray
) -> ShapeModel:
    """The shape as it serves these requests soonest, all ready at the start."""
    config, ends = shape.config, prompts[some] + outputs[some]
    some = some[(ends <= config.most_tokens) & (prompts[some] < config.max_model_len - 1)]
    settings = list(_settings(config, prompts[some], outputs[some])) if len(some) else []
    if not settings:
        return shape

    def takes_s(config: EngineConfig) -> float:
        table, ready_s = problem.table, np.zeros(len(some))
        given = (table.max_tokens, problem.prefix, table.prefix_tokens, problem.priority)
        caps, prefix, shared, priority = (None if column is None else column[some] for column in given)
        return simulate_requests(
            config,
            shape.latency,
            ready_s,
            prompts[some],
            outputs[some],
            max_tokens=caps,
            prefix=prefix,
            prefix_tokens=shared,
            priority=priority,
        ).makespan_s

    best = min(settings, key=takes_s)
    gains = takes_s(best) < (1 - GAIN) * takes_s(config)
    return replace(shape, config=best) if gains else shape


def _settings(config: EngineConfig, prompts: IntArray, outputs: IntArray) -> Iterator[EngineConfig]:
    """What to try: nothing where all that may run at a time fit on average.

    A request with p prompt and o output tokens holds from p to p + o of them, for o steps.
    """
    held = float((outputs * (prompts + outputs / 2)).sum() / outputs.sum()) + config.block_size / 2
    fits = config.usable_blocks * config.block_size / held
    for share in SHARES:
        seqs = int(share * fits)
        seqs -= seqs % STEP if seqs >= FROM else 0
        if 0 < seqs < min(config.max_num_seqs, len(prompts)):
            yield replace(config, max_num_seqs=seqs)
