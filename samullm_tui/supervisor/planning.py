"""Planning a run, in a process of its own: it takes seconds of computing, and must be killable at once.

What the operator has chosen from a forecast was planned before, and is what the run begins with.

`python -m samullm_tui.supervisor.planning RUN_DIR` prints a `Planned` as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from samullm_tui.domain.errors import Problem, RunError, SamullmError
from samullm_tui.domain.plan import Candidate, Forecast, Plan
from samullm_tui.supervisor.spec import RunPaths, RunSpec, read_spec

if TYPE_CHECKING:
    from samullm_tui.workload.requests import Workload

__all__ = ["Planned", "main", "plan_here", "plan_in_process", "planned_before"]


class Planned(Struct, frozen=True):
    """Candidates, best first. `problems`: why there are none."""

    planning_s: float = 0.0
    lower_bound_s: float = 0.0
    samples: int = 0
    candidates: tuple[Candidate, ...] = ()
    problems: tuple[Problem, ...] = ()


async def plan_in_process(paths: RunPaths) -> Planned:
    """Plans the run of this directory. Killed when cancelled. Raises RunError when planning broke."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "samullm_tui.supervisor.planning", str(paths.folder)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        # Its errors go to the supervisor's own log, which it inherits.
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return msgspec.json.decode(output, type=Planned)
    except msgspec.DecodeError as error:
        wrong = f"planning ended with exit status {process.returncode}"
        raise RunError(Problem(paths.run, "", wrong, f"see {paths.log}")) from error


def plan_here(spec: RunSpec) -> Planned:
    """Plans in this process. Raises InputError."""
    from samullm_tui.forecast.plans import make_forecast
    from samullm_tui.supervisor.job import workload_of

    workload = workload_of(spec)
    if spec.plan is not None:
        return _simulate(spec, workload, spec.plan)
    return planned_before(
        make_forecast(workload, spec.cluster, seed=spec.seed, samples=spec.samples, quantile=spec.quantile)
    )


def planned_before(forecast: Forecast) -> Planned:
    """What a forecast says of the plans in it."""
    return Planned(forecast.planning_s, forecast.lower_bound_s, forecast.samples, forecast.candidates)


def _simulate(spec: RunSpec, workload: Workload, plan: Plan) -> Planned:
    """The plan that the operator gave, as the only candidate."""
    from samullm_tui.forecast.plans import ranked
    from samullm_tui.forecast.problem import build_problem

    began_s = time.perf_counter()
    inputs = build_problem(workload, spec.cluster)
    found = ranked(inputs, [plan], seed=spec.seed, samples=spec.samples, quantile=spec.quantile)
    samples = found.candidates[0].draws
    return Planned(time.perf_counter() - began_s, found.lower_bound_s, samples, found.candidates)


def main() -> int:
    """Arguments: the run's folder. What is wrong with the input is part of the answer."""
    spec = read_spec(RunPaths(Path(sys.argv[1])))
    try:
        planned = plan_here(spec)
    except SamullmError as error:
        planned = Planned(problems=error.problems)
    sys.stdout.buffer.write(msgspec.json.encode(planned))
    return 0


if __name__ == "__main__":
    sys.exit(main())
