"""The distribution to plan with, from what was observed of an LLM and what was known of it before."""

from __future__ import annotations

from samullm_tui.lengths.answers import Answers
from samullm_tui.lengths.blend import blend
from samullm_tui.lengths.conditional import Dependence, by_prompt, dependence
from samullm_tui.lengths.distribution import LengthDistribution
from samullm_tui.lengths.survival import continue_tail, kaplan_meier

__all__ = ["learn"]


def learn(
    name: str, answers: Answers, *, source: str, prior: LengthDistribution | None = None
) -> tuple[LengthDistribution, Dependence]:
    """The prior (which may be absent) blended with the answers, by prompt where they show that prompts matter.

    With it the outcome of that test. A prior with strata keeps them. Raises ValueError without prior and answers.
    """
    found = dependence(answers)
    if prior is None:
        return by_prompt(continue_tail(kaplan_meier(name, answers, source=source)), answers, found), found
    blended = blend(prior, answers, source=source)
    return (blended if blended.strata else by_prompt(blended, answers, found)), found
