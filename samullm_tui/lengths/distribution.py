"""The distribution of an LLM's output lengths, as a table of lengths and their cumulative probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray

__all__ = [
    "LengthDistribution",
    "bin_shares",
    "from_pmf",
    "from_quantiles",
    "from_samples",
    "quantile_levels",
]

FloatArray = npt.NDArray[np.float64]

BODY_BINS, BODY_SHARE = 990, 0.99
TAIL_BINS = 100


@dataclass(frozen=True, slots=True, eq=False)
class LengthDistribution:
    """Output tokens of an LLM's answers. Make one with from_samples, from_pmf or from_quantiles.

    tokens          [k] the lengths that occur, ascending, each at least 1
    cumulative      [k] P(length ≤ tokens), ascending, the last exactly 1
    samples         how many answers were measured
    censored_share  share of the answers that were cut off (by the context window) instead of ending by themselves;
                    they stand in the table with the length at which they were cut
    """

    name: str
    tokens: IntArray
    cumulative: FloatArray
    source: str
    samples: int
    censored_share: float = 0.0

    @property
    def mean(self) -> float:
        return float(self.tokens @ np.diff(self.cumulative, prepend=0.0))

    @property
    def max(self) -> int:
        return int(self.tokens[-1])

    def quantile(self, p: npt.ArrayLike) -> IntArray:
        """The smallest length that at least a share p (0 to 1) of the answers do not exceed. Any shape."""
        return self.tokens[np.searchsorted(self.cumulative, np.asarray(p, dtype=np.float64), side="left")]

    def cdf(self, x: npt.ArrayLike) -> FloatArray:
        """Share of the answers of at most x tokens. Any shape."""
        below = np.searchsorted(self.tokens, np.asarray(x, dtype=np.float64), side="right")
        return np.concatenate(([0.0], self.cumulative))[below]

    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        """[n] independent lengths."""
        return self.quantile(rng.random(n))

    def representative(self) -> IntArray:
        """[990 + 100] the lengths at `quantile_levels`: the table in short, finer in the last percent."""
        return self.quantile(quantile_levels())


def from_samples(
    name: str, samples: npt.ArrayLike, *, source: str, censored_share: float = 0.0
) -> LengthDistribution:
    """The empirical distribution of measured lengths. Raises ValueError without any, or with one under 1."""
    tokens, counts = np.unique(np.asarray(samples, dtype=np.int64), return_counts=True)
    weights = np.asarray(counts, dtype=np.float64)
    n = int(counts.sum())
    return _make(name, tokens, weights, source=source, samples=n, censored_share=censored_share)


def from_pmf(
    name: str,
    lengths: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    source: str,
    samples: int,
    censored_share: float = 0.0,
) -> LengthDistribution:
    """From the weight of each length; weights need not add up to 1. Raises ValueError."""
    tokens, place = np.unique(np.asarray(lengths, dtype=np.int64), return_inverse=True)
    weights: FloatArray = np.zeros(len(tokens))
    np.add.at(weights, place, np.asarray(probabilities, dtype=np.float64))
    return _make(name, tokens, weights, source=source, samples=samples, censored_share=censored_share)


def from_quantiles(
    name: str, table: npt.ArrayLike, *, source: str, samples: int, censored_share: float = 0.0
) -> LengthDistribution:
    """From a table that `representative` made."""
    return from_pmf(name, table, bin_shares(), source=source, samples=samples, censored_share=censored_share)


def _make(
    name: str, tokens: IntArray, weights: FloatArray, *, source: str, samples: int, censored_share: float
) -> LengthDistribution:
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(f"{name}: weights must be finite, not negative, and not all 0")
    tokens, weights = tokens[weights > 0], weights[weights > 0]
    if tokens[0] < 1:
        raise ValueError(f"{name}: an answer has at least 1 token")
    cumulative = np.cumsum(weights)
    cumulative /= cumulative[-1]
    return LengthDistribution(name, tokens, cumulative, source, samples, censored_share)


def bin_shares() -> FloatArray:
    """[1090] the share of the answers that each entry of a quantile table stands for.

    1/1,000 in the body, 1/10,000 in the last percent: the longest answers decide when a batch is finished.
    """
    body = np.full(BODY_BINS, BODY_SHARE / BODY_BINS)
    return np.concatenate((body, np.full(TAIL_BINS, (1 - BODY_SHARE) / TAIL_BINS)))


def quantile_levels() -> FloatArray:
    """[1090] the probability at which each entry of a quantile table is taken: the middle of its share."""
    shares = bin_shares()
    return np.cumsum(shares) - shares / 2
