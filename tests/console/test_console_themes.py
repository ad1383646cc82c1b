"""Themes: every shipped one is readable, a bad one is skipped with one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.color import Color

from samullm_tui.console.themes import FALLBACK, Colours, load_themes
from samullm_tui.locations import THEMES

SHIPPED, PROBLEMS = load_themes((THEMES,))
GOOD = (THEMES / "dark.toml").read_text()


def luminance(number: int) -> float:
    channels = [value / 255 for value in Color.from_ansi(number).get_truecolor()]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: int, other: int) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_shipped_themes_are_there_and_whole() -> None:
    assert not PROBLEMS
    assert set(SHIPPED) == {"dark", "light", "high-contrast", "colour-blind", "sixteen"}


@pytest.mark.parametrize("name", ["dark", "light", "high-contrast", "colour-blind"])
def test_a_theme_is_readable(name: str) -> None:
    colours = SHIPPED[name].colours
    strict = 7.0 if name == "high-contrast" else 4.5
    for back in (colours.background, colours.cursor):
        assert isinstance(back, int)
        for word in ("text", "dim"):
            assert contrast(getattr(colours, word), back) >= (
                strict if back == colours.background else 4.0
            ), word
    for word in ("accent", "good", "warning", "bad"):
        assert contrast(getattr(colours, word), colours.background) >= strict, word  # type: ignore[arg-type]
    for number in colours.llms:
        assert contrast(number, colours.background) >= 3.0  # type: ignore[arg-type]
        assert contrast(number, colours.bar_text) >= 3.0  # type: ignore[arg-type]


def test_eleven_llms_have_colours_of_their_own_that_are_not_the_accent() -> None:
    for theme in SHIPPED.values():
        assert len(set(theme.colours.llms)) >= 11
        if theme.name != "sixteen":
            assert theme.colours.accent not in theme.colours.llms


def test_sixteen_colours_are_sixteen() -> None:
    colours = SHIPPED["sixteen"].colours
    every = [getattr(colours, name) for name in Colours.__struct_fields__ if name not in {"llms", "letters"}]
    assert all(colour == "default" or colour < 16 for colour in [*every, *colours.llms])


def test_styles_are_exact_numbers_of_the_terminal() -> None:
    style = SHIPPED["dark"].style("llm1 bold cursor")
    assert (style.color.number, style.bgcolor.number, style.bold) == (114, 236, True)  # type: ignore[union-attr]
    assert SHIPPED["sixteen"].style("").color.is_default  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml [",
        GOOD.replace("252", "999"),
        GOOD.replace("accent", "acent"),
        'name = "x"\n',
        "\x00",
        "name = 3",
    ],
)
def test_a_bad_theme_is_one_line_and_skipped(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    (tmp_path / "good.toml").write_text(GOOD)
    themes, problems = load_themes((tmp_path,))
    assert set(themes) == {"dark"}
    (problem,) = problems
    assert problem.file == "bad.toml"
    assert "\n" not in str(problem)


def test_bytes_that_are_no_text_are_a_bad_theme(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    themes, problems = load_themes((tmp_path,))
    assert themes == {FALLBACK.name: FALLBACK}
    assert len(problems) == 1


def test_an_operators_theme_replaces_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD.replace("252", "250"))
    themes, _ = load_themes((THEMES, tmp_path))
    assert themes["dark"].colours.text == 250
