"""Parametric families fitted to a length distribution, and how well they fit.

Maximum likelihood on the table's representative lengths. Those of its tail, which nobody saw end, count as
right-censored: all that is known of them is that they are longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samullm_tui.lengths.distribution import ROUNDING, LengthDistribution, Tail
from samullm_tui.lengths.likelihood import FAMILIES, maximum_likelihood

__all__ = ["FAMILIES", "FamilyFit", "fit_families"]

FloatArray = npt.NDArray[np.float64]

POINTS = 500
"""Representative lengths that stand for the whole table: a fit moves by less than 1 % against 10,000."""


@dataclass(frozen=True, slots=True)
class FamilyFit:
    """One fitted family.

    parameters  log-normal: mu, sigma (of the natural logarithm); gamma and Weibull: shape, scale (tokens)
    ks          greatest distance of its cdf from the table's, up to where the tail begins
    aic         Akaike's criterion for the number of measured answers; smaller is better
    """

    name: str
    parameters: dict[str, float]
    ks: float
    aic: float

    def cdf(self, x: npt.ArrayLike) -> FloatArray:
        """P(length ≤ x) of the continuous family. Any shape."""
        return np.asarray(_frozen(self.name, self.parameters).cdf(np.asarray(x, dtype=np.float64)))

    def quantile(self, p: npt.ArrayLike) -> FloatArray:
        """The length (not rounded) with cdf p. Any shape."""
        return np.asarray(_frozen(self.name, self.parameters).ppf(np.asarray(p, dtype=np.float64)))


def fit_families(distribution: LengthDistribution) -> tuple[FamilyFit, ...]:
    """The families fitted to `distribution`, best (least AIC) first.

    None where fewer than two different lengths ended by themselves: there is nothing to fit then.
    """
    points = distribution.quantile((np.arange(POINTS) + 0.5) / POINTS).astype(np.float64)
    tail = distribution.tail or Tail(0.0, distribution.max)
    ended, cut_off = np.split(points, [POINTS - round(tail.share * POINTS)])
    if tail.family:
        cut_off = np.full(len(cut_off), float(tail.beyond))
    if len(np.unique(ended)) < 2:
        return ()
    return tuple(sorted((_fit(n, ended, cut_off, distribution) for n in FAMILIES), key=lambda fit: fit.aic))


def _fit(name: str, ended: FloatArray, cut_off: FloatArray, distribution: LengthDistribution) -> FamilyFit:
    parameters = maximum_likelihood(name, ended, cut_off)
    family = _frozen(name, parameters)
    # The points stand for `samples` answers: their log-likelihood is scaled up to that many.
    scale = distribution.samples / POINTS
    log_likelihood = scale * (family.logpdf(ended).sum() + family.logsf(cut_off).sum())
    open_share = distribution.tail.share if distribution.tail else 0.0
    measured = distribution.cumulative <= 1.0 - open_share + ROUNDING
    lengths, cumulative = distribution.tokens[measured], distribution.cumulative[measured]
    # A length of k tokens stands for the values of a continuous family up to k + 1/2.
    ks = float(np.abs(family.cdf(lengths + 0.5) - cumulative).max())
    return FamilyFit(name, parameters, ks, float(2 * len(parameters) - 2 * log_likelihood))


def _frozen(name: str, parameters: dict[str, float]) -> Any:
    """SciPy's distribution of that family with those parameters."""
    from scipy import stats

    if name == "log-normal":
        return stats.lognorm(parameters["sigma"], scale=np.exp(parameters["mu"]))
    family = stats.gamma if name == "gamma" else stats.weibull_min
    return family(parameters["shape"], scale=parameters["scale"])
