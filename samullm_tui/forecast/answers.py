"""Reading observed answers: from the events of a run, or from a file with one answer a row.

Rows are those of `export`, of any file with `output_tokens` (JSONL or CSV), OpenAI responses (`usage.completion_tokens`)
and OpenAI batch outputs. `llm`, else `model`, else `node` tells LLMs apart; finish_reason "length" means cut.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from msgspec import Struct

from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.domain.event import AnyEvent, RequestFailed, RequestFinished, RunCreated
from samullm_tui.forecast.learnt import Learnt
from samullm_tui.lengths.answers import MOST_TOKENS, Answers
from samullm_tui.workload.problems import SHOWN, Problems, shown
from samullm_tui.workload.records import scan_rows

__all__ = ["Observed", "answers_of_events", "read_answers"]

CUT = frozenset({"length", "abort", "error"})
"""Finish reasons of answers that did not end by themselves."""
TOKENS = f"a whole number of tokens from 0 to {MOST_TOKENS:,}"


class Observed(Struct, frozen=True):
    """What was read. `without_answer` counts requests and rows of which no length is known, `note` says of them what
    it means for the curves.
    """

    learnt: Learnt
    without_answer: int = 0
    note: str = ""


class _Columns:
    """Answers of each LLM as they come, eight bytes for each figure."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[array[int], array[int], array[int]]] = {}

    def add(self, llm: str, tokens: int, prompt_tokens: int, *, ended: bool) -> None:
        columns = self._of.setdefault(llm, (array("q"), array("b"), array("q")))
        for column, value in zip(columns, (tokens, ended, prompt_tokens), strict=True):
            column.append(value)

    def answers(self) -> dict[str, Answers]:
        return {llm: Answers.of(*(np.array(column) for column in of)) for llm, of in self._of.items()}


def answers_of_events(events: Iterable[AnyEvent], name: str) -> Observed:
    """The answers of a run, from its journal; of one that goes on, those so far. Raises InputError without any."""
    columns, seen = _Columns(), set[tuple[str, str]]()
    created: RunCreated | None = None
    without = 0
    for event in events:
        if isinstance(event, RunCreated):
            created = event
        if not isinstance(event, RequestFinished | RequestFailed) or (event.node, event.id) in seen:
            continue
        seen.add((event.node, event.id))
        if isinstance(event, RequestFailed) or event.output_tokens < 1:
            without += 1
            continue
        ended = event.finish_reason not in CUT
        columns.add(event.llm, event.output_tokens, event.prompt_tokens, ended=ended)
    answers = columns.answers()
    if not answers:
        raise InputError(
            Problem(name, "", "this run has no outputs to learn from", "a run with finished requests")
        )
    asked = sum(node.requests for node in created.nodes) if created else len(seen)
    source = f"run {created.run} of {created.application}" if created else name
    simulated = created is not None and created.engine == "simulated"
    unfinished = max(0, asked - len(seen))
    return Observed(Learnt(source, answers, simulated), without + unfinished, _unfinished(unfinished, asked))


def _unfinished(requests: int, asked: int) -> str:
    if not requests:
        return ""
    return f"without a result: {requests:,} of {asked:,} requests; long answers are likelier among them, so the curves may be short"


def read_answers(path: Path) -> Observed:
    """The answers in a file. Raises InputError with every row that is wrong, by its line, and without any answer."""
    problems = Problems(str(path), limit=SHOWN)
    columns = _Columns()
    rows = without = 0
    for line, row in scan_rows(path, problems):
        rows += 1
        body = _body(row)
        if body is None:
            without += 1
        else:
            _add(columns, row, body, path, f"line {line}", problems)
    answers = columns.answers()
    if not answers and not problems:
        wrong = f"{rows:,} rows, none with an answer" if rows else "has no rows"
        problems.add("", wrong, "one answer a row, with output_tokens or usage.completion_tokens")
    if problems:
        raise InputError(problems.all())
    note = f"without an answer: {without:,} of {rows:,} rows" if without else ""
    return Observed(Learnt(path.name, answers), without, note)


def _body(row: Mapping[str, object]) -> Mapping[str, object] | None:
    """Where the figures stand: the row itself, or the response in an OpenAI batch output. None for an error."""
    if "response" in row and "custom_id" in row:
        response = row["response"]
        body = response.get("body") if isinstance(response, dict) else None
        return body if isinstance(body, dict) and "usage" in body else None
    return None if row.get("error") and "output_tokens" not in row else row


def _add(
    columns: _Columns,
    row: Mapping[str, object],
    body: Mapping[str, object],
    path: Path,
    place: str,
    problems: Problems,
) -> None:
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if isinstance(choices, list) and len(choices) > 1:
        problems.add(place, f"{len(choices)} answers whose tokens are counted together", "one answer a row")
        return
    ended = body.get("finish_reason", choice.get("finish_reason")) not in CUT
    tokens = _tokens(body.get("output_tokens", usage.get("completion_tokens")), 1 if ended else 0)
    prompt = body.get("prompt_tokens", usage.get("prompt_tokens"))
    prompt_tokens = -1 if prompt is None or prompt == "" else _tokens(prompt, 0)
    if tokens is None:
        given = body.get("output_tokens", usage.get("completion_tokens"))
        problems.add(
            place, f"output_tokens {shown(given)}", TOKENS.replace("from 0", "from 1") if ended else TOKENS
        )
    elif prompt_tokens is None:
        problems.add(place, f"prompt_tokens {shown(prompt)}", TOKENS)
    else:
        named = (row.get("llm"), body.get("model"), row.get("model"), row.get("node"))
        llm = next((name for name in named if isinstance(name, str) and name), path.stem)
        columns.add(llm, tokens, prompt_tokens, ended=ended)


def _tokens(value: object, least: int) -> int | None:
    """A whole number of tokens, also as text (CSV) or as a float without a fraction."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if least <= value <= MOST_TOKENS else None
