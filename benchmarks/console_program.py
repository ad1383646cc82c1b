"""The programs that `bench_console` puts into a terminal, and the one that makes a journal grow beside them.

run        the console on a run whose supervisor is well, without one
minimal    the smallest Textual application, to compare a first picture with
feed RATE  appends to the run's journal, RATE events a second, until its stdin ends; prints requests and decisions
"""

from __future__ import annotations

import select
import sys
import time

__all__: list[str] = []

SLICES = 10
"""So many times a second something is appended: a run's requests do not end all at once either."""


def minimal() -> None:
    from textual.app import App, ComposeResult
    from textual.widgets import Static

    class Minimal(App[None]):
        def compose(self) -> ComposeResult:
            yield Static("minimal")

    Minimal().run(mouse=False)


def console() -> None:
    from benchmarks.live_run import RUN
    from samullm_tui.console.app import SamullmApp, Start
    from samullm_tui.console.local import LocalSources
    from samullm_tui.console.sources import Settings, Vitals

    class Supervised(LocalSources):
        """Nobody is behind the journal, but for the console all is well."""

        def vitals(self, run: str) -> Vitals:
            return Vitals(alive=True)

    SamullmApp(Supervised(Settings()), Start(run=RUN), theme="dark").run(mouse=False)


def feed(events_per_s: int) -> None:
    from benchmarks.live_run import RUN, opening, second
    from samullm_tui.domain.event import Decided, RequestFinished
    from samullm_tui.journal.writer import JournalWriter
    from samullm_tui.locations import run_dir
    from samullm_tui.supervisor.spec import RunPaths

    requests, decisions, began = 0, 0, time.monotonic()
    paths = RunPaths(run_dir(RUN))
    paths.folder.mkdir(parents=True, exist_ok=True)
    with JournalWriter(paths.journal) as journal:
        for event in opening():
            journal.append(event)
        slices, events = 0, second(1, 0)
        while not select.select([sys.stdin], [], [], max(0.0, began + slices / SLICES - time.monotonic()))[0]:
            if slices % SLICES == 0:
                events = second(slices // SLICES + 1, events_per_s - 1)
            for event in events[slices % SLICES :: SLICES]:
                journal.append(event)
                requests += isinstance(event, RequestFinished)
                decisions += isinstance(event, Decided)
            slices += 1
    print(requests, decisions)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run"]:
            console()
        case ["minimal"]:
            minimal()
        case ["feed", rate]:
            feed(int(rate))
