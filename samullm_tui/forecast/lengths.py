"""How long the answers of each LLM of an application are: figures, and points to draw."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from samullm_tui.catalog.lengths import distribution_of, names
from samullm_tui.domain.application import LLM, Application
from samullm_tui.domain.length_report import Family, LengthReport, LLMLengths
from samullm_tui.lengths.distribution import LengthDistribution, from_pmf
from samullm_tui.lengths.families import FamilyFit, fit_families

__all__ = ["Lengths", "length_report", "lengths_of"]

BINS = 60
CDF_POINTS = 121
MOST_CENSORED = 0.1
"""Tables with more answers cut off than this say little about answers that end by themselves: not pooled."""


class Lengths(Struct, frozen=True):
    """The distribution to plan an LLM with. `estimated` is empty when it was measured on that LLM."""

    distribution: LengthDistribution
    estimated: str


def lengths_of(llm: LLM) -> Lengths:
    """The table that `llm.lengths` names, else the measured ones together, each with the same weight."""
    measured = distribution_of(llm.lengths)
    if measured is not None:
        return Lengths(measured, "")
    found = (distribution_of(name) for name in names() if not name.startswith("tiny:"))
    tables = [table for table in found if table is not None and table.censored_share <= MOST_CENSORED]
    how = f"output lengths pooled from {len(tables)} other LLMs"
    pooled = from_pmf(
        llm.lengths,
        np.concatenate([table.tokens for table in tables]),
        np.concatenate([np.diff(table.cumulative, prepend=0.0) for table in tables]),
        source=how,
        samples=sum(table.samples for table in tables),
        censored_share=float(np.mean([table.censored_share for table in tables])),
    )
    return Lengths(pooled, how)


def length_report(application: Application) -> LengthReport:
    """Everything the Lengths screen and `samullm-tui lengths` show. A second or less for nine LLMs."""
    return LengthReport(application=application.name, llms=tuple(_row(llm) for llm in application.llms))


def _row(llm: LLM) -> LLMLengths:
    lengths = lengths_of(llm)
    d = lengths.distribution
    p50, p90, p99, longest_shown = (float(x) for x in d.quantile([0.5, 0.9, 0.99, 0.995]))
    edges = np.linspace(0, max(longest_shown, 1.0), BINS + 1)
    shares = np.diff(d.cdf(edges))
    shares[-1] += 1.0 - shares.sum()
    points = np.linspace(0, max(longest_shown, 1.0), CDF_POINTS)
    return LLMLengths(
        llm=llm.name,
        source=d.source,
        samples=d.samples,
        mean=d.mean,
        p50=p50,
        p90=p90,
        p99=p99,
        max=float(d.max),
        censored_share=d.censored_share,
        families=tuple(_family(fit, points) for fit in fit_families(d)),
        histogram_edges=tuple(edges.tolist()),
        histogram=tuple(shares.tolist()),
        cdf_tokens=tuple(points.tolist()),
        cdf=tuple(d.cdf(points).tolist()),
        estimated=lengths.estimated,
    )


def _family(fit: FamilyFit, points: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Family:
    return Family(
        name=fit.name,
        parameters=fit.parameters,
        ks=fit.ks,
        aic=fit.aic,
        p99=float(fit.quantile(0.99)),
        cdf=tuple(fit.cdf(points).tolist()),
    )
