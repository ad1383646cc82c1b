"""Any text in ASCII, cell for cell: for terminals that were said to know nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len

__all__ = ["in_ascii", "wants_ascii"]

LIKE = (
    "–-—-−-‖|…~° ±~²2µu·.×x→>←<↑^↓v⇧^≈~≡=≤<≥>⏎_␛^─-━-┄-│|┃|┊|└+├+┤+┴+┬+┼+┌+┐+┘+"
    "▁.▂:▃-▄=▅+▆*▇%█#▏|▎|▍|▌|▋#▊#▉#░.▒:▓#■#▲^▼v▶>▸>◀<◆*◌o●O✓v✗x₀0⁹9ΣSκkλl⌈[⌉]"
)
"""Pairs: a character of one cell, and what stands for it."""
TABLE = dict(zip(LIKE[::2], LIKE[1::2], strict=True))
TOP, BOTTOM = 0x1B, 0xE4
"""Dots of a braille character."""
PLAIN = frozenset({"C", "POSIX"})


def in_ascii(text: str) -> str:
    """As many cells as before. What nothing stands for is `?`, in each of its cells."""
    return text if text.isascii() else "".join(map(_character, text))


def _character(character: str) -> str:
    if character.isascii():
        return character
    if character in TABLE:
        return TABLE[character]
    if "\u2800" <= character <= "\u28ff":
        dots = ord(character) - 0x2800
        return " '.:"[bool(dots & TOP) + 2 * bool(dots & BOTTOM)]
    return "?" * cell_len(character)


def wants_ascii(environment: Mapping[str, str]) -> bool:
    """Whether the locale is `C`, which knows no more. Nothing said means nothing."""
    everything = environment.get("LC_ALL")
    if everything:
        return everything in PLAIN
    # Python itself sets LC_CTYPE to C.UTF-8 where the locale is C: that is nobody's wish.
    characters = environment.get("LC_CTYPE") or ""
    return (characters or environment.get("LANG")) in PLAIN or (
        characters == "C.UTF-8" and environment.get("LANG") in PLAIN
    )
