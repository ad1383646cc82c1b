"""A prior data set, corrected by what was observed.

The prior counts as a few answers (`strength`) beside the observed ones. With a Dirichlet process of that mass as the
prior, the expected distribution given right-censored answers is that of Susarla and Van Ryzin (1976). In hazards, with
p and S share and survival of the prior, d(t) answers that ended at t tokens and r(t) of at least t tokens:

    hazard(t) = (strength p(t) + d(t)) / (strength S(t-1) + r(t)),        survival(t) = product of 1 - hazard up to t

Without observations it is the prior; of answers that all ended it is the average of prior and observed weighted by
strength and their number; with ever more of them it is their Kaplan-Meier estimate. Beyond the longest answer that was
cut or still runs nobody observed anything: there the shape is that of the best family fitted to the observations (see
survival) with weight (1 - r) n / (n + strength), for n answers that ended and the share r of the curve that lies there,
and the prior's for the rest. A running request always has lengths ahead of it.

Answers of other prompts, or of another version of an LLM, are often all longer or all shorter by a factor. Where the
observed median differs from the prior's by more than chance, the prior's lengths are first multiplied by

    (observed median / prior median) ^ (n / (n + 5))
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.lengths.answers import MOST_TOKENS, Answers
from samullm_tui.lengths.distribution import ROUNDING, FloatArray, LengthDistribution, Strata, Tail, from_pmf
from samullm_tui.lengths.survival import continue_tail, kaplan_meier, measured_shares, with_tail

__all__ = ["STRENGTH", "Posterior", "blend", "posterior", "scale_shift"]

STRENGTH = 10.0
"""Answers that a prior counts as. Of 5 to 300, the least held-out error on the measured sets: other prompts to the
same LLM have quite another distribution, so that its own first answers must count (benchmarks/bench_lengths.py)."""
SHIFT_ANSWERS = 5
SIGNIFICANT = 2.0
"""Standard errors by which the shares up to the observed median must differ to count as another scale."""


def blend(
    prior: LengthDistribution,
    answers: Answers,
    *,
    source: str,
    strength: float = STRENGTH,
    shift: bool = True,
    families: bool = True,
) -> LengthDistribution:
    """What to expect of further answers. `shift` allows the change of scale; without `families` the shape beyond the
    longest answer that was cut or still runs is the prior's alone.

    Strata of the prior are blended each with the answers to prompts of their lengths. `samples` counts the observed
    answers only. Without answers it is the prior itself.
    """
    return posterior(prior, answers, source=source, strength=strength, shift=shift).expected(
        families=families
    )


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What a prior and answers say together. Make one with `posterior`.

    prior     before a change of scale where there are no answers, else after it
    lengths   [k] those of the prior and of the answers that ended
    ending    [k] answers that ended there, those that the prior counts as included
    at_risk   [k] answers of at least that length, likewise
    parts     that of each of the prior's strata
    """

    prior: LengthDistribution
    answers: Answers
    source: str
    strength: float
    lengths: IntArray
    ending: FloatArray
    at_risk: FloatArray
    parts: tuple[Posterior, ...]

    def expected(self, *, families: bool = True) -> LengthDistribution:
        """The distribution to expect; see `blend`."""
        if not len(self.answers):
            return self.prior
        made = self._made(self.ending)
        made = _continued(made, self.answers, self.strength) if families else made
        return self._with([part.expected(families=families) for part in self.parts], self._marked(made))

    def draw(self, rng: np.random.Generator) -> LengthDistribution:
        """One that may be the true one.

        Up to the longest answer seen hazards are independent,

            hazard(t) ~ Beta(ending(t), at risk(t) - ending(t)),

        as the posterior of a Dirichlet process has them given right-censored answers (Hjort 1990); beyond it the shape
        is the prior's, stretched by a factor: a Dirichlet process has hardly any lengths there, and all that goes on so
        long would end at the same one.
        """
        parts = [part.draw(rng) for part in self.parts]
        made = self._marked(self._made(self._drawn(rng))) if len(self.answers) else self.prior
        seen = int(self.answers.tokens.max(initial=0))
        return self._with(parts, _stretched(made, seen, self.strength, rng))

    def _drawn(self, rng: np.random.Generator) -> FloatArray:
        """[k] what takes the place of `ending`."""
        seen = self.lengths <= self.answers.tokens.max()
        some = np.flatnonzero(seen & (self.ending > 0) & (self.ending < self.at_risk))
        ending, at_risk = self.ending[some], self.at_risk[some]
        drawn = self.ending.copy()
        drawn[some] = at_risk * rng.beta(ending, at_risk - ending)
        return drawn

    def _made(self, ending: FloatArray) -> LengthDistribution:
        outlived = _survival(ending, self.at_risk)
        shares: FloatArray = -np.diff(outlived, prepend=1.0)
        left = _left(outlived, self.answers, self.lengths)
        return with_tail(self.prior.name, self.lengths, shares, left, self.answers, source=self.source)

    def _marked(self, made: LengthDistribution) -> LengthDistribution:
        return _open(made, self.prior, self.answers)

    def _with(self, parts: list[LengthDistribution], made: LengthDistribution) -> LengthDistribution:
        strata = self.prior.strata
        return made if strata is None else replace(made, strata=Strata(strata.edges, tuple(parts)))


