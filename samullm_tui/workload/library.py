"""The applications that there are to open."""

from __future__ import annotations

from pathlib import Path

from samullm_tui.locations import APPS

__all__ = ["list_applications"]


def list_applications(folder: Path = APPS) -> list[Path]:
    """The application files in `folder` by name, none of its subfolders. A folder that is not there has none."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml" and path.is_file())
    except OSError:
        return []
