"""How long the answers of each LLM of an application are: figures, and points to draw."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from samullm_tui.catalog.lengths import distribution_of, names
from samullm_tui.domain.application import LLM, Application
from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.domain.length_report import Family, LengthReport, LLMLengths, PromptStratum
from samullm_tui.forecast.learnt import Learnt, learnt
from samullm_tui.lengths.answers import Answers
from samullm_tui.lengths.blend import STRENGTH
from samullm_tui.lengths.conditional import Dependence
from samullm_tui.lengths.distribution import LengthDistribution, Tail, from_pmf
from samullm_tui.lengths.families import FamilyFit, fit_families
from samullm_tui.lengths.learning import learn
from samullm_tui.lengths.reason import reason

__all__ = ["Lengths", "learnt_report", "length_report", "lengths_of"]

BINS = 60
CDF_POINTS = 121
MOST_CENSORED = 0.1
"""Tables with more answers cut off than this say little about answers that end by themselves: not pooled."""
FORGOTTEN = 100
"""From so many times a prior's strength on, a blend is called measured: the prior is under one percent of it."""


class Lengths(Struct, frozen=True):
    """The distribution to plan an LLM with.

    estimated  empty when it was measured on that LLM, else what stands in
    kind       measured, blended, pooled, estimated or simulated: how a sentence calls it
    blended    the prior that is part of it beside answers that were learnt, in words; empty without one
    tested     whether prompts matter, where answers were learnt
    """

    distribution: LengthDistribution
    estimated: str
    kind: str = "measured"
    blended: str = ""
    tested: Dependence | None = None


def lengths_of(llm: LLM) -> Lengths:
    """What planning draws this LLM's lengths from.

    The answers learnt under the name `llm.lengths` blended with the table of its checkpoint, else the table of that
    name, else of its checkpoint, else all measured tables together, each with the same weight. Raises InputError for
    damaged files of learnt lengths.
    """
    found = learnt(llm.lengths)
    if found is None:
        return _table(llm)
    # A checkpoint's own table is a better prior than other LLMs', whatever the learnt answers are called.
    prior = _known(llm.checkpoint)
    answers = found.of(llm.name)
    if answers is not None:
        return _blended(llm.name, found, answers, prior)
    has = ", ".join(sorted(found.answers))
    note = f"the lengths learnt from {found.source} have none of {llm.name} (they have {has})"
    return Lengths(prior.distribution, "; ".join(filter(None, (note, prior.estimated))), prior.kind)


def _table(llm: LLM) -> Lengths:
    named, own = _known(llm.lengths), _known(llm.checkpoint)
    if named.kind != "pooled" or own.kind == "pooled":
        return named
    return Lengths(
        own.distribution, f"no lengths are called {llm.lengths!r}, those of its checkpoint", own.kind
    )


def _known(name: str) -> Lengths:
    measured = distribution_of(name)
    if measured is None:
        return _pooled()
    return Lengths(measured, "", "estimated" if measured.source.startswith("estimate") else "measured")


@cache
def _pooled() -> Lengths:
    found = (distribution_of(name) for name in names() if not name.startswith("tiny:"))
    tables = [table for table in found if table is not None and table.censored_share <= MOST_CENSORED]
    how = f"output lengths pooled from {len(tables)} other LLMs"
    pooled = from_pmf(
        "pooled",
        np.concatenate([table.tokens for table in tables]),
        np.concatenate([np.diff(table.cumulative, prepend=0.0) for table in tables]),
        source=how,
        samples=sum(table.samples for table in tables),
        censored_share=float(np.mean([table.censored_share for table in tables])),
    )
    return Lengths(pooled, how, "pooled")


def _blended(llm: str, found: Learnt, answers: Answers, prior: Lengths) -> Lengths:
    source = f"{found.source}, and a prior counted as {STRENGTH:.0f}: {prior.distribution.source}"
    distribution, tested = learn(llm, answers, source=source, prior=prior.distribution)
    few = int(answers.ended.sum()) < STRENGTH
    estimated = [f"drawn by simulated engines in {found.source}"] if found.simulated else []
    if few and prior.estimated:
        estimated.append(f"{len(answers)} answers and {prior.estimated}")
    blended = f"a prior counted as {STRENGTH:.0f}" if len(answers) < FORGOTTEN * STRENGTH else ""
    kind = "blended" if blended else "simulated" if found.simulated else "measured"
    return Lengths(distribution, "; ".join(estimated), kind, blended, tested)


