"""Lengths as those of ShareGPT's conversations: two tables of quantiles, drawn from one after the other.

Computed from 10,000 conversations in tokens of Llama 2 (the validation sample that Vidur publishes, MIT licence). Prompt
and output are drawn apart: in the sample their rank correlation is 0.14.
"""

from __future__ import annotations

import numpy as np

from samullm_tui.domain.request import IntArray

__all__ = ["draw_lengths"]

SHARES = (
    *(0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75),
    *(0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99, 0.995, 1.0),
)
PROMPT = (
    *(1, 2, 3, 7, 9, 11, 13, 16, 18, 21, 24, 29, 35, 44, 55, 74, 101, 143),
    *(229, 404, 761, 1006, 1254, 1641, 1947, 2306, 2862, 3284, 3973),
)
OUTPUT = (
    *(3, 10, 12, 23, 44, 75, 106, 136, 167, 201, 232, 260, 286, 314, 341, 371, 405, 446),
    *(502, 571, 681, 736, 799, 878, 920, 953, 1000, 1044, 1734),
)


def draw_lengths(count: int, context: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """[count] tokens of the prompts and of the outputs; each pair fits in the context.

    Where the context is under that of the sample (4,096 tokens), all lengths shrink alike.
    """
    shrink = min(1.0, context / 4096)
    prompt, output = (
        np.maximum(1, np.rint(shrink * np.interp(rng.random(count), SHARES, table))).astype(np.int64)
        for table in (PROMPT, OUTPUT)
    )
    return np.minimum(prompt, context - 2), np.minimum(output, context - np.minimum(prompt, context - 2))
