"""Every action of the registry is pressed, on every screen that offers it, on some way through the console."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace
from textual.pilot import Pilot

from samullm_tui.console.actions import ACTIONS, actions_of
from samullm_tui.console.screens.base import ConsoleScreen
from samullm_tui.console.sources import Vitals
from samullm_tui.domain.event import ControlReceived
from samullm_tui.domain.length_report import LengthReport
from samullm_tui.domain.plan import Forecast
from tests.console.conftest import MakeApp, quick_keys, settle, shown
from tests.console.fakes import RUN, FakeSources, FakeTail, beginning, ending, middle, proposed

APP = Path("/apps/chain-summary.toml")


class Journey(Struct, frozen=True):
    """`start` is what the console opens, `ready` how the world is then.

    A step is `screen.action`, pressed by its key of the registry; with `=` behind it nothing need be seen to change.
    `'word` is typed, `<key>` pressed. `endless`: some work never comes to its end.
    """

    steps: str
    start: dict[str, object] = {}
    ready: Callable[[FakeSources], object] = lambda sources: None
    endless: bool = False

    @property
    def actions(self) -> set[str]:
        return {step.rstrip("=") for step in self.steps.split() if "." in step}


# How the world may be


def ended(sources: FakeSources) -> None:
    sources.tail_of_run = FakeTail([*beginning(), *middle(), *ending()])


def asking(sources: FakeSources) -> None:
    sources.tail_of_run.events += proposed()


def with_folders(sources: FakeSources) -> None:
    """Runs of which there is a journal."""
    folder = str(sources.folder("any"))
    sources.listed = [replace(run, directory=folder) for run in sources.listed]


def paused(sources: FakeSources) -> None:
    sources.tail_of_run.events.append(ControlReceived(at_s=90.0, command="pause", by="console"))


def waiting(sources: FakeSources) -> None:
    sources.tail_of_run = FakeTail(beginning())


def interrupted(sources: FakeSources) -> None:
    sources.vitals_of_run = Vitals(alive=False)


def planning_for_ever(sources: FakeSources) -> None:
    sources.planning_may_end.clear()


def lengths_for_ever(sources: FakeSources) -> None:
    async def never(path: Path) -> LengthReport:
        await asyncio.Event().wait()
        raise AssertionError

    sources.lengths = never  # type: ignore[method-assign]


def pins_for_ever(sources: FakeSources) -> None:
    forecast = sources.forecast

    async def only_without(path: Path, pins: Sequence[str] = (), draws: int | None = None) -> Forecast:
        return await forecast(path) if not pins else await asyncio.Future()

    sources.forecast = only_without  # type: ignore[method-assign]


# The journeys


def moves(screen: str, *steps: str) -> str:
    """Every way to move a cursor or a window; without `steps` there may be nothing to move."""
    steps = steps or tuple(f"{step}=" for step in ("down", "up", "page_down", "page_up", "last", "first"))
    return " ".join(f"{screen}.{step}" for step in steps)


def common(screen: str) -> str:
    """What works everywhere."""
    return f"{screen}.theme {screen}.interrupt {screen}.help help.back {screen}.commands palette.back"


LIST = ("down", "up", "last", "first", "page_down", "page_up")
BACKWARDS = ("up", "down", "page_up", "page_down", "first", "last")
"""A list whose latest is at the bottom begins there."""


def zooms(screen: str, first: str = "later", then: str = "earlier") -> str:
    """Every way to look closer at a chart, from its beginning; all GPUs have room in it."""
    steps = ("zoom_in", first, then, "zoom_out", "more_gpus=")
    return " ".join(f"{screen}.{step}" for step in steps)


PLANS = "application.plans"
WHATIF = f"{PLANS} plans.what_if"
JOURNEYS = (
    Journey(f"{moves('library', *LIST)} {common('library')} library.copy library.reload= library.quit"),
    Journey("library.filter 'interru <escape> library.down library.open application.back library.quit"),
    Journey(
        "library.down library.down library.down library.report report.back library.replay replay.back "
        "library.down library.resume",
        ready=with_folders,
    ),
    Journey(f"{moves('application')} {common('application')} application.back", {"application": APP}),
    Journey("application.quit", {"application": APP}),
    Journey(
        f"application.lengths lengths.next_llm lengths.previous_llm lengths.family lengths.log_axis "
        f"lengths.copy {common('lengths')} lengths.back application.lengths lengths.quit",
        {"application": APP},
    ),
    Journey("application.lengths lengths.cancel", {"application": APP}, lengths_for_ever, endless=True),
    Journey("run.lengths lengths.observed lengths.back", {"run": RUN}),
    Journey(
        f"{PLANS} {moves('plans', *LIST[:4])} plans.page_down= plans.page_up= plans.rank_by plans.stages plans.stages plans.compare plans.down "
        f"plans.copy {zooms('plans')} {common('plans')} plans.back",
        {"application": APP},
    ),
    Journey(
        f"{PLANS} plans.approve approve.interrupt approve.back plans.approve 'start approve.do_it",
        {"application": APP},
    ),
    Journey(f"{PLANS} plans.quit", {"application": APP}),
    Journey(f"{PLANS} plans.cancel", {"application": APP}, planning_for_ever, endless=True),
    Journey(
        f"{WHATIF} whatif.down whatif.up whatif.next_field whatif.previous_field '3 whatif.drop '2 whatif.pin "
        f"whatif.copy {zooms('whatif')} whatif.unpin '2 whatif.pin {common('whatif')} whatif.approve approve.back whatif.unpin_all "
        "whatif.back",
        {"application": APP},
    ),
    Journey(f"{WHATIF} whatif.quit", {"application": APP}),
    Journey(f"{WHATIF} '2 whatif.pin whatif.cancel", {"application": APP}, pins_for_ever, endless=True),
    Journey(
        f"run.log {moves('run', *BACKWARDS)} run.log run.chart {zooms('run')} run.copy {common('run')} run.find 'cuda "
        "run.keep_filter run.clear_filter run.pause run.replan run.back",
        {"run": RUN},
    ),
    Journey(
        "run.drain confirm.interrupt confirm.back run.drain 'drain confirm.do_it run.stop 'stop confirm.do_it "
        "run.quit",
        {"run": RUN},
    ),
    Journey("run.unpause", {"run": RUN}, paused),
    Journey("run.resume", {"run": RUN}, interrupted),
    Journey("run.approve confirm.back", {"run": RUN}, waiting),
    Journey("run.accept confirm.back run.refuse confirm.back", {"run": RUN}, asking),
    Journey("run.report report.back run.replay replay.back", {"run": RUN}, ended),
    Journey(
        f"run.decision decision.previous decision.next {moves('decision')} {common('decision')} decision.back "
        "run.decision decision.quit",
        {"run": RUN},
    ),
    Journey(
        f"run.report {moves('report')} report.export report.copy {common('report')} report.back run.report "
        "report.quit",
        {"run": RUN},
        ended,
    ),
    Journey(
        f"run.help {moves('help', 'down', 'up', 'page_down', 'page_up', 'last', 'first')} help.theme "
        "help.interrupt help.back run.help help.quit",
        {"run": RUN},
    ),
    Journey(
        f"run.commands {moves('palette', *LIST)} palette.interrupt palette.back run.commands 'pause "
        "palette.choose",
        {"run": RUN},
    ),
    Journey(
        "replay.next_decision replay.forward replay.rewind replay.faster replay.slower replay.ending "
        f"replay.log {moves('replay', *BACKWARDS[:4])} replay.log replay.chart {zooms('replay', 'earlier', 'later')} replay.decision decision.back "
        "replay.lengths lengths.back replay.report report.back replay.find 'vicuna replay.keep_filter "
        f"replay.clear_filter replay.copy {common('replay')} replay.beginning replay.next_error replay.play replay.play "
        "replay.back",
        {"recording": Path("recorded-run.jsonl"), "playing": False},
    ),
    Journey("replay.quit", {"recording": Path("recorded-run.jsonl"), "playing": False}),
)


def test_every_action_of_every_screen_has_a_journey() -> None:
    offered = {f"{screen}.{action.id}" for action in ACTIONS for screen in action.screens}
    pressed = set[str]().union(*(journey.actions for journey in JOURNEYS))
    assert offered - pressed == set(), "no journey presses these"
    assert pressed - offered == set(), "the registry does not know these"


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What keys did, as `screen.action`."""
    actions: list[str] = []
    perform = ConsoleScreen.action_do

    def noted(screen: ConsoleScreen, action: str) -> None:
        actions.append(f"{screen.NAME}.{action}")
        perform(screen, action)

    monkeypatch.setattr(ConsoleScreen, "action_do", noted)
    return actions


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_keys(monkeypatch)


