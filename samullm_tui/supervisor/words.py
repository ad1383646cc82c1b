"""Decisions in plain words, with their numbers. Simulated figures say so."""

from __future__ import annotations

from collections import Counter

from samullm_tui.domain.event import Decision
from samullm_tui.domain.plan import Placement, Replica
from samullm_tui.supervisor.running import RunningState

__all__ = ["finish_note", "in_time", "stage_note", "unforeseen_note"]


def in_time(seconds: float) -> str:
    """`48s`, `6m 52s`, `41h 08m`."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def stage_note(state: RunningState, index: int, now_s: float) -> Decision:
    """Why the run goes on to stage `index`."""
    stage = state.stages[index]
    what = f"stage {index + 1} of {len(state.stages)}: {_placements(stage.placements)}"
    if state.resumed and state.stage < 0:
        return Decision("start", what, f"the run goes on after an interruption; {_left(state)}")
    if state.stage < 0:
        makespan = state.candidate.makespan_s.p50
        saw = f"plan {state.candidate.rank} ({state.candidate.plan.planner}) approved; simulated makespan {in_time(makespan)}"
        return Decision("start", what, saw)
    ended = ", ".join(state.present.until) or "nothing"
    planned = _planned_end(state)
    saw = f"{ended} finished after {_since_start(state, now_s)}{planned}; {_left(state)}"
    return Decision("switch", what, saw)


def finish_note(state: RunningState, now_s: float, llm: str | None = None) -> Decision:
    """What it means that an LLM (None: everything) is finished."""
    errors = sum(state.errors.values()) if llm is None else state.errors.get(llm, 0)
    table = state.ledger.table
    if llm is None:
        simulated = f"; simulated makespan was {in_time(state.candidate.makespan_s.p50)}"
        saw = f"all {len(table):,} requests ended, {errors:,} of them in an error{simulated}"
        return Decision("finish", "the run ends", saw)
    engines = sum(engine.replica.llm == llm for engine in state.holding())
    after = _since_start(state, now_s)
    requests = int((table.llm == table.llm_names.index(llm)).sum())
    saw = f"all {requests:,} requests of {llm} ended after {after}, {errors:,} of them in an error"
    return Decision(
        "finish", f"{llm}: its {f'{engines} engines stop' if engines != 1 else 'engine stops'}", saw
    )


def unforeseen_note(state: RunningState, replica: Replica) -> Decision:
    """Why an engine starts that the last stage does not have."""
    left = state.ledger.unfinished[replica.llm]
    saw = f"{replica.llm} still has {left:,} requests, and no stage is left that serves it"
    return Decision("start", f"{replica.llm} on GPU {_numbers(replica.gpus)} again", saw)


def _placements(placements: tuple[Placement, ...]) -> str:
    counts: Counter[str] = Counter()
    for placement in placements:
        counts[f"{placement.llm} tp{placement.tp}"] += placement.dp
    return ", ".join(f"{what} ×{dp}" for what, dp in counts.items())


def _planned_end(state: RunningState) -> str:
    """When the simulation had the present stage end, counted from the first stage."""
    planned = state.candidate.stages
    return f" (simulated: {in_time(planned[state.stage].end_s)})" if state.stage < len(planned) else ""


def _since_start(state: RunningState, now_s: float) -> str:
    return in_time(now_s - (state.started_s or 0.0))


def _left(state: RunningState) -> str:
    left = {llm: count for llm, count in state.ledger.unfinished.items() if count}
    return ", ".join(f"{llm} has {count:,} requests left" for llm, count in left.items())


def _numbers(gpus: tuple[int, ...]) -> str:
    return ",".join(map(str, gpus))
