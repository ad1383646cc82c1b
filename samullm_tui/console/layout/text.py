"""Lines of styled text, and fitting them into cells.

A line is a list of (text, style) segments. A style is a few words that a theme gives a meaning: a colour
(`text`, `dim`, `hairline`, `accent`, `good`, `warning`, `bad`, `llm3`, `bar3`) and modifiers (`bold`, `cursor`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from rich.cells import cell_len, set_cell_size

from samullm_tui.domain.sanitise import sanitise

__all__ = [
    "Align",
    "Line",
    "Segment",
    "clean",
    "columns",
    "fit",
    "heading",
    "line_width",
    "pad_line",
    "plain",
    "spread",
    "style_at",
    "styled",
    "wrap",
]

Segment = tuple[str, str]
Line = list[Segment]
Align = Literal["left", "right"]
ELLIPSIS = "…"
MIN_RULE = 3


def clean(text: str) -> str:
    """One line that is safe to draw: foreign control characters made visible, newlines and tabs as spaces."""
    return sanitise(text)


def fit(text: str, width: int, align: Align = "left") -> str:
    """`text` in exactly `width` cells: cut with an ellipsis, or filled with spaces."""
    text = clean(text)
    if width <= 0:
        return ""
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, width - 1) + ELLIPSIS
    return " " * (width - size) + text if align == "right" else text + " " * (width - size)


def line_width(line: Iterable[Segment]) -> int:
    """Cells of a line."""
    return sum(cell_len(text) for text, _ in line)


def plain(line: Iterable[Segment]) -> str:
    return "".join(text for text, _ in line)


def pad_line(line: Iterable[Segment], width: int, style: str = "") -> Line:
    """The line in exactly `width` cells: cut with an ellipsis, or filled with spaces in `style`."""
    out: Line = []
    left = max(0, width)
    for raw, look in line:
        text = clean(raw)
        size = cell_len(text)
        if size > left:
            return [*out, (fit(text, left), look)] if left else _with_ellipsis(out)
        if text:
            out.append((text, look))
        left -= size
    return [*out, (" " * left, style)] if left else out


def _with_ellipsis(line: Line) -> Line:
    """The full line with its last cell replaced, to say that more was cut."""
    if not line:
        return line
    text, look = line[-1]
    return [*line[:-1], (set_cell_size(text, cell_len(text) - 1) + ELLIPSIS, look)]


def columns(parts: Sequence[tuple[Iterable[Segment], int]]) -> Line:
    """Lines side by side, each in its own width."""
    return [segment for line, width in parts for segment in pad_line(line, width)]


def spread(left: Iterable[Segment], right: Iterable[Segment], width: int) -> Line:
    """`left` at the left edge, `right` at the right one; where both do not fit the left one is cut."""
    end = pad_line(right, min(width, line_width(right)))
    return [*pad_line(left, width - line_width(end)), *end]


def heading(text: str, width: int, note: str = "", note_style: str = "dim") -> Line:
    """A section heading continued as a hairline, with a note at its right end."""
    title, end = clean(text), clean(note)
    room = width - cell_len(title) - MIN_RULE - 2
    end = fit(end, max(0, room)) if cell_len(end) > room else end
    rule = width - cell_len(title) - cell_len(end) - (2 if end else 1)
    line: Line = [(title, "bold"), (" " + "─" * max(0, rule), "hairline")]
    return pad_line([*line, (f" {end}", note_style)] if end else line, width)


def style_at(line: Line, x: int) -> str:
    """The style of cell x; nothing beyond the line."""
    for text, style in line:
        x -= cell_len(text)
        if x < 0:
            return style
    return ""


def styled(line: Iterable[Segment], extra: str) -> Line:
    """The line with `extra` added to every style."""
    return [(text, f"{look} {extra}".strip()) for text, look in line]


def wrap(text: str, width: int) -> list[str]:
    """Words of `text` in lines of at most `width` cells; longer words are cut into pieces."""
    lines: list[str] = []
    line = ""
    for word in _words(text):
        for piece in _pieces(word, max(1, width)):
            joined = f"{line} {piece}" if line else piece
            if cell_len(joined) <= width:
                line = joined
            else:
                lines.append(line)
                line = piece
    return [*lines, line] if line else lines


def _words(text: str) -> list[str]:
    """Words of `text`; a per cent sign stays with its number."""
    words: list[str] = []
    for word in clean(text).split():
        if word.startswith("%") and words:
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words


def _pieces(word: str, width: int) -> list[str]:
    pieces: list[str] = []
    piece = ""
    for character in word:
        if piece and cell_len(piece + character) > width:
            pieces.append(piece)
            piece = ""
        piece += character
    return [*pieces, piece] if piece else pieces
