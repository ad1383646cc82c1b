"""What a run was begun with: its application and its data, so that it goes on with nothing else.

`inputs.json` in the run's folder holds the application as it was read, and of every line of its data files a checksum.
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from samullm_tui.domain.application import Application
from samullm_tui.domain.errors import ApplicationError, Problem, RunError
from samullm_tui.domain.sanitise import sanitise_line
from samullm_tui.supervisor.spec import RunPaths, write_private
from samullm_tui.workload.application_file import load_application

__all__ = ["changes", "inputs_of", "read_inputs", "write_inputs"]

SHOWN = 10
SHOWN_CHARACTERS = 60
RIGHT = "put it back, or start a new run"
NOT_COMPARED = ("title", "file", "sha256")
UNSAID = ("prompt",)
"""Fields whose text no message repeats."""


class DataFile(Struct, frozen=True):
    """A data file. `lines`: the CRC-32 of each line, four bytes each, in their order."""

    sha256: str
    lines: bytes


class Inputs(Struct, frozen=True):
    """`data`: the files of the application's data sets, by the data sets' names."""

    application: Application
    data: dict[str, DataFile]


def inputs_of(application: Application) -> Inputs:
    """Raises ApplicationError when a data file cannot be read."""
    return Inputs(
        application, {d.name: _data_file(Path(d.file)) for d in application.data if d.file is not None}
    )


def write_inputs(paths: RunPaths, inputs: Inputs) -> None:
    write_private(paths.inputs, msgspec.json.encode(inputs), durable=True)


def read_inputs(paths: RunPaths) -> Inputs:
    """Raises RunError when the file is damaged."""
    try:
        return msgspec.json.decode(paths.inputs.read_bytes(), type=Inputs)
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(Problem(str(paths.inputs), "", f"cannot be read: {error}")) from error


def changes(before: Inputs, application: Path, *, allow_outside: bool) -> list[Problem]:
    """How the application and its data differ from `before`: in meaning, not in how they are written down.

    Raises ApplicationError when the application cannot be read any more.
    """
    now = load_application(application, allow_outside=allow_outside)
    found = list(_application_changes(before.application, now))
    if found:
        return found[:SHOWN]
    for data in now.data:
        if data.file is not None:
            found += _data_changes(before.data[data.name], _data_file(Path(data.file)), data.file)
    return found[:SHOWN]


def _data_file(path: Path) -> DataFile:
    digest, lines = hashlib.sha256(), array("I")
    try:
        with path.open("rb") as file:
            for line in file:
                digest.update(line)
                lines.append(zlib.crc32(line))
    except OSError as error:
        raise ApplicationError(Problem(str(path), "", f"cannot be read: {error.strerror}")) from error
    return DataFile(digest.hexdigest(), lines.tobytes())


def _data_changes(before: DataFile, now: DataFile, file: str) -> Iterator[Problem]:
    """The first line that differs."""
    if before.sha256 == now.sha256:
        return
    old, new = array("I", before.lines), array("I", now.lines)
    same = next((k for k, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), None)
    if same is None and len(old) != len(new):
        same = min(len(old), len(new))
    place = "" if same is None else f"line {same + 1}"
    lines = f" (it had {len(old):,} lines, it has {len(new):,})" if len(old) != len(new) else ""
    yield Problem(file, place, f"has changed since the run began{lines}", RIGHT)


def _application_changes(before: Application, now: Application) -> Iterator[Problem]:
    old, new = (dict(_fields(_plain(application), "")) for application in (before, now))
    for place in (*old, *(place for place in new if place not in old)):
        if place not in new:
            yield Problem(now.file, place, "is gone since the run began", RIGHT)
        elif place not in old:
            yield Problem(
                now.file, place, "was not there when the run began", "take it out, or start a new run"
            )
        elif old[place] != new[place]:
            values = (
                "" if place.endswith(UNSAID) else f": it was {_said(old[place])}, it is {_said(new[place])}"
            )
            yield Problem(now.file, place, f"has changed since the run began{values}", RIGHT)


def _plain(application: Application) -> object:
    """As it comes back from a file, so that both sides are of the same types."""
    plain = msgspec.json.decode(msgspec.json.encode(application))
    return {key: value for key, value in plain.items() if key not in NOT_COMPARED}


def _fields(value: object, place: str) -> Iterator[tuple[str, object]]:
    """Every leaf with its dotted place. Tables that have names stand under these."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        value = {item["name"]: {k: v for k, v in item.items() if k != "name"} for item in value}
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _fields(item, f"{place}.{key}" if place else str(key))
    else:
        yield place, value


def _said(value: object) -> str:
    return sanitise_line(msgspec.json.encode(value).decode(), SHOWN_CHARACTERS)
