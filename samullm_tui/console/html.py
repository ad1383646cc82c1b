"""Lines as a page that needs nothing else: the same pictures in a browser."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from samullm_tui.console.layout.text import Line, pad_line
from samullm_tui.console.themes import Theme
from samullm_tui.console.views.report import Section

__all__ = ["html_page"]

DARK, LIGHT = ("#d4d4d4", "#1c1c1c"), ("#1c1c1c", "#ffffff")
"""Text and background where the theme leaves them to the terminal."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ color: {text}; background: {background}; margin: 2em auto; max-width: {width}ch;
  font: 14px/1.3 "DejaVu Sans Mono", "Cascadia Mono", Menlo, Consolas, monospace; }}
h1 {{ font-size: 1.3em; }} h2 {{ font-size: 1em; margin: 1.5em 0 0.5em; border-bottom: 1px solid; }}
h2 small {{ float: right; font-weight: normal; }} pre {{ font: inherit; margin: 0; overflow-x: auto; }}
{styles}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{subtitle}</p>
{sections}
</body>
</html>
"""


def html_page(title: str, subtitle: str, sections: Sequence[Section], theme: Theme, width: int) -> str:
    """One page. Whatever the lines hold is text in it: control characters made visible, markup escaped."""
    classes: dict[str, str] = {}
    parts = [
        f"<section>\n<h2>{_text(s.title)} <small>{_text(s.note)}</small></h2>\n"
        f"<pre>{_block(s.lines, width, classes)}</pre>\n</section>"
        for s in sections
    ]
    text, background = DARK if theme.dark else LIGHT
    return PAGE.format(
        title=_text(title),
        subtitle=_text(subtitle),
        text=_colour(theme, "text", text),
        background=_colour(theme, "background", background),
        width=width + 2,
        styles="\n".join(f".{name} {{ {_style(theme, words)} }}" for words, name in classes.items()),
        sections="\n".join(parts),
    )


def _block(lines: Iterable[Line], width: int, classes: dict[str, str]) -> str:
    return "\n".join(_line(line, width, classes) for line in lines)


def _line(line: Line, width: int, classes: dict[str, str]) -> str:
    """`pad_line` is what makes foreign text safe for the terminal, too: both show the same."""
    parts = []
    for text, words in pad_line(line, width):
        name = classes.setdefault(words, f"s{len(classes)}") if words else ""
        parts.append(f'<span class="{name}">{escape(text)}</span>' if name else escape(text))
    return "".join(parts).rstrip(" ")


def _text(text: str) -> str:
    return escape("".join(part for part, _ in pad_line([(text, "")], 200)).rstrip())


def _style(theme: Theme, words: str) -> str:
    style = theme.style(words)
    said = ["font-weight: bold"] if style.bold else []
    for key, colour in (("color", style.color), ("background", style.bgcolor)):
        if colour is not None and not colour.is_default:
            said.append(f"{key}: {colour.get_truecolor().hex}")
    return "; ".join(said)


def _colour(theme: Theme, name: str, otherwise: str) -> str:
    colour = theme.style("text").color if name == "text" else theme.style("text").bgcolor
    return otherwise if colour is None or colour.is_default else colour.get_truecolor().hex
