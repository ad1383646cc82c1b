"""A makespan that no plan can beat.

Claim: for fixed output lengths, every plan of every planner takes at least `lower_bound(problem, output_tokens)`.

Notation. A request has p prompt tokens (upstream outputs included) and o output tokens. A step of an engine of shape s
(tp GPUs) with S sequences, T tokens and decode context C takes

    t = ps·S + pt·T + pc·(prefill context) + dc·C + h(T),   h(T) = constant + Σ above_b·max(0, T − b) + pe·E(T),

every coefficient ≥ 0, S ≤ max_num_seqs, S ≤ T ≤ max_num_batched_tokens, C ≤ K, the tokens that the KV cache holds.

Work. (1) Each output token needs a step of its own in which its request has a slot: either the prefill of the p prompt
tokens (first token), or a decode of one token at context ≥ x = p + j − 1 (token j + 1), or, after a preemption or a
migration, a recomputation of p + j ≥ x + 1 tokens in one engine. The context of a prefill, its
tokens times their mean context, is p·(p + 1)/2 in all, however it is cut into chunks. (2) For any a, b ≥ 0 with h(T) ≥ a + b·T on the whole
range of T, and because 1 ≥ S / max_num_seqs and 1 ≥ C / K, a step takes at least

    (ps + a'/max_num_seqs)·S + (pt + b)·T + (dc + a″/K)·C   with a' + a″ = a.

This is linear, so it may be charged to the slots, tokens and contexts of the requests in it, one by one. (3) With
κ = min(dc + a″/K, pt + b) a decode and a recomputation alike charge at least slot + token + κ·x for token j + 1, and
the first charges slot + p·token + pc·p·(p + 1)/2. In GPU-seconds that is tp times as much, and at least the minimum over the shapes of the
LLM, whichever shape computed it. (4) That minimum is a concave function of x, so its sum over the equally spaced x of
one request is at least their number times the mean of its values at both ends. (5) Loads: an LLM with requests is
started at least once: tp·load_s GPU-seconds, minimum over its shapes. Nothing in (1) to (5) shares GPU time with
anything else, and N GPUs give N GPU-seconds a second, so

    makespan ≥ (Σ work + Σ loads) / N.

Critical path. A request starts no earlier than its LLM's fastest load and than the finish of its parents, and takes at
least its prefill and o − 1 steps alone in an engine, each with h(1): t ≥ h(1) + ps + pt·p + pc·p·(p + 1)/2 and
t ≥ h(1) + ps + pt + min(dc, pt)·x, minima over shapes, summed as in (4). The latest such finish is a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.latency.model import COEFFICIENTS, TOKEN_BREAKS
from samullm_tui.simulate.application import LLMModel, Problem, ShapeModel

__all__ = ["lower_bound"]

Floats = npt.NDArray[np.float64]
ROUNDING = 1e-9
"""Share by which the bound is lowered, so that sums in another order cannot fall below it."""


@dataclass(frozen=True, slots=True)
class Charge:
    """Least seconds that a slot, a token and a token of context cost, however the engine batches.

    `prefill_context_s` is per token and token of mean context, of prompts only.
    """

    slot_s: float
    token_s: float
    context_s: float
    prefill_context_s: float


@dataclass(frozen=True, slots=True)
class Totals:
    """What all requests of an LLM need at least: slots, tokens, decode context."""

    slots: float
    tokens: float
    context: float


def lower_bound(problem: Problem, output_tokens: IntArray) -> float:
    """Seconds. See the module's text for the proof."""
    table = problem.table
    if len(table) == 0:
        return 0.0
    prompts, outputs = _computed(problem, output_tokens)
    gpu_s = 0.0
    starts_s, takes_s = np.zeros(len(table)), np.zeros(len(table))
    for index, llm in enumerate(problem.llms):
        mine = np.flatnonzero(table.llm == index)
        if len(mine):
            p, o = prompts[mine].astype(np.float64), outputs[mine].astype(np.float64)
            gpu_s += _work(llm, p, o) + min(shape.tp * shape.load_s for shape in llm.shapes)
            starts_s[mine] = min(shape.load_s for shape in llm.shapes)
            takes_s[mine] = _alone(llm, p, o)
    return (1 - ROUNDING) * max(gpu_s / problem.gpus, _critical_path(table, starts_s, takes_s))


