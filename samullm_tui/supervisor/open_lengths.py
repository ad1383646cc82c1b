"""How long the answers of a run will be, from those that it has: the prior of each LLM, corrected, and draws from it.

The requests that finish first are the short ones. Those that still run therefore count as well: as longer than what they
have. Beyond what they show, the shape of the prior is kept: a batch that began together tells nothing of its tail, and a
family fitted to the short half of it makes up a tail that is far too long. A draw gives a running request a length beyond
its tokens, and caps as the forecast's draws do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.lengths.answers import Answers, BoolArray
from samullm_tui.lengths.blend import Posterior, posterior
from samullm_tui.lengths.distribution import LengthDistribution
from samullm_tui.lengths.draw import draw
from samullm_tui.lengths.residual import sample_residual

__all__ = ["Seen", "believed", "draw_rest"]

SOURCE = "answers of this run"


@dataclass(frozen=True)
class Seen:
    """What a run shows of its requests, as arrays [n].

    done     it has ended, with or without an output
    tokens   output tokens it has: all of them when it is done
    ended    it has an output that ended by itself
    prompts  tokens of its prompt where that is known
    """

    done: BoolArray
    tokens: IntArray
    ended: BoolArray
    prompts: IntArray


def believed(
    table: RequestTable, priors: Mapping[str, LengthDistribution], seen: Seen
) -> dict[str, Posterior]:
    """What is known of further answers of each LLM that has open requests. Known ones say nothing about others."""
    drawn = table.known_tokens < 0
    beliefs: dict[str, Posterior] = {}
    for index in np.unique(table.llm[drawn & ~seen.done]).tolist():
        name = table.llm_names[index]
        mine = np.flatnonzero(drawn & (seen.tokens > 0) & (table.llm == index))
        answers = Answers(seen.tokens[mine], seen.ended[mine], seen.prompts[mine])
        beliefs[name] = posterior(priors[name], answers, source=SOURCE)
    return beliefs


def draw_rest(
    table: RequestTable,
    dists: Mapping[str, LengthDistribution],
    context: IntArray,
    seen: Seen,
    rng: np.random.Generator,
) -> IntArray:
    """[n] whole output tokens: of what is done those that it has, of what runs more than it has.

    `dists` of each LLM with open requests; `context` as in `lengths.draw.draw`. The tokens of what runs must be under all caps.
    """
    fixed = np.where(seen.done, np.maximum(seen.tokens, 1), table.known_tokens)
    begun = ~seen.done & (seen.tokens > 0)
    for index, name in enumerate(table.llm_names):
        mine = np.flatnonzero(begun & (table.llm == index) & (table.known_tokens < 0))
        if len(mine):
            fixed[mine] = sample_residual(dists[name], seen.tokens[mine], rng, seen.prompts[mine])
    lengths = draw(replace(table, known_tokens=fixed), dists, context, rng)
    return np.where(seen.done, seen.tokens, np.maximum(lengths, seen.tokens + begun))
