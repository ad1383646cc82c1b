"""Seconds of one engine step from what is in it: a non-negative combination of counts.

The step's time is affine in its decode context, so that many decode steps of one batch add up in closed form.

All terms but the last are those of a typical step. The last is the expected time of stalls: Python's garbage
collector interrupts few steps, for long, and the more often the more sequences there are (on the SamuLLM authors'
A100 steps in proportion to their square: 0.4 % of steps at 100 sequences, 9 % at 450, 50 to 100 ms each).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct, structs
from numba import njit

__all__ = [
    "COEFFICIENTS",
    "STALL",
    "TILE_TOKENS",
    "TOKEN_BREAKS",
    "IterationLatency",
    "iteration_s",
    "tiles",
    "typical",
]

TOKEN_BREAKS = (64, 128, 256, 512, 1024)
"""Token counts above which a token may cost more: the step turns from memory-bound to compute-bound."""

TILE_TOKENS = 128
"""Matrix products are computed in tiles of this many tokens. A tile that is begun costs as much as a full one; the
first is hidden behind the reading of the weights and part of the constant.
"""

COEFFICIENTS: tuple[str, ...] = (
    "constant_s",
    "per_sequence_s",
    "per_token_s",
    *(f"per_token_above_{tokens}_s" for tokens in TOKEN_BREAKS),
    "per_prefill_context_s",
    "per_decode_context_s",
    "per_distinct_expert_s",
    "per_further_tile_s",
    "prefill_step_s",
    "per_prefill_sequence_s",
    "per_mixed_decode_context_s",
    "stall_per_squared_sequence_s",
)

FIRST_BREAK = 3
PREFILL_CONTEXT = FIRST_BREAK + len(TOKEN_BREAKS)
DECODE_CONTEXT = PREFILL_CONTEXT + 1
DISTINCT_EXPERT = PREFILL_CONTEXT + 2
TILE = PREFILL_CONTEXT + 3
PREFILL_STEP = PREFILL_CONTEXT + 4
PREFILL_SEQUENCE = PREFILL_CONTEXT + 5
MIXED_DECODE_CONTEXT = PREFILL_CONTEXT + 6
STALL = PREFILL_CONTEXT + 7
EXPERTS = len(COEFFICIENTS)
EXPERTS_PER_TOKEN = EXPERTS + 1


@njit(cache=True, _nrt=False, error_model="numpy")
def iteration_s(
    vector: npt.NDArray[np.float64],
    num_seqs: int,
    prefill_tokens: int,
    prefill_context: float,
    decode_seqs: int,
    decode_context: float,
) -> float:
    """Seconds of one step, compiled. `vector` is what `IterationLatency.vector` returns.

    With T tokens in the step, E experts and k of them per token, the expected number of distinct experts is
    E·(1 − (1 − k/E)^T): each token misses a given expert with probability 1 − k/E.
    A step with prompt tokens has a constant and a cost per sequence of its own (it runs without CUDA graphs), and
    its decodes read their contexts slower (one attention kernel serves both, not the one made for decodes).
    """
    tokens = prefill_tokens + decode_seqs
    seconds = vector[0] + vector[1] * num_seqs + vector[2] * tokens
    for index, start in enumerate(TOKEN_BREAKS):
        if tokens > start:
            seconds += vector[FIRST_BREAK + index] * (tokens - start)
    seconds += vector[PREFILL_CONTEXT] * prefill_context + vector[DECODE_CONTEXT] * decode_context
    if tokens > TILE_TOKENS:
        seconds += vector[TILE] * ((tokens - 1) // TILE_TOKENS)
    seconds += vector[STALL] * num_seqs * num_seqs
    if prefill_tokens > 0:
        seconds += vector[PREFILL_STEP] + vector[PREFILL_SEQUENCE] * (num_seqs - decode_seqs)
        seconds += vector[MIXED_DECODE_CONTEXT] * decode_context
    experts = vector[EXPERTS]
    if experts > 0.0:
        seconds += (
            vector[DISTINCT_EXPERT] * experts * (1.0 - (1.0 - vector[EXPERTS_PER_TOKEN] / experts) ** tokens)
        )
    return float(seconds)


class IterationLatency(Struct, frozen=True):
    """What one engine step costs. `coefficients` are seconds in the order of COEFFICIENTS, none negative.

    `experts` and `experts_per_token` describe a mixture of experts; `experts` 0 is a dense model.
    """

    coefficients: tuple[float, ...]
    experts: int = 0
    experts_per_token: int = 0

    def vector(self) -> npt.NDArray[np.float64]:
        """Coefficients, then experts and experts per token: what the compiled kernels take.

        Raises ValueError when there are not as many coefficients as COEFFICIENTS.
        """
        if len(self.coefficients) != len(COEFFICIENTS):
            raise ValueError(f"{len(self.coefficients)} coefficients, {len(COEFFICIENTS)} are needed")
        return np.array([*self.coefficients, self.experts, self.experts_per_token], dtype=np.float64)

    def seconds(
        self,
        num_seqs: int,
        prefill_tokens: int,
        prefill_context: float,
        decode_seqs: int,
        decode_context: float,
    ) -> float:
        """Seconds of one step.

        `prefill_context` is the sum over prefill chunks of chunk tokens × mean context of the chunk;
        `decode_context` the context tokens of the decoding sequences.
        """
        step = (num_seqs, prefill_tokens, float(prefill_context), decode_seqs, float(decode_context))
        return float(iteration_s(self.vector(), *step))


def typical(latency: IterationLatency) -> IterationLatency:
    """A step that no stall hits."""
    return structs.replace(
        latency, coefficients=(*latency.coefficients[:STALL], 0.0, *latency.coefficients[STALL + 1 :])
    )


def tiles(tokens: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[n] tiles beyond the first of steps with so many tokens."""
    return np.asarray(np.maximum(np.ceil(tokens / TILE_TOKENS) - 1, 0.0))
