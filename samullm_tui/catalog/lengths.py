"""Output-length tables of known LLMs."""

from __future__ import annotations

import csv
from functools import cache

import numpy as np

from samullm_tui.catalog.shapes import DATA, last_part
from samullm_tui.lengths.distribution import LengthDistribution, from_quantiles

__all__ = ["distribution_of", "names"]


def distribution_of(name: str) -> LengthDistribution | None:
    """The table of that name, in any case; of a checkpoint its last part counts."""
    row = _rows().get(last_part(name))
    return _distribution(row["llm"]) if row else None


def names() -> tuple[str, ...]:
    """Every table's name; those of the tiny checkpoints (`tiny:…`, estimates) come last."""
    return tuple(row["llm"] for row in _rows().values())


@cache
def _rows() -> dict[str, dict[str, str]]:
    with (DATA / "lengths.csv").open(newline="", encoding="utf-8") as file:
        return {row["llm"].casefold(): row for row in csv.DictReader(file)}


@cache
def _distribution(name: str) -> LengthDistribution:
    row = _rows()[name.casefold()]
    return from_quantiles(
        row["llm"],
        np.array(row["quantiles"].split(), dtype=np.int64),
        source=row["source"],
        samples=int(row["samples"]),
        censored_share=float(row["censored_share"]),
    )
