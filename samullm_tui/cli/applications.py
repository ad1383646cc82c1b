"""check, plan: what can be known of an application before anything runs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from samullm_tui.cli.output import print_json, print_table, say, seconds
from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.plan import Candidate, Forecast, PlannedStage
from samullm_tui.forecast.plan_file import write_plan
from samullm_tui.forecast.plans import make_forecast
from samullm_tui.forecast.problem import read_workload
from samullm_tui.supervisor.machine import choose_machine
from samullm_tui.workload.requests import Workload

__all__ = ["candidate_json", "check", "plan", "print_forecast"]


def _workload(arguments: Namespace) -> Workload:
    return read_workload(arguments.application, allow_outside=arguments.allow_outside)


def check(arguments: Namespace) -> int:
    """Loads everything, so that whatever is wrong is said now."""
    workload = _workload(arguments)
    app, table = workload.application, workload.table
    requests = {node.name: len(table.indices_of_node(node.name)) for node in app.nodes}
    if arguments.json:
        print_json(
            {
                "application": app.name,
                "ok": True,
                "llms": [llm.name for llm in app.llms],
                "requests": requests,
            }
        )
        return 0
    print(f"{app.name}: {app.title}")
    rows = [(n.name, n.llm, ", ".join(n.sources or (n.data,)), f"{requests[n.name]:,}") for n in app.nodes]
    print_table(("node", "LLM", "takes", "requests"), rows)
    print(f"nothing wrong: {len(app.llms)} LLMs, {len(table):,} requests")
    return 0


def plan(arguments: Namespace) -> int:
    machine = choose_machine(arguments.cluster, arguments.engine)
    for note in machine.notes:
        say(note)
    forecast = make_forecast(
        _workload(arguments),
        machine.cluster,
        seed=arguments.seed,
        samples=arguments.samples,
        quantile=arguments.quantile,
    )
    if arguments.output:
        _write(forecast, arguments.rank, arguments.output)
    if arguments.json:
        print_json(forecast_json(forecast))
    else:
        print_forecast(forecast, machine.cluster)
    return 0


def _write(forecast: Forecast, rank: int, path: Path) -> None:
    chosen = forecast.candidates[min(rank, len(forecast.candidates)) - 1]
    write_plan(path, chosen.plan, application=forecast.application, cluster=forecast.cluster)
    say(f"plan {chosen.rank} ({chosen.plan.planner}) written to {path}")


def forecast_json(forecast: Forecast) -> dict[str, object]:
    """The object that the contract promises."""
    return {
        "application": forecast.application,
        "cluster": forecast.cluster,
        "planning_s": forecast.planning_s,
        "lower_bound_s": forecast.lower_bound_s,
        "samples": forecast.samples,
        "seed": forecast.seed,
        "candidates": [candidate_json(candidate) for candidate in forecast.candidates],
    }


def candidate_json(candidate: Candidate) -> dict[str, object]:
    return {
        "rank": candidate.rank,
        "planner": candidate.plan.planner,
        "makespan_s": candidate.makespan_s,
        "gap": candidate.gap,
        "gpu_hours": candidate.gpu_hours,
        "loads": candidate.loads,
        "stages": [_stage_json(stage) for stage in candidate.stages],
    }


def _stage_json(planned: PlannedStage) -> dict[str, object]:
    placements = [
        {"llm": p.llm, "tp": p.tp, "dp": p.dp, "gpus": p.gpus, "kept": kept}
        for p, kept in zip(planned.stage.placements, planned.kept, strict=True)
    ]
    return {"start_s": planned.start_s, "end_s": planned.end_s, "placements": placements}


def print_forecast(forecast: Forecast, cluster: Cluster) -> None:
    print(
        f"{forecast.application} on {cluster.title}: simulated, {forecast.samples} draws, seed {forecast.seed}"
    )
    for llm, how in forecast.estimated.items():
        print(f"  {llm}: estimated, {how}")
    rows = [
        (
            f"{c.rank} {c.plan.planner}",
            f"~{seconds(c.makespan_s.p50)}",
            f"{seconds(c.makespan_s.p10)} to {seconds(c.makespan_s.p90)}",
            f"+{c.gap:.0%}",
            f"{c.gpu_hours:.2f}",
            str(c.loads),
        )
        for c in forecast.candidates
    ]
    print_table(("plan", "p50", "p10 to p90", "gap", "GPU·h", "loads"), rows)
    print(f"no plan can beat {seconds(forecast.lower_bound_s)}; planned in {forecast.planning_s:.1f} s")
    for line in forecast.candidates[0].explanation:
        print(f"  {line}")
