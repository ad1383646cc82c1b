"""The outputs of a run: as the contract has them, or those of one node as the lines of an OpenAI batch's result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from samullm_tui.domain.errors import InputError, JournalError, Problem
from samullm_tui.domain.event import RequestFailed, RequestFinished, RunCreated
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.spec import existing_run

__all__ = ["batch_rows", "export_rows"]

DONE = 200
"""HTTP's status of an answer in a batch's result."""


def export_rows(run: str) -> Iterator[dict[str, object]]:
    """Each committed output exactly once, in the order of their commits; of a running run those so far.

    Rows have the keys of the contract. Raises RunNotFoundError at once, and while iterating RecordingError for a
    damaged journal and JournalError when a row that it points at is not there.
    """
    paths = existing_run(run)
    events = (event for event in read_events(paths.journal) if isinstance(event, RequestFinished))
    return (row for _, row in _rows(events, paths.outputs))


def batch_rows(run: str, node: str) -> Iterator[dict[str, object]]:
    """What became of each request of a node, as OpenAI's batch interface tells it of chat completions: `custom_id` is the
    request's `id`. First the answers, then those that failed, with a null response.

    Raises as `export_rows` does, and InputError when the run has no such node.
    """
    paths = existing_run(run)
    created = next(read_events(paths.journal), None)
    names = [info.name for info in created.nodes] if isinstance(created, RunCreated) else []
    if not isinstance(created, RunCreated) or node not in names:
        raise InputError(Problem(run, node, "no node of this run", f"one of {', '.join(names)}"))
    return _batch_rows(paths.journal, paths.outputs, node, created)


def _batch_rows(journal: Path, outputs: Path, node: str, created: RunCreated) -> Iterator[dict[str, object]]:
    failed: dict[str, str] = {}

    def finished() -> Iterator[RequestFinished]:
        for event in read_events(journal):
            if isinstance(event, RequestFinished) and event.node == node:
                yield event
            elif isinstance(event, RequestFailed) and event.node == node:
                failed[event.id] = event.cause

    for event, row in _rows(finished(), outputs):
        name = f"{created.run}/{node}/{event.id}"
        body = _completion(event, row, int(created.created_unix_s + event.at_s))
        response = {"status_code": DONE, "request_id": name, "body": body}
        yield {"id": name, "custom_id": event.id, "response": response, "error": None}
    for failure, cause in failed.items():
        error = {"code": "failed", "message": cause}
        name = f"{created.run}/{node}/{failure}"
        yield {"id": name, "custom_id": failure, "response": None, "error": error}


def _completion(event: RequestFinished, row: dict[str, object], created_s: int) -> dict[str, object]:
    """The answer as a chat completion."""
    message = {"role": "assistant", "content": row["output"]}
    return {
        "object": "chat.completion",
        "created": created_s,
        "model": event.llm,
        "choices": [{"index": 0, "message": message, "finish_reason": event.finish_reason}],
        "usage": {
            "prompt_tokens": event.prompt_tokens,
            "completion_tokens": event.output_tokens,
            "total_tokens": event.prompt_tokens + event.output_tokens,
        },
    }


def _rows(
    events: Iterator[RequestFinished], outputs: Path
) -> Iterator[tuple[RequestFinished, dict[str, object]]]:
    """Each with its row, once."""
    seen: dict[str, set[str]] = {}
    if not outputs.exists():
        return
    with outputs.open("rb") as file:
        for event in events:
            ids = seen.setdefault(event.node, set())
            if event.id in ids:
                continue
            ids.add(event.id)
            # Rows are committed in their order in the file: this seldom seeks.
            if file.tell() != event.offset:
                file.seek(event.offset)
            yield event, _row(file.readline(), event, outputs)


def _row(line: bytes, event: RequestFinished, outputs: Path) -> dict[str, object]:
    try:
        row = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError:
        row = {}
    if (row.get("node"), row.get("id")) != (event.node, event.id):
        wrong = f"the row of {event.node} {event.id} is not here"
        raise JournalError(Problem(str(outputs), f"byte {event.offset}", wrong))
    return row