def upstream_tokens(table: RequestTable, output_tokens: IntArray) -> IntArray:
    """[n] tokens that the outputs of fed parents add to each request's prompt."""
    added = np.zeros(len(table), dtype=np.int64)
    children = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    np.add.at(added, children, output_tokens[table.parents] * table.fed)
    return added


def _computed(problem: Problem, output_tokens: IntArray) -> tuple[IntArray, IntArray]:
    """[n] prompt tokens and output tokens that engines really compute.

    An engine stops at max_model_len and refuses what has no room there or in its KV cache. Requests whose output
    depends on the shape that serves them, and all that take it, count as if they were free: output 0.
    """
    table = problem.table
    outputs = output_tokens.copy()
    while True:
        prompts = table.prompt_tokens + upstream_tokens(table, outputs)
        least, most = _served_outputs(problem, prompts, output_tokens)
        if np.array_equal(least, outputs):
            break
        outputs = least
    free = least != most
    children = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    while not free[children[free[table.parents]]].all():
        free[children[free[table.parents]]] = True
    return prompts, np.where(free, 0, outputs)


def _served_outputs(problem: Problem, prompts: IntArray, outputs: IntArray) -> tuple[IntArray, IntArray]:
    """[n] output tokens in the shape that gives least, and in the one that gives most."""
    least, most = np.zeros_like(outputs), np.zeros_like(outputs)
    for index, llm in enumerate(problem.llms):
        mine = np.flatnonzero(problem.table.llm == index)
        if len(mine):
            served = [_served(shape, prompts[mine], outputs[mine]) for shape in llm.shapes]
            least[mine], most[mine] = np.min(served, axis=0), np.max(served, axis=0)
    return least, most


def _served(shape: ShapeModel, prompts: IntArray, outputs: IntArray) -> IntArray:
    """[k] output tokens of requests in one shape; 0 where it refuses them."""
    ends = np.minimum(prompts + outputs, shape.config.max_model_len)
    room = shape.config.usable_blocks * shape.config.block_size + 1
    refused = (prompts >= ends) | (ends > room)
    return np.where(refused, 0, ends - prompts)


def _work(llm: LLMModel, prompts: Floats, outputs: Floats) -> float:
    """Least GPU-seconds of all requests of `llm`."""
    served = outputs > 0
    p, o = prompts[served], outputs[served]
    decodes, prefill = o - 1, p * (p + 1) / 2
    totals = Totals(
        float(o.sum()), float((p + decodes).sum()), float((decodes * (p + (decodes - 1) / 2)).sum())
    )
    charges = [(shape.tp, _dearest(shape, totals)) for shape in llm.shapes]
    first = np.min(
        [tp * (c.slot_s + c.token_s * p + c.prefill_context_s * prefill) for tp, c in charges], axis=0
    )
    ends = [
        np.min([tp * (c.slot_s + c.token_s + c.context_s * x) for tp, c in charges], axis=0)
        for x in (p, p + np.maximum(decodes - 1, 0))
    ]
    return float((first + decodes * (ends[0] + ends[1]) / 2).sum())


def _alone(llm: LLMModel, prompts: Floats, outputs: Floats) -> Floats:
    """[n] least seconds of each request, alone in an engine; 0 for one that no engine serves."""
    terms = [_terms(shape) for shape in llm.shapes]
    decodes = np.maximum(outputs - 1, 0)
    prefill = prompts * (prompts + 1) / 2
    first = np.min([t.step_s + t.token_s * prompts + t.prefill_context_s * prefill for t in terms], axis=0)
    ends = [
        np.min([t.step_s + t.token_s + min(t.context_s, t.token_s) * x for t in terms], axis=0)
        for x in (prompts, prompts + np.maximum(decodes - 1, 0))
    ]
    alone: Floats = np.where(outputs > 0, first + decodes * (ends[0] + ends[1]) / 2, 0.0)
    return alone


