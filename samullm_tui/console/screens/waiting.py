"""Screens that show the result of another process: a quiet line while it works, cancellable."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Generic, TypeVar

from samullm_tui.console.layout.text import Line, heading
from samullm_tui.console.screens.base import ConsoleScreen
from samullm_tui.console.views.common import problem_lines, step
from samullm_tui.domain.errors import Problem, SamullmError

__all__ = ["WaitingScreen"]

ResultT = TypeVar("ResultT")


class WaitingScreen(ConsoleScreen, Generic[ResultT]):
    """Gets `result` from `fetch` once; a second visit finds it in the console's cache under `key`."""

    WHAT = "working"

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.result: ResultT | None = None
        self.problems: Sequence[Problem] = ()
        self._since: float | None = None

    async def fetch(self) -> ResultT:
        """The work itself. Raises SamullmError."""
        raise NotImplementedError

    def body_of(self, result: ResultT, width: int, height: int) -> list[Line]:
        """What is shown once the result is there."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self._since = time.monotonic()
        self.run_worker(self._fetch(), group="fetch")
        self.set_interval(1.0, self._count)

    def _count(self) -> None:
        if self._since is not None:
            self.redraw()

    async def _fetch(self) -> None:
        cache = self.console.cache
        try:
            if self.key not in cache:
                cache[self.key] = await self.fetch()
            self.result = cache[self.key]  # type: ignore[assignment]
            self.fetched()
        except SamullmError as error:
            self.problems = error.problems
        self._since = None
        self.redraw()

    def fetched(self) -> None:
        """Called once `result` is there."""

    def body(self, width: int, height: int) -> list[Line]:
        if self.result is not None:
            return self.body_of(self.result, width, height)
        inner = width - 2
        if self.problems:
            lines = [heading(f"{self.WHAT} failed", inner), *problem_lines(self.problems, inner)]
        else:
            elapsed = time.monotonic() - self._since if self._since is not None else 0.0
            lines = [step(self.WHAT, elapsed)]
        return [[(" ", ""), *line] for line in lines]

    def facts(self) -> set[str]:
        facts = super().facts()
        if self.result is not None:
            return facts | {"loaded"}
        return (facts - {"below"}) | {"working"} if self._since is not None else facts

    def do_cancel(self) -> None:
        """Ends the other process, and goes back."""
        self.workers.cancel_group(self, "fetch")
        self.app.pop_screen()
