"""The report of a finished run: its figures, its export, and what it says when it cannot be made."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from samullm_tui.console.html import html_page
from samullm_tui.console.layout.gantt import marks_of
from samullm_tui.console.layout.text import line_width, plain
from samullm_tui.console.themes import load_themes
from samullm_tui.console.views.report import ReportView, Section, report_lines, report_sections
from samullm_tui.domain.errors import Problem, RunError
from samullm_tui.domain.run_report import ErrorPart
from samullm_tui.journal.run_state import RunState
from samullm_tui.journal.state import fold
from samullm_tui.locations import THEMES
from tests.console.conftest import MakeApp, press, settle
from tests.console.fakes import REPORT, RUN, FakeSources, FakeTail, beginning, ending, middle

STATE = fold([*beginning(), *middle(), *ending()])
MARKS = marks_of(list(STATE.llms))


class Page(HTMLParser):
    """Tags, attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


async def test_a_finished_run_opens_its_report_and_writes_it(
    make_app: MakeApp, sources: FakeSources, recording: Path
) -> None:
    sources.tail_of_run = FakeTail([*beginning(), *middle(), *ending()])
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "R")
        for words in ("predicted", "lengths", "+21s", "−9.5s", "steps of Llama-2-70b tp2 −6 %"):
            assert words in text
        assert ("report", recording.name) in sources.calls
        text = await press(pilot, "end")
        assert "Decisions" in text
        assert "written: /here/report-" in await press(pilot, "e")
    page = (recording.parent / f"report-{RUN}.html").read_text()
    assert "Where the error comes from" in page
    assert "1.09×" in page


async def test_a_report_that_cannot_be_made_says_why_and_shows_the_journal(
    make_app: MakeApp, sources: FakeSources, recording: Path
) -> None:
    sources.refuse = RunError(Problem("x", "", "the application is not here as it was"))
    async with make_app(recording=recording, playing=False).run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "R")
        assert "the application is not here as it was" in text
        assert "7m 18s" in text, "the actual makespan needs no simulation"


async def test_a_run_that_goes_on_has_no_report(make_app: MakeApp, sources: FakeSources) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert "Report" not in await press(pilot, "R")
        assert not sources.calls


@settings(max_examples=40, deadline=None)
@given(
    st.integers(60, 220),
    st.lists(st.floats(-1e5, 1e5), min_size=4, max_size=4),
    st.sampled_from(["", "working", "problems"]),
)
def test_a_report_keeps_to_its_cells(width: int, seconds: list[float], instead: str) -> None:
    parts = tuple(ErrorPart(p.source, s) for p, s in zip(REPORT.parts, seconds, strict=True))
    view = ReportView(
        STATE,
        MARKS,
        None if instead else replace(REPORT, parts=parts),
        instead if instead == "working" else "",
        (Problem("f", "place", "wrong " * 30, "right"),),
    )
    for line in report_lines(view, width):
        assert line_width(line) <= width, plain(line)


def test_a_run_that_did_not_succeed_is_not_called_off_by_an_error() -> None:
    text = "\n".join(plain(line) for line in report_lines(ReportView(replace_status(STATE), MARKS), 80))
    assert "stopped: not all was done" in text
    assert "within the band" not in text


def replace_status(state: RunState) -> RunState:
    return replace(state, ended="stopped")


@pytest.mark.parametrize("theme", ["dark", "light", "sixteen", "high-contrast", "colour-blind"])
def test_an_exported_page_needs_nothing_else_and_shows_the_same(theme: str) -> None:
    sections = report_sections(ReportView(STATE, MARKS, REPORT), 100)
    text = html_page(RUN, "chain-summary", sections, load_themes((THEMES,))[0][theme], 100)
    page = Page(text)
    assert not set(page.tags) & {"script", "link", "img", "iframe", "object", "svg"}
    assert not re.search(r"https?://|url\(|@import", text)
    shown = "".join(page.texts)
    for section in sections:
        for line in section.lines:
            assert plain(line).rstrip() in shown


HOSTILE = (
    "<script>alert(1)</script>",
    "</pre><img src=x onerror=alert(1)>",
    '"><style>*{display:none}</style>',
    "\x1b]52;c;AAAA\x07\x1b[2J",
    "&lt;b&gt; \u202e drow",
    "</title><script>x</script>",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_in_a_page_is_text(text: str) -> None:
    sections = [Section(text, text, [[(text, "bold"), (text, "")]])]
    theme = load_themes((THEMES,))[0]["dark"]
    tame = Page(html_page("x", "x", [Section("x", "x", [[("x", "bold"), ("x", "")]])], theme, 90))
    written = html_page(text, text, sections, theme, 90)
    page = Page(written)
    assert page.tags == tame.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in tame.attributes]
    assert not set(written) & {chr(c) for c in (*range(10), *range(11, 32), 127, 0x202E)}
