"""Keys can be remapped; a bad file is one line, and the keys stay as they were."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from samullm_tui.console.actions import ACTIONS, actions_of, available
from samullm_tui.console.keymap import load_keys, remapped
from samullm_tui.locations import user_keys
from tests.console.conftest import MakeApp, press, settle, shown
from tests.console.fakes import RUN, FakeSources

DOCS = Path(__file__).parents[2] / "docs" / "console.md"


def write(text: str) -> Path:
    user_keys().parent.mkdir(parents=True, exist_ok=True)
    user_keys().write_text(text)
    return user_keys()


async def test_a_remapped_key_works_and_is_shown_everywhere(make_app: MakeApp, sources: FakeSources) -> None:
    write('[keys]\npause = "f2"\n"run.log" = ["L", "/"]\n"run.find" = "f"\nhelp = "h,f1"\n')
    async with make_app(run=RUN).run_test(size=(160, 40)) as pilot:
        await settle(pilot)
        assert "F2 pause" in shown(pilot)
        assert "L log" in shown(pilot)
        await press(pilot, "space")
        assert not sources.calls, "the former key does nothing any more"
        await press(pilot, "f2")
        assert sources.calls == [("control", RUN, "pause")]
        assert "forecast now" in await press(pilot, "slash")
        text = await press(pilot, "h")
        assert re.search(r"F2 +pause", text)
        assert re.search(r"L / +log", text)
        text = await press(pilot, "escape", "ctrl+p", *"pause")
        assert "F2" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("this is no toml", "keys.toml"),
        ("[keys]\npause = 3\n", "keys.toml"),
        ("[other]\nx = 1\n", "keys.toml"),
        ('[keys]\nfly = "f"\n', "keys.fly: there is no such action"),
        ('[keys]\n"library.drain" = "f"\n', "keys.library.drain: there is no such action"),
        ('[keys]\ndrain = "s"\n', "keys.drain: s would be both drain and stop"),
        ('[keys]\ndrain = "ctrl+b"\n', "^b belongs to tmux"),
        ('[keys]\ndrain = ""\n', "keys.drain: is no key"),
        ('[keys]\ndrain = "superkey"\n', "keys.drain: is no key"),
        ('[keys]\n"approve.do_it" = "x"\n', "x is text on the screen approve"),
        ('[keys]\n"whatif.approve" = "1"\n', "digits are typed"),
        ('[keys]\nfly = "f"\nrun = "g"\n', "(and 1 more)"),
    ],
)
async def test_a_bad_file_is_one_line_and_no_crash(make_app: MakeApp, text: str, said: str) -> None:
    write(text)
    assert load_keys(user_keys())[0] == ACTIONS
    async with make_app().run_test(size=(160, 24)) as pilot:
        await settle(pilot)
        line = shown(pilot).splitlines()[-1]
        assert said in line
        assert "⏎ open" in await press(pilot, "down"), "the keys are what they were"


def test_a_file_that_cannot_be_read_is_a_problem_too() -> None:
    write("").unlink()
    user_keys().mkdir()
    assert load_keys(user_keys())[1]


def test_two_keys_may_be_exchanged() -> None:
    actions, wrong = remapped({"run.drain": "s", "run.stop": "d"})
    assert not wrong
    keys = {action.id: (action.keys, action.glyph) for action in actions_of("run", actions)}
    assert keys["drain"] == ("s", "s")
    assert keys["stop"] == ("d", "d")


def test_actions_that_are_never_meant_together_may_share_a_key() -> None:
    actions, wrong = remapped({"pause": "p", "unpause": "p"})
    assert not wrong
    assert [a.id for a in available("run", {"paused"}, actions) if a.keys == "p"] == ["unpause"]


def test_the_manual_names_every_action_with_its_keys() -> None:
    text = DOCS.read_text()
    for action in ACTIONS:
        assert f"`{action.id}`" in text, action.id
