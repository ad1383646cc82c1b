"""Text from models, files and engine logs, made safe to show: no byte of it acts as a control sequence.

Textual and Rich pass control characters of a text on to the terminal, so everything that others wrote goes
through here first. Kept: what `str.isprintable()` keeps, and newline and tab where they are wanted.
"""

from __future__ import annotations

__all__ = ["sanitise", "sanitise_line"]

ESCAPE = 0x1B


def shown(code: int) -> str:
    r"""A code point as text: itself when printable, ESC as ␛, others as \xNN, \uNNNN or \UNNNNNNNN."""
    if code == ESCAPE:
        return "␛"
    char = chr(code)
    if char.isprintable():
        return char
    if code < 0x100:
        return f"\\x{code:02x}"
    # Lone surrogates and bidirectional controls land here: neither is printable.
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class _Shown(dict[int, str]):
    """What `str.translate` asks, character by character."""

    def __missing__(self, code: int) -> str:
        return shown(code)


ONE_LINE = _Shown({ord("\n"): " ", ord("\t"): " "})
LINES = _Shown({ord("\n"): "\n", ord("\t"): "\t"})


def sanitise(text: str, *, newlines: bool = False) -> str:
    """`text` without control characters. Newlines and tabs stay with `newlines`, else each becomes a space."""
    if text.isprintable():
        return text
    return text.translate(LINES if newlines else ONE_LINE)


def sanitise_line(text: str, limit: int) -> str:
    """One line of at most `limit` (≥ 1) characters; what had to be cut off ends in an ellipsis."""
    # No character is shown as nothing, so a little more than `limit` of them is enough to look at.
    line = sanitise(text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"
