"""How long the answers of each LLM are, as figures and as points to draw: what forecasting says and the console shows."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Family", "LLMLengths", "LengthReport", "PromptStratum"]


class Family(Struct, frozen=True, kw_only=True):
    """A fitted family. `ks`: largest distance of its CDF from the empirical one. `cdf` is taken at the
    `cdf_tokens` of its LLM, `p99` is in tokens.
    """

    name: str
    parameters: dict[str, float]
    ks: float
    aic: float
    p99: float
    cdf: tuple[float, ...]


class PromptStratum(Struct, frozen=True, kw_only=True):
    """Answers to prompts of at most `prompt_tokens` (None: all longer ones). `samples` answers stand behind it."""

    prompt_tokens: int | None
    samples: int
    mean: float
    p50: float
    p90: float


class LLMLengths(Struct, frozen=True, kw_only=True):
    """Output tokens of one LLM's answers.

    `histogram[k]` is the share of answers in the bin from `histogram_edges[k]` to `histogram_edges[k + 1]`; the bins
    go up to p99.5, the last holds all longer answers. `estimated` says what stands in when nobody measured this LLM.

    `censored_share` of the samples were cut or had not ended; `tail_share` of the curve lies beyond `tail_beyond`
    tokens, which nobody saw end, and is continued by `tail_family` (empty: it stands there). `strata` are the curves
    by the length of the prompt where it matters; `prompts` says what the test found, `why` what is planned with, and
    `kind` in a word: measured, blended, pooled, estimated or simulated.
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
    tail_share: float = 0.0
    tail_beyond: int = 0
    tail_family: str = ""
    strata: tuple[PromptStratum, ...] = ()
    prompts: str = ""
    why: str = ""
    kind: str = "measured"


class LengthReport(Struct, frozen=True, kw_only=True):
    """One entry for each LLM, in the order of the application."""

    application: str
    llms: tuple[LLMLengths, ...]
