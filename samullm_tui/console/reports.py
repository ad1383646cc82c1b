"""What worker processes print, as the console reads it."""

from __future__ import annotations

from msgspec import Struct, field

__all__ = ["CheckReport", "Family", "LLMLengths", "LengthReport", "WorkerProblem", "WorkerProblems"]


class Family(Struct, frozen=True, kw_only=True):
    """A fitted family. `ks`: largest distance of its CDF from the empirical one. `cdf` at the LLM's `cdf_tokens`."""

    name: str
    parameters: dict[str, float]
    ks: float
    aic: float
    p99: float
    cdf: tuple[float, ...] = ()


class LLMLengths(Struct, frozen=True, kw_only=True):
    """The output lengths of one LLM in tokens.

    `histogram[k]` is the share between `histogram_edges[k]` and `histogram_edges[k + 1]`, `cdf[k]` the share of answers
    of at most `cdf_tokens[k]` tokens. `estimated` says what stands in for an LLM that nobody measured.
    """

    llm: str
    source: str
    samples: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float
    censored_share: float
    families: tuple[Family, ...]
    histogram_edges: tuple[float, ...]
    histogram: tuple[float, ...]
    cdf_tokens: tuple[float, ...]
    cdf: tuple[float, ...]
    estimated: str = ""


class LengthReport(Struct, frozen=True, kw_only=True):
    application: str
    llms: tuple[LLMLengths, ...]


class CheckReport(Struct, frozen=True, kw_only=True):
    """Requests of each node, counted from the data."""

    application: str
    requests: dict[str, int] = field(default_factory=dict)


class WorkerProblem(Struct, frozen=True):
    """A problem as JSON."""

    file: str = ""
    place: str = ""
    wrong: str = ""
    right: str = ""


class WorkerProblems(Struct, frozen=True):
    """What a worker prints instead of its result."""

    problems: tuple[WorkerProblem, ...]
