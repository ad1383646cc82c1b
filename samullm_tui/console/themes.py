"""Themes: TOML files that give the words of a style their xterm-256 colours."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from rich.color import Color
from rich.style import Style

from samullm_tui.domain.errors import Problem

__all__ = ["FALLBACK", "Colours", "Theme", "load_themes"]

Colour = Annotated[int, Meta(ge=0, le=255)] | Literal["default"]
MODIFIERS = frozenset({"bold", "underline", "reverse"})


class Colours(Struct, frozen=True, forbid_unknown_fields=True):
    """The colours of a theme by meaning. `llms` are given to LLMs in the order of their letters.

    In charts a bar's first letter is `bar_text`; the others are the quieter `letters`, where there are some.
    """

    background: Colour
    text: Colour
    dim: Colour
    hairline: Colour
    accent: Colour
    good: Colour
    warning: Colour
    bad: Colour
    cursor: Colour
    bar_text: Colour
    llms: Annotated[tuple[Colour, ...], Meta(min_length=1)]
    letters: tuple[Colour, ...] = ()


class Theme(Struct, frozen=True, forbid_unknown_fields=True):
    """One theme file. `dark` says which kind of terminal it is made for."""

    name: Annotated[str, Meta(pattern="^[a-z0-9-]{1,30}$")]
    title: str
    dark: bool
    colours: Colours

    def style(self, words: str) -> Style:
        """The Rich style of a few words such as `llm3 bold cursor`; unknown words are an error of ours."""
        return _style(self, words)


@lru_cache(maxsize=2048)
def _style(theme: Theme, words: str) -> Style:
    colours = theme.colours
    fore, back = colours.text, colours.background
    modifiers: dict[str, bool] = {}
    for word in words.split():
        if word in MODIFIERS:
            modifiers[word] = True
        elif word == "cursor":
            back = colours.cursor
        elif word.startswith("llm"):
            fore = _numbered(colours.llms, word[3:])
        elif word.startswith("head"):
            fore, back = colours.bar_text, _numbered(colours.llms, word[4:])
            modifiers["bold"] = True
        elif word.startswith("bar") and word != "bar_text":
            fore = _numbered(colours.letters or (colours.bar_text,), word[3:])
            back = _numbered(colours.llms, word[3:])
        else:
            fore = getattr(colours, word)
    return Style(color=_rich(fore), bgcolor=_rich(back), **modifiers)  # type: ignore[arg-type]


def _numbered(choices: tuple[Colour, ...], number: str) -> Colour:
    return choices[int(number) % len(choices)]


def _rich(colour: Colour) -> Color:
    return Color.default() if colour == "default" else Color.from_ansi(colour)


FALLBACK = Theme(
    "plain",
    "Plain",
    dark=True,
    colours=Colours(*(["default"] * 10), llms=(6, 2, 5, 4, 3, 1)),  # type: ignore[arg-type, misc]
)
"""The terminal's own colours: what is left when no theme file can be read."""


def load_themes(folders: tuple[Path, ...]) -> tuple[dict[str, Theme], list[Problem]]:
    """Every theme of the folders by name, later folders winning, and one problem for each bad file."""
    themes: dict[str, Theme] = {}
    problems: list[Problem] = []
    for path in [path for folder in folders for path in sorted(folder.glob("*.toml"))]:
        try:
            theme = msgspec.toml.decode(path.read_bytes(), type=Theme)
        except (OSError, ValueError) as error:
            # msgspec and tomllib raise kinds of ValueError; both say the place in their text.
            reason = " ".join(str(error).split())
            problems.append(Problem(path.name, "", f"theme skipped: {reason}"))
            continue
        themes[theme.name] = theme
    return themes or {FALLBACK.name: FALLBACK}, problems
