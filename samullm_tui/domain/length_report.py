"""How long the answers of each LLM are, as figures and as points to draw: what forecasting says and the console shows."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Family", "LLMLengths", "LengthReport", "PromptStratum", "RunLengths", "SeenLengths"]


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


class SeenLengths(Struct, frozen=True, kw_only=True):
    """Answers of one LLM in a run, against what was expected of the same requests.

    answers, running, requests  with an answer, in flight now, all there are
    mean, p50, p90, p99, max, cut_share  of the answers so far
    judged       answers that the comparison is made with: those sent so long ago that the others sent with them have
                 ended too. What ended first is short, and would look like a drift
    judged_mean, expected_mean  of those, observed and expected; 0 of none
    ks, drift    largest distance between the two curves, and whether the run's lengths are others than expected (None:
                 too few answers to say)
    cdf          share of the judged answers below each of the `cdf_tokens` of the LLM's expected lengths
    """

    llm: str
    answers: int
    running: int
    requests: int
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0
    cut_share: float = 0.0
    judged: int = 0
    judged_mean: float = 0.0
    expected_mean: float = 0.0
    ks: float | None = None
    drift: bool | None = None
    cdf: tuple[float, ...] = ()


class RunLengths(Struct, frozen=True, kw_only=True):
    """What was expected of the LLMs of a run, and what came; `seen` in the same order."""

    report: LengthReport
    seen: tuple[SeenLengths, ...]
    simulated: bool = False