def length_report(application: Application, observed: Learnt | None = None) -> LengthReport:
    """Everything the Lengths screen and `samullm-tui lengths` show. A second or less for nine LLMs with tables.

    Answers `observed` now are blended into the LLMs of the same name (of an application with one LLM, into that).
    Raises InputError when they are of other LLMs.
    """
    lengths = {llm.name: lengths_of(llm) for llm in application.llms}
    if observed is not None:
        alone = len(application.llms) == 1
        answers = {name: observed.of(name) if alone else observed.answers.get(name) for name in lengths}
        if not any(answers.values()):
            wrong = f"has answers of {', '.join(sorted(observed.answers))}"
            raise InputError(Problem(observed.source, "", wrong, f"answers of {', '.join(lengths)}"))
        for name, those in answers.items():
            if those is not None:
                lengths[name] = _blended(name, observed, those, lengths[name])
    return LengthReport(
        application=application.name, llms=tuple(_row(name, one) for name, one in lengths.items())
    )


def learnt_report(found: Learnt) -> LengthReport:
    """What the answers say by themselves, without any prior."""
    rows = []
    for llm, answers in found.answers.items():
        distribution, tested = learn(llm, answers, source=found.source)
        estimated = f"drawn by simulated engines in {found.source}" if found.simulated else ""
        kind = "simulated" if found.simulated else "measured"
        rows.append(_row(llm, Lengths(distribution, estimated, kind, tested=tested)))
    return LengthReport(application=found.source, llms=tuple(rows))


def _row(llm: str, lengths: Lengths) -> LLMLengths:
    d = lengths.distribution
    p50, p90, p99, longest_shown = (float(x) for x in d.quantile([0.5, 0.9, 0.99, 0.995]))
    edges = np.linspace(0, max(longest_shown, 1.0), BINS + 1)
    shares = np.diff(d.cdf(edges))
    shares[-1] += 1.0 - shares.sum()
    points = np.linspace(0, max(longest_shown, 1.0), CDF_POINTS)
    fits = fit_families(d)
    tail = d.tail or Tail(0.0, 0)
    return LLMLengths(
        llm=llm,
        source=d.source,
        samples=d.samples,
        mean=d.mean,
        p50=p50,
        p90=p90,
        p99=p99,
        max=float(d.max),
        censored_share=d.censored_share,
        families=tuple(_family(fit, points) for fit in fits),
        histogram_edges=tuple(edges.tolist()),
        histogram=tuple(shares.tolist()),
        cdf_tokens=tuple(points.tolist()),
        cdf=tuple(d.cdf(points).tolist()),
        estimated=lengths.estimated,
        tail_share=tail.share,
        tail_beyond=tail.beyond,
        tail_family=tail.family,
        strata=_strata(d),
        prompts=_prompts(lengths.tested),
        kind=lengths.kind,
        why=reason(d, fits, table=lengths.kind, blended=lengths.blended),
    )


def _family(fit: FamilyFit, points: npt.NDArray[np.float64]) -> Family:
    return Family(
        name=fit.name,
        parameters=fit.parameters,
        ks=fit.ks,
        aic=fit.aic,
        p99=float(fit.quantile(0.99)),
        cdf=tuple(fit.cdf(points).tolist()),
    )


def _strata(distribution: LengthDistribution) -> tuple[PromptStratum, ...]:
    if distribution.strata is None:
        return ()
    ends: list[int | None] = [*distribution.strata.edges.tolist(), None]
    return tuple(
        PromptStratum(
            prompt_tokens=end,
            samples=part.samples,
            mean=part.mean,
            p50=float(part.quantile(0.5)),
            p90=float(part.quantile(0.9)),
        )
        for end, part in zip(ends, distribution.strata.distributions, strict=True)
    )


def _prompts(tested: Dependence | None) -> str:
    """What the test says, in words."""
    if tested is None:
        return ""
    if tested.strata < 2:
        return "prompts not tested: too few answers whose prompt is known, or all alike"
    figures = f"{100 * tested.effect:.1f} % of the variance of ranks, p {_chance(tested.p_value)}"
    return (
        f"prompts matter ({figures}): {tested.strata} strata"
        if tested.found
        else f"prompts do not matter ({figures})"
    )


def _chance(p_value: float) -> str:
    return "< 0.001" if p_value < 1e-3 else f"{p_value:.3f}"
