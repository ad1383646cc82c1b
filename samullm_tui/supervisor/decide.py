"""What to do now, from the state alone: the plan's order is kept, its times are not.

A stage ends when every LLM of its `until` has finished its requests, and every LLM of it that no later stage serves.
Then the replicas that the next stage has as well go on, the others stop, and new ones start as soon as their GPUs are
free. Engines of an LLM that is finished stop at once.

A plan was simulated with lengths that were drawn, and the real ones differ. Where it would wait for ever (its engines
have nothing to do, and what could be done has no engine) the run goes on to the next stage; in the last stage the LLMs
that can do something take the GPUs of those that cannot.

A plan that replaces the one in force is gone on to like a next stage. While it is being decided whether there shall be
one, the run stays in its stage (`hold_stage`) and gives no LLM up (`hold_losses`).
"""

from __future__ import annotations

from collections.abc import Iterator

from samullm_tui.domain.plan import Replica
from samullm_tui.supervisor.actions import Action, End, EnterStage, GiveUp, Note, StartEngine, StopEngine
from samullm_tui.supervisor.dispatch import assign, move_to
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.words import finish_note, stage_note, unforeseen_note

__all__ = ["decide"]


def decide(state: RunningState, now_s: float) -> list[Action]:
    """The actions that this state calls for, in order. The same state gives the same actions.

    It is asked again after its actions were performed and after everything that happens: what is not possible yet
    (GPUs not free, an engine still loading) is decided then.
    """
    if state.wish in {"stop", "drain"} or not state.ledger.open_requests:
        return list(_wind_down(state, now_s))
    if _must_move(state):
        return list(_next_stage(state, now_s))
    actions: list[Action] = [] if state.hold_losses else list(_give_up(state))
    actions = actions or list(_stop_idle(state, now_s))
    if actions:
        return actions
    actions = list(_start_engines(state, now_s))
    if state.wish == "run" and not state.trouble:
        actions += _requests(state, now_s)
    return actions


def _wind_down(state: RunningState, now_s: float) -> Iterator[Action]:
    """Stops engines (when draining: those with nothing in flight), and ends the run when none is left."""
    reason = {"stop": "the run is stopped", "drain": "the run is drained"}.get(
        state.wish, "all requests ended"
    )
    for engine in state.holding():
        lane = state.ledger.lanes.of.get(engine.replica.name)
        if engine.status != "stopping" and not (state.wish == "drain" and lane and lane.sent):
            yield StopEngine(engine.replica, reason)
    if state.holding():
        return
    if state.ledger.open_requests:
        yield End("stopped", "")
        return
    yield Note(finish_note(state, now_s))
    yield End("failed" if state.broken else "succeeded", state.broken)


def _must_move(state: RunningState) -> bool:
    if state.stage < 0:
        return True
    stuck = _is_stuck(state) and not state.is_last_stage
    return (stuck or _is_over(state, state.stage)) and not state.hold_stage


def _is_over(state: RunningState, index: int) -> bool:
    if index == len(state.stages) - 1:
        return False
    stage = state.stages[index]
    later = {placement.llm for after in state.stages[index + 1 :] for placement in after.placements}
    leaving = {placement.llm for placement in stage.placements} - later
    return all(state.is_finished(llm) for llm in {*stage.until, *leaving})


def _is_stuck(state: RunningState) -> bool:
    """No engine of the stage has anything to do, or will have without a change."""
    engines = state.holding()
    if state.ledger.in_flight or any(engine.status != "serving" for engine in engines):
        return False
    served = {engine.replica.llm for engine in engines}
    return not any(state.ledger.has_ready(llm) for llm in served) and not _startable(state)


def _next_stage(state: RunningState, now_s: float) -> Iterator[Action]:
    """On to the first later stage, or of a fresh plan the first, that still has something to do."""
    index = state.stage + 1 if state.stage >= 0 else state.begin
    while _is_over(state, index):
        index += 1
    wanted = set(state.stages[index].replicas)
    if not state.is_fresh:  # else the decision for the plan has said why
        yield Note(stage_note(state, index, now_s))
    which = "the new plan" if state.is_fresh else f"stage {index + 1}"
    for engine in state.holding():
        if engine.status != "stopping" and engine.replica not in wanted:
            yield StopEngine(engine.replica, f"not part of {which}")
    yield EnterStage(index)


