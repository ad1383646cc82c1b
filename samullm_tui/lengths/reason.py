"""Why a distribution is planned with as it is, in a sentence for the operator.

The rule: the measured table is drawn from, not a family. Families are smooth but wrong in the tail, which decides when
a batch is finished; on the measured sets none had less held-out error than the table of 200 answers or more, and of 20
answers the table blended with a prior had less than any (benchmarks/bench_lengths.py). So a family stands in only where
nothing was measured: beyond the length at which answers were cut, as the one of least AIC continues the curve.
"""

from __future__ import annotations

import numpy as np

from samullm_tui.lengths.distribution import LengthDistribution
from samullm_tui.lengths.families import FamilyFit

__all__ = ["reason"]

CHECKED = ((0.99, "p99"), (0.9, "p90"), (0.5, "the median"))
CLOSE = 0.1
"""A quantile within this share is not worth a word."""
KS_LIMIT = 1.36
"""Over the square root of the number of answers: the Kolmogorov-Smirnov distance that 1 in 20 samples of the very
family exceeds (fitting the parameters makes it stricter still)."""


def reason(
    distribution: LengthDistribution, fits: tuple[FamilyFit, ...], *, table: str, blended: str = ""
) -> str:
    """`fits` are the families of `distribution`, best first. `table` is a word for what it is; `blended` names the
    prior that is part of it.
    """
    used = f"{table} is used: {_answers(distribution)}" + (f" and {blended}" if blended else "")
    return "; ".join(filter(None, (used, _families(distribution, fits), _tail(distribution))))


def _answers(distribution: LengthDistribution) -> str:
    return f"{distribution.samples:,} sample{'s' if distribution.samples != 1 else ''}"


def _families(distribution: LengthDistribution, fits: tuple[FamilyFit, ...]) -> str:
    if not fits:
        ended = distribution.censored_share < 1.0
        return "all that ended have one length, no family fits" if ended else "none ended by itself"
    best = fits[0]
    said = f"{best.name} fits best of the families (KS {best.ks:.3f})"
    wrong = _misses(distribution, best)
    if wrong:
        return f"{said} but {wrong}"
    limit = KS_LIMIT / np.sqrt(max(distribution.samples, 1))
    if best.ks > limit:
        return f"{said} but is further off than chance allows ({limit:.3f})"
    return f"{said} and agrees with it"


def _misses(distribution: LengthDistribution, fit: FamilyFit) -> str:
    """The highest quantile that was measured and that the family misses."""
    open_share = distribution.tail.share if distribution.tail else 0.0
    for level, name in CHECKED:
        if level <= 1.0 - open_share:
            error = float(fit.quantile(level)) / int(distribution.quantile(level)) - 1.0
            if abs(error) > CLOSE:
                return f"misses {name} by {abs(error):.0%}".replace("%", " %")
    return ""


def _tail(distribution: LengthDistribution) -> str:
    tail = distribution.tail
    if tail is None or tail.share < 5e-4:
        return ""
    share = f"{100 * tail.share:.1f} %"
    if tail.family:
        return f"beyond {tail.beyond:,} tokens ({share}) {tail.family} continues it"
    return f"{share} were cut short and stand where they were cut"