def posterior(
    prior: LengthDistribution,
    answers: Answers,
    *,
    source: str,
    strength: float = STRENGTH,
    shift: bool = True,
) -> Posterior:
    """Of `prior` given `answers`; see `blend`."""
    parts: tuple[Posterior, ...] = ()
    if prior.strata is not None:
        known = answers.where(answers.prompt_tokens >= 0)
        place = prior.strata.index_of(known.prompt_tokens)
        parts = tuple(
            posterior(part, known.where(place == k), source=source, strength=strength, shift=shift)
            for k, part in enumerate(prior.strata.distributions)
        )
    strength = min(strength, prior.samples)
    if shift and len(answers):
        prior = replace(_scaled(prior, scale_shift(prior, answers)), strata=prior.strata)
    ended, ends = np.unique(answers.tokens[answers.ended], return_counts=True)
    lengths = np.union1d(prior.tokens, ended)
    survival = 1.0 - prior.cdf(np.append(0, lengths))
    survival[-1] = 0.0
    ending = strength * (survival[:-1] - survival[1:])
    ending[np.searchsorted(lengths, ended)] += ends
    longer = len(answers) - np.searchsorted(np.sort(answers.tokens), lengths, side="left")
    at_risk = strength * survival[:-1] + longer
    return Posterior(prior, answers, source, strength, lengths, ending, at_risk, parts)


def _survival(ending: FloatArray, at_risk: FloatArray) -> FloatArray:
    """[k] the product limit; 0 from where nothing is at risk any more."""
    hazard = np.divide(ending, at_risk, out=np.ones_like(ending), where=at_risk > 0)
    return np.asarray(np.cumprod(1.0 - np.minimum(hazard, 1.0)))


def _left(outlived: FloatArray, answers: Answers, lengths: IntArray) -> float:
    """The share beyond all lengths: only answers that were seen to outlive them can have it, the rest is rounding."""
    return float(outlived[-1]) if (answers.tokens[~answers.ended] >= lengths[-1]).any() else 0.0


