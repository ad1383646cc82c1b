"""The distribution behind answers of which some were cut off or still run: the Kaplan-Meier estimate.

Up to the longest answer that ended it is measured. The share that outlived every observation stands at the last length
seen and is marked as `tail`; `continue_tail` spreads it by the fitted family of least AIC, given that it is beyond.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.lengths.answers import MOST_TOKENS, Answers
from samullm_tui.lengths.distribution import ROUNDING, FloatArray, LengthDistribution, Tail, from_pmf
from samullm_tui.lengths.families import FamilyFit, fit_families

__all__ = ["continue_tail", "kaplan_meier", "measured_shares", "with_tail"]

TAIL_POINTS = 100
MOST_OPEN = 0.5
"""More than this is not extrapolated. Where the three large measured sets are cut at their p60, continuing takes nearly
all of the excess error away in two and adds 3 % in the third; at their p30 it would help one, and make the error of
another four times as large (held-out error as in benchmarks/bench_lengths.py)."""
LEAST_SURVIVAL = 1e-9
"""A family that leaves less than this beyond the data says nothing about the shape there."""


def kaplan_meier(name: str, answers: Answers, *, source: str) -> LengthDistribution:
    """The distribution of the answers' full lengths. Without cut answers it is the empirical one.

    At a length where some ended and others were cut, those cut count as longer (Kaplan and Meier 1958).
    Assumes that being cut tells nothing about the length beyond. Raises ValueError without an answer.
    """
    from scipy import stats

    if not len(answers):
        raise ValueError(f"{name}: there are no answers")
    data = stats.CensoredData.right_censored(answers.tokens, ~answers.ended)
    survival = stats.ecdf(data).sf
    lengths = np.asarray(survival.quantiles, dtype=np.int64)
    shares = -np.diff(survival.probabilities, prepend=1.0)
    left = 0.0 if answers.ended[answers.tokens == lengths[-1]].all() else float(survival.probabilities[-1])
    return with_tail(name, lengths, shares, left, answers, source=source)


def with_tail(
    name: str, lengths: IntArray, shares: FloatArray, left: float, answers: Answers, *, source: str
) -> LengthDistribution:
    """The distribution with `shares` [k] at `lengths` [k], and `left` beyond all of `answers` and `lengths`."""
    beyond = max(int(answers.tokens.max()), int(lengths[-1]), 1)
    tokens, weights = np.append(lengths, beyond), np.append(shares, left)
    # Nothing ends before its first token: a length of 0 is that of a cut answer and has no share.
    made = from_pmf(name, tokens.clip(1), weights, source=source, samples=len(answers))
    return replace(made, censored_share=answers.censored_share, tail=Tail(left, beyond) if left > 0 else None)


def continue_tail(distribution: LengthDistribution) -> LengthDistribution:
    """`distribution` with its tail over lengths beyond, as the best fitted family has them.

    The same where there is no tail, where it is continued already, where no family can be fitted, or where more than
    half of the curve would be extrapolated.
    """
    tail = distribution.tail
    if tail is None or tail.family or tail.share > MOST_OPEN:
        return distribution
    fits = fit_families(distribution)
    points = _beyond(fits[0], tail.beyond) if fits else None
    if points is None:
        return distribution
    shares = measured_shares(distribution)
    tokens = np.concatenate((distribution.tokens, points))
    weights = np.concatenate((shares, np.full(TAIL_POINTS, tail.share / TAIL_POINTS)))
    continued = from_pmf(
        distribution.name, tokens, weights, source=distribution.source, samples=distribution.samples
    )
    return replace(
        distribution,
        tokens=continued.tokens,
        cumulative=continued.cumulative,
        tail=replace(tail, family=fits[0].name),
    )


def measured_shares(distribution: LengthDistribution) -> FloatArray:
    """[k] the share at each length, without that of a tail which stands at the last of them."""
    shares = np.diff(distribution.cumulative, prepend=0.0)
    if distribution.tail is not None and not distribution.tail.family:
        measured = shares[-1] - distribution.tail.share
        shares[-1] = measured if measured > ROUNDING else 0.0
    return shares


def _beyond(fit: FamilyFit, tokens: int) -> IntArray | None:
    """[100] equally likely lengths of the family above `tokens`; None where it has nothing there."""
    survival = 1.0 - float(fit.cdf(tokens + 0.5))
    if survival < LEAST_SURVIVAL:
        return None
    levels = (np.arange(TAIL_POINTS) + 0.5) / TAIL_POINTS
    lengths = fit.quantile(1.0 - survival * (1.0 - levels))
    return np.asarray(np.clip(np.rint(lengths), tokens + 1, MOST_TOKENS), dtype=np.int64)