def seen(pilot: Pilot[object]) -> object:
    """All that may change by a key: the lines with their styles, the clipboard."""
    screen = pilot.app.screen
    assert isinstance(screen, ConsoleScreen)
    panes = (screen.title_pane, screen.body_pane, screen.key_pane)
    return [pane.lines for pane in panes], pilot.app.clipboard


async def until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(what)


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.steps[:40])
async def test_each_step_of_a_journey_does_what_the_registry_says(
    make_app: MakeApp, sources: FakeSources, recording: Path, done: list[str], quick: None, journey: Journey
) -> None:
    journey.ready(sources)
    start = {**journey.start, **({"recording": recording} if "recording" in journey.start else {})}
    async with make_app(**start).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for step in journey.steps.split():
            if "." in step:
                await take(pilot, step, done, endless=journey.endless)
            else:
                await pilot.press(*([step[1:-1]] if step.startswith("<") else step[1:]))


async def take(pilot: Pilot[object], step: str, done: list[str], *, endless: bool) -> None:
    """Presses the key of a step, and sees that it did that and only that."""
    screen, _, name = step.rstrip("=").partition(".")
    action = next(action for action in actions_of(screen) if action.id == name)
    text, before, known = shown(pilot), seen(pilot), len(done)
    await pilot.press(action.keys.split(",")[0])
    await until(lambda: len(done) > known, f"nothing does {step} after\n{text}")
    assert done[known] == f"{screen}.{name}", f"after\n{text}"
    if name == "quit":
        assert pilot.app.return_value == 0
        return
    if not step.endswith("="):
        await until(lambda: seen(pilot) != before, f"{step} changes nothing of\n{text}")
    if not endless:
        await settle(pilot)
