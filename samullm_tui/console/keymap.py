"""The operator's own keys: a TOML file over the registry of actions.

[keys]
drain = "D"                  # everywhere that action is known
"run.log" = ["L", "f2"]      # on one screen only
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from textual.keys import KEY_NAME_REPLACEMENTS

from samullm_tui.console.actions import ACTIONS, KEY_NAMES, Action, is_text
from samullm_tui.console.views.help import SHOWN, key_name
from samullm_tui.domain.errors import Problem

__all__ = ["load_keys", "remapped"]

RESERVED = frozenset(f"ctrl+{key}" for key in "absqzijmh")
"""Keys of tmux, screen and of terminals themselves."""
TEXT_SCREENS = frozenset({"approve", "confirm", "palette"})
"""Printable keys are text there."""
NUMBER_SCREENS = frozenset({"whatif"})
MOST_BYTES = 100_000


class _File(Struct, forbid_unknown_fields=True):
    keys: dict[str, str | list[str]] = {}


def load_keys(path: Path) -> tuple[tuple[Action, ...], list[Problem]]:
    """The registry with the keys of the file at `path`. With any mistake in it the file does not count at all, and
    its problems say why. A file that is not there is none.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ACTIONS, []
    except OSError as error:
        return ACTIONS, [Problem(path.name, "", f"cannot be read: {error.strerror}")]
    if len(data) > MOST_BYTES:
        return ACTIONS, [Problem(path.name, "", "keys skipped: the file is too large")]
    try:
        asked = msgspec.toml.decode(data, type=_File).keys
    except ValueError as error:
        return ACTIONS, [Problem(path.name, "", f"keys skipped: {' '.join(str(error).split())}")]
    actions, wrong = remapped(asked)
    return (ACTIONS, [Problem(path.name, place, what) for place, what in wrong]) if wrong else (actions, [])


def remapped(asked: dict[str, str | list[str]]) -> tuple[tuple[Action, ...], list[tuple[str, str]]]:
    """The registry with other keys: action, or screen.action → keys. With it what is wrong, by its place."""
    actions, wrong = list(ACTIONS), list[tuple[str, str]]()
    for place, given in asked.items():
        screen, dot, name = place.rpartition(".")
        keys = [_key(text.strip()) for text in (given.split(",") if isinstance(given, str) else given)]
        meant = [a for a in actions if a.id == name and (not dot or screen in a.screens)]
        where = {screen} if dot else {one for action in meant for one in action.screens}
        what = _wrong(keys, where) if meant else "there is no such action (see help, or docs/console.md)"
        if what:
            wrong.append((f"keys.{place}", what))
            continue
        for action in meant:
            at = actions.index(action)
            actions[at : at + 1] = _with_keys(action, ",".join(keys), screen if dot else "")
    return tuple(actions), wrong or list(_clashes(actions, asked))


def _key(text: str) -> str:
    """Textual's name of a key as people write it: `/`, `esc`, `^x`, `f5`; empty when there is no such key."""
    if len(text) == 1:
        if text.isascii() and text.isalnum():
            return text
        name = unicodedata.name(text, "").lower().replace("-", "_").replace(" ", "_")
        return KEY_NAME_REPLACEMENTS.get(name, name)
    name = {"esc": "escape", "return": "enter", "⏎": "enter"}.get(text, text.replace("^", "ctrl+"))
    return name if name in KEY_NAMES or name in SHOWN else ""


def _wrong(keys: Sequence[str], screens: Iterable[str]) -> str:
    if not keys or not all(keys):
        return 'is no key: a character, or a name such as "f5", "enter", "ctrl+x"'
    reserved = [key for key in keys if key in RESERVED]
    if reserved:
        return f"{key_name(reserved[0])} belongs to tmux, screen or the terminal"
    for screen in screens:
        text = [key for key in keys if is_text(key)]
        if screen in TEXT_SCREENS and text:
            return f"{key_name(text[0])} is text on the screen {screen}"
        if screen in NUMBER_SCREENS and any(key.isdigit() for key in keys):
            return f"digits are typed on the screen {screen}"
    return ""


def _with_keys(action: Action, keys: str, screen: str) -> list[Action]:
    """The action with other keys; on one screen only it becomes two."""
    glyph = key_name(keys.split(",", maxsplit=1)[0]) if action.glyph else ""
    changed = replace(action, keys=keys, glyph=glyph)
    if not screen or action.screens == (screen,):
        return [changed]
    others = replace(action, screens=tuple(one for one in action.screens if one != screen))
    return [replace(changed, screens=(screen,)), others]


def _clashes(actions: Sequence[Action], asked: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Keys that two actions of a screen now share and did not share before: they might be meant at the same time."""
    before = _shared(ACTIONS)
    places = list(asked)
    for screen, key, one, other in sorted(_shared(actions) - before):
        mine = next((p for p in places if p.rpartition(".")[2] in (one, other)), "")
        if (screen, one, other) not in {(s, a, b) for s, _, a, b in before}:
            yield f"keys.{mine}", f"{key_name(key)} would be both {one} and {other} on the screen {screen}"


def _shared(actions: Iterable[Action]) -> set[tuple[str, str, str, str]]:
    """(screen, key, action, action) of all keys with two meanings."""
    users: dict[tuple[str, str], list[str]] = {}
    for action in actions:
        for screen, key in itertools.product(action.screens, action.keys.split(",")):
            users.setdefault((screen, key), []).append(action.id)
    return {
        (screen, key, *pair)
        for (screen, key), ids in users.items()
        for pair in itertools.combinations(sorted(set(ids)), 2)
    }
