"""Where the GPU time of a simulated plan goes, stage by stage."""

from __future__ import annotations

from typing import NamedTuple

from samullm_tui.domain.plan import GpuTime, Replica
from samullm_tui.simulate.application import PlanTrace, Problem
from samullm_tui.simulate.work import EngineWork

__all__ = ["gpu_times", "whole"]


class _Engine(NamedTuple):
    """A running engine: when it is or was loaded, and when its last step ended."""

    ready_s: float
    clock_s: float


def gpu_times(problem: Problem, trace: PlanTrace) -> tuple[GpuTime, ...]:
    """One for each stage; each adds up to the stage's seconds times all GPUs.

    A step belongs to the stages in which it runs, wherever it began. What an engine does beyond the end of its last
    stage is nobody's.
    """
    running: dict[Replica, _Engine] = {}
    stages = []
    for (start_s, end_s), works in zip(trace.stage_times, trace.work, strict=True):
        if not works:
            stages.append(GpuTime())
            continue
        engines = {work.replica: _engine(problem, work, running, start_s) for work in works}
        used = GpuTime()
        for work in works:
            part = _engine_time(work, engines[work.replica], running.get(work.replica), (start_s, end_s))
            used += GpuTime(*(work.replica.tp * seconds for seconds in part))
        stages.append(used + GpuTime(empty=max(0.0, problem.gpus * (end_s - start_s) - used.total)))
        running = engines
    return tuple(stages)


def whole(times: tuple[GpuTime, ...]) -> GpuTime:
    return sum(times, start=GpuTime())


def _engine(problem: Problem, work: EngineWork, running: dict[Replica, _Engine], start_s: float) -> _Engine:
    before = running.get(work.replica)
    if before is not None:
        return _Engine(before.ready_s, work.clock_s)
    llm = problem.llms[problem.index(work.replica.llm)]
    return _Engine(start_s + llm.shape(work.replica.tp).load_s, work.clock_s)


def _engine_time(
    work: EngineWork, engine: _Engine, before: _Engine | None, stage: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Seconds (computing, loading, waiting, idle) of one engine in one stage."""
    start_s, end_s = stage
    ready_s = min(max(engine.ready_s, start_s), end_s)
    from_before_s = max(0.0, before.clock_s - max(start_s, engine.ready_s)) if before else 0.0
    beyond_s = max(0.0, engine.clock_s - max(end_s, engine.ready_s))
    computing_s = min(max(0.0, from_before_s + work.steps_s - beyond_s), end_s - ready_s)
    standing_s = end_s - ready_s - computing_s
    idle_s = min(standing_s, end_s - min(end_s, max(work.work_end_s, ready_s)))
    return computing_s, ready_s - start_s, max(0.0, standing_s - idle_s), max(0.0, idle_s)
