"""A process that plans: `python -m samullm_tui.forecast plan|lengths APP`.

Prints exactly one JSON object on stdout, a Forecast or a LengthReport; with status 2 `{"problems": [...]}` instead.
The console starts it, so that planning never holds a screen up and can be given up by ending the process.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from samullm_tui.domain.cluster import with_gpus
from samullm_tui.domain.length_report import LengthReport
from samullm_tui.domain.plan import Forecast
from samullm_tui.forecast.lengths import length_report
from samullm_tui.worker import answer
from samullm_tui.workload.application_file import load_application

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    arguments = _parse(argv)
    work = _plan if arguments.verb == "plan" else _lengths
    return answer(lambda: work(arguments))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m samullm_tui.forecast")
    parser.add_argument("verb", choices=("plan", "lengths"))
    parser.add_argument("application", type=Path)
    parser.add_argument("--cluster", default="a100-80g:8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--quantile", type=float, default=0.5)
    parser.add_argument("--allow-outside", action="store_true")
    parser.add_argument("--pin", action="append", default=[])
    parser.add_argument("--forbid", action="append", default=[])
    parser.add_argument("--gpus", type=int)
    return parser.parse_args(argv)


def _plan(arguments: argparse.Namespace) -> Forecast:
    from samullm_tui.forecast.pins import pins_for
    from samullm_tui.forecast.plans import make_forecast
    from samullm_tui.forecast.problem import read_workload
    from samullm_tui.workload.cluster_file import load_cluster

    workload = read_workload(arguments.application, allow_outside=arguments.allow_outside)
    cluster = load_cluster(arguments.cluster)
    if arguments.gpus is not None:
        cluster = with_gpus(cluster, arguments.gpus)
    pins = pins_for(workload, cluster, arguments.pin, arguments.forbid)
    how = {"seed": arguments.seed, "samples": arguments.samples, "quantile": arguments.quantile}
    return make_forecast(workload, cluster, **how, pins=pins)


def _lengths(arguments: argparse.Namespace) -> LengthReport:
    return length_report(load_application(arguments.application, allow_outside=arguments.allow_outside))


if __name__ == "__main__":
    sys.exit(main())
