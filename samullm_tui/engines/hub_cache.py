"""Where Hugging Face's libraries keep what was downloaded. Nothing is downloaded here."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["local_snapshot"]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def local_snapshot(checkpoint: str) -> Path | None:
    """The folder of the snapshot of a Hugging Face id on this machine: that of `main`, else the only one.

    None when there is none, or it has no config.json.
    """
    if not HUB_ID.fullmatch(checkpoint):
        return None
    folder = _hub() / f"models--{checkpoint.replace('/', '--')}"
    try:
        names = [(folder / "refs" / "main").read_text().strip()]
    except OSError:
        names = [path.name for path in folder.glob("snapshots/*")]
    if len(names) != 1:
        return None
    snapshot = folder / "snapshots" / names[0]
    return snapshot if (snapshot / "config.json").is_file() else None


def _hub() -> Path:
    """As huggingface_hub looks for it: $HF_HUB_CACHE, $HF_HOME/hub, the XDG cache home."""
    cache = os.environ.get("HF_HUB_CACHE")
    if cache:
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"
