"""What a request costs at least in an engine, however it is batched; see `planner.bound` for why.

A charge is a row of prices, one for each quantity that a column names; an LLM's requests need `totals` of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray
from samullm_tui.latency.model import COEFFICIENTS, TILE_TOKENS, TOKEN_BREAKS
from samullm_tui.planner.bound_prefixes import Tokens
from samullm_tui.simulate.application import ShapeModel

__all__ = ["LONGEST", "Work", "alone", "charges", "longest_step_s", "mixed_work", "resumed_tokens", "totals"]

Floats = npt.NDArray[np.float64]

SLOT, DECODE, PROMPT, HELD, LONGEST, CONTEXT, PREFILL_CONTEXT, ABOVE = range(8)
"""Columns of a charge: seconds for a step of one sequence, a token of a decode, a token of a prompt, a token's place
in the KV cache for a step, a step of the longest path, a token of decode context, a token of prompt × a token of its
mean context; from ABOVE on, one for each of TOKEN_BREAKS, a token by which a prompt is longer than that."""
COLUMNS = ABOVE + len(TOKEN_BREAKS)


def totals(shape: ShapeModel, width: int, tokens: Tokens, longest: int, moves: int) -> Floats:
    """[COLUMNS] what all these requests need together, `longest` steps one after another. All outputs are at least 1."""
    prompts, outputs, own, once = tokens.prompts, tokens.outputs, tokens.own, tokens.once
    decodes = outputs - 1
    last = prompts + decodes
    held = _held(last, shape.config.block_size) - _held(prompts - 1, shape.config.block_size)
    held = held - outputs * tokens.shared
    above = [np.maximum(own - start, 0).sum() for start in TOKEN_BREAKS]
    context = (decodes * own + decodes * (decodes - 1) // 2).sum()
    context = context - resumed_tokens(shape, width, tokens, moves)
    sums = [outputs.sum(), decodes.sum(), own.sum() + once.sum(), held.sum(), longest, max(0, context)]
    return np.array([*sums, _prefill_context(tokens).sum() + _up_to(once).sum(), *above], dtype=np.float64)


def _up_to(tokens: IntArray) -> Floats:
    """1 + 2 + … + tokens."""
    return np.asarray(tokens * (tokens + 1) / 2, np.float64)


def _prefill_context(tokens: Tokens) -> Floats:
    """[k] contexts of the prompt's own tokens, added up."""
    return _up_to(tokens.prompts) - _up_to(tokens.shared)


