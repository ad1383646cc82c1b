"""How long an answer becomes that has produced some tokens already: its length L given L > t.

A length table ends; a running request need not. Beyond the longest length of the table the rest is taken as
memoryless (geometric), with the mean excess of the table's longest tenth, so that every request has an end to expect.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray
from samullm_tui.lengths.distribution import DENSE, MANY, LengthDistribution

__all__ = ["excess", "residual_mean", "sample_residual"]

FloatArray = npt.NDArray[np.float64]

TAIL_BEGINS = 0.9


def sample_residual(
    distribution: LengthDistribution,
    produced: npt.ArrayLike,
    rng: np.random.Generator,
    prompt_tokens: npt.ArrayLike = -1,
) -> IntArray:
    """[n] whole lengths, each greater than `produced` [n]. `prompt_tokens` [n] matters where there are strata.

    Of a request that has produced nothing this is a draw from the distribution.
    """
    tokens = np.atleast_1d(np.asarray(produced, dtype=np.int64))
    lengths = np.empty_like(tokens)
    for part, chosen in distribution.given(np.broadcast_to(np.asarray(prompt_tokens), tokens.shape)):
        lengths[chosen] = _sample(part, tokens[chosen], rng)
    return lengths


def _sample(distribution: LengthDistribution, produced: IntArray, rng: np.random.Generator) -> IntArray:
    shorter = distribution.cdf(produced)
    # In (0, 1], so that the level lies above the share of the lengths that are ruled out.
    share = 1.0 - rng.random(len(produced))
    lengths = np.maximum(distribution.quantile(shorter + (1.0 - shorter) * share), produced + 1)
    over = np.flatnonzero(produced >= distribution.max)
    if len(over):
        lengths[over] = produced[over] + rng.geometric(1.0 / excess(distribution), len(over))
    return lengths


def residual_mean(
    distribution: LengthDistribution, produced: npt.ArrayLike, prompt_tokens: npt.ArrayLike = -1
) -> FloatArray:
    """[n] the mean whole length of requests that have produced [n] tokens and go on."""
    tokens = np.atleast_1d(np.asarray(produced, dtype=np.int64))
    means = np.empty(len(tokens))
    for part, chosen in distribution.given(np.broadcast_to(np.asarray(prompt_tokens), tokens.shape)):
        means[chosen] = _mean(part, tokens[chosen])
    return means


def _mean(distribution: LengthDistribution, produced: IntArray) -> FloatArray:
    beyond = np.asarray(produced + excess(distribution), dtype=np.float64)
    if len(produced) < MANY or distribution.max >= DENSE:
        return _inside(distribution, produced, beyond)
    # A mean for every length there is: looking a million requests up is faster than searching for them.
    lengths = np.arange(distribution.max)
    means = _inside(distribution, lengths, lengths.astype(np.float64))
    inside = produced < distribution.max
    return np.where(inside, means[np.where(inside, produced, 0)], beyond)


def _inside(distribution: LengthDistribution, produced: IntArray, otherwise: FloatArray) -> FloatArray:
    """[n] the mean of the table's lengths above `produced`, and `otherwise` where there are none."""
    shares = np.diff(distribution.cumulative, prepend=0.0)
    above = np.append(np.cumsum((distribution.tokens * shares)[::-1])[::-1], 0.0)
    survival = np.append(np.cumsum(shares[::-1])[::-1], 0.0)
    place = np.searchsorted(distribution.tokens, produced, side="right")
    further = above / np.where(survival > 0, survival, 1.0)
    return np.where(survival[place] > 0, further[place], otherwise)


def excess(distribution: LengthDistribution) -> float:
    """Mean tokens (at least 1) that an answer goes on for after the longest length of the table.

    The mean excess over p90. Where the longest tenth is all of one length (cut there, or no spread at all), the mean
    of the exponential distribution that fits a table with such a tail: all its tokens for each answer that ended.
    """
    start = int(distribution.quantile(TAIL_BEGINS))
    if start < distribution.max:
        shares = np.diff(distribution.cumulative, prepend=0.0)
        longer = distribution.tokens > start
        return max(1.0, float((distribution.tokens[longer] - start) @ shares[longer] / shares[longer].sum()))
    ended = 1.0 - (distribution.tail.share if distribution.tail else 0.0)
    return max(1.0, distribution.mean / ended) if ended > 0 else max(1.0, distribution.mean)
