"""check, plan: what can be known of an application before anything runs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from samullm_tui.cli.forecast import forecast_json, print_forecast
from samullm_tui.cli.output import print_json, print_table, say
from samullm_tui.domain.cluster import with_gpus
from samullm_tui.domain.plan import Forecast
from samullm_tui.domain.sanitise import sanitise
from samullm_tui.forecast.pins import pins_for
from samullm_tui.forecast.plan_file import write_plan
from samullm_tui.forecast.plans import make_forecast
from samullm_tui.forecast.problem import read_workload
from samullm_tui.supervisor.machine import choose_machine
from samullm_tui.workload.requests import Workload

__all__ = ["check", "plan"]


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
    print(sanitise(f"{app.name}: {app.title}"))
    rows = [(n.name, n.llm, ", ".join(n.sources or (n.data,)), f"{requests[n.name]:,}") for n in app.nodes]
    print_table(("node", "LLM", "takes", "requests"), rows)
    print(f"nothing wrong: {len(app.llms)} LLMs, {len(table):,} requests")
    return 0


def plan(arguments: Namespace) -> int:
    machine = choose_machine(arguments.cluster, arguments.engine)
    for note in machine.notes:
        say(note)
    workload = _workload(arguments)
    cluster = with_gpus(machine.cluster, arguments.gpus) if arguments.gpus else machine.cluster
    pins = pins_for(workload, cluster, arguments.pin, arguments.forbid)
    how = {"seed": arguments.seed, "samples": arguments.samples, "quantile": arguments.quantile}
    forecast = make_forecast(workload, cluster, **how, pins=pins)
    free = make_forecast(workload, machine.cluster, **how) if arguments.against else None
    if arguments.output:
        _write(forecast, arguments.rank, arguments.output)
    if arguments.json:
        print_json(forecast_json(forecast, free))
    else:
        print_forecast(forecast, cluster, free)
    return 0


def _write(forecast: Forecast, rank: int, path: Path) -> None:
    chosen = forecast.candidates[min(rank, len(forecast.candidates)) - 1]
    write_plan(path, chosen.plan, application=forecast.application, cluster=forecast.cluster)
    say(f"plan {chosen.rank} ({chosen.plan.planner}) written to {path}")
