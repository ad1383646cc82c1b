"""The shipped applications, planned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.pin import Pin
from samullm_tui.domain.plan import Forecast
from samullm_tui.forecast.plans import SAMPLES, Draws, draws_of, make_forecast, ranked
from samullm_tui.forecast.problem import build_problem
from samullm_tui.locations import APPS
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
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


def test_a_forecast_says_on_how_many_draws_each_plan_was_simulated() -> None:
    work, cluster = workload("chain-summary"), cluster_from_preset("a100-80g:8")
    exact = make_forecast(work, cluster, seed=1, samples=5)
    assert exact.samples == 5
    assert {c.draws for c in exact.candidates} == {5}, "asked for: every plan on every draw"


def test_the_best_plan_of_a_small_application_has_all_draws_and_a_plan_alone_the_same() -> None:
    inputs = build_problem(workload("chain-summary"), cluster_from_preset("a100-80g:8"))
    (lengths,) = draws_of(inputs, 0, 1)
    plans = [planner(inputs.problem, lengths) for planner in (min_heuristic, max_heuristic)]
    candidates = ranked(inputs, plans, seed=0, samples=None, quantile=0.5).candidates
    assert candidates[0].draws == SAMPLES
    (alone,) = ranked(inputs, [candidates[0].plan], seed=0, samples=7, quantile=0.5).candidates
    assert alone.makespans_s == candidates[0].makespans_s[:7]


def test_draws_are_the_same_whenever_they_are_asked_for() -> None:
    inputs = build_problem(workload("chain-summary"), cluster_from_preset("a100-80g:8"))
    draws = Draws(inputs, 3, first=1, most=4)
    assert len(draws) == 4
    assert (draws[2] == list(draws)[2]).all()
    assert (draws[-1] == draws_of(inputs, 3, 5)[4]).all()
    with pytest.raises(IndexError):
        draws[4]


def test_a_forecast_keeps_pins_and_says_which() -> None:
    work, cluster = workload("chain-summary"), cluster_from_preset("a100-80g:8")
    pins = {"vicuna-13b": Pin(tp=2, dp=2, gpus=frozenset(range(4))), "Llama-2-70b": Pin(stage=1)}
    forecast = make_forecast(work, cluster, seed=1, samples=2, pins=pins)
    assert forecast.pins == (
        *("vicuna-13b tp 2", "vicuna-13b ×2", "vicuna-13b only on GPU 0–3", "Llama-2-70b starts in stage 1"),
    )
    problem = build_problem(work, cluster, pins).problem
    for candidate in forecast.candidates:
        assert valid(problem, candidate.plan) == []
        placements = [p for s in candidate.plan.stages for p in s.placements if p.llm == "vicuna-13b"]
        assert {(p.tp, p.dp) for p in placements} == {(2, 2)}
        assert all(set(p.gpus) <= set(range(4)) for p in placements)
    free = make_forecast(work, cluster, seed=1, samples=2)
    assert forecast.candidates[0].makespan_s.p50 >= 0.995 * free.candidates[0].makespan_s.p50


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
    done = worker("plan", str(APPS / "chain-summary.toml"), "--gpus", "4", "--pin", "vicuna-13b:gpus=4")
    assert done.returncode == 2
    assert "GPU 4 is not in the cluster" in json.loads(done.stdout)["problems"][0]["wrong"]
    done = worker("plan", str(APPS / "chain-summary.toml"), "--cluster", "b200:8")
    assert done.returncode == 2
    assert "b200" in json.loads(done.stdout)["problems"][0]["wrong"]
