"""Seconds of one engine step from what is in it: a non-negative combination of counts.

The step's time is affine in its decode context, so that many decode steps of one batch add up in closed form.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from numba import njit

__all__ = ["COEFFICIENTS", "TOKEN_BREAKS", "IterationLatency", "iteration_s"]

TOKEN_BREAKS = (64, 128, 256, 512, 1024)
"""Token counts above which a token may cost more: the step turns from memory-bound to compute-bound."""

COEFFICIENTS: tuple[str, ...] = (
    "constant_s",
    "per_sequence_s",
    "per_token_s",
    *(f"per_token_above_{tokens}_s" for tokens in TOKEN_BREAKS),
    "per_prefill_context_s",
    "per_decode_context_s",
    "per_distinct_expert_s",
)

FIRST_BREAK = 3
PREFILL_CONTEXT = FIRST_BREAK + len(TOKEN_BREAKS)
DECODE_CONTEXT = PREFILL_CONTEXT + 1
DISTINCT_EXPERT = PREFILL_CONTEXT + 2
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
    """
    tokens = prefill_tokens + decode_seqs
    seconds = vector[0] + vector[1] * num_seqs + vector[2] * tokens
    for index, start in enumerate(TOKEN_BREAKS):
        if tokens > start:
            seconds += vector[FIRST_BREAK + index] * (tokens - start)
    seconds += vector[PREFILL_CONTEXT] * prefill_context + vector[DECODE_CONTEXT] * decode_context
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
        """Coefficients, then experts and experts per token: what the compiled kernels take."""
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
