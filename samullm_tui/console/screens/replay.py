"""A recording: the Run screen at any moment, with a transport."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from samullm_tui.console.describe import LogLine, describe
from samullm_tui.console.layout.text import Line, heading
from samullm_tui.console.screens.report import ReportScreen
from samullm_tui.console.screens.running import MomentScreen
from samullm_tui.console.threads import in_thread
from samullm_tui.console.views.common import problem_lines
from samullm_tui.console.views.run import run_title, transport_line
from samullm_tui.domain.errors import Problem, SamullmError
from samullm_tui.domain.event import AnyEvent
from samullm_tui.journal.timeline import Timeline

__all__ = ["ReplayScreen"]

TICK_S = 0.5
PIECE_S = 0.2
"""Of reading before the first picture, and between two pictures of how far it is."""
SEEK_SHARE = 1 / 40
SLOWEST, FASTEST = 0.25, 4096.0


class ReplayScreen(MomentScreen):
    """Plays a recording at `speed` times its own pace, while the rest of it is still read."""

    NAME: ClassVar[str] = "replay"

    def __init__(self, path: Path, *, speed: float = 1.0, playing: bool = True) -> None:
        super().__init__()
        self.path = path
        self.at_s = 0.0
        self.speed = speed
        self.playing = playing
        self.problems: Sequence[Problem] = ()
        self._timeline: Timeline | None = None
        self._wanted_s = 0.0
        self._lines: list[LogLine] = []
        self._line_events: list[int] = []
        self._described = 0
        self._then = 0.0

    # Data

    def on_mount(self) -> None:
        self.run_worker(self._load(), group="load")
        self.set_interval(TICK_S, self._tick)

    async def _load(self) -> None:
        timeline = self.console.sources.timeline(self.path)
        blocks, more = timeline.read(), True
        try:
            while more:
                more = await in_thread(self._read, blocks)
                if self._timeline is None:
                    self._timeline, self._then = timeline, time.monotonic()
                self.seek(self._wanted_s)
        except SamullmError as error:
            self._timeline, self.playing, self.problems = None, False, error.problems
            self.redraw()

    def _read(self, blocks: Iterator[Sequence[AnyEvent]]) -> bool:
        """PIECE_S of the rest of the recording, and the lines of its log. Whether there may be more."""
        until = time.monotonic() + PIECE_S
        for block in blocks:
            for event in block:
                self._described += 1
                if line := describe(event):
                    self._lines.append(line)
                    self._line_events.append(self._described - 1)
            if time.monotonic() >= until:
                return True
        return False

    def _tick(self) -> None:
        now, then = time.monotonic(), self._then
        self._then = now
        if (
            self.playing
            and self._timeline is not None
            and self.is_current
            and not self.console.terminal_is_behind
        ):
            self.seek(max(self._wanted_s, self.at_s + (now - then) * self.speed))

    def seek(self, at_s: float) -> None:
        """Shows the run at that moment; at the end it pauses. What is not read yet is shown when it is."""
        timeline = self._timeline
        if timeline is None:
            return
        self._wanted_s = max(0.0, at_s)
        self.at_s = min(timeline.duration_s, self._wanted_s)
        if self._is_at_end:
            self.playing = False
        index = timeline.index_at(self.at_s)
        if index + 1 != self.state.events:
            self.show(timeline.state_at(index), self._lines[: bisect_right(self._line_events, index)])
        self.redraw()

    @property
    def _is_at_end(self) -> bool:
        """Of the recording, not of what was read of it so far."""
        timeline = self._timeline
        return timeline is not None and timeline.is_whole and self.at_s >= timeline.duration_s

    # What is shown

    def where(self) -> tuple[Line, Line]:
        left, right = run_title(self.state, self.status, self.app.size.width - 7)
        return [("Replay ", "dim"), *left], right

    def body(self, width: int, height: int) -> list[Line]:
        if self.problems:
            lines = [heading("This cannot be replayed", width - 2), *problem_lines(self.problems, width - 2)]
            lines.append([(f"  {self.path}", "dim")])
            return [[(" ", ""), *line] for line in lines]
        return super().body(width, height)

    def transport(self, width: int) -> Line | None:
        timeline = self._timeline
        if timeline is None:
            return [("reading the recording …", "dim")]
        decided = [timeline.at_s(index) for index in timeline.decision_indices]
        return transport_line(
            self.at_s,
            timeline.duration_s,
            self.speed,
            width,
            playing=self.playing,
            marks_s=decided,
            is_whole=timeline.is_whole,
        )

    def facts(self) -> set[str]:
        facts = super().facts()
        if self.typing:
            return facts
        timeline = self._timeline
        if timeline is not None:
            if timeline.is_whole and timeline.final.ended is not None:
                facts.add("ended")
            if self._next(timeline.decision_indices) is not None:
                facts.add("more_decisions")
            if self._next(timeline.error_indices) is not None:
                facts.add("more_errors")
        return facts

    def _next(self, indices: Sequence[int]) -> int | None:
        """The first of these events that has not happened yet."""
        place = bisect_left(indices, self.state.events)
        return indices[place] if place < len(indices) else None

    # Keys

    def do_play(self) -> None:
        if self._timeline is None:
            return
        self.seek(0.0 if self._is_at_end else self.at_s)
        self.playing = not self.playing
        self._then = time.monotonic()
        self.redraw()

    def do_lengths(self) -> None:
        if self._timeline is not None:
            self.open_lengths(self.path, None if self._is_at_end else self.at_s)

    def do_report(self) -> None:
        if self._timeline is not None:
            self.app.push_screen(ReportScreen(self._timeline.final, self.path))

    def _skip(self, by: float) -> None:
        if self._timeline is not None:
            self.seek(self.at_s + by * self._timeline.duration_s)

    def do_forward(self) -> None:
        self._skip(SEEK_SHARE)

    def do_rewind(self) -> None:
        self._skip(-SEEK_SHARE)

    def do_beginning(self) -> None:
        self.seek(0.0)

    def do_ending(self) -> None:
        self.seek(math.inf)

    def _pace(self, factor: float) -> None:
        self.speed = min(FASTEST, max(SLOWEST, self.speed * factor))
        self.redraw()

    def do_faster(self) -> None:
        self._pace(2.0)

    def do_slower(self) -> None:
        self._pace(0.5)

    def do_next_decision(self) -> None:
        if self._timeline is not None:
            self._go_to(self._next(self._timeline.decision_indices), show_log=False)

    def do_next_error(self) -> None:
        if self._timeline is not None:
            self._go_to(self._next(self._timeline.error_indices), show_log=True)

    def _go_to(self, index: int | None, *, show_log: bool) -> None:
        """Stops at that event, with the decisions or the log below."""
        if index is None or self._timeline is None:
            return
        self.playing, self.cursor, self.show_log = False, 0, show_log
        self.seek(self._timeline.at_s(index))
