"""One output length for every request of an application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numba import njit

from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.lengths.answers import BoolArray
from samullm_tui.lengths.distribution import FloatArray, LengthDistribution

__all__ = ["cap", "draw", "expected"]


def draw(
    table: RequestTable,
    distributions: Mapping[str, LengthDistribution],
    context: IntArray,
    rng: np.random.Generator,
) -> IntArray:
    """[n] output tokens of each request of `table`, at least 1.

    Drawn from the distribution of its LLM (`distributions` by LLM name; the stratum of its prompt where there are
    strata), or what the data says where it says so; then capped by its max_tokens and by what its prompt leaves of
    `context` ([len(table.llm_names)] tokens of a request, prompt and output together). Outputs of its parents count
    as prompt where they are fed into it. Each request has its own level between 0 and 1, whatever it is drawn from.
    Raises KeyError where a length must be drawn for an LLM without a distribution.
    """
    lengths = table.known_tokens.copy()
    unknown = lengths < 0
    levels = np.zeros(len(table))
    fed = np.append(0, np.cumsum(table.fed))
    takes_outputs = fed[table.parent_start[1:]] > fed[table.parent_start[:-1]]
    later = np.zeros(len(table), dtype=np.bool_)
    for index, name in enumerate(table.llm_names):
        wanted = np.flatnonzero((table.llm == index) & unknown)
        if not len(wanted):
            continue
        distribution = distributions[name]
        levels[wanted] = rng.random(len(wanted))
        if distribution.strata is not None:
            later[wanted] = takes_outputs[wanted]
            wanted = wanted[~takes_outputs[wanted]]
        for part, chosen in distribution.given(table.prompt_tokens[wanted]):
            lengths[wanted[chosen]] = part.quantile(levels[wanted[chosen]])
    if not later.any():
        return cap(table, lengths, context)
    return _settle(table, lengths, context, later, levels, _tables(table, distributions))


def expected(
    table: RequestTable, distributions: Mapping[str, LengthDistribution], context: IntArray
) -> IntArray:
    """[n] output tokens to expect of each request before anything runs: what the data says, else the mean of its LLM's
    lengths under its max_tokens, for prompts of any length; then capped as in `draw`. Raises KeyError as `draw` does.
    """
    lengths = table.known_tokens.copy()
    for index, name in enumerate(table.llm_names):
        wanted = np.flatnonzero((table.llm == index) & (table.known_tokens < 0))
        for most in np.unique(table.max_tokens[wanted]):
            found = distributions[name]
            mean = np.minimum(found.tokens, most) @ np.diff(found.cumulative, prepend=0.0)
            lengths[wanted[table.max_tokens[wanted] == most]] = np.ceil(mean)
    return cap(table, lengths, context)


def cap(table: RequestTable, lengths: IntArray, context: IntArray) -> IntArray:
    """[n] `lengths` after the caps of `draw`."""
    if not table.fed.any():
        room = np.minimum(table.max_tokens, context[table.llm] - table.prompt_tokens)
        return np.asarray(np.maximum(1, np.minimum(lengths, room)), dtype=np.int64)
    nothing = _Tables(*(np.zeros(1, dtype=np.int64),) * 5, np.zeros(0))
    return _settle(
        table, lengths, context, np.zeros(len(table), dtype=np.bool_), np.zeros(len(table)), nothing
    )


class _Tables(NamedTuple):
    """Strata of all LLMs in flat arrays. Those of LLM i are first[i] to first[i + 1] (none for LLMs without).

    edge [strata] is the longest prompt of each (no limit for an LLM's last); its lengths are
    tokens[start:end], with cumulative[start:end].
    """

    first: IntArray
    edge: IntArray
    start: IntArray
    end: IntArray
    tokens: IntArray
    cumulative: FloatArray


def _tables(table: RequestTable, distributions: Mapping[str, LengthDistribution]) -> _Tables:
    found = [distributions.get(name) for name in table.llm_names]
    strata = [one.strata if one else None for one in found]
    parts = [part for one in strata if one for part in one.distributions]
    edges = [np.append(one.edges, np.iinfo(np.int64).max) for one in strata if one]
    ends = np.cumsum([len(part.tokens) for part in parts])
    return _Tables(
        first=np.cumsum([0, *(len(one.distributions) if one else 0 for one in strata)]),
        edge=np.concatenate(edges),
        start=ends - [len(part.tokens) for part in parts],
        end=ends,
        tokens=np.concatenate([part.tokens for part in parts]),
        cumulative=np.concatenate([part.cumulative for part in parts]),
    )


def _settle(
    table: RequestTable,
    lengths: IntArray,
    context: IntArray,
    later: BoolArray,
    levels: FloatArray,
    tables: _Tables,
) -> IntArray:
    fed_parents = np.where(table.fed != 0, table.parents, -1)
    settled: IntArray = _settle_fed(
        *(lengths, table.max_tokens, table.prompt_tokens, context, table.llm),
        *(table.parent_start, fed_parents, later, levels, tables),
    )
    return settled


def _settle_loop(
    lengths: IntArray,
    max_tokens: IntArray,
    prompt_tokens: IntArray,
    context: IntArray,
    llm: IntArray,
    start: IntArray,
    fed_parents: IntArray,
    later: BoolArray,
    levels: FloatArray,
    tables: _Tables,
) -> IntArray:
    """Draws (those of `later`) and caps in table order: parents stand before their children, so their outputs are
    settled when they are fed. `fed_parents` is -1 where a parent's output is not part of the prompt.
    """
    settled = np.empty_like(lengths)
    for i in range(len(lengths)):
        prompt = prompt_tokens[i]
        for parent in fed_parents[start[i] : start[i + 1]]:
            if parent >= 0:
                prompt += settled[parent]
        wanted = lengths[i]
        if later[i]:
            stratum = tables.first[llm[i]]
            while prompt > tables.edge[stratum]:
                stratum += 1
            first, end = tables.start[stratum], tables.end[stratum]
            wanted = tables.tokens[first + np.searchsorted(tables.cumulative[first:end], levels[i])]
        settled[i] = max(1, min(wanted, max_tokens[i], context[llm[i]] - prompt))
    return settled


_settle_fed = njit(cache=True)(_settle_loop)
