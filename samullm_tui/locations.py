"""Every path of the program."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "APPS",
    "RECORDINGS",
    "THEMES",
    "cache_dir",
    "home",
    "lengths_dir",
    "profiles_dir",
    "run_dir",
    "runs_dir",
    "shipped",
    "user_keys",
    "user_themes",
]


def shipped(name: str) -> Path:
    """A folder that ships with the program: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    beside, inside = package.parent / name, package / "shipped" / name
    return inside if inside.is_dir() else beside


APPS = shipped("apps")
RECORDINGS = shipped("recordings")
THEMES = shipped("themes")


def _xdg(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default


def home() -> Path:
    """Where runs are kept: $SAMULLM_HOME, else the XDG state home."""
    value = os.environ.get("SAMULLM_HOME")
    return Path(value).absolute() if value else _xdg("XDG_STATE_HOME", ".local/state") / "samullm-tui"


def lengths_dir() -> Path:
    """Output lengths that were learnt, one file for each name."""
    return home() / "lengths"


def runs_dir() -> Path:
    return home() / "runs"


def profiles_dir() -> Path:
    """What `profile` measured on this machine."""
    return home() / "profiles"


def run_dir(run: str) -> Path:
    return runs_dir() / run


def cache_dir() -> Path:
    """Tiny checkpoints and compiled code."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "samullm-tui"


def user_keys() -> Path:
    """The operator's own keys."""
    return _xdg("XDG_CONFIG_HOME", ".config") / "samullm-tui" / "keys.toml"


def user_themes() -> Path:
    return _xdg("XDG_CONFIG_HOME", ".config") / "samullm-tui" / "themes"
