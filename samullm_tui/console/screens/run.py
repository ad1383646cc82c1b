"""A run as it goes on. The screen only reads its journal, and asks its supervisor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from samullm_tui.console.actions import bindings_of
from samullm_tui.console.feed import RunFeed
from samullm_tui.console.screens.confirm import ConfirmScreen
from samullm_tui.console.screens.running import MomentScreen
from samullm_tui.console.sources import Command
from samullm_tui.domain.errors import SamullmError

__all__ = ["RunScreen"]

POLL_S = 0.5
SUMMARY_EVERY = 4
SLOW_EVERY = 10
ENDED = frozenset({"succeeded", "failed", "stopped"})
ACTIVE = frozenset({"planning", "waiting for approval", "running", "paused", "draining"})


class RunScreen(MomentScreen):
    """Polls the journal twice a second, a tenth of that while nobody looks or the terminal is behind."""

    NAME: ClassVar[str] = "run"
    BINDINGS = bindings_of("run")

    def __init__(self, run: str) -> None:
        super().__init__()
        self.run_name = run
        self._feed: RunFeed | None = None
        self._honest = ""
        self._directory: Path | None = None
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
            if self._ticks % SUMMARY_EVERY == 1:
                changed |= await self._look()
            if changed:
                self.redraw()
        except SamullmError as error:
            self.say(str(error.problems[0]), "bad")
        finally:
            self._busy = False

    async def _advance(self) -> bool:
        """Everything that is new, in pieces, so that a long journal shows while it is read."""
        changed = False
        while self._feed is not None and (moment := await asyncio.to_thread(self._feed.advance)):
            self.state, self.log_lines, changed = moment.state, moment.log, True
            if self.state.run and not self._honest:
                self._honest = self.state.status
        return changed

    async def _look(self) -> bool:
        summary = await asyncio.to_thread(self.console.sources.summary, self.run_name)
        before, self._honest = self._honest, summary.status
        self._directory = Path(summary.directory)
        return before != self._honest

    @property
    def status(self) -> str:
        """The journal's word, unless its supervisor is gone."""
        if self.state.ended is not None or self._honest != "interrupted":
            return self.state.status
        return self._honest

    def facts(self) -> set[str]:
        facts = super().facts()
        status = self.status
        for fact, holds in (
            ("running", status == "running"),
            ("paused", status == "paused"),
            ("active", status in ACTIVE),
            ("resumable", status == "interrupted"),
            ("ended", status in ENDED),
        ):
            facts |= {fact} if holds else set()
        return facts

    # Keys

    def do_pause(self) -> None:
        self._send("pause")

    def do_unpause(self) -> None:
        self._send("resume")

    def do_drain(self) -> None:
        self._ask("drain", f"{self._in_flight()} in flight finish, then the run stops and its engines end.")

    def do_stop(self) -> None:
        self._ask("stop", f"{self._in_flight()} in flight are lost: they run again when the run is resumed.")

    def do_resume(self) -> None:
        self.console.resume(self, self.run_name)

    def do_replay(self) -> None:
        if self._directory is not None:
            self.console.open_recording(self._directory)

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
            ConfirmScreen(f"{title}: {self.run_name}?", facts, command, lambda: self._send(command))
        )

    def _send(self, command: Command) -> None:
        self.run_worker(self._control(command), group="control")

    async def _control(self, command: Command) -> None:
        try:
            answer = await asyncio.to_thread(self.console.sources.control, self.run_name, command)
        except SamullmError as error:
            self.say(str(error.problems[0]), "bad")
            return
        self.say(answer, "good")
