"""What the Run screen and the Replay screen share: one moment of a run, its decisions, its log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual import events

from samullm_tui.console.describe import LogLine
from samullm_tui.console.layout.gantt import marks_of
from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.charting import ChartScreen
from samullm_tui.console.screens.decision import DecisionScreen
from samullm_tui.console.screens.lengths import LengthsScreen
from samullm_tui.console.screens.scrolling import ListScreen
from samullm_tui.console.views.run import ROOMY, RunView, run_body, run_title
from samullm_tui.console.views.run_charts import chart_end_s, moment_s
from samullm_tui.domain.event import Decision
from samullm_tui.journal.run_state import RunState

__all__ = ["MomentScreen"]


class MomentScreen(ChartScreen, ListScreen):
    """Draws `state`. The cursor counts decisions, or lines of the log, from the latest.

    On the latest it stays there; anywhere else it stays on its line, whatever comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state = RunState()
        self.log_lines: Sequence[LogLine] = ()
        self.chart = False
        self.show_log = False
        self.find: str | None = None
        self.typing = False
        self._found: tuple[object, list[LogLine], list[tuple[float, Decision]]] = (None, [], [])

    @property
    def status(self) -> str:
        """The honest status."""
        return self.state.status

    @property
    def trouble(self) -> str:
        """What keeps the run from going on, or why it failed."""
        return self.state.cause if self.state.ended == "failed" else ""

    @property
    def note(self) -> Line:
        """What to do next."""
        return []

    def transport(self, width: int) -> Line | None:
        """A line above everything."""
        return None

    def show(self, state: RunState, log: Sequence[LogLine]) -> None:
        """Another moment of the same run."""
        before = self.length
        self.state, self.log_lines = state, log
        if self.cursor:
            self.cursor = max(0, self.cursor + self.length - before)

    def where(self) -> tuple[Line, Line]:
        return run_title(self.state, self.status, self.app.size.width)

    def body(self, width: int, height: int) -> list[Line]:
        log, decisions = self.found
        view = RunView(
            state=self.state,
            status=self.status,
            marks=marks_of(list(self.state.llms)),
            log=log,
            decisions=decisions,
            cursor=min(self.cursor, max(0, self.length - 1)),
            chart=self.chart,
            show_log=self.show_log,
            transport=self.transport(width - 2),
            trouble=self.trouble,
            note=self.note,
            find=self.find,
            typing=self.typing,
            window=self.window,
        )
        return run_body(view, width, height)

    @property
    def is_charted(self) -> bool:
        return True

    @property
    def chart_time(self) -> tuple[float, float | None]:
        return chart_end_s(self.state), moment_s(self.state)

    @property
    def found(self) -> tuple[Sequence[LogLine], Sequence[tuple[float, Decision]]]:
        """Lines of the log and decisions that contain every word that is looked for."""
        words = (self.find or "").casefold().split()
        if not words:
            return self.log_lines, self.state.decisions
        key = (words, self.log_lines, len(self.state.decisions))
        if self._found[0] != key:
            log = [line for line in self.log_lines if _has(line.text, words)]
            decisions = [one for one in self.state.decisions if _has(_told(one[1]), words)]
            self._found = (key, log, decisions)
        return self._found[1], self._found[2]

    @property
    def length(self) -> int:
        log, decisions = self.found
        return len(log) if self.show_log else len(decisions)

    @property
    def page(self) -> int:
        """About what the list shows at once."""
        return max(1, self.body_pane.size.height // 2 if self.show_log else 3)

    def move(self, by: int) -> None:
        super().move(-by)  # the latest is at the bottom

    def facts(self) -> set[str]:
        if self.typing:
            return {"typing", "filtered"}
        facts = super().facts()
        facts |= {"decided"} if self.found[1] and not self.show_log else set()
        facts |= {"answers"} if self.state.finished else set()
        facts |= {"listed"} if self.log_lines else set()
        facts = (facts - {"below"}) | {"filtered"} if self.find else facts
        return facts | ({"compact"} if self.body_pane.size.height < ROOMY else set())

    # Looking for words

    @property
    def takes_text(self) -> bool:
        return self.typing

    def typed(self, event: events.Key) -> bool:
        if not self.typing:
            return False
        field = self.find or ""
        if event.key == "backspace":
            self.find = field[:-1]
        elif event.character and event.is_printable:
            self.find = field + event.character
        else:
            return False
        self.cursor = 0
        return True

    def do_find(self) -> None:
        self.find, self.typing, self.cursor = "", True, 0
        self.redraw()

    def do_keep_filter(self) -> None:
        self.typing = False
        self.find = self.find or None
        self.redraw()

    def do_clear_filter(self) -> None:
        self.find, self.typing, self.cursor = None, False, 0
        self.redraw()

    # Keys

    def do_chart(self) -> None:
        self.chart = not self.chart
        self.redraw()

    def do_log(self) -> None:
        self.show_log, self.cursor = not self.show_log, 0
        self.redraw()

    def do_decision(self) -> None:
        decisions = self.found[1]
        chosen = decisions[max(0, len(decisions) - 1 - self.cursor)]
        index = next(i for i, one in enumerate(self.state.decisions) if one is chosen)
        self.app.push_screen(DecisionScreen(self.state, index))

    def open_lengths(self, path: Path, until_s: float | None = None) -> None:
        """The lengths of this moment's answers."""
        sources, state = self.console.sources, self.state
        key = f"{path} {state.events}"
        self.app.push_screen(
            LengthsScreen(state.run, list(state.llms), key, lambda: sources.run_lengths(path, until_s))
        )

    def do_copy(self) -> None:
        self.copy(self.state.run, "run")


def _has(text: str, words: Sequence[str]) -> bool:
    folded = text.casefold()
    return all(word in folded for word in words)


def _told(decision: Decision) -> str:
    return f"{decision.kind} {decision.what} {decision.saw}"
