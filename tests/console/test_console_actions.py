"""One registry of actions: what the keys do, what the key line promises and what help says are the same."""

from __future__ import annotations

import itertools

import pytest

from samullm_tui.console.actions import ACTIONS, actions_of, available
from samullm_tui.console.screens.application import ApplicationScreen
from samullm_tui.console.screens.approve import ApproveScreen
from samullm_tui.console.screens.base import ConsoleScreen
from samullm_tui.console.screens.confirm import ConfirmScreen
from samullm_tui.console.screens.decision import DecisionScreen
from samullm_tui.console.screens.help import HelpScreen, PaletteScreen
from samullm_tui.console.screens.lengths import LengthsScreen
from samullm_tui.console.screens.library import LibraryScreen
from samullm_tui.console.screens.plans import PlansScreen
from samullm_tui.console.screens.replay import ReplayScreen
from samullm_tui.console.screens.report import ReportScreen
from samullm_tui.console.screens.run import RunScreen
from samullm_tui.console.screens.whatif import WhatIfScreen
from samullm_tui.console.views.help import ABOUT

SCREENS: tuple[type[ConsoleScreen], ...] = (
    LibraryScreen, ApplicationScreen, LengthsScreen, PlansScreen, ApproveScreen, ConfirmScreen,
    RunScreen, ReplayScreen, DecisionScreen, ReportScreen, WhatIfScreen,
    HelpScreen, PaletteScreen,
)  # fmt: skip
FORBIDDEN = {f"ctrl+{key}" for key in "absqzijmh"}
TOGETHER = (
    {"selected"}, {"selected", "resumable", "below"}, {"selected", "ended"}, {"loaded", "planned", "below"}, {"working"},
    {"running", "active", "decided", "below"}, {"paused", "active", "decided", "below"}, {"resumable", "below"},
    {"ended", "decided", "below"}, {"waiting", "active", "below"}, {"more_decisions", "decided", "below"},
    {"ended", "more_decisions", "more_errors", "decided", "below"}, {"reported", "below"},
    {"proposed", "running", "active", "decided", "listed", "compact", "below"}, {"typing", "filtered"},
    {"running", "active", "decided", "listed", "filtered", "compact"}, {"more_decisions", "more_errors", "decided", "listed", "filtered"},
    {"typing"}, {"choosing", "pinned", "pinned_here", "planned", "below"}, {"choosing", "pinned", "pinned_here", "working"},
    {"typed", "below"}, {"selected", "below"}, {"below"}, set(),
)  # fmt: skip


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.NAME)
def test_a_screen_can_do_everything_that_the_registry_says(screen: type[ConsoleScreen]) -> None:
    for action in actions_of(screen.NAME):
        assert callable(getattr(screen, f"do_{action.id}", None)), f"{screen.NAME} has no do_{action.id}"


def test_every_action_belongs_to_a_screen_and_says_what_it_does() -> None:
    names = {screen.NAME for screen in SCREENS}
    for action in ACTIONS:
        assert set(action.screens) <= names
        assert action.help.endswith(".")
        assert action.help[0].isupper()


def test_keys_of_tmux_and_screen_and_of_terminals_stay_free() -> None:
    for action in ACTIONS:
        assert not set(action.keys.split(",")) & FORBIDDEN


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.NAME)
@pytest.mark.parametrize("facts", TOGETHER, ids=lambda facts: "+".join(sorted(facts)) or "nothing")
def test_no_key_means_two_things_at_once(screen: type[ConsoleScreen], facts: set[str]) -> None:
    for one, other in itertools.combinations(available(screen.NAME, facts), 2):
        shared = set(one.keys.split(",")) & set(other.keys.split(","))
        assert not shared, f"{screen.NAME}: {shared} is {one.id} and {other.id}"


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.NAME)
def test_every_screen_can_be_left(screen: type[ConsoleScreen]) -> None:
    ways = {action.id for action in available(screen.NAME, {"below"})}
    assert ways & ({"quit"} if screen is LibraryScreen else {"back"})


def test_help_explains_every_screen_that_offers_it() -> None:
    offering = {name for action in ACTIONS if action.id == "help" for name in action.screens}
    assert offering == set(ABOUT)
