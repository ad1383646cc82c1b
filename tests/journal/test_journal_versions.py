"""Promise 16: journals of every released version fold to the same state; newer ones are refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from journal_examples import created, small_run
from msgspec import Struct, inspect
from msgspec.structs import replace

from samullm_tui.domain.errors import RecordingError
from samullm_tui.domain.event import AnyEvent
from samullm_tui.journal.codec import FORMAT, encode
from samullm_tui.journal.framing import frame
from samullm_tui.journal.reader import JournalTail, read_events
from samullm_tui.journal.requests import committed
from samullm_tui.journal.state import fold, state_sha256
from samullm_tui.locations import RECORDINGS

CORPUS = Path(__file__).parent / "corpus"
GOLDEN: dict[str, str] = json.loads((CORPUS / "golden.json").read_text())
JOURNALS = {path.name: path for path in (*CORPUS.iterdir(), *RECORDINGS.iterdir()) if path.name in GOLDEN}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_released_journals_fold_to_the_same_state(name: str) -> None:
    assert state_sha256(fold(read_events(JOURNALS[name]))) == GOLDEN[name]


def test_every_journal_that_is_kept_here_is_compared() -> None:
    kept = {path.name for path in CORPUS.iterdir() if path.suffix != ".json"}
    assert kept | {path.name for path in RECORDINGS.glob("*.jsonl.zst")} == set(GOLDEN)


def test_a_killed_and_resumed_run_of_many_segments_is_among_them() -> None:
    state = fold(read_events(CORPUS / "0.1.0-segments"))
    assert (state.epoch, state.ended) == (3, "succeeded")
    rows = committed(read_events(CORPUS / "0.1.0-segments"))
    assert len(rows) == state.requests == state.finished + state.errors
    assert len(list((CORPUS / "0.1.0-segments").glob("*.zst"))) >= 3


def structs(kind: inspect.Type) -> Iterator[inspect.StructType]:
    """Every structure that is part of an event."""
    if isinstance(kind, inspect.StructType):
        yield kind
    parts: list[Any] = [getattr(kind, name, None) for name in ("item_type", "key_type", "value_type")]
    parts += getattr(kind, "types", None) or getattr(kind, "item_types", None) or ()
    parts += [field.type for field in getattr(kind, "fields", ())]
    for part in parts:
        if isinstance(part, inspect.Type):
            yield from structs(part)


@pytest.mark.parametrize("released", sorted(CORPUS.glob("fields-*.json")), ids=lambda path: path.stem)
def test_what_was_released_is_there_still_and_what_came_later_may_be_missing(released: Path) -> None:
    """`fields-VERSION.json` has the fields of every structure as they were released."""
    now = {kind.cls.__name__: kind for kind in structs(inspect.type_info(AnyEvent))}
    for name, fields in json.loads(released.read_text()).items():
        assert name in now, f"{name} is gone: journals have it"
        names = {field.name for field in now[name].fields}
        assert set(fields) <= names, f"{name}: fields are gone that journals have"
        added = {field.name for field in now[name].fields if field.required} - set(fields)
        assert not added, f"{name}: {added} need a default, or no older journal can be read"


def test_a_field_that_a_newer_program_added_is_passed_over(tmp_path: Path) -> None:
    plain = [msgspec.to_builtins(event) | {"from_the_future": [1]} for event in small_run()]
    path = tmp_path / "j"
    path.write_bytes(b"".join(frame(msgspec.json.encode(event)) for event in plain))
    assert list(read_events(path)) == small_run()


def test_a_journal_of_a_newer_format_is_refused_with_its_version(tmp_path: Path) -> None:
    path = tmp_path / "j"
    newer: Struct = replace(created(), format=FORMAT + 1, version="9.9.9")
    path.write_bytes(frame(encode(newer)))  # type: ignore[arg-type]
    for read in (lambda: list(read_events(path)), lambda: JournalTail(path).poll()):
        with pytest.raises(
            RecordingError, match=r"line 1: written by a newer version of this program \(9\.9\.9\)"
        ):
            read()
