"""What the Run screen and the Replay screen share: one moment of a run, its decisions, its log."""

from __future__ import annotations

from collections.abc import Sequence

from samullm_tui.console.describe import LogLine
from samullm_tui.console.layout.gantt import marks_of
from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.decision import DecisionScreen
from samullm_tui.console.screens.scrolling import ListScreen
from samullm_tui.console.views.run import ROOMY, RunView, run_body, run_title
from samullm_tui.journal.run_state import RunState

__all__ = ["MomentScreen"]


class MomentScreen(ListScreen):
    """Draws `state`. The cursor counts decisions, or lines of the log, from the latest."""

    def __init__(self) -> None:
        super().__init__()
        self.state = RunState()
        self.log_lines: Sequence[LogLine] = ()
        self.chart = False
        self.show_log = False

    @property
    def status(self) -> str:
        """The honest status."""
        return self.state.status

    @property
    def trouble(self) -> str:
        """What keeps the run from going on, or why it failed."""
        return self.state.cause if self.state.ended == "failed" else ""

    @property
    def note(self) -> str:
        """What to do next."""
        return ""

    def transport(self, width: int) -> Line | None:
        """A line above everything."""
        return None

    def where(self) -> tuple[Line, Line]:
        return run_title(self.state, self.status, self.app.size.width)

    def body(self, width: int, height: int) -> list[Line]:
        view = RunView(
            state=self.state,
            status=self.status,
            marks=marks_of(list(self.state.llms)),
            log=self.log_lines,
            cursor=min(self.cursor, max(0, self.length - 1)),
            chart=self.chart,
            show_log=self.show_log,
            transport=self.transport(width - 2),
            trouble=self.trouble,
            note=self.note,
        )
        return run_body(view, width, height)

    @property
    def length(self) -> int:
        return len(self.log_lines) if self.show_log else len(self.state.decisions)

    def move(self, by: int) -> None:
        super().move(-by)  # the latest is at the bottom

    def facts(self) -> set[str]:
        facts = super().facts()
        facts |= {"decided"} if self.state.decisions and not self.show_log else set()
        return facts | ({"compact"} if self.body_pane.size.height < ROOMY else set())

    def do_chart(self) -> None:
        self.chart = not self.chart
        self.redraw()

    def do_log(self) -> None:
        self.show_log, self.cursor = not self.show_log, 0
        self.redraw()

    def do_decision(self) -> None:
        index = max(0, len(self.state.decisions) - 1 - self.cursor)
        self.app.push_screen(DecisionScreen(self.state, index))

    def do_copy(self) -> None:
        self.copy(self.state.run, "run")
