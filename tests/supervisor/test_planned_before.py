"""A run of a plan that the operator chose from a forecast: begun with that forecast, refused when it no longer holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.plan import Forecast
from samullm_tui.forecast.plans import make_forecast
from samullm_tui.forecast.problem import read_workload
from samullm_tui.locations import runs_dir
from samullm_tui.supervisor.spec import RunPaths

MakeRun = Callable[..., RunPaths]


@pytest.fixture
def forecast(application: Path, cluster: Cluster) -> Forecast:
    return make_forecast(read_workload(application), cluster, seed=0, samples=1)


def a_request_less(application: Path) -> None:
    data = application.with_name("questions.jsonl")
    data.write_text("\n".join(data.read_text().splitlines()[:-1]))


def another_title(application: Path) -> None:
    application.write_text(application.read_text() + "\n# another\n")


@pytest.mark.parametrize(
    ("change", "wrong"), [(a_request_less, "data have changed"), (another_title, "has changed since")]
)
def test_a_plan_of_something_else_is_not_begun(
    make_run: MakeRun, application: Path, forecast: Forecast, change: Callable[[Path], None], wrong: str
) -> None:
    change(application)
    with pytest.raises(PlanError, match=wrong):
        make_run(plan=None, forecast=forecast)
    assert not runs_dir().exists()


def test_a_plan_for_another_cluster_or_none_is_not_begun(make_run: MakeRun, forecast: Forecast) -> None:
    with pytest.raises(PlanError, match="was planned for a100-80g:8, not for cpu:2"):
        make_run(plan=None, forecast=replace(forecast, cluster="a100-80g:8"))
    with pytest.raises(PlanError, match="there is no plan 9"):
        make_run(plan=None, forecast=forecast, rank=9)
    assert make_run(plan=None, forecast=forecast, rank=2).spec.exists()
