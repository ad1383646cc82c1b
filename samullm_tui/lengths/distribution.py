"""The distribution of an LLM's output lengths, as a table of lengths and their cumulative probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray

__all__ = [
    "DENSE",
    "MANY",
    "ROUNDING",
    "LengthDistribution",
    "Strata",
    "Tail",
    "bin_shares",
    "from_pmf",
    "from_quantiles",
    "from_samples",
    "quantile_levels",
]

FloatArray = npt.NDArray[np.float64]

BODY_BINS, BODY_SHARE = 990, 0.99
TAIL_BINS = 100
MANY, CELLS, DENSE = 2048, 1 << 15, 1 << 20
"""From MANY values on, look-up tables of CELLS levels, or of every length below DENSE, are worth their making."""
ROUNDING = 1e-9
"""Sums of probabilities that should be equal differ by less."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The part of a distribution that nobody saw end: `share` of the answers are longer than `beyond` tokens.

    `family` is the fitted family that spreads them over longer lengths. Empty: they stand where they were cut, the
    longest of them at `beyond`.
    """

    share: float
    beyond: int
    family: str = ""


@dataclass(frozen=True, eq=False)
class LengthDistribution:
    """Output tokens of an LLM's answers. Make one with from_samples, from_pmf, from_quantiles or in survival, blend.

    tokens          [k] the lengths that occur, ascending, each at least 1
    cumulative      [k] P(length ≤ tokens), ascending, the last exactly 1
    samples         how many answers were measured
    censored_share  share of those answers that were cut off (max_tokens, the context window) or had not ended yet
    tail            what stands for the lengths that were never seen to end; None when all were
    strata          the distributions by the length of the prompt, where the data show that it matters; the table
                    itself is that of all prompts together
    """

    name: str
    tokens: IntArray
    cumulative: FloatArray
    source: str
    samples: int
    censored_share: float = 0.0
    tail: Tail | None = None
    strata: Strata | None = None

    @property
    def mean(self) -> float:
        return float(self.tokens @ np.diff(self.cumulative, prepend=0.0))

    @property
    def max(self) -> int:
        return int(self.tokens[-1])

    def quantile(self, p: npt.ArrayLike) -> IntArray:
        """The smallest length that at least a share p (0 to 1) of the answers do not exceed. Any shape."""
        levels = np.asarray(p, dtype=np.float64)
        if levels.size < MANY:
            return self.tokens[np.searchsorted(self.cumulative, levels, side="left")]
        cell = (levels * CELLS).astype(np.intp).ravel()
        place = self._guide[cell]
        unsure = np.flatnonzero(place != self._guide[cell + 1])
        place[unsure] = np.searchsorted(self.cumulative, levels.ravel()[unsure], side="left")
        return self.tokens[place].reshape(levels.shape)

    @cached_property
    def _guide(self) -> npt.NDArray[np.intp]:
        """[CELLS + 2] where the quantile of each multiple of 1 / CELLS stands: levels between two that agree need no
        search (the indexed search of Chen and Asau 1974).
        """
        levels = np.minimum(np.arange(CELLS + 2) / CELLS, 1.0)
        return np.searchsorted(self.cumulative, levels, side="left")

    def cdf(self, x: npt.ArrayLike) -> FloatArray:
        """Share of the answers of at most x tokens. Any shape."""
        values = np.asarray(x)
        if values.size >= MANY and values.dtype.kind in "iu" and self.max < DENSE:
            return np.asarray(self._shares[np.clip(values, 0, self.max)])
        below = np.searchsorted(self.tokens, values, side="right")
        return np.concatenate(([0.0], self.cumulative))[below]

    @cached_property
    def _shares(self) -> FloatArray:
        """[max + 1] the cdf at every whole length."""
        return self.cdf(np.arange(self.max + 1, dtype=np.float64))

    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        """[n] independent lengths."""
        return self.quantile(rng.random(n))

    def given(self, prompt_tokens: IntArray) -> list[tuple[LengthDistribution, npt.NDArray[np.intp]]]:
        """Which of these prompts ([n] tokens) take which distribution, as indices: this one where there are no strata."""
        if self.strata is None:
            return [(self, np.arange(len(prompt_tokens)))]
        stratum = self.strata.index_of(prompt_tokens)
        parts = [(one, np.flatnonzero(stratum == k)) for k, one in enumerate(self.strata.distributions)]
        return [(one, chosen) for one, chosen in parts if len(chosen)]

    def representative(self) -> IntArray:
        """[990 + 100] the lengths at `quantile_levels`: the table in short, finer in the last percent."""
        return self.quantile(quantile_levels())


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """Distributions by the length of the prompt.

    edges          [k - 1] ascending: a prompt of at most edges[0] tokens takes distributions[0], and so on
    distributions  [k] without strata of their own
    """

    edges: IntArray
    distributions: tuple[LengthDistribution, ...]

    def index_of(self, prompt_tokens: IntArray) -> npt.NDArray[np.intp]:
        """[n] the place in `distributions` for prompts of [n] tokens."""
        return np.searchsorted(self.edges, prompt_tokens, side="left")


def from_samples(
    name: str, samples: npt.ArrayLike, *, source: str, censored_share: float = 0.0
) -> LengthDistribution:
    """The empirical distribution of measured lengths. Raises ValueError without any, or with one under 1.

    A `censored_share` of them was cut off at the largest of these lengths.
    """
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
    if not len(weights) or not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(f"{name}: there must be weights, finite, not negative, and not all 0")
    tokens, weights = tokens[weights > 0], weights[weights > 0]
    if tokens[0] < 1:
        raise ValueError(f"{name}: an answer has at least 1 token")
    cumulative = np.cumsum(weights)
    cumulative /= cumulative[-1]
    tail = Tail(censored_share, int(tokens[-1])) if censored_share else None
    return LengthDistribution(name, tokens, cumulative, source, samples, censored_share, tail)


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
