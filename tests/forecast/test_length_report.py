"""The length report: figures and drawing points that agree with each other."""

from __future__ import annotations

import msgspec
import pytest

from samullm_tui.domain.application import LLM, Application
from samullm_tui.forecast.lengths import length_report, lengths_of


def application(*names: str) -> Application:
    llms = tuple(LLM(name=f"llm{k}", checkpoint=name, lengths=name) for k, name in enumerate(names))
    return Application(name="app", title="", file="app.toml", sha256="", llms=llms, data=(), nodes=())


def test_a_measured_llm_has_its_figures_families_and_points() -> None:
    (row,) = length_report(application("vicuna-13b-v1.5")).llms
    assert row.estimated == ""
    assert row.samples > 1000
    assert row.p50 < row.mean < row.p90 < row.p99 <= row.max
    assert {f.name for f in row.families} == {"log-normal", "gamma", "Weibull"}
    assert sum(row.histogram) == pytest.approx(1.0)
    assert len(row.histogram_edges) == len(row.histogram) + 1
    assert len(row.cdf) == len(row.cdf_tokens) == len(row.families[0].cdf)
    assert all(a <= b for a, b in zip(row.cdf, row.cdf[1:], strict=False))


def test_an_unknown_llm_gets_a_pool_of_the_known_and_says_so() -> None:
    (row,) = length_report(application("nobody/knows-this-1b")).llms
    assert "pooled from" in row.estimated
    assert row.samples > 0


def test_the_pool_gives_every_table_the_same_weight() -> None:
    llm = LLM(name="x", checkpoint="x", lengths="nobody-knows")
    pooled = lengths_of(llm).distribution
    assert pooled.cumulative[-1] == 1.0
    assert pooled.tokens[0] >= 1


def test_the_report_is_one_json_object() -> None:
    report = length_report(application("vicuna-13b-v1.5", "nobody-knows"))
    assert msgspec.json.decode(msgspec.json.encode(report), type=type(report)) == report
