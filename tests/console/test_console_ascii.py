"""Without Unicode: every screen in ASCII, cell for cell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from samullm_tui.console.layout.ascii import in_ascii, wants_ascii
from tests.console.conftest import MakeApp, press, settle, shown
from tests.console.fakes import RUN


@given(st.text())
def test_ascii_takes_as_many_cells(text: str) -> None:
    plain = in_ascii(text)
    assert plain.isascii()
    assert cell_len(plain) == sum(map(cell_len, text)) or any(ord(character) < 32 for character in text)


def test_curves_keep_their_height() -> None:
    assert in_ascii("⠉⣀⣿⠀█漢") == "'.: #??"


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, True),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8"}, False),
    ],
)
def test_the_locale_c_is_ascii(environment: dict[str, str], wanted: bool) -> None:
    assert wants_ascii(environment) is wanted


async def test_every_screen_of_a_run_is_ascii(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    async with make_app(run=RUN).run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert "O running" in shown(pilot)
        for key in (
            "l",
            "enter",
            "escape",
            "l",
            "enter",
            "escape",
            "o",
            "escape",
            "question_mark",
            "escape",
            "ctrl+p",
        ):
            assert (await press(pilot, key)).isascii(), key