def _stop_idle(state: RunningState, now_s: float) -> Iterator[Action]:
    """Stops engines of finished LLMs; when the last stage is stuck, those in the way of an LLM that is not."""
    running = [engine for engine in state.holding() if engine.status != "stopping"]
    idle = [engine for engine in running if state.is_finished(engine.replica.llm)]
    for llm in dict.fromkeys(engine.replica.llm for engine in idle):
        yield Note(finish_note(state, now_s, llm))
    for engine in idle:
        yield StopEngine(engine.replica, f"{engine.replica.llm} is finished")
    if not idle and state.is_last_stage and _is_stuck(state):
        needed = next((r for r in _absent(state) if state.ledger.has_ready(r.llm)), None)
        for engine in running:
            if needed and not set(needed.gpus).isdisjoint(engine.replica.gpus):
                yield StopEngine(engine.replica, f"{needed.llm} can go on and needs its GPUs")


def _wanted(state: RunningState) -> list[Replica]:
    """The replicas of the stage (in the last one also those of LLMs that it forgot), of LLMs that are not finished.

    Those that can do something come first.
    """
    wanted = list(state.present.replicas)
    if state.is_last_stage:
        served = {replica.llm for replica in wanted}
        for stage in reversed(state.stages[: state.stage]):
            wanted += [r for r in stage.replicas if r.llm not in served]
            served |= {replica.llm for replica in stage.replicas}
    unfinished = [replica for replica in wanted if not state.is_finished(replica.llm)]
    return sorted(unfinished, key=lambda replica: not state.ledger.has_ready(replica.llm))


def _startable(state: RunningState) -> list[Replica]:
    """Absent replicas whose GPUs are free for them.

    One that can do something but must wait for its GPUs keeps those that come after it off them.
    """
    taken = state.busy_gpus()
    startable = []
    for replica in _absent(state):
        free = taken.isdisjoint(replica.gpus)
        if free:
            startable.append(replica)
        if free or state.ledger.has_ready(replica.llm):
            taken |= set(replica.gpus)
    return startable


def _absent(state: RunningState) -> list[Replica]:
    """The wanted replicas that do not hold their GPUs and are not lost."""
    engines = {replica: state.engines.get(replica.name) for replica in _wanted(state)}
    absent = [replica for replica, engine in engines.items() if engine is None or engine.status == "waiting"]
    return [replica for replica in absent if not state.lost(replica)]


def _start_engines(state: RunningState, now_s: float) -> Iterator[Action]:
    planned = set(state.present.replicas)
    for replica in _startable(state):
        engine = state.engines.get(replica.name)
        if engine is None or engine.retry_at_s <= now_s:
            if replica not in planned:
                yield Note(unforeseen_note(state, replica))
            yield StartEngine(replica)


def _give_up(state: RunningState) -> Iterator[Action]:
    """LLMs of the stage that no engine can serve any more, in this stage or a later one."""
    wanted: dict[str, list[str]] = {}
    for replica in _wanted(state):
        wanted.setdefault(replica.llm, []).append(state.lost(replica))
    later = [replica for stage in state.stages[state.stage + 1 :] for replica in stage.replicas]
    hope = {replica.llm for replica in later if not state.lost(replica)}
    for llm, causes in wanted.items():
        if all(causes) and llm not in hope:
            yield GiveUp(llm, causes[-1])


def _requests(state: RunningState, now_s: float) -> Iterator[Action]:
    fresh = next((engine for engine in state.engines.values() if engine.fresh), None)
    if fresh is not None:
        queued = {name: engine.queued for name, engine in state.engines.items()}
        yield move_to(state.ledger.lanes, fresh.replica.name, queued)
        return
    held = {name for name, engine in state.engines.items() if engine.hold_until_s > now_s}
    yield from assign(state.ledger.lanes, held)
