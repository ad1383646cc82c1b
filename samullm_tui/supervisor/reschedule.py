"""Thinks about the plan of a run while it goes on, and replaces the rest of it where that is worth it.

The situation is described on the event loop, thought about by a `Thinker` elsewhere, and what that says is done only
if it still fits. Whatever goes wrong in thinking is noted, and the run goes on with its plan.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from samullm_tui.domain.errors import EngineError
from samullm_tui.domain.event import (
    Answer,
    Decided,
    Decision,
    ForecastChanged,
    Outcome,
    ProposalAnswered,
    Proposed,
    Replanned,
)
from samullm_tui.engines.protocol import Engine, EngineStats
from samullm_tui.planner.reschedule import Option, Situation, Verdict
from samullm_tui.supervisor.asking import Clock, Recorder
from samullm_tui.supervisor.reschedule_past import Past, Switch
from samullm_tui.supervisor.reschedule_thinker import Thinker
from samullm_tui.supervisor.reschedule_wake import (
    BETWEEN_S,
    FIRST_S,
    Review,
    Standing,
    Wake,
    can_gain,
    deviates,
    late_engines,
    next_s,
    standing_of,
    wake,
)
from samullm_tui.supervisor.reschedule_words import (
    band_of,
    candidate_of,
    decision_of,
    failure_of,
    lengths_seen,
    stays_instead,
)
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.words import in_time

__all__ = ["Believe", "Host", "Rescheduler"]

SETTLE_S = 1e-6
"""Everything else that happens at this moment happens first, so that simulated runs repeat exactly."""
HOLD_S = 3.0
"""How long a change of stage waits for a decision about it."""
STATS_TIMEOUT_S = 5.0
BACK_OFF_S = 60.0
"""After thinking failed, and twice as long after each further time."""
MOST_GIVEN_UP = 1
"""Of an LLM: with more replicas given up on GPUs that are in order it is the LLM that is broken, not its place."""
BY = "rescheduler"

Believe = Callable[[Mapping[str, EngineStats], float], Situation]


class Host(Protocol):
    """The runner, as the rescheduler needs it."""

    def wake(self) -> None: ...

    def is_busy(self) -> bool: ...

    def engines(self) -> list[Engine]: ...


@dataclass(slots=True)
class Proposal:
    number: int
    decision: Decision
    option: Option
    standing: Standing
    timer: asyncio.TimerHandle


class Rescheduler:
    """Of one run under one supervisor. `mode`: whether it switches by itself or asks, for `wait_s` on the run's clock.

    `believe` describes the situation, `load_s` is what loads are expected to take, by LLM and tp.
    """

    def __init__(
        self,
        state: RunningState,
        *,
        mode: Literal["auto", "ask"],
        wait_s: float,
        seed: tuple[int, ...],
        past: Past,
        load_s: Mapping[tuple[str, int], float],
        believe: Believe,
        thinker: Thinker,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._state = state
        self._mode = mode
        self._wait_s = wait_s
        self._seed = seed
        self._past = past
        self._load_s = load_s
        self._believe = believe
        self._thinker = thinker
        self._recorder = recorder
        self._clock = clock
        self._thoughts = 0
        self._failures = 0
        self._hold_until_s = -math.inf
        self._proposal: Proposal | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thought: asyncio.Task[None] | None = None
        self._host: Host
        self._tasks: asyncio.TaskGroup
        self._review: Review

    def begin(self, host: Host, tasks: asyncio.TaskGroup) -> None:
        """The run begins, with what it thinks done in `tasks`."""
        self._host, self._tasks = host, tasks
        now_s, past = self._clock(), self._past
        self._review = Review(
            self._load_s, now_s + FIRST_S, past.expected_s, standing_of(self._state), looked_s=now_s
        )
        if past.proposal:
            self._answered(past.proposal.decision, "outdated", "the supervisor that takes over")

    def look(self) -> None:
        """Before each decision of the supervisor: begins to think where it is time to, and holds the run meanwhile."""
        now_s, review = self._clock(), self._review
        if self._proposal and standing_of(self._state) != self._proposal.standing:
            self._close_proposal("outdated", "the run")
        due = wake(self._state, review, now_s)
        if due:
            review.busy, review.wished_by = True, ""
            self._hold_until_s = now_s + HOLD_S if due.how == "decide" and self._mode == "auto" else -math.inf
            self._thought = self._tasks.create_task(self._think(due))
        self._set_timer(now_s)
        self._hold(now_s)

    def ask_for_decision(self, by: str) -> str:
        """Somebody wants one now. Returns what will come of it."""
        if self._proposal:
            return f"proposal {self._proposal.number} waits for an answer"
        self._review.wished_by = by
        self._host.wake()
        return "a decision is under way, another follows" if self._review.busy else "a decision is under way"

    def answer(self, number: int, by: str, *, accept: bool) -> str:
        """The operator's word on a proposal. Returns why it cannot count; empty: it does, or did before."""
        known = self._past.answers.get(number)
        if known is not None:
            same = known == ("accepted" if accept else "refused")
            return "" if same else f"proposal {number} was {known} already"
        proposal = self._proposal
        if proposal is None or proposal.number != number:
            return f"there is no proposal {number}"
        outdated = accept and self._why_outdated(proposal.standing, proposal.option)
        self._close_proposal("outdated" if outdated else "accepted" if accept else "refused", by)
        return f"proposal {number} is out of date: {outdated}" if outdated else ""

    def ended(self, *, whole: bool) -> None:
        """The run is over; `whole`: all its requests ended."""
        if self._proposal:
            self._close_proposal("outdated", "the run")
        if whole:
            self._tell_outcome(self._clock(), final=True)

    async def close(self) -> None:
        """Nothing of it goes on after that."""
        if self._timer:
            self._timer.cancel()
        if self._proposal:
            self._proposal.timer.cancel()
        if self._thought:
            self._thought.cancel()
        await self._thinker.close()

    # --- thinking ---

    async def _think(self, due: Wake) -> None:
        standing = standing_of(self._state)
        try:
            await asyncio.sleep(SETTLE_S)
            stats = await self._stats()
            standing, now_s = standing_of(self._state), self._clock()
            situation = replace(self._believe(stats, now_s), since_switch_s=now_s - self._state.replanned_s)
            reason = due.reason if due.how == "decide" else await self._look(situation)
            if reason:
                await self._decide(situation, standing, reason)
            self._failures = 0
        except Exception as error:  # noqa: BLE001  # whatever it is, the run goes on with its plan and says so
            self._failed(error, due.reason, standing)
        finally:
            self._review.busy = self._proposal is not None
            self._hold_until_s = -math.inf
            self._host.wake()

    async def _stats(self) -> dict[str, EngineStats]:
        """Of the engines that answer."""
        found: dict[str, EngineStats] = {}

        async def ask(engine: Engine) -> None:
            with suppress(EngineError, TimeoutError):
                async with asyncio.timeout(STATS_TIMEOUT_S):
                    found[engine.replica.name] = await engine.stats()

        await asyncio.gather(*(ask(engine) for engine in self._host.engines()))
        return found

    async def _look(self, situation: Situation) -> str:
        """Forecasts the end; returns why the plan should be decided about, if it should."""
        review, now_s = self._review, self._clock()
        ends_s = await self._thinker.forecast(situation)
        review.looked_s = now_s
        if not all(map(math.isfinite, ends_s)):
            return "the plan in force may not end"
        before_s, band = review.expected_s, band_of(ends_s)
        if not deviates(before_s, band, now_s):
            return ""
        if can_gain(self._state, review, band.p50 - now_s):
            return f"the forecast went from {in_time(before_s)} to {in_time(band.p50)}"
        self._expect(ends_s)
        return ""

    async def _decide(self, situation: Situation, standing: Standing, reason: str) -> None:
        self._thoughts += 1
        verdict = await self._thinker.reconsider(situation, (*self._seed, self._thoughts))
        await asyncio.sleep(SETTLE_S)
        self._judge(verdict, situation, standing, reason)

    def _judge(self, verdict: Verdict, situation: Situation, standing: Standing, reason: str) -> None:
        now_s, review = self._clock(), self._review
        stay, chosen = verdict.options[0], verdict.options[verdict.chosen]
        self._past.number += 1
        decision = decision_of(verdict, self._past.number, f"{reason}; {lengths_seen(situation)}")
        self._rest(standing)
        review.late |= {(e.replica.name, e.started_s) for e in late_engines(self._state, review, now_s)}
        if math.isfinite(stay.end_s):
            self._tell_outcome(stay.end_s, final=False)
        outdated = verdict.chosen and self._why_outdated(standing, chosen)
        if outdated:
            self._recorder.emit(Decided(at_s=now_s, decision=stays_instead(decision, outdated)))
        elif not verdict.chosen:
            self._recorder.emit(Decided(at_s=now_s, decision=decision))
            self._expect(stay.ends_s)
        elif self._mode == "auto":
            self._switch(decision, chosen, BY)
        else:
            self._propose(decision, chosen, standing)

    def _why_outdated(self, standing: Standing, option: Option) -> str:
        """Why an option cannot be taken any more; empty: it can."""
        if not self._state.ledger.open_requests or self._state.wish in {"drain", "stop"}:
            return "the run ends"
        lost = [r.name for stage in option.stages for r in stage.replicas if self._state.lost(r)]
        if lost:
            return f"it needs {lost[0]}, which is lost"
        if standing_of(self._state) != standing:
            return "the run had moved on meanwhile"
        return ""

    def _failed(self, error: Exception, reason: str, standing: Standing) -> None:
        self._failures += 1
        cause = " ".join(f"{error}".split()) or type(error).__name__
        self._recorder.emit(Decided(at_s=self._clock(), decision=failure_of(cause, reason)))
        self._rest(standing, BACK_OFF_S * 2 ** (self._failures - 1))

    # --- what comes of it ---

    def _rest(self, standing: Standing, for_s: float = BETWEEN_S) -> None:
        """`standing` was thought about: no more for a while."""
        self._review.standing = standing
        self._review.looked_s = self._clock()
        self._review.quiet_until_s = self._clock() + for_s

    def _expect(self, ends_s: Sequence[float]) -> None:
        if all(map(math.isfinite, ends_s)):
            band = band_of(ends_s)
            self._review.expected_s = band.p50
            self._recorder.emit(ForecastChanged(at_s=self._clock(), makespan_s=band))

    def _switch(self, decision: Decision, option: Option, by: str) -> None:
        now_s, stay_s = self._clock(), decision.alternatives[0].ends_s
        candidate = candidate_of(option, self._state.candidate.rank, decision.what)
        self._recorder.emit(Decided(at_s=now_s, decision=decision))
        self._recorder.emit(Replanned(at_s=now_s, number=decision.number, plan=candidate, by=by))
        self._state.take_plan(candidate, now_s)
        self._review.standing = standing_of(self._state)
        self._review.expected_s = option.end_s
        self._past.switch = Switch(decision.number, option.end_s, stay_s)

    def _tell_outcome(self, ended_s: float, *, final: bool) -> None:
        switch = self._past.switch
        if switch is not None:
            event = Outcome(
                at_s=self._clock(),
                number=switch.number,
                predicted_s=switch.predicted_s,
                ended_s=ended_s,
                stay_s=switch.stay_s,
                final=final,
            )
            self._recorder.emit(event)

    def _propose(self, decision: Decision, option: Option, standing: Standing) -> None:
        now_s = self._clock()
        deadline_s = now_s + self._wait_s
        self._recorder.emit(
            Proposed(at_s=now_s, number=decision.number, decision=decision, deadline_s=deadline_s)
        )
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._wait_s, self._close_proposal, "expired", BY)
        self._proposal = Proposal(decision.number, decision, option, standing, timer)

    def _close_proposal(self, answer: Answer, by: str) -> None:
        proposal, self._proposal = self._proposal, None
        assert proposal is not None
        proposal.timer.cancel()
        self._answered(proposal.decision, answer, by)
        if answer == "accepted":
            self._switch(proposal.decision, proposal.option, by)
        self._review.busy = False
        self._rest(self._review.standing)
        self._host.wake()

    def _answered(self, decision: Decision, answer: Answer, by: str) -> None:
        now_s = self._clock()
        self._past.answers[decision.number] = answer
        self._recorder.emit(ProposalAnswered(at_s=now_s, number=decision.number, answer=answer, by=by))
        if answer != "accepted":
            why = {"refused": f"refused by {by}", "expired": "nobody answered in time"}.get(
                answer, "the run moved on before an answer came"
            )
            self._recorder.emit(Decided(at_s=now_s, decision=stays_instead(decision, why)))

    # --- holding the run ---

    def _hold(self, now_s: float) -> None:
        self._state.hold_stage = now_s < self._hold_until_s
        losses = standing_of(self._state).lost - self._review.standing.lost
        self._state.hold_losses = any(map(self._may_do_without, losses)) or self._proposal is not None

    def _may_do_without(self, lost: str) -> bool:
        """Whether another plan may help after this loss: of a GPU, or of a replica whose LLM works elsewhere."""
        engine = self._state.engines.get(lost)
        if engine is None:
            return True
        given_up = [
            other
            for other in self._state.engines.values()
            if other.replica.llm == engine.replica.llm
            and other.status == "gave up"
            and self._state.quarantined.keys().isdisjoint(other.replica.gpus)
        ]
        return len(given_up) <= MOST_GIVEN_UP

    def _set_timer(self, now_s: float) -> None:
        """Looks again in time; not while nothing works, or simulated time would run on without end."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        if now_s < self._hold_until_s:
            in_s = self._hold_until_s - now_s
        elif self._host.is_busy() and not self._review.busy:
            in_s = next_s(self._review, now_s) - now_s
        else:
            return
        # A little later, so that rounding cannot make it come too early.
        self._timer = loop.call_later(in_s + 0.001, self._host.wake)
