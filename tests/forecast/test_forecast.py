"""The shipped applications, planned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.plan import Forecast
from samullm_tui.forecast.plans import draws_of, make_forecast
from samullm_tui.forecast.problem import build_problem
from samullm_tui.locations import APPS
from samullm_tui.planner.validity import valid
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import Workload, build_requests


def workload(name: str) -> Workload:
    return build_requests(load_application(APPS / f"{name}.toml"))


@pytest.mark.parametrize("name", ["ensembling", "routing", "chain-summary", "mixed"])
def test_a_shipped_application_gets_ranked_valid_plans_above_the_bound(name: str) -> None:
    work, cluster = workload(name), cluster_from_preset("a100-80g:8")
    forecast = make_forecast(work, cluster, seed=1, samples=2)
    problem = build_problem(work, cluster).problem
    assert forecast.lower_bound_s > 0
    assert [c.rank for c in forecast.candidates] == [1, 2, 3, 4]
    assert {"search", "greedy", "min-heuristic", "max-heuristic"} == {
        c.plan.planner for c in forecast.candidates
    }
    for candidate in forecast.candidates:
        assert valid(problem, candidate.plan) == []
        assert candidate.gap > 0
        assert candidate.makespan_s.p50 > forecast.lower_bound_s
        assert candidate.loads >= len(problem.llms)
        assert candidate.explanation
    assert sum(forecast.requests.values()) == len(work.table)


def test_the_same_seed_gives_the_same_forecast() -> None:
    work, cluster = workload("chain-summary"), cluster_from_preset("a100-80g:8")
    one, two, other = (make_forecast(work, cluster, seed=s, samples=2) for s in (1, 1, 2))
    assert one.candidates == two.candidates
    assert one.candidates != other.candidates


def test_more_samples_keep_the_draws_of_fewer() -> None:
    inputs = build_problem(workload("chain-summary"), cluster_from_preset("a100-80g:8"))
    few, many = draws_of(inputs, 3, 2), draws_of(inputs, 3, 4)
    assert all((a == b).all() for a, b in zip(few, many, strict=False))


def worker(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "samullm_tui.forecast", *arguments], capture_output=True, check=False
    )


def test_the_worker_prints_one_forecast() -> None:
    done = worker("plan", str(APPS / "chain-summary.toml"), "--samples", "2", "--seed", "4")
    assert done.returncode == 0, done.stderr
    assert msgspec.json.decode(done.stdout, type=Forecast).seed == 4


def test_the_worker_prints_problems_instead_of_a_traceback(tmp_path: Path) -> None:
    done = worker("plan", str(tmp_path / "none.toml"))
    assert done.returncode == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["file"].endswith("none.toml")
    done = worker("plan", str(APPS / "chain-summary.toml"), "--cluster", "b200:8")
    assert done.returncode == 2
    assert "b200" in json.loads(done.stdout)["problems"][0]["wrong"]
