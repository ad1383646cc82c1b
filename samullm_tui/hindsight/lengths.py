"""The lengths of a run's answers against those expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from samullm_tui.domain.length_report import SeenLengths
from samullm_tui.domain.request import IntArray
from samullm_tui.hindsight.observed import FloatArray, Observed
from samullm_tui.lengths.answers import Answers
from samullm_tui.lengths.distribution import LengthDistribution
from samullm_tui.lengths.survival import kaplan_meier
from samullm_tui.simulate.application import Problem

__all__ = ["lengths_seen"]

BoolArray = npt.NDArray[np.bool_]

FEWEST = 30
"""With fewer answers nothing is said about a drift."""
CRITICAL = 1.63
"""Kolmogorov's distribution: a distance above this over the root of the sample happens in 1 % of equal samples."""
LEAST_KS = 0.05
"""A smaller distance is none that a plan would notice, however certain it is."""


def lengths_seen(
    problem: Problem,
    dists: Mapping[str, LengthDistribution],
    observed: Observed,
    now_s: float | None,
    running: Mapping[str, int],
    points: Sequence[Sequence[float]],
) -> tuple[SeenLengths, ...]:
    """One entry for each LLM. `now_s` is the run's clock while it goes on, None when it has ended; `points` [LLMs] are
    the tokens at which curves are wanted. Requests whose length the data says are no answers to compare.
    """
    table = problem.table
    drawn = table.known_tokens < 0
    settled = _settled(observed, now_s)
    found = []
    for number, name in enumerate(table.llm_names):
        mine = (table.llm == number) & drawn
        row = _row(name, observed, mine, running.get(name, 0))
        seen = mine & observed.answered
        found.append(_judged(row, problem, dists[name], observed, seen & settled, points[number]))
    return tuple(found)


def _settled(observed: Observed, now_s: float | None) -> BoolArray:
    """[n] sent longer ago than any answer has taken: of those nearly none is still to come."""
    if now_s is None or not observed.answered.any():
        return observed.answered
    stays = (observed.finish_s - observed.sent_s)[observed.answered]
    with np.errstate(invalid="ignore"):
        return np.asarray(observed.answered & (observed.sent_s <= now_s - stays.max()))


def _row(llm: str, observed: Observed, mine: BoolArray, running: int) -> SeenLengths:
    """What came so far, not compared yet."""
    seen = mine & observed.answered
    tokens = observed.output_tokens[seen]
    if not len(tokens):
        return SeenLengths(llm=llm, answers=0, running=running, requests=int(mine.sum()))
    p50, p90, p99 = (float(x) for x in np.quantile(tokens, [0.5, 0.9, 0.99], method="inverted_cdf"))
    return SeenLengths(
        llm=llm,
        answers=len(tokens),
        running=running,
        requests=int(mine.sum()),
        mean=float(tokens.mean()),
        p50=p50,
        p90=p90,
        p99=p99,
        max=float(tokens.max()),
        cut_share=float(observed.cut[seen].mean()),
    )


def _judged(
    row: SeenLengths,
    problem: Problem,
    dist: LengthDistribution,
    observed: Observed,
    judged: BoolArray,
    points: Sequence[float],
) -> SeenLengths:
    tokens = observed.output_tokens[judged]
    if not len(tokens):
        return row
    ended = ~observed.cut[judged]
    curve = kaplan_meier(row.llm, Answers.of(tokens, ended), source="")
    row = replace(
        row,
        judged=len(tokens),
        judged_mean=float(tokens.mean()),
        expected_mean=float(problem.expected_tokens[judged].mean()),
        cdf=tuple(curve.cdf(np.asarray(points)).tolist()),
    )
    if ended.sum() < FEWEST:
        return row
    at = _jumps(tokens[ended], dist)
    expected = _expected_cdf(dist, problem.expected_prompts[judged], at)
    ks = float(np.abs(curve.cdf(at) - expected).max())
    samples = len(tokens) * dist.samples / (len(tokens) + dist.samples) if dist.samples else len(tokens)
    return replace(row, ks=ks, drift=ks > max(LEAST_KS, CRITICAL / sqrt(samples)))


def _jumps(ended: IntArray, dist: LengthDistribution) -> IntArray:
    """Where one of the two curves rises, as far as answers were seen to end: they are apart most at one of these."""
    return np.union1d(ended, dist.tokens[dist.tokens <= ended.max()])


def _expected_cdf(dist: LengthDistribution, prompt_tokens: IntArray, at: IntArray) -> FloatArray:
    """[k] the share expected below each of `at` for answers to these prompts."""
    parts = dist.given(prompt_tokens)
    return np.asarray(
        np.sum([len(chosen) / len(prompt_tokens) * one.cdf(at) for one, chosen in parts], axis=0)
    )
