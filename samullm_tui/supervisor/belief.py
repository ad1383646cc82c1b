"""A run as the rescheduler sees it: what is done, what each engine has, how fast it is, how long answers become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from samullm_tui.domain.plan import Replica
from samullm_tui.domain.request import IntArray
from samullm_tui.engines.protocol import EngineStats
from samullm_tui.forecast.problem import ForecastInputs
from samullm_tui.planner.reschedule import Situation
from samullm_tui.simulate.graph import prompts_of
from samullm_tui.simulate.problem import EngineState, Problem, Progress
from samullm_tui.supervisor.engine_states import engine_state
from samullm_tui.supervisor.ledger import DONE
from samullm_tui.supervisor.open_lengths import Seen, believed, draw_rest
from samullm_tui.supervisor.pace import corrected
from samullm_tui.supervisor.running import EngineState as Serving
from samullm_tui.supervisor.running import RunningState

__all__ = ["draws_for", "situation"]

DRAWS, FEW_DRAWS = 16, 3
DRAWN_REQUESTS, HELD_REQUESTS = 200_000, 3_000_000
"""With many open requests fewer draws are made, of so many lengths in all: the end hardly differs between them, and a
decision must not take much more than a second. Each draw has a length for every request of the run, open or not: with
very many fewer draws are made, so that a decision takes no more memory later than at the start."""
OVERDUE = 0.1
"""Of its load an engine is expected to take that is not ready when it should be."""


def situation(
    inputs: ForecastInputs,
    state: RunningState,
    stats: Mapping[str, EngineStats],
    now_s: float,
    rng: np.random.Generator,
    *,
    draws: int | None = None,
) -> Situation:
    """How the run stands at `now_s` of its clock.

    `stats`: what each serving engine has just said, by replica; of those that said nothing what was read last counts.
    `draws` of the lengths; None: as many as the number of open requests calls for.
    """
    ledger = state.ledger
    engines = [e for e in state.engines.values() if _counts(state, e)]
    for engine in engines:
        if engine.status == "serving" and engine.replica.name in stats:
            state.watch.read(engine.replica, stats[engine.replica.name], now_s, ledger)
    problem = corrected(inputs.problem, state.watch)
    seen = _seen(inputs, state, stats)
    if draws is None:
        draws = draws_for(ledger.open_requests, len(inputs.problem.table.llm))
    drawn = _draws(inputs, problem, seen, draws, rng)
    return Situation(
        problem=problem,
        progress=Progress(
            done=seen.done,
            generated=seen.tokens,
            finish_s=np.where(seen.done & np.isnan(ledger.finish_s), now_s, ledger.finish_s),
            engines=_engine_states(problem, state, seen, stats, engines, drawn[0], now_s),
        ),
        running=frozenset(engine.replica for engine in engines),
        at_s=now_s,
        stages=state.stages[max(state.stage, 0) if state.stage >= 0 else state.begin :],
        draws=drawn,
        unusable=_unusable(state),
    )


def draws_for(open_requests: int, requests: int) -> int:
    """How many draws a decision about so many open requests gets, in a run of so many."""
    wanted = min(DRAWN_REQUESTS // max(1, open_requests), HELD_REQUESTS // max(1, requests))
    return min(DRAWS, max(FEW_DRAWS, wanted))


def _draws(
    inputs: ForecastInputs, problem: Problem, seen: Seen, count: int, rng: np.random.Generator
) -> tuple[IntArray, ...]:
    """Of the distributions to expect, and as many each of distributions of its own that may be the true ones: what the
    first ones choose is confirmed by those.
    """
    beliefs = believed(problem.table, inputs.dists, seen)
    expected = {name: belief.expected(families=False) for name, belief in beliefs.items()}
    possible = ({name: belief.draw(rng) for name, belief in beliefs.items()} for _ in range(count // 2))
    dists = (*[expected] * (count - count // 2), *possible)
    return tuple(draw_rest(problem.table, one, inputs.context, seen, rng) for one in dists)


def _counts(state: RunningState, engine: Serving) -> bool:
    """Whether the engine is there for what follows."""
    return engine.status in {"loading", "serving"} and not state.is_finished(engine.replica.llm)


def _unusable(state: RunningState) -> frozenset[int]:
    given_up = (e.replica.gpus for e in state.engines.values() if e.status == "gave up")
    return frozenset(state.quarantined).union(*given_up)


def _seen(inputs: ForecastInputs, state: RunningState, stats: Mapping[str, EngineStats]) -> Seen:
    ledger, table = state.ledger, inputs.problem.table
    status = np.frombuffer(bytes(ledger.status), dtype=np.uint8)
    done = status >= DONE
    tokens = ledger.output_tokens.copy()
    prompts = prompts_of(table, tokens)
    for index, moved in state.begun.tokens().items():
        tokens[index] = moved
    for name, lane in ledger.lanes.of.items():
        if lane.sent:
            sent = np.fromiter(lane.sent, np.int64)
            tokens[sent] = _generated(state, name, sent, tokens[sent], stats.get(name))
    has = np.flatnonzero(~done & (tokens > 0))
    # Less than it may have at most, and the whole of it was not seen yet.
    room = np.minimum(table.max_tokens[has], inputs.context[table.llm[has]] - prompts[has])
    known = table.known_tokens[has]
    most = np.minimum(room, np.where(known >= 0, known, room)) - 1
    tokens[has] = np.clip(tokens[has], 0, np.maximum(most, 0))
    return Seen(done, tokens, (status == DONE) & ~ledger.cut, prompts)


def _generated(
    state: RunningState, replica: str, sent: IntArray, moved: IntArray, stats: EngineStats | None
) -> IntArray:
    """[k] output tokens so far: what the engine says, else by its steps, beyond those that they were `moved` with."""
    made = moved + state.watch.generated(replica, sent)
    if stats is None or stats.generated is None:
        return made
    told, in_flight = stats.generated, state.ledger.in_flight
    keys = (in_flight[k].serial for k in sent.tolist())
    return np.array([told.get(key, least) for key, least in zip(keys, made.tolist(), strict=True)], np.int64)


def _engine_states(
    problem: Problem,
    state: RunningState,
    seen: Seen,
    stats: Mapping[str, EngineStats],
    engines: Sequence[Serving],
    drawn: IntArray,
    now_s: float,
) -> dict[Replica, EngineState]:
    lanes, table = state.ledger.lanes, problem.table
    bound = lanes.bound([engine.replica.name for engine in engines])
    loading = {engine.replica.llm for engine in engines if engine.status == "loading"}
    alone = {llm: sum(e.replica.llm == llm for e in engines) == 1 for llm in table.llm_names}
    shared = problem.shared(drawn)
    found = {}
    for place, engine in enumerate(engines):
        replica = engine.replica
        llm = problem.index(replica.llm)
        shape = problem.llms[llm].shape(replica.tp)
        sent = np.fromiter(lanes.of[replica.name].sent, np.int64)
        running = sent[state.watch.has_begun(replica.name, sent) & (seen.tokens[sent] > 0)]
        said = stats.get(replica.name)
        if said is not None and replica.llm in loading:
            # What waits in the engine's own queue is taken back for the replica that becomes ready.
            queued = sent[max(0, len(sent) - said.waiting) :]
            bound[queued[seen.tokens[queued] == 0]] = -1
        mine = (table.llm == llm) if alone[replica.llm] else (bound == place)
        if said is not None:
            running = running[: said.running]
        found[replica] = engine_state(
            now_s if engine.status == "serving" else _ready_s(engine, shape.load_s, now_s),
            np.flatnonzero(mine & ~seen.done),
            running,
            seen.tokens[running],
            seen.prompts[running],
            shape.config,
            shared,
        )
    return found


def _ready_s(engine: Serving, load_s: float, now_s: float) -> float:
    return max(engine.started_s + load_s, now_s + OVERDUE * load_s)
