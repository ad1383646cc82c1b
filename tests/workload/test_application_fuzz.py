"""Promise: whatever stands in an application file, it loads or is refused with places; nothing else happens."""

from __future__ import annotations

import json
import math
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samullm_tui.domain.errors import ApplicationError, Problem
from samullm_tui.workload.check import check_application

APPLICATION = {
    "name": "good",
    "title": "x",
    "llms": {
        "a": {
            "checkpoint": "tiny:llama",
            "lengths": "x",
            "context": 99,
            "tp": [1, 2],
            "engine": {"max_num_seqs": 4},
        },
        "b": {"checkpoint": "org/b", "revision": "main", "trust_remote_code": False},
    },
    "data": {
        "d": {
            "synthetic": {
                "records": 3,
                "seed": 1,
                "fields": {
                    "text": {"lognormal": {"median": 3, "p90": 9.5, "max": 20}},
                    "kind": {"choice": {"x": 1, "y": 2.5}},
                    "parts": {"list": {"count": 2, "tokens": {"uniform": [1, 5]}}},
                    "known": 5,
                },
            }
        }
    },
    "nodes": {
        "one": {
            "llm": "a",
            "from": "d",
            "prompt": "{text}",
            "n": 2,
            "where": {"field": "kind", "equals": "x"},
        },
        "two": {"llm": "b", "from": ["d", "one"], "chain": "parts", "prompt": "{one}{item}", "chat": True},
        "three": {
            "llm": "a",
            "from": ["one", "two"],
            "join": "any",
            "prompt": "{output}{text}",
            "output_tokens": "known",
            "sampling": {"max_tokens": 5, "stop": ["x"], "logit_bias": {"7": 1.5}, "temperature": 0.5},
        },
    },
}

SCALARS = (
    st.sampled_from(
        ["", "a", "d", "one", "two", "three", "{", "{x}", "../x", "tiny:llama", "any", "\u202e", "\x00"]
    )
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.booleans()
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "d", "x.y", ""]), inner)
    ),
    max_leaves=4,
)


def toml(value: object) -> str:
    """`value` inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)


def paths_of(table: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(table, dict):
        return [path]
    below = [p for key, value in table.items() for p in paths_of(value, (*path, key))]
    return [*([path] if path else []), *below]


def replaced(table: object, path: tuple[str, ...], value: object) -> object:
    """A copy of the table with `value` at `path`; nothing there when `value` is None."""
    if not isinstance(table, dict) or not path:
        return value
    copy = {key: item for key, item in table.items() if key != path[0]}
    inner = replaced(table.get(path[0]), path[1:], value) if len(path) > 1 else value
    return copy if inner is None else {**copy, path[0]: inner}


def outcome(folder: Path, application: object) -> tuple[Problem, ...] | None:
    """What is wrong with the application; None when it loads."""
    assert isinstance(application, dict)
    path = folder / "app.toml"
    path.write_text("".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in application.items()))
    try:
        check_application(path)
    except ApplicationError as error:
        return error.problems
    return None


def test_the_application_that_is_changed_below_is_good(tmp_path: Path) -> None:
    assert outcome(tmp_path, APPLICATION) is None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.sampled_from(paths_of(APPLICATION)), st.none() | JUNK), min_size=1, max_size=3))
def test_any_value_at_any_place_loads_or_is_refused(
    tmp_path: Path, changes: list[tuple[tuple[str, ...], object]]
) -> None:
    application: object = APPLICATION
    for path, value in changes:
        application = replaced(application, path, value)
    problems = outcome(tmp_path, application)
    assert problems is None or problems
    assert all(problem.file and problem.wrong for problem in problems or ())
