"""Paths that an application file names: inside its folder, regular files, nothing else unless the operator says so."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from samullm_tui.workload.problems import Problems, did_you_mean, shown

__all__ = ["checkpoint_place", "data_file"]

TINY = ("tiny:llama", "tiny:qwen3", "tiny:gpt2")
DATA_SUFFIXES = (".jsonl", ".ndjson", ".csv")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HUGGING_FACE = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_ALLOW = "a path inside the folder of the application file (--allow-outside lifts this)"


def data_file(root: Path, text: str, place: str, problems: Problems, *, allow_outside: bool) -> Path | None:
    """The data file that `text` names, resolved; None when something is wrong with it."""
    path = _inside(root, text, place, problems, allow_outside=allow_outside)
    if path is None:
        return None
    mode = _mode(path)
    if mode is None:
        near = [p.name for p in _siblings(path)]
        problems.add(place, f"no file {shown(text)}", did_you_mean(path.name, near) if near else "")
    elif stat.S_ISDIR(mode):
        problems.add(place, f"{shown(text)} is a folder", "a .jsonl or .csv file")
    elif not stat.S_ISREG(mode):
        problems.add(place, f"{shown(text)} is not a regular file", "a .jsonl or .csv file")
    elif path.suffix.lower() not in DATA_SUFFIXES:
        problems.add(
            place, f"{shown(text)} has the ending {path.suffix!r}", f"one of {', '.join(DATA_SUFFIXES)}"
        )
    else:
        return path
    return None


def checkpoint_place(
    root: Path, text: str, place: str, problems: Problems, *, allow_outside: bool, any_format: bool
) -> str:
    """The checkpoint as engines take it: folders resolved, ids as they are. Reports what is wrong with it.

    `any_format`: weights may be in other formats than safetensors, or made up by the engine.
    """
    if text.startswith("tiny:"):
        if text not in TINY:
            problems.add(place, f"no checkpoint {shown(text)}", did_you_mean(text, TINY))
        return text
    if _HUGGING_FACE.fullmatch(text) and not os.path.isdir(root / text):  # noqa: PTH112  (a name too long is no error)
        return text
    path = _inside(root, text, place, problems, allow_outside=allow_outside)
    if path is None:
        return text
    if not path.is_dir():
        right = "a Hugging Face id such as org/name, a folder, or tiny:llama, tiny:qwen3, tiny:gpt2"
        problems.add(place, f"{shown(text)} is not a folder", right)
        return text
    _check_folder(path, text, place, problems, any_format=any_format)
    return str(path)


def _check_folder(path: Path, text: str, place: str, problems: Problems, *, any_format: bool) -> None:
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        problems.add(place, f"cannot read the folder {shown(text)}: {error.strerror}")
        return
    if "config.json" not in names:
        problems.add(
            place, f"no config.json in {shown(text)}", "the folder of a checkpoint in Hugging Face's layout"
        )
    if any_format or any(name.endswith(".safetensors") for name in names):
        return
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        right = 'convert them to safetensors, or say engine = { load_format = "pt" } if you trust them'
        problems.add(
            place, f"the weights in {shown(text)} are pickles, which can run code when loaded", right
        )
    else:
        problems.add(place, f"no weights in {shown(text)}", "*.safetensors files beside config.json")


def _inside(root: Path, text: str, place: str, problems: Problems, *, allow_outside: bool) -> Path | None:
    """The path with links followed, if the application may name it."""
    if not text.strip() or not text.isprintable():
        problems.add(place, f"{shown(text)} is not a path", "a relative path")
        return None
    if _URL.match(text):
        problems.add(place, f"{shown(text)} is a URL", "a file on this machine")
        return None
    if not allow_outside and (text.startswith(("/", "~")) or ".." in Path(text).parts):
        problems.add(place, f"{shown(text)} leaves the folder", _ALLOW)
        return None
    try:
        path = (root / Path(text).expanduser()).resolve()
    except (OSError, RuntimeError) as error:  # a loop of links; a home folder that is not known
        problems.add(place, f"{shown(text)} cannot be followed: {error}", "a relative path")
        return None
    if not allow_outside and not path.is_relative_to(root):
        problems.add(place, f"{shown(text)} is a link that leaves the folder", _ALLOW)
        return None
    return path


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except OSError:
        return None


def _siblings(path: Path) -> list[Path]:
    try:
        return [p for p in path.parent.iterdir() if p.suffix.lower() in DATA_SUFFIXES][:200]
    except OSError:
        return []
