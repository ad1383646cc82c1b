"""The contract of the command line: verbs, JSON keys, exit statuses."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from samullm_tui.cli.main import main
from samullm_tui.latency.model import COEFFICIENTS
from tests.cli.conftest import APPS, Verb

PLAN_KEYS = {"application", "cluster", "planning_s", "lower_bound_s", "samples", "seed", "candidates"}
CANDIDATE_KEYS = {"rank", "planner", "makespan_s", "gap", "gpu_hours", "loads", "stages"}
RUN_KEYS = {
    *(
        "run",
        "status",
        "requests",
        "outputs",
        "errors",
        "makespan_s",
        "predicted_makespan_s",
        "replans",
        "directory",
    ),
}
COLUMNS = ("num_seqs", "prefill_tokens", "decode_seqs", "context_tokens", "kv_blocks")


@pytest.mark.parametrize("app", ["chain-summary", "ensembling", "routing", "mixed"])
def test_plan_ranks_all_three_planners_over_a_lower_bound(app: str, verb: Verb) -> None:
    forecast = verb("plan", APPS / f"{app}.toml", "--cluster", "a100-80g:8", "--samples", 3)
    assert set(forecast) >= PLAN_KEYS
    assert forecast["samples"] == 3
    candidates = forecast["candidates"]
    assert {c["planner"] for c in candidates} >= {"greedy", "max-heuristic", "min-heuristic"}
    assert [c["rank"] for c in candidates] == list(range(1, len(candidates) + 1))
    for candidate in candidates:
        assert set(candidate) >= CANDIDATE_KEYS
        assert candidate["draws"] == 3
        assert (candidate["beats_best"] is None) == (candidate["rank"] == 1)
        assert sum(candidate["gpu_time_s"].values()) == pytest.approx(8 * candidate["stages"][-1]["end_s"])
        assert set(candidate["makespan_s"]) == {"mean", "p10", "p50", "p90"}
        assert 0 < forecast["lower_bound_s"] <= candidate["makespan_s"]["p50"]
        for stage in candidate["stages"]:
            gpus = [gpu for placement in stage["placements"] for gpu in placement["gpus"]]
            assert len(gpus) == len(set(gpus)) <= 8
            assert all(len(p["gpus"]) == p["tp"] * p["dp"] for p in stage["placements"])


@pytest.mark.parametrize("seed", [0, 1])
def test_simulate_equals_every_logged_step_of_the_real_engine(
    seed: int, verb: Verb, measured: Path, tmp_path: Path
) -> None:
    name = f"s64_t512_seed{seed}"
    profile = tmp_path / "profile.json"
    second = [0.01, *[0.0] * (len(COEFFICIENTS) - 1)]
    profile.write_text(json.dumps({"iteration": {"coefficients": second}}))
    outcome = verb(
        *("simulate", measured / "vllm-cpu" / f"{name}_requests.csv", "--latency", profile),
        *("--max-num-seqs", 64, "--max-num-batched-tokens", 512, "--kv-blocks", 8192, "--block-size", 128),
        *("--iterations", tmp_path / "out.csv", "--requests", tmp_path / "requests.csv"),
    )
    with (measured / "vllm-cpu" / f"{name}_iterations.csv").open() as file:
        logged = [[int(row[c]) for c in COLUMNS] for row in csv.DictReader(file)]
    with (tmp_path / "out.csv").open() as file:
        reader = csv.DictReader(file)
        simulated = [[int(row[c]) for c in COLUMNS] for row in reader]
    assert reader.fieldnames == ["iteration", "start_s", "duration_s", *COLUMNS]
    assert simulated == logged
    assert outcome["iterations"] == len(logged)
    assert set(outcome) == {"makespan_s", "iterations", "preemptions", "simulation_s", "output_tokens_per_s"}
    with (tmp_path / "requests.csv").open() as file:
        assert next(file).strip() == "id,arrival_s,scheduled_s,first_token_s,finish_s"


def test_fit_latency_writes_a_profile_that_simulate_takes(verb: Verb, tmp_path: Path) -> None:
    rows = ["num_seqs,prefill_tokens,prefill_context,decode_seqs,decode_context,latency_s"]
    rows += [
        f"{n},0,0,{n},{n * c},{0.01 + 1e-4 * n + 1e-7 * n * c}" for n in range(1, 40) for c in (64, 256, 900)
    ]
    rows += [f"1,{t},{t * t // 2},0,0,{0.01 + 2e-5 * t + 1e-9 * t * t / 2}" for t in range(20, 2000, 40)]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    errors = verb("fit-latency", tmp_path / "rows.csv", "-o", tmp_path / "profile.json")
    assert set(errors) == {"median_ape", "mape", "bias"}
    assert errors["median_ape"] < 0.1
    (tmp_path / "requests.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,100,10\n0.5,30,4\n")
    outcome = verb(
        "simulate", tmp_path / "requests.csv", "--latency", tmp_path / "profile.json", "--kv-blocks", 100
    )
    assert outcome["makespan_s"] > 0.1


def test_lengths_says_what_stands_behind_each_curve(verb: Verb) -> None:
    report = verb("lengths", APPS / "chain-summary.toml")
    keys = {"llm", "source", "samples", "mean", "p50", "p90", "p99", "max", "censored_share", "families"}
    for row in report["llms"]:
        assert set(row) >= keys
        assert row["p50"] <= row["p90"] <= row["p99"] <= row["max"]
        assert {"name", "parameters", "ks", "aic"} == set(row["families"][0])


def test_simulate_takes_vllms_options_and_their_columns(verb: Verb, tmp_path: Path) -> None:
    coefficients = [0.01, 0.0, 0.001, *[0.0] * (len(COEFFICIENTS) - 3)]
    profile = {"iteration": {"coefficients": coefficients}, "kv_blocks": 40}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    rows = "".join(f"0,200,20,30,7,192,{k % 2}\n" for k in range(6))
    columns = "arrival_s,prompt_tokens,output_tokens,max_tokens,prefix,prefix_tokens,priority\n"
    (tmp_path / "requests.csv").write_text(columns + rows)
    files = (tmp_path / "requests.csv", "--latency", tmp_path / "profile.json", "--max-num-seqs", 2)

    def result(*options: str) -> dict[str, float]:
        return verb("simulate", *files, *options)

    plain = result()
    assert set(plain) == {"makespan_s", "iterations", "preemptions", "simulation_s", "output_tokens_per_s"}
    assert result("--prefix-caching")["makespan_s"] < plain["makespan_s"]
    assert result("--async-scheduling")["iterations"] > plain["iterations"]
    assert result("--scheduling-policy", "priority", "--requests", str(tmp_path / "out.csv"))
    with (tmp_path / "out.csv").open() as file:
        finish_s = [float(row["finish_s"]) for row in csv.DictReader(file)]
    assert max(finish_s[::2]) < max(finish_s[1::2])
    (tmp_path / "requests.csv").write_text(columns)
    assert result()["makespan_s"] == 0.0


def test_a_simulated_run_ends_in_one_output_a_request_and_replays_the_same(
    verb: Verb, home: Path, tmp_path: Path
) -> None:
    app = APPS / "selftest.toml"
    outcome = verb("run", app, "--engine", "simulated", "--cluster", "cpu:2", "--speed", "max", "--yes")
    assert set(outcome) == RUN_KEYS
    assert outcome["status"] == "succeeded"
    assert outcome["outputs"] == outcome["requests"] > 150
    assert Path(outcome["directory"]).stat().st_mode & 0o777 == 0o700

    run = outcome["run"]
    summary = verb("runs")["runs"][0]
    assert (summary["run"], summary["status"], summary["pid"]) == (run, "succeeded", None)

    verb("export", run, "-o", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len({(row["node"], row["id"]) for row in rows}) == len(rows) == outcome["requests"]

    first, second = (verb("replay", outcome["directory"], "--headless", "--speed", "max") for _ in range(2))
    assert set(first) == {"events", "duration_s", "status", "state_sha256", "decisions"}
    assert first["status"] == "succeeded"
    assert first["state_sha256"] == second["state_sha256"]


def test_a_written_plan_can_be_run(verb: Verb, home: Path, tmp_path: Path) -> None:
    app, place = APPS / "chain-summary.toml", ("--cluster", "a100-80g:8")
    verb("plan", app, *place, "--samples", 2, "-o", tmp_path / "plan.json", "--rank", 3)
    outcome = verb(
        *("run", app, *place, "--engine", "simulated", "--speed", "max", "--yes", "--samples", 2),
        *("--plan", tmp_path / "plan.json"),
    )
    assert outcome["status"] == "succeeded"
    assert outcome["predicted_makespan_s"] > 0


def test_a_pinned_plan_says_what_the_pins_cost_and_can_be_run(verb: Verb, home: Path, tmp_path: Path) -> None:
    app, place = APPS / "chain-summary.toml", ("--cluster", "a100-80g:8", "--samples", 2)
    asked = (
        "--pin",
        "vicuna-13b:tp=2,dp=1",
        "--pin",
        "Llama-2-70b:stage=2",
        "--forbid",
        "Llama-2-70b:gpus=0-1",
    )
    forecast = verb("plan", app, *place, *asked, "--gpus", 4, "--against", "-o", tmp_path / "plan.json")
    assert len(forecast["pins"]) == 4
    free = forecast["free"]["candidates"][0]["makespan_s"]["p50"]
    assert forecast["pin_cost"] == pytest.approx(forecast["candidates"][0]["makespan_s"]["p50"] / free - 1)
    assert forecast["pin_cost"] > 0.1, "half the GPUs"
    first, *later = forecast["candidates"][0]["stages"]
    assert [(p["llm"], p["tp"], p["dp"]) for p in first["placements"]] == [("vicuna-13b", 2, 1)]
    assert all(set(p["gpus"]) <= {2, 3} for s in later for p in s["placements"] if p["llm"] == "Llama-2-70b")
    outcome = verb(
        *("run", app, "--cluster", "a100-80g:4", "--engine", "simulated", "--speed", "max", "--yes"),
        *("--samples", 2, "--plan", tmp_path / "plan.json"),
    )
    assert outcome["status"] == "succeeded"


def test_a_plan_in_words_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ["plan", str(APPS / "chain-summary.toml"), "--cluster", "a100-80g:8", "--samples", "3"]
    assert main([*arguments, "--pin", "vicuna-13b:tp=1", "--against", "--quantile", "0.9"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "pinned: vicuna-13b tp 1" in text
    assert re.search(r"^plan +p90 ", text, re.MULTILINE)
    assert "without it" in text
    assert re.search(r"Faster than .* in \d of 3", text)
    assert "Runner-up" in text
    assert "GPU time:" in text


def test_doctor_says_what_is_here(verb: Verb) -> None:
    findings = {f["what"]: f for f in verb("doctor")["findings"]}
    assert {"Python", "vLLM", "memory", "disk"} <= set(findings)


def test_the_shipped_recordings_replay(verb: Verb) -> None:
    recordings = sorted((APPS.parent / "recordings").glob("*.jsonl*"))
    assert len(recordings) >= 3
    decisions = 0
    for recording in recordings:
        outcome = verb("replay", recording, "--headless", "--speed", "max")
        assert outcome["status"] == "succeeded"
        decisions += outcome["decisions"]
    assert decisions >= 3, "of the rescheduler, in one of them"
