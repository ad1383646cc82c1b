"""A run as it goes on. The screen only reads its journal, and asks its supervisor."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from samullm_tui.console.feed import RunFeed
from samullm_tui.console.layout.duration import duration
from samullm_tui.console.layout.gantt import marks_of
from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.confirm import ConfirmScreen
from samullm_tui.console.screens.report import ReportScreen
from samullm_tui.console.screens.running import MomentScreen
from samullm_tui.console.sources import Answer, Command, Vitals
from samullm_tui.console.threads import in_thread
from samullm_tui.console.views.common import brief
from samullm_tui.console.views.plans import PlansView, chart_end_s, plans_body
from samullm_tui.domain.errors import SamullmError
from samullm_tui.domain.event import Decision
from samullm_tui.domain.plan import Forecast

__all__ = ["RunScreen"]

POLL_S = 0.5
SUMMARY_EVERY = 4
SLOW_EVERY = 10
ENDED = frozenset({"succeeded", "failed", "stopped"})
ACTIVE = frozenset({"planning", "waiting for approval", "running", "paused", "draining"})


class RunScreen(MomentScreen):
    """Polls the journal twice a second, a tenth of that while nobody looks or the terminal is behind."""

    NAME: ClassVar[str] = "run"

    def __init__(self, run: str) -> None:
        super().__init__()
        self.run_name = run
        self._feed: RunFeed | None = None
        self._vitals: Vitals | None = None
        self._unreadable = ""
        self._ticks = 0
        self._busy = False

    # Data

    def on_mount(self) -> None:
        self._feed = RunFeed(self.console.sources.tail(self.run_name))
        self._tick()
        self.set_interval(POLL_S, self._tick)

    def _tick(self) -> None:
        self._ticks += 1
        slow = not self.console.watching or self.console.terminal_is_behind
        if self._busy or (slow and self._ticks % SLOW_EVERY):
            return
        self._busy = True
        self.run_worker(self._poll(), group="poll")

    async def _poll(self) -> None:
        try:
            changed = await self._advance()
            self._unreadable = ""
            if self._ticks % SUMMARY_EVERY == 1:
                changed |= await self._look()
            if changed:
                self.redraw()
        except SamullmError as error:
            self._unreadable = brief(error.problems[0])
            self.redraw()
        finally:
            self._busy = False

    async def _advance(self) -> bool:
        """Everything that is new, in pieces, so that a long journal shows while it is read."""
        changed = False
        while self._feed is not None and (moment := await in_thread(self._feed.advance)):
            if changed:
                self.redraw()
            self.show(moment.state, moment.log)
            changed = True
        return changed

    async def _look(self) -> bool:
        before = self._vitals
        self._vitals = await in_thread(self.console.sources.vitals, self.run_name)
        return before != self._vitals

    @property
    def status(self) -> str:
        """The journal's word, unless its supervisor is gone."""
        gone = self._vitals is not None and not self._vitals.alive
        return "interrupted" if gone and self.state.ended is None else self.state.status

    @property
    def trouble(self) -> str:
        if self._unreadable:
            return self._unreadable
        if self.state.ended is not None:
            return super().trouble
        return self._vitals.trouble if self._vitals is not None else ""

    @property
    def note(self) -> Line:
        if self.state.ended is None or not self.state.finished:
            return []
        return [(f"samullm-tui export {self.run_name} -o OUT.jsonl  writes the outputs", "dim")]

    @property
    def waiting(self) -> bool:
        """Whether a plan must be chosen before anything happens."""
        return self.status == "waiting for approval" and bool(self.state.candidates)

    def facts(self) -> set[str]:
        facts = super().facts()
        if self.typing:
            return facts
        status = self.status
        for fact, holds in (
            ("running", status == "running"),
            ("paused", status == "paused"),
            ("active", status in ACTIVE),
            ("resumable", status == "interrupted"),
            ("ended", status in ENDED),
            ("waiting", self.waiting),
            ("proposed", self.state.proposal is not None and status in ACTIVE),
        ):
            facts |= {fact} if holds else set()
        return facts

    # What is shown

    @property
    def length(self) -> int:
        return len(self.state.candidates) if self.waiting else super().length

    @property
    def choice(self) -> int:
        """The index of the candidate under the cursor, while one must be chosen."""
        return min(self.cursor, len(self.state.candidates) - 1)

    def move(self, by: int) -> None:
        super().move(-by if self.waiting else by)  # plans stand best first, decisions latest last

    def body(self, width: int, height: int) -> list[Line]:
        return plans_body(self._plans(), width, height) if self.waiting else super().body(width, height)

    def _plans(self) -> PlansView:
        state = self.state
        forecast = Forecast(
            application=state.application,
            application_sha256=state.application_sha256,
            cluster=state.cluster,
            planning_s=state.planning_s,
            lower_bound_s=state.lower_bound_s,
            samples=state.samples,
            seed=state.seed,
            quantile=0.5,
            requests={name: node.requests for name, node in state.nodes.items()},
            estimated={},
            candidates=state.candidates,
        )
        marks = marks_of(list(state.llms))
        return PlansView(forecast, state.candidates, self.choice, marks, state.gpu_count, window=self.window)

    @property
    def chart_time(self) -> tuple[float, float | None]:
        return (chart_end_s(self._plans()), None) if self.waiting else super().chart_time

    # Keys

    def do_pause(self) -> None:
        self._send("pause")

    def do_unpause(self) -> None:
        self._send("resume")

    def do_approve(self) -> None:
        chosen = self.state.candidates[self.choice]
        makespan = chosen.makespan_s
        facts = [
            f"Plan {chosen.rank} ({chosen.plan.planner}) on {self.state.cluster}, {self.state.engine} engines.",
            f"Makespan ~{duration(makespan.p50)}, 9 in 10 within {duration(makespan.p90)}.",
            f"~{chosen.gpu_hours:.2f} GPU-hours, {chosen.loads} loads, {self.state.requests:,} requests.",
        ]
        self.app.push_screen(
            ConfirmScreen(
                f"Start {self.run_name}?", lambda: facts, "start", lambda: self._approve(chosen.rank)
            )
        )

    def _approve(self, rank: int) -> None:
        approve = self.console.sources.approve
        self.run_worker(self._answered("start", lambda: approve(self.run_name, rank)), group="control")

    def do_replan(self) -> None:
        replan = self.console.sources.replan
        self.run_worker(self._answered("re-plan", lambda: replan(self.run_name)), group="control")

    def do_accept(self) -> None:
        self._ask_about_proposal("accept", "Switch the plan", "switch")

    def do_refuse(self) -> None:
        self._ask_about_proposal("refuse", "Stay with the plan", "stay")

    def _ask_about_proposal(self, answer: Answer, title: str, word: str) -> None:
        """The question counts down, and is over when the proposal is."""
        proposal = self.state.proposal
        if proposal is None:
            return
        number = proposal.number

        def facts() -> list[str]:
            left = max(0.0, proposal.deadline_s - self.state.at_s)
            return [
                f"Proposal {number}: {proposal.decision.what}.",
                *_ends(proposal.decision),
                f"Saw: {proposal.decision.saw}",
                f"Without an answer it stays with the plan in {duration(left)} of the run's clock.",
            ]

        def over() -> str:
            still = self.state.proposal is not None and self.state.proposal.number == number
            return (
                ""
                if still
                else f"It is over: {self.state.answers.get(number, 'the run ended')}. esc goes back."
            )

        def then() -> None:
            self.run_worker(self._respond(answer, number), group="control")

        self.app.push_screen(ConfirmScreen(f"{title} of {self.run_name}?", facts, word, then, over))

    def do_drain(self) -> None:
        self._ask("drain", f"{self._in_flight()} in flight finish, then the run stops and its engines end.")

    def do_stop(self) -> None:
        self._ask("stop", f"{self._in_flight()} in flight are lost: they run again when the run is resumed.")

    def do_resume(self) -> None:
        self.console.resume(self, self.run_name)

    def do_replay(self) -> None:
        self.console.open_recording(self.console.sources.folder(self.run_name))

    def do_lengths(self) -> None:
        self.open_lengths(self.console.sources.folder(self.run_name))

    def do_report(self) -> None:
        self.app.push_screen(ReportScreen(self.state, self.console.sources.folder(self.run_name)))

    def _in_flight(self) -> str:
        running = sum(replica.running for replica in self.state.replicas.values())
        return f"The {running:,} requests" if running != 1 else "The 1 request"

    def _ask(self, command: Command, what: str) -> None:
        state = self.state
        left = max(0, state.requests - state.finished - state.errors)
        facts = [
            what,
            f"{state.finished:,} outputs are kept, {left:,} requests are left; resume goes on with them.",
        ]
        title = {"drain": "Drain", "stop": "Stop now"}[command]
        self.app.push_screen(
            ConfirmScreen(f"{title}: {self.run_name}?", lambda: facts, command, lambda: self._send(command))
        )

    def _send(self, command: Command) -> None:
        control = self.console.sources.control

        def ask() -> str:
            status = control(self.run_name, command)
            # To the run it is the same word for both, until its engines are gone.
            return "its engines end" if command == "stop" and status == "draining" else status

        self.run_worker(self._answered(command, ask), group="control")

    async def _respond(self, answer: Answer, number: int) -> None:
        respond = self.console.sources.answer
        done = {"accept": "the plan is switched", "refuse": "the plan stays"}[answer]

        def ask() -> str:
            respond(self.run_name, number, answer)
            return done

        await self._answered(f"proposal {number}", ask)

    async def _answered(self, what: str, ask: Callable[[], str]) -> None:
        """Asks the supervisor off the event loop, and shows its answer."""
        try:
            answer = await in_thread(ask)
        except SamullmError as error:
            self.say(brief(error.problems[0]), "bad")
            return
        self.say(f"{what}: {answer}", "good")


def _ends(decision: Decision) -> list[str]:
    """When it ends with the switch and without, as simulated."""
    compared, chosen = decision.alternatives, decision.chosen
    if not compared or chosen is None or chosen >= len(compared):
        return []
    stay, switch = (duration(compared[option].ends_s) for option in (0, chosen))
    return [
        f"The run ends ~{switch} with it, ~{stay} with the plan as it is (simulated: medians; the saving is a mean)."
    ]
