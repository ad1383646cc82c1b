"""Data sets that are lengths only, drawn from a seed: for planning without texts.

A field is tokens (a whole number a record), a label to route by, or a list of token counts to chain over.
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["MAX_ELEMENTS", "FieldKind", "field_kind", "synthetic_columns"]

FieldKind = Literal["tokens", "label", "list"]

MAX_ELEMENTS = 5_000_000
"""List elements of one field, over all records."""

Z90 = 1.2815515655446004
"""The 90 % point of the standard normal distribution."""


def field_kind(distribution: Mapping[str, Any]) -> FieldKind:
    """What a field of `DataSet.synthetic["fields"]` gives."""
    if "choice" in distribution:
        return "label"
    return "list" if "list" in distribution else "tokens"


def synthetic_columns(synthetic: Mapping[str, Any]) -> dict[str, Sequence[object]]:
    """For each field its value in every record: int, str, or list[int].

    Each field has its own stream, so that adding a field changes no other. Raises OverflowError when a list
    field would have more than MAX_ELEMENTS elements.
    """
    import numpy as np

    records, seed = int(synthetic["records"]), int(synthetic["seed"])
    columns: dict[str, Sequence[object]] = {}
    for name, distribution in synthetic["fields"].items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        columns[name] = _column(distribution, records, rng)
    return columns


def _column(distribution: Mapping[str, Any], records: int, rng: np.random.Generator) -> Sequence[object]:
    kind = field_kind(distribution)
    if kind == "label":
        labels, weights = list(distribution["choice"]), list(distribution["choice"].values())
        total = math.fsum(weights)
        drawn = rng.choice(len(labels), size=records, p=[w / total for w in weights])
        return [labels[k] for k in drawn.tolist()]
    if kind == "tokens":
        return array("q", _draw(distribution, records, rng, least=1).tobytes())
    counts = _draw(distribution["list"]["count"], records, rng, least=0)
    if int(counts.sum()) > MAX_ELEMENTS:
        raise OverflowError(f"{int(counts.sum()):,} elements")
    tokens = _draw(distribution["list"]["tokens"], int(counts.sum()), rng, least=1).tolist()
    ends = counts.cumsum().tolist()
    return [tokens[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _draw(
    distribution: Mapping[str, Any], size: int, rng: np.random.Generator, *, least: int
) -> npt.NDArray[np.int64]:
    """`size` whole numbers, none under `least`. Log-normal: median = exp(mu), p90 = exp(mu + Z90 sigma)."""
    import numpy as np

    if "uniform" in distribution:
        low, high = distribution["uniform"]
        drawn = rng.integers(low, high, size=size, endpoint=True)
    else:
        shape = distribution["lognormal"]
        mu = math.log(shape["median"])
        sigma = (math.log(shape["p90"]) - mu) / Z90
        values = rng.lognormal(mu, sigma, size)
        drawn = np.minimum(np.rint(values), shape.get("max", 2**31 - 1)).astype(np.int64)
    return np.maximum(drawn, least)
