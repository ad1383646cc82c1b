"""Which replica serves which request.

Requests that must or should stay together are a *unit*: the steps of a chain, and a request whose only parent on the
same LLM has no other consumer. Units are dealt one after another to the replica that would be done with it first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.plan import Replica
from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.problem import EngineState, Problem, Progress, ShapeModel
from samullm_tui.simulate.state import compiled

__all__ = ["deal"]

FloatArray = npt.NDArray[np.float64]


def deal(
    problem: Problem,
    output_tokens: IntArray,
    progress: Progress,
    replicas: Sequence[Replica],
    kept: Mapping[Replica, EngineState],
    left: IntArray,
) -> IntArray:
    """For each request the index of its replica, -1 when it is done or its LLM does not run.

    `kept` are the replicas that go on, with their states. What an LLM's replicas have among them stays as it is when
    they all go on and none joins; else what runs on a kept replica stays there, and everything else is dealt anew.
    """
    engine_of = np.full(len(problem.table), -1, np.int64)
    for llm, name in enumerate(problem.table.llm_names):
        own = [e for e, replica in enumerate(replicas) if replica.llm == name]
        if not own or left[llm] == 0:
            continue
        before = {replica for replica in progress.engines if replica.llm == name}
        states = {e: kept[replicas[e]] for e in own if replicas[e] in kept}
        if len(own) == 1:
            engine_of[(problem.table.llm == llm) & ~progress.done] = own[0]
        elif before == {replicas[e] for e in own} and len(states) == len(own):
            for e, state in states.items():
                engine_of[state.assigned] = e
        else:
            shapes = [problem.llms[llm].shape(replicas[e].tp) for e in own]
            requests = np.flatnonzero((problem.table.llm == llm) & ~progress.done)
            places = deal_llm(
                problem, output_tokens, progress, requests, shapes, [states.get(e) for e in own]
            )
            engine_of[requests] = np.array(own)[places]
    return engine_of


def deal_llm(
    problem: Problem,
    output_tokens: IntArray,
    progress: Progress,
    requests: IntArray,
    shapes: Sequence[ShapeModel],
    states: Sequence[EngineState | None],
) -> IntArray:
    """For each of these unfinished requests of one LLM, which of its replicas (in the order of `shapes`)."""
    units, unit = np.unique(problem.units[requests], return_inverse=True)
    prompt = problem.table.prompt_tokens[requests] + progress.generated[requests]
    output = output_tokens[requests] - progress.generated[requests]
    prompts = np.bincount(unit, prompt, len(units))
    outputs = np.bincount(unit, output, len(units))
    rates = [token_seconds(shape, float(prompt.mean()), float(output.mean())) for shape in shapes]
    seconds = np.array([fill * prompts + decode * outputs for fill, decode in rates])
    pinned = np.full(len(units), -1, np.int64)
    load = np.zeros(len(shapes))
    for place, (shape, state) in enumerate(zip(shapes, states, strict=True)):
        if state is None:
            load[place] = shape.load_s
        else:
            pinned[unit[np.isin(requests, state.running)]] = place
    chains = bool((problem.table.group[requests] >= 0).any())
    order = np.argsort(-prompts, kind="stable") if chains else np.arange(len(units))
    place_units(order, seconds, pinned, load)
    return pinned[unit]


def token_seconds(shape: ShapeModel, prompt: float, output: float) -> tuple[float, float]:
    """Seconds of one prompt token and of one output token when the engine is full of requests of these lengths."""
    config = shape.config
    length = max(1.0, prompt + output / 2)
    batch = int(max(1, min(config.max_num_seqs, config.usable_blocks * config.block_size / length)))
    budget = config.max_num_batched_tokens
    fill = shape.latency.seconds(1, budget, budget * prompt / 2, 0, 0.0) / budget
    return fill, shape.latency.seconds(batch, 0, 0.0, batch, batch * length) / batch


@compiled
def place_units(order: IntArray, seconds: FloatArray, place: IntArray, load: FloatArray) -> None:
    """Fills `place` where it is -1: each unit, in this order, where it would be done first.

    seconds [replicas, units], load [replicas] seconds that each is busy with before.
    """
    for unit in order:
        if place[unit] >= 0:
            load[place[unit]] += seconds[place[unit], unit]
    for unit in order:
        if place[unit] >= 0:
            continue
        best = 0
        for replica in range(1, load.size):
            if load[replica] + seconds[replica, unit] < load[best] + seconds[best, unit]:
                best = replica
        place[unit] = best
        load[best] += seconds[best, unit]