def _held(tokens: IntArray, block: int) -> IntArray:
    """Places in the KV cache that a sequence of 1, 2, … `tokens` tokens holds, added up: blocks are held whole."""
    whole, rest = np.divmod(tokens, block)
    held: IntArray = block * block * (whole * (whole + 1) // 2) + rest * block * (whole + 1)
    return held


@lru_cache(maxsize=512)
def charges(shape: ShapeModel, width: int, shortest_own: int, longest_end: int) -> Floats:
    """[k, COLUMNS] valid charges when at most `width` requests run at a time, no prompt has fewer tokens of its own, and
    no request ends with more tokens.
    """
    config = shape.config
    seqs = min(config.max_num_seqs, config.max_num_batched_tokens, width)
    shares = {SLOT: seqs, HELD: max(1, config.usable_blocks * config.block_size), LONGEST: 1}
    rows = []
    for constant_s, row in _steps(shape, seqs, shortest_own, longest_end):
        for slope_s, fall_s in _stalls(shape, seqs):
            if constant_s >= fall_s:
                for column, places in shares.items():
                    rows.append(row.copy())
                    rows[-1][SLOT] += slope_s
                    rows[-1][column] += (constant_s - fall_s) / places
    return np.array(rows)


def _steps(
    shape: ShapeModel, seqs: int, shortest_own: int, longest_end: int
) -> Iterator[tuple[float, Floats]]:
    """Ways to charge a step: what is constant in it, and a charge of the rest. Stalls aside."""
    c = _coefficients(shape)
    per_token, per_context = c["per_token_s"], _per_context_s(shape, seqs, longest_end)
    most_s = shortest_own * (per_token - per_context)
    if _resumes(shape, seqs, longest_end):
        most_s = min(most_s, per_token)
    plain = np.zeros(COLUMNS)
    plain[[SLOT, DECODE, PROMPT]] = c["per_sequence_s"], per_token, per_token
    plain[[CONTEXT, PREFILL_CONTEXT]] = per_context, c["per_prefill_context_s"]
    for a, b in _tangents(shape, shape.config.max_num_batched_tokens, True):
        row = plain.copy()
        row[[DECODE, PROMPT]] += b
        yield a, row
    for whole_tiles in (False, True):
        for a, b in _tangents(shape, seqs, whole_tiles):
            row = plain.copy()
            row[DECODE] += min(b, most_s)
            row[ABOVE:] = _above(shape, not whole_tiles)
            yield a, row


def _stalls(shape: ShapeModel, seqs: int) -> Iterator[tuple[float, float]]:
    """Pairs (b, a) with stall·S² ≥ b·S − a: tangents."""
    stall = _coefficients(shape)["stall_per_squared_sequence_s"]
    yield 0.0, 0.0
    if stall > 0:
        yield from ((2 * stall * at, stall * at * at) for at in np.linspace(0.3, 1, 8) * seqs)


@dataclass(frozen=True, slots=True)
class Work:
    """GPU-seconds of an LLM's requests when every token is computed in the shape that is best for it.

    each     [k] of each request
    prefix   [k] of the prefix that it shares, once for all that have it
    resumed  what resumptions may save of all of it
    step     what each step of the longest path costs besides
    """

    each: Floats
    prefix: Floats
    resumed: float
    step: float

    def all(self, tokens: Tokens, longest: int) -> float:
        """Of all requests, `longest` steps one after another."""
        more = float(self.each.sum() + self.prefix[tokens.once > 0].sum()) - self.resumed
        return max(0.0, more) + self.step * longest


def mixed_work(tps: IntArray, chosen: Floats, tokens: Tokens, resumed: int) -> Work:
    """`resumed`: the most tokens of own context that resumptions have.

    `chosen` [shapes, COLUMNS] is a valid charge of each shape. For one request the least cost of a token is a concave
    function of its context, so its mean over equally spaced contexts is at least that of its values at both ends.
    """
    prices = tps[:, None] * chosen
    p, decodes = tokens.prompts.astype(np.float64), (tokens.outputs - 1).astype(np.float64)
    own, shared = tokens.own.astype(np.float64), tokens.shared.astype(np.float64)
    above = [np.maximum(own - start, 0) for start in TOKEN_BREAKS]
    none = np.zeros_like(p)
    needs = np.array([np.ones_like(p), none, own, own, none, none, _prefill_context(tokens), *above])
    first = (prices @ needs).min(axis=0)
    prefix = (prices[:, [PROMPT, PREFILL_CONTEXT]] @ np.array([shared, _up_to(tokens.shared)])).min(axis=0)
    flat = (prices[:, SLOT] + prices[:, DECODE] + prices[:, HELD])[:, None]
    slope = (prices[:, HELD] + prices[:, CONTEXT])[:, None]
    ends = [(flat + slope * x).min(axis=0) for x in (own, own + np.maximum(decodes - 1, 0))]
    each = first + decodes * (ends[0] + ends[1]) / 2
    return Work(each, prefix, resumed * float(prices[:, CONTEXT].max()), float(prices[:, LONGEST].min()))


def alone(
    shapes: tuple[ShapeModel, ...], width: int, tokens: Tokens
) -> tuple[Floats, Floats, tuple[float, float]]:
    """[k, shapes] least seconds of each request alone in an engine, [k] the same with the best shape for each step.

    0 for a request without output: no engine serves it. The last two values are the longest prefill and the longest
    decode step among these.
    """
    outputs = tokens.outputs
    decodes = np.maximum(outputs - 1, 0).astype(np.float64)
    longest_end = int((tokens.prompts + outputs).max(initial=0))
    own = tokens.own.astype(np.float64)
    first, low, high = [], [], []
    for shape in shapes:
        c = _coefficients(shape)
        least_s = c["per_sequence_s"] + float(_rest(shape, 1, True)[1])
        prefill = least_s * np.ceil(own / shape.config.max_num_batched_tokens) + c["per_token_s"] * own
        prefill += c["per_prefill_context_s"] * _prefill_context(tokens)
        for price, start in zip(_above(shape, True), TOKEN_BREAKS, strict=True):
            prefill += price * np.maximum(own - start, 0)
        per_context = _per_context_s(shape, width, longest_end)
        if _resumes(shape, width, longest_end):
            per_context = min(per_context, c["per_prefill_context_s"])
        first.append(prefill)
        low.append(least_s + c["per_token_s"] + per_context * own)
        high.append(low[-1] + per_context * np.maximum(decodes - 1, 0))
    served = outputs > 0
    each = np.array([f + decodes * (a + b) / 2 for f, a, b in zip(first, low, high, strict=True)])
    best = np.min(first, axis=0) + decodes * (np.min(low, axis=0) + np.min(high, axis=0)) / 2
    cut_s = (
        float((np.array(first) * served).max(initial=0.0)),
        float((np.array(high) * served).max(initial=0.0)),
    )
    return np.where(served[:, None], each.T, 0.0), np.where(served, best, 0.0), cut_s


@lru_cache(maxsize=512)
def longest_step_s(shape: ShapeModel, requests: int) -> float:
    """Seconds that no step with at most so many sequences exceeds."""
    config = shape.config
    # On an asynchronous engine what has stopped may have one more slot, beside what it was waited for by.
    requests = requests * 2 if config.async_scheduling else requests
    seqs, tokens = min(config.max_num_seqs, requests), config.max_num_batched_tokens
    tokens = min(tokens, seqs * config.max_model_len)
    context = min(config.usable_blocks * config.block_size, seqs * config.max_model_len)
    return shape.latency.seconds(seqs, tokens, float(tokens) * config.max_model_len, seqs, float(context))


def _resumes(shape: ShapeModel, width: int, longest_end: int) -> bool:
    """Whether preempted requests may find their own blocks again, so that one token of a recomputation is all that is
    computed for certain. Not where no request is ever preempted: all that run at a time have room.
    """
    config = shape.config
    each = -(-longest_end // config.block_size) + 1
    return config.prefix_caching and min(config.max_num_seqs, width) * each > config.usable_blocks


def _per_context_s(shape: ShapeModel, width: int, longest_end: int) -> float:
    """What a token of context costs at least, of a decode or of the recomputation that stands for it."""
    c = _coefficients(shape)
    least_s = min(c["per_decode_context_s"], c["per_token_s"])
    counted = shape.config.scheduling_policy == "fcfs" or not _resumes(shape, width, longest_end)
    return least_s if counted else min(least_s, c["per_prefill_context_s"])


def resumed_tokens(shape: ShapeModel, width: int, tokens: Tokens, moves: int) -> int:
    """The most tokens of own context that all resumptions together have; waiting requests leave engines `moves` times."""
    ends = tokens.prompts + tokens.outputs
    if len(ends) == 0 or not _resumes(shape, width, int(ends.max())):
        return 0
    held = -(-ends // shape.config.block_size) + 1
    return int(shape.config.block_size * (held.sum() + (len(held) + moves) * held.max()))


def _coefficients(shape: ShapeModel) -> dict[str, float]:
    return dict(zip(COEFFICIENTS, shape.latency.coefficients, strict=True))


@lru_cache(maxsize=512)
def _above(shape: ShapeModel, tiles: bool) -> tuple[float, ...]:
    """For each of TOKEN_BREAKS, what a token of a prompt beyond it costs at least, `tiles` included or not."""
    c, budget = _coefficients(shape), shape.config.max_num_batched_tokens
    slopes = {start: c[f"per_token_above_{start}_s"] for start in TOKEN_BREAKS}
    if tiles:
        slopes[TILE_TOKENS] += c["per_further_tile_s"] / TILE_TOKENS
    return tuple(slope * max(0.0, 1 - start / budget) for start, slope in slopes.items())


@lru_cache(maxsize=512)
def _rest(shape: ShapeModel, most: int, whole_tiles: bool) -> Floats:
    """h(T) for T = 0 … most tokens; a step has at least one, so h(0) counts the experts of one.

    The tiles beyond the first as they are, or only in proportion to the tokens beyond the first tile.
    """
    c = _coefficients(shape)
    tokens = np.arange(most + 1, dtype=np.float64)
    rest = np.full(len(tokens), c["constant_s"])
    for start in TOKEN_BREAKS:
        rest += c[f"per_token_above_{start}_s"] * np.maximum(tokens - start, 0)
    further = np.maximum(tokens - (1 if whole_tiles else TILE_TOKENS), 0) / TILE_TOKENS
    rest += c["per_further_tile_s"] * (np.floor(further) if whole_tiles else further)
    experts = shape.latency.experts
    if experts:
        untouched = (1 - shape.latency.experts_per_token / experts) ** np.maximum(tokens, 1)
        rest += c["per_distinct_expert_s"] * experts * (1 - untouched)
    return rest


@lru_cache(maxsize=512)
def _tangents(shape: ShapeModel, most: int, whole_tiles: bool) -> tuple[tuple[float, float], ...]:
    """Pairs (a, b) with a, b ≥ 0 and h(T) ≥ a + b·T for T = 0 … most."""
    rest = _rest(shape, most, whole_tiles)
    tokens = np.arange(len(rest), dtype=np.float64)
    steepest = float((rest[1:] / tokens[1:]).min())
    bends = np.cumsum([_coefficients(shape)[f"per_token_above_{start}_s"] for start in TOKEN_BREAKS])
    slopes = {0.0, *np.minimum(bends, steepest).tolist(), *np.linspace(0, steepest, 9).tolist()}
    pairs = ((float((rest - b * tokens).min()), float(b)) for b in sorted(slopes))
    return tuple((max(a, 0.0), b) for a, b in pairs if a > -1e-12 * steepest * most)