def _critical_path(table: RequestTable, starts_s: Floats, takes_s: Floats) -> float:
    """The latest finish when every request starts at once after its parents. One pass for each level."""
    children = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    starts = starts_s.copy()
    while True:
        finish = starts + takes_s
        later = starts_s.copy()
        np.maximum.at(later, children, finish[table.parents])
        if np.array_equal(later, starts):
            return float(finish.max())
        starts = later


@dataclass(frozen=True, slots=True)
class _Terms:
    """Of one shape: a step of one sequence without its tokens, and what a token and its context add."""

    step_s: float
    token_s: float
    context_s: float
    prefill_context_s: float


def _terms(shape: ShapeModel) -> _Terms:
    c = dict(zip(COEFFICIENTS, shape.latency.coefficients, strict=True))
    one_token_s = float(_rest(shape)[0])
    step_s = c["per_sequence_s"] + one_token_s
    return _Terms(step_s, c["per_token_s"], c["per_decode_context_s"], c["per_prefill_context_s"])


@lru_cache(maxsize=256)
def _rest(shape: ShapeModel) -> Floats:
    """h(T) for T = 1 … max_num_batched_tokens."""
    c = dict(zip(COEFFICIENTS, shape.latency.coefficients, strict=True))
    tokens = np.arange(1, shape.config.max_num_batched_tokens + 1, dtype=np.float64)
    rest = np.full(len(tokens), c["constant_s"])
    for start in TOKEN_BREAKS:
        rest += c[f"per_token_above_{start}_s"] * np.maximum(tokens - start, 0)
    experts = shape.latency.experts
    if experts:
        untouched = (1 - shape.latency.experts_per_token / experts) ** tokens
        rest += c["per_distinct_expert_s"] * experts * (1 - untouched)
    return rest


@lru_cache(maxsize=256)
def _tangents(shape: ShapeModel) -> tuple[tuple[float, float], ...]:
    """Pairs (a, b) with a, b ≥ 0 and h(T) ≥ a + b·T for every possible T."""
    rest = _rest(shape)
    tokens = np.arange(1, len(rest) + 1, dtype=np.float64)
    steepest = float((rest / tokens).min())
    above = [
        value for name, value in zip(COEFFICIENTS, shape.latency.coefficients, strict=True) if "above" in name
    ]
    slopes = {
        0.0,
        steepest,
        *(min(float(b), steepest) for b in np.cumsum(above)),
        *np.linspace(0, steepest, 9),
    }
    pairs = ((float((rest - b * tokens).min()), float(b)) for b in sorted(slopes))
    return tuple((max(a, 0.0) if b == steepest else a, b) for a, b in pairs if a >= 0 or b == steepest)


def _dearest(shape: ShapeModel, totals: Totals) -> Charge:
    """The charge, among the valid ones of this shape, under which the totals cost most."""

    def cost(charge: Charge) -> float:
        return (
            charge.slot_s * totals.slots + charge.token_s * totals.tokens + charge.context_s * totals.context
        )

    return max(_charges(shape), key=cost)


@lru_cache(maxsize=256)
def _charges(shape: ShapeModel) -> tuple[Charge, ...]:
    terms = _terms(shape)
    per_sequence_s = shape.latency.coefficients[COEFFICIENTS.index("per_sequence_s")]
    config = shape.config
    kv_tokens = max(1, (config.kv_blocks - 1) * config.block_size)
    charges = []
    for a, b in _tangents(shape):
        token_s = terms.token_s + b
        for on_slots, on_context in ((a, 0.0), (a / 2, a / 2), (0.0, a)):
            context_s = min(terms.context_s + on_context / kv_tokens, token_s)
            slot_s = per_sequence_s + on_slots / config.max_num_seqs
            charges.append(Charge(slot_s, token_s, context_s, terms.prefill_context_s))
    return tuple(charges)
