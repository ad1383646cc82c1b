"""No byte from a model, a file or an engine log reaches the terminal as a control sequence, none is read as markup."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from samullm_tui.domain.application import Application
from samullm_tui.domain.errors import Problem, RunError
from samullm_tui.domain.event import (
    AnyEvent,
    Decided,
    Decision,
    EngineFailed,
    GpuQuarantined,
    Proposed,
    RequestFailed,
    RunCreated,
)
from samullm_tui.domain.plan import Replica
from tests.console.conftest import MakeApp, press, settle, shown
from tests.console.fakes import (
    APPLICATION,
    REPORT,
    RUN,
    FakeSources,
    FakeTail,
    beginning,
    ending,
    middle,
    summary,
    write_journal,
)

HOSTILE = (
    "\x1b[2J\x1b[H",
    "\x1b]52;c;cm0gLXJmIC8=\x07",
    "\x1b]0;title\x1b\\",
    "\x1bc",
    "\x9b31m\x90payload\x9c",
    "\x00\x07\x08\x0b\x0c\r\x7f\x84\x85",
    "[bold red]no[/bold red] [@click=app.quit]x[/] [/]",
    "\u202eevil\u202c \u2066x\u2069 \u200f\u061c",
    "two\nlines\tand a tab",
    "\ud800 lone surrogate",
    "zero\u200bwidth \ufeffbom",
)


def is_clean(text: str) -> bool:
    """Whether nothing but printable characters (and the line breaks of the test itself) is there."""
    return all(line.isprintable() for line in text.split("\n"))


def hostile_events(bad: str) -> list[AnyEvent]:
    events = [*beginning(), *middle()]
    created = events[0]
    assert isinstance(created, RunCreated)
    nodes = tuple(replace(node, name=f"{bad}{node.name}") for node in created.nodes)
    events[0] = replace(created, run=bad, application=bad, cluster=bad, nodes=nodes)
    replica = Replica("vicuna-13b", (2,))
    return [
        *events,
        EngineFailed(at_s=90.0, replica=replica, cause=bad, gave_up=True),
        RequestFailed(at_s=90.0, node=bad, id=bad, llm="vicuna-13b", cause=bad, offset=1),
        Decided(at_s=91.0, decision=Decision("switch", f"what {bad}", f"saw {bad}", (), margin=bad)),
        GpuQuarantined(at_s=92.0, gpu=1, cause=bad),
        Proposed(at_s=93.0, number=1, decision=Decision("switch", f"may I {bad}", bad), deadline_s=200.0),
    ]


@pytest.mark.parametrize("bad", HOSTILE, ids=ascii)
async def test_a_hostile_run_is_only_text(make_app: MakeApp, sources: FakeSources, bad: str) -> None:
    sources.tail_of_run = FakeTail(hostile_events(bad))
    async with make_app(run=RUN).run_test(size=(110, 30)) as pilot:
        await settle(pilot)
        screens = [
            shown(pilot),
            await press(pilot, "enter"),
            await press(pilot, "escape", "l"),
            await press(pilot, "g"),
            await press(pilot, "a"),
        ]
        assert "what" in screens[1]
        assert "may I" in screens[4]
        assert all(map(is_clean, screens))


@pytest.mark.parametrize("bad", HOSTILE[:9:2], ids=ascii)
async def test_a_hostile_library_is_only_text(make_app: MakeApp, sources: FakeSources, bad: str) -> None:
    llms = tuple(replace(llm, checkpoint=bad) for llm in APPLICATION.llms)
    sources.app = Application(
        name=bad, title=bad, file=bad, sha256="", llms=llms, data=APPLICATION.data, nodes=APPLICATION.nodes
    )
    sources.listed = [
        replace(summary(f"run{bad}", "succeeded", 1), application=bad, directory=f"/runs/{bad}")
    ]
    async with make_app().run_test(size=(110, 30)) as pilot:
        await settle(pilot)
        screens = [await press(pilot, "down"), await press(pilot, "down")]
        screens += [await press(pilot, "up", "enter"), await press(pilot, "p")]
        assert all(map(is_clean, screens))


@pytest.mark.parametrize("bad", HOSTILE[:9:2], ids=ascii)
async def test_a_hostile_report_is_only_text(make_app: MakeApp, sources: FakeSources, bad: str) -> None:
    sources.tail_of_run = FakeTail([*hostile_events(bad), *ending()])
    sources.report_of_run = replace(
        REPORT,
        notes=(bad,),
        plan=replace(REPORT.plan, planner=bad),
        tokens=tuple(replace(one, llm=bad) for one in REPORT.tokens),
        shapes=tuple(replace(one, llm=bad) for one in REPORT.shapes),
    )
    async with make_app(run=RUN).run_test(size=(110, 60)) as pilot:
        await settle(pilot)
        text = await press(pilot, "R")
        assert "latency" in text
        assert is_clean(text)


@pytest.mark.parametrize("bad", HOSTILE[:9:2], ids=ascii)
async def test_a_hostile_answer_to_what_if_is_only_text(
    make_app: MakeApp, sources: FakeSources, bad: str
) -> None:
    sources.refuse = RunError(Problem(bad, bad, bad, bad))
    async with make_app(application=Path("/apps/chain-summary.toml")).run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "p", "e", "2", "enter")
        assert "No plan keeps this" in text
        assert is_clean(text)


async def test_a_hostile_message_is_only_text(make_app: MakeApp, sources: FakeSources) -> None:
    sources.refuse = RunError(Problem(RUN, "", "".join(HOSTILE)))
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "space")
        assert "␛[2J" in text
        assert is_clean(text)


async def test_markup_is_drawn_as_it_stands(make_app: MakeApp, sources: FakeSources) -> None:
    sources.tail_of_run = FakeTail(hostile_events("[bold red]no[/bold red]"))
    async with make_app(run=RUN).run_test(size=(140, 30)) as pilot:
        await settle(pilot)
        assert "what [bold red]no[/bold red]" in shown(pilot)


async def test_a_hostile_recording_is_only_text(make_app: MakeApp, tmp_path: Path) -> None:
    path = write_journal(tmp_path / "hostile.jsonl", hostile_events("".join(HOSTILE[:7])))
    async with make_app(recording=path, playing=False).run_test(size=(110, 30)) as pilot:
        await settle(pilot)
        assert is_clean(await press(pilot, "end"))
