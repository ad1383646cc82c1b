"""The library: what can be opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events

from samullm_tui.console.layout.text import Line, Segment
from samullm_tui.console.screens.scrolling import ListScreen
from samullm_tui.console.threads import in_thread
from samullm_tui.console.views.common import brief
from samullm_tui.console.views.library import Entry, Preview, RecordingHead, library_body, matching
from samullm_tui.domain.errors import SamullmError
from samullm_tui.journal.compressed import SUFFIX

if TYPE_CHECKING:
    from samullm_tui.journal.timeline import Timeline
    from samullm_tui.supervisor.runs import RunSummary

__all__ = ["LibraryScreen"]

REFRESH_S = 2.0
ENDED = frozenset({"succeeded", "failed", "stopped"})


class LibraryScreen(ListScreen):
    """Applications, runs, recordings. Runs are looked at again every two seconds."""

    NAME: ClassVar[str] = "library"

    def __init__(self) -> None:
        super().__init__()
        self.files: list[Entry] = []
        self.runs: list[Entry] = []
        self.previews: dict[Path, Preview] = {}
        self.field: str | None = None
        self._place: Segment = ("", "dim")

    # Data

    def on_mount(self) -> None:
        self.do_reload()
        self.set_interval(REFRESH_S, self._refresh_runs)

    def do_reload(self) -> None:
        self.run_worker(self._scan(), exclusive=True, group="scan")

    def _refresh_runs(self) -> None:
        if self.is_current and self.console.watching:
            self.run_worker(self._look_at_runs(), exclusive=True, group="runs")

    async def _scan(self) -> None:
        sources = self.console.sources
        applications = await in_thread(sources.applications)
        recordings = await in_thread(sources.recordings)
        self.files = [Entry("application", path.stem, path) for path in applications]
        self.files += [Entry("recording", _recording_name(path), path) for path in recordings]
        await self._look_at_runs()
        self.redraw()
        for entry in self.files:
            self.previews[entry.path] = await in_thread(self._preview, entry)
            self.redraw()
        self._place = await self._where_runs_go()
        self.redraw()

    async def _where_runs_go(self) -> Segment:
        try:
            place = await in_thread(self.console.sources.place)
        except SamullmError as error:
            return brief(error.problems[0]), "bad"
        return place.title + ("" if place.engine == "vllm" else " (simulated)"), "dim"

    async def _look_at_runs(self) -> None:
        before, here = self.runs, self.chosen
        summaries: Sequence[RunSummary] = await in_thread(self.console.sources.runs)
        self.runs = [Entry("run", summary.run, Path(summary.directory), summary) for summary in summaries]
        if self.runs != before:
            self._keep(here)
            self.redraw()

    def _keep(self, here: Entry | None) -> None:
        """The cursor stays on its entry, though others come and go."""
        same = [i for i, entry in enumerate(self.entries) if here and entry.path == here.path]
        self.cursor = same[0] if same else min(self.cursor, max(0, self.length - 1))

    def _preview(self, entry: Entry) -> Preview:
        try:
            if entry.kind == "application":
                return self.console.sources.load(entry.path)
            return head_of(self.console.sources.timeline(entry.path).whole())
        except SamullmError as error:
            return error.problems

    # What is shown

    @property
    def entries(self) -> list[Entry]:
        groups = [[entry for entry in self.files if entry.kind == "application"], self.runs]
        groups.append([entry for entry in self.files if entry.kind == "recording"])
        return matching([entry for group in groups for entry in group], self.field or "")

    @property
    def length(self) -> int:
        return len(self.entries)

    @property
    def chosen(self) -> Entry | None:
        entries = self.entries
        return entries[min(self.cursor, len(entries) - 1)] if entries else None

    def where(self) -> tuple[Line, Line]:
        return [("Library", "bold")], [self._place]

    def body(self, width: int, height: int) -> list[Line]:
        return library_body(
            self.entries, min(self.cursor, max(0, self.length - 1)), self.previews, width, height, self.field
        )

    def facts(self) -> set[str]:
        facts = super().facts()
        entry = self.chosen
        if entry is not None:
            facts.add("selected")
        if entry is not None and entry.run is not None:
            facts |= {"resumable"} if entry.run.status == "interrupted" else set()
            facts |= {"ended"} if entry.run.status in ENDED else set()
        return facts

    # Keys

    def do_open(self) -> None:
        entry = self.chosen
        if entry is None:
            return
        open_it = {
            "application": lambda: self.console.open_application(entry.path),
            "run": lambda: self.console.open_run(entry.name),
            "recording": lambda: self.console.open_recording(entry.path),
        }
        open_it[entry.kind]()

    def do_filter(self) -> None:
        self.field, self.cursor = "", 0
        self.redraw()

    def do_resume(self) -> None:
        if self.chosen is not None:
            self.console.resume(self, self.chosen.name)

    def do_replay(self) -> None:
        if self.chosen is not None:
            self.console.open_recording(self.chosen.path)

    def do_report(self) -> None:
        if self.chosen is not None:
            self.run_worker(self._report(self.chosen), exclusive=True, group="report")

    async def _report(self, entry: Entry) -> None:
        from samullm_tui.console.screens.report import ReportScreen

        try:
            timeline = await in_thread(self.console.sources.timeline(entry.path).whole)
        except SamullmError as error:
            self.say(brief(error.problems[0]), "bad")
            return
        self.app.push_screen(ReportScreen(timeline.final, entry.path))

    def do_copy(self) -> None:
        entry = self.chosen
        if entry is not None:
            self.copy(
                entry.name if entry.kind == "run" else str(entry.path),
                "run" if entry.kind == "run" else "path",
            )

    @property
    def takes_text(self) -> bool:
        return self.field is not None

    def typed(self, event: events.Key) -> bool:
        if self.field is None:
            return False
        if event.key == "escape":
            self.field = None
        elif event.key == "backspace":
            self.field = self.field[:-1]
        elif event.character and event.is_printable:
            self.field += event.character
        else:
            return False
        self.cursor = 0
        return True


def _recording_name(path: Path) -> str:
    return path.name.removesuffix(SUFFIX).removesuffix(".jsonl")


def head_of(timeline: Timeline) -> RecordingHead:
    """What the library says of a recording."""
    end = timeline.final
    return RecordingHead(
        run=end.run,
        application=end.application,
        cluster=end.cluster,
        engine=end.engine,
        duration_s=timeline.duration_s,
        events=len(timeline),
        decisions=len(timeline.decision_indices),
        status=end.status,
    )