def _continued(made: LengthDistribution, answers: Answers, strength: float) -> LengthDistribution:
    """Beyond the longest answer that was cut, the prior's shape and that of the family fitted to the answers."""
    observed = continue_tail(kaplan_meier(made.name, answers, source=made.source))
    if observed.tail is None or not observed.tail.family:
        return continue_tail(made)
    shares = measured_shares(made)
    after = made.tokens > observed.tail.beyond
    rest = float(shares[after].sum()) if made.tail is None else made.tail.share
    if rest <= ROUNDING:
        return made
    n = int(answers.ended.sum())
    weight = 1.0 - (1.0 - rest) * n / (n + strength) if after.any() else 0.0
    beyond = observed.tokens > observed.tail.beyond
    family = np.diff(observed.cumulative, prepend=0.0)[beyond]
    shares[after] *= weight
    mixed = from_pmf(
        made.name,
        np.concatenate((made.tokens, observed.tokens[beyond])),
        np.concatenate((shares, family * ((1.0 - weight) * rest / family.sum()))),
        source=made.source,
        samples=made.samples,
    )
    tail = replace(observed.tail, share=rest)
    return replace(made, tokens=mixed.tokens, cumulative=mixed.cumulative, tail=tail)


def _open(blended: LengthDistribution, prior: LengthDistribution, answers: Answers) -> LengthDistribution:
    """Marks what neither the prior nor the answers saw end."""
    if prior.tail is None or blended.tail is not None:
        return blended
    measured = prior.tokens[prior.cumulative <= 1.0 - prior.tail.share + ROUNDING]
    seen = int(np.concatenate((measured, answers.tokens[answers.ended])).max(initial=1))
    share = 1.0 - float(blended.cdf(seen))
    tail = Tail(share, max(seen, prior.tail.beyond), prior.tail.family)
    return replace(blended, tail=tail) if share > ROUNDING else blended


def scale_shift(prior: LengthDistribution, answers: Answers) -> float:
    """The factor for the prior's lengths; 1 where the observed median (or, when fewer than half of the answers can
    be told to have ended, the highest quantile that they show) agrees with the prior's.
    """
    n = int(answers.ended.sum())
    if not n:
        return 1.0
    observed = kaplan_meier(prior.name, answers, source="")
    reached = 1.0 - (observed.tail.share if observed.tail else 0.0)
    level = min(0.5, reached)
    here = int(observed.quantile(level))
    expected = float(prior.cdf(here))
    known = int((answers.ended | (answers.tokens >= here)).sum())
    error = np.sqrt((expected * (1.0 - expected) or 0.25) / known)
    if abs(min(reached, float(observed.cdf(here))) - expected) < SIGNIFICANT * error:
        return 1.0
    return float((here / int(prior.quantile(level))) ** (n / (n + SHIFT_ANSWERS)))


def _stretched(
    dist: LengthDistribution, seen: int, strength: float, rng: np.random.Generator
) -> LengthDistribution:
    """`dist` with its lengths beyond `seen` tokens stretched from there by a factor whose mean is 1.

    They are known as well as `strength` answers tell them: it is the mean of so many over the mean of all.
    """
    beyond = np.searchsorted(dist.tokens, seen, side="right")
    shares = np.diff(dist.cumulative, prepend=0.0)
    rest = float(shares[beyond:].sum())
    if rest <= ROUNDING:
        return dist
    excess, weights = dist.tokens[beyond:] - seen, shares[beyond:] / rest
    factor = rng.choice(excess, max(1, round(strength)), p=weights).mean() / (excess @ weights)
    lengths = np.clip(np.rint(seen + excess * factor), seen + 1, MOST_TOKENS).astype(np.int64)
    tokens = np.append(dist.tokens[:beyond], lengths)
    stretched = from_pmf(dist.name, tokens, shares, source=dist.source, samples=dist.samples)
    return replace(dist, tokens=stretched.tokens, cumulative=stretched.cumulative)


def _scaled(prior: LengthDistribution, factor: float) -> LengthDistribution:
    """The prior with all its lengths multiplied."""
    if factor == 1.0:
        return prior
    lengths = np.clip(np.rint(prior.tokens * factor), 1, MOST_TOKENS).astype(np.int64)
    shares = np.diff(prior.cumulative, prepend=0.0)
    scaled = from_pmf(prior.name, lengths, shares, source=prior.source, samples=prior.samples)
    tail = prior.tail and replace(prior.tail, beyond=max(1, round(prior.tail.beyond * factor)))
    return replace(scaled, tail=tail)
