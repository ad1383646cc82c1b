"""Which replica serves which request.

Requests that must or should stay together are a *unit*: the steps of a chain, and a request whose only parent on the
same LLM has no other consumer. Units are dealt one after another, the longest chains first, to the replica that would
be done first with all it has then (`done_s`).

Chains are dealt before any length is known, so they count with the lengths to expect, here as in a run. What is in no
chain is sent by a run as room and answers come, so that a replica with long ones gets fewer: here it is dealt in the
order of the table by its true lengths, which comes to the same within a few percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.plan import Replica
from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.problem import EngineState, Problem, Progress, ShapeModel
from samullm_tui.simulate.state import compiled

__all__ = ["Rates", "deal", "done_s", "rates_of"]

FloatArray = npt.NDArray[np.float64]


class Rates(NamedTuple):
    """What a replica's work takes.

    step_s    seconds of a step whatever is in it
    fill_s    further seconds of a prompt token
    decode_s  further seconds of an output token
    batch     output tokens of a step of a full engine
    """

    step_s: float
    fill_s: float
    decode_s: float
    batch: float


def rates_of(shape: ShapeModel, prompt: float, output: float) -> Rates:
    """Of an engine whose requests have so many prompt and output tokens on average.

    A decode step is taken as a line through that of one sequence and that of a full engine.
    """
    config, latency = shape.config, shape.latency
    length = max(1.0, prompt + output / 2)
    batch = int(max(1, min(config.max_num_seqs, config.usable_blocks * config.block_size / length)))
    budget = config.max_num_batched_tokens
    fill_s = latency.seconds(1, budget, budget * prompt / 2, 0, 0.0) / budget
    alone_s = latency.seconds(1, 0, 0.0, 1, length)
    full_s = latency.seconds(batch, 0, 0.0, batch, batch * length)
    decode_s = (full_s - alone_s) / (batch - 1) if batch > 1 else 0.0
    return Rates(alone_s - decode_s, fill_s, decode_s, batch)


@compiled
def done_s(
    step_s: float,
    fill_s: float,
    decode_s: float,
    batch: float,
    prompts: float,
    outputs: float,
    longest: float,
) -> float:
    """Seconds until a replica is done with so many prompt and output tokens. `longest`: output tokens of its longest
    chain.

    Chains run side by side: there are as many steps as the longest chain has output tokens, or as it takes to get all
    of them through a full engine. Beyond the steps themselves every token has its price.
    """
    return step_s * max(longest, outputs / batch) + fill_s * prompts + decode_s * outputs


def deal(
    problem: Problem,
    output_tokens: IntArray,
    progress: Progress,
    replicas: Sequence[Replica],
    kept: Mapping[Replica, EngineState],
    left: IntArray,
    start_s: float,
) -> IntArray:
    """For each request the index of its replica, -1 when it is done or its LLM does not run.

    `kept` are the replicas that go on from start_s, with their states. What an LLM's replicas have among them stays as
    it is when they all go on and none joins; else what runs on a kept replica stays there. Everything else is dealt.
    """
    owns: list[list[int]] = [[] for _ in problem.llms]
    for e, replica in enumerate(replicas):
        owns[problem.index(replica.llm)].append(e)
    only = np.array([own[0] if len(own) == 1 else -1 for own in owns], np.int64)
    engine_of = np.empty(len(problem.table), np.int64)
    put_on(only, problem.table.llm, progress.done, engine_of)
    for llm, (name, own) in enumerate(zip(problem.table.llm_names, owns, strict=True)):
        if len(own) < 2 or left[llm] == 0:
            continue
        requests = problem.requests_of[llm]
        requests = requests[~progress.done[requests]]
        before = {replica for replica in progress.engines if replica.llm == name}
        states = {e: kept[replicas[e]] for e in own if replicas[e] in kept}
        all_stay = before == {replicas[e] for e in own} and len(states) == len(own)
        for e, state in states.items():
            engine_of[state.assigned if all_stay else state.running] = e
        if (engine_of[requests] < 0).any():
            shapes = [problem.llms[llm].shape(replicas[e].tp) for e in own]
            before_s = [
                max(0.0, states[e].clock_s - start_s) if e in states else shape.load_s
                for e, shape in zip(own, shapes, strict=True)
            ]
            has = np.searchsorted(own, engine_of[requests])
            has[engine_of[requests] < 0] = -1
            places = deal_llm(
                problem, output_tokens, progress, requests, shapes, has, np.array(before_s, np.float64)
            )
            engine_of[requests] = np.array(own)[places]
    return engine_of


@compiled
def put_on(only: IntArray, llm: IntArray, done: npt.NDArray[np.bool_], engine_of: IntArray) -> None:
    """What is not done goes to the engine only[its LLM], -1 for none."""
    for r in range(llm.size):
        engine_of[r] = -1 if done[r] else only[llm[r]]


def deal_llm(
    problem: Problem,
    output_tokens: IntArray,
    progress: Progress,
    requests: IntArray,
    shapes: Sequence[ShapeModel],
    has: IntArray,
    before_s: FloatArray,
) -> IntArray:
    """For each of these unfinished requests of one LLM, which of its replicas (in the order of `shapes`).

    `has` is where it stays, with all of its unit, or -1; each replica begins `before_s` from now.
    """
    chains = problem.chained[requests].any()
    unit, count = np.arange(len(requests)), len(requests)
    if chains:
        count = number_units(problem.units, requests, np.zeros(len(problem.units), np.int64), unit)
    work, total = np.zeros((count, 3)), np.zeros(3)
    expected = (problem.expected_prompts, problem.expected_tokens, problem.chained)
    weigh(requests, unit, *expected, output_tokens, progress.generated, work, total)
    place = np.full(len(work), -1, np.int64)
    place[unit[has >= 0]] = has[has >= 0]
    prompt, output = (total[:2] / len(requests)).tolist()
    rates_by_tp = {shape.tp: rates_of(shape, prompt, output) for shape in shapes}
    rates = np.array([rates_by_tp[shape.tp] for shape in shapes])
    order = np.argsort(-work[:, 2], kind="stable") if chains else unit
    place_units(order, work, rates, before_s, place, np.zeros((len(shapes), 3)))
    places: IntArray = place[unit]
    return places


@compiled
def number_units(units: IntArray, requests: IntArray, numbers: IntArray, unit: IntArray) -> int:
    """Writes the units of these requests into `unit`, numbered from 0 in their order; returns how many they are.

    `numbers` has a zero for each unit that there may be.
    """
    for r in requests:
        numbers[units[r]] = 1
    count = 0
    for u in range(numbers.size):
        count += numbers[u]
        numbers[u] = count
    for i in range(requests.size):
        unit[i] = numbers[units[requests[i]]] - 1
    return count


@compiled
def weigh(
    requests: IntArray,
    unit: IntArray,
    prompts: IntArray,
    expected: IntArray,
    chained: npt.NDArray[np.bool_],
    output_tokens: IntArray,
    generated: IntArray,
    work: FloatArray,
    total: FloatArray,
) -> None:
    """Adds what each of these requests still has to do to the `work` of its unit (see `place_units`), and to `total`."""
    for i in range(requests.size):
        r = requests[i]
        prompt = prompts[r] + generated[r]
        output = max(1, (expected[r] if chained[r] else output_tokens[r]) - generated[r])
        chain = output if chained[r] else 0
        for column, tokens in enumerate((prompt, output, chain)):
            work[unit[i], column] += tokens
            total[column] += tokens


@compiled
def place_units(
    order: IntArray,
    work: FloatArray,
    rates: FloatArray,
    before_s: FloatArray,
    place: IntArray,
    load: FloatArray,
) -> None:
    """Fills `place` where it is -1: each unit, in this order, where all would be done first.

    work [units, 3] prompt tokens, output tokens, and those again of a chain; rates [replicas, 4]; before_s [replicas]
    that each is busy before; load [replicas, 3] scratch, zeros.
    """
    for unit in order:
        if place[unit] >= 0:
            add(load[place[unit]], work[unit])
    for unit in order:
        if place[unit] >= 0:
            continue
        best = -1
        best_s = np.inf
        for replica in range(before_s.size):
            seconds = before_s[replica] + with_s(rates[replica], load[replica], work[unit])
            if seconds < best_s:
                best, best_s = replica, seconds
        place[unit] = best
        add(load[best], work[unit])


@compiled
def with_s(rates: FloatArray, load: FloatArray, work: FloatArray) -> float:
    """Seconds until a replica is done that takes a unit on."""
    longest = max(load[2], work[2])
    return float(
        done_s(rates[0], rates[1], rates[2], rates[3], load[0] + work[0], load[1] + work[1], longest)
    )


@compiled
def add(load: FloatArray, work: FloatArray) -> None:
    load[0] += work[0]
    load[1] += work[1]
    load[2] = max(load[2], work[2])
