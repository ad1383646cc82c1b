"""Whether the length of an answer depends on that of its prompt, and the distributions by prompt if so. Tested.

Prompts are put into strata of equal numbers. Each answer gets its expected rank: the share of all answers that it is
longer than; of one that was cut, the middle of the ranks above the length at which it was cut (the scores of the
Wilcoxon test generalised to censored data, Peto and Peto 1972). If prompts did not matter, (n - 1) times the share of
the ranks' variance that lies between the strata would be chi-squared with (strata - 1) degrees of freedom (Kruskal and
Wallis 1952, whose statistic it is where nothing was cut). Unlike a correlation this sees a dependence that is not
monotone. Of many answers every trifle is significant: the share must also be worth it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.lengths.answers import Answers
from samullm_tui.lengths.blend import blend
from samullm_tui.lengths.distribution import FloatArray, LengthDistribution, Strata
from samullm_tui.lengths.survival import kaplan_meier

__all__ = ["Dependence", "by_prompt", "dependence"]

MOST_STRATA, LEAST_ANSWERS = 8, 50
SIGNIFICANCE, LEAST_EFFECT = 1e-3, 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Dependence:
    """Outcome of the test.

    answers  with a known prompt; too few (or all of one length) are not tested: `strata` is 1 then
    effect   share of the variance of the answers' ranks that the prompt's length explains (adjusted for the number
             of strata, so that it is about 0 when there is no dependence)
    p_value  chance of at least this where there is none
    edges    [strata - 1] as in `Strata`
    """

    answers: int
    strata: int
    effect: float
    p_value: float
    edges: IntArray

    @property
    def found(self) -> bool:
        """Significant, and large enough to matter."""
        return self.p_value < SIGNIFICANCE and self.effect >= LEAST_EFFECT


def dependence(answers: Answers) -> Dependence:
    """The test, on the answers whose prompt is known. At least 50 in each of two to eight strata."""
    from scipy import stats

    known = answers.where(answers.prompt_tokens >= 0)
    n = len(known)
    edges = _edges(known.prompt_tokens, min(MOST_STRATA, n // LEAST_ANSWERS))
    stratum = np.searchsorted(edges, known.prompt_tokens, side="left")
    strata = len(edges) + 1
    ranks = _expected_ranks(known) if n else np.zeros(0)
    spread = float(((ranks - ranks.mean()) ** 2).sum()) if n else 0.0
    if strata < 2 or spread <= 0:
        return Dependence(n, 1, 0.0, 1.0, np.zeros(0, dtype=np.int64))
    counts = np.bincount(stratum, minlength=strata)
    means = np.bincount(stratum, ranks, strata) / counts
    explained = float(counts @ (means - ranks.mean()) ** 2) / spread
    adjusted = 1.0 - (1.0 - explained) * (n - 1) / (n - strata)
    p_value = float(stats.chi2.sf((n - 1) * explained, strata - 1))
    return Dependence(n, strata, max(0.0, adjusted), p_value, edges)


def by_prompt(distribution: LengthDistribution, answers: Answers, found: Dependence) -> LengthDistribution:
    """`distribution` with strata when the test on `answers` found a dependence.

    Each stratum is shrunk to the distribution of all: that counts as a few answers beside its own (see `blend`).
    """
    if not found.found:
        return distribution
    known = answers.where(answers.prompt_tokens >= 0)
    stratum = np.searchsorted(found.edges, known.prompt_tokens, side="left")
    parts = tuple(
        blend(distribution, known.where(stratum == k), source=distribution.source)
        for k in range(found.strata)
    )
    return replace(distribution, strata=Strata(found.edges, parts))


def _edges(prompt_tokens: IntArray, strata: int) -> IntArray:
    """Upper ends of all strata but the last: quantiles of the prompts, so that none is empty."""
    if strata < 2:
        return np.zeros(0, dtype=np.int64)
    levels = np.arange(1, strata) / strata
    edges = np.unique(np.quantile(prompt_tokens, levels, method="inverted_cdf"))
    return np.asarray(edges[edges < prompt_tokens.max()], dtype=np.int64)


def _expected_ranks(answers: Answers) -> FloatArray:
    """[n] from 0 to 1."""
    pooled = kaplan_meier("", answers, source="")
    shorter, no_longer = pooled.cdf(answers.tokens - 1), pooled.cdf(answers.tokens)
    return np.where(answers.ended, (shorter + no_longer) / 2, (1.0 + no_longer) / 2)
