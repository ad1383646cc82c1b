"""Promise: a bad line of a data set is named with its file and line, and every other bad line with it."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samullm_tui.domain.application import DataSet
from samullm_tui.domain.errors import Problem
from samullm_tui.workload.problems import Problems
from samullm_tui.workload.records import Record, scan_records

LINE_BYTES = 2_000


def scan(path: Path) -> tuple[list[Record], tuple[Problem, ...]]:
    problems = Problems(str(path), limit=20)
    records = list(scan_records(DataSet(name="d", file=str(path)), problems, LINE_BYTES))
    return records, problems.all()


def jsonl(folder: Path, content: bytes) -> Path:
    path = folder / "d.jsonl"
    path.write_bytes(content)
    return path


OK = b'{"id": "ok", "text": "fine"}\n'
BAD_LINES: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("broken", b'{"id": "x"', ("not JSON",)),
    ("trailing", b'{"id": "x"} y', ("not JSON",)),
    ("two objects", b'{"id": "x"}{"id": "y"}', ("not JSON",)),
    ("single quotes", b"{'id': 'x'}", ("not JSON",)),
    ("not UTF-8", b'{"id": "\xff"}', ("not UTF-8",)),
    ("Latin-1", '{"text": "Käse"}'.encode("latin-1"), ("not UTF-8",)),
    ("NaN", b'{"score": NaN}', ("NaN", "a number")),
    ("Infinity", b'{"score": -Infinity}', ("Infinity",)),
    ("lone surrogate", b'{"text": "\\ud800"}', ("not JSON",)),
    ("control character", b'{"text": "a\x01b"}', ("not JSON",)),
    ("a list", b"[1, 2]", ("not a JSON object",)),
    ("a text", b'"x"', ("not a JSON object",)),
    ("null", b"null", ("not a JSON object",)),
    ("number over range", b'{"a": 1e999}', ("not JSON",)),
    ("id null", b'{"id": null}', ("None is not an id",)),
    ("id empty", b'{"id": ""}', ("not an id",)),
    ("id true", b'{"id": true}', ("not an id",)),
    ("id a float", b'{"id": 1.5}', ("not an id",)),
    ("id with escape", b'{"id": "a\\u001b[2J"}', ("not an id", "printable")),
    ("id too long", b'{"id": "' + b"x" * 300 + b'"}', ("not an id",)),
    ("id twice", b'{"id": "ok"}', ("'ok' stands in line 1 already",)),
    ("too long", b'{"id": "' + b"x" * LINE_BYTES + b'"}', ("longer than",)),
    ("batch without text", b'{"custom_id": "x", "body": {"model": "m"}}', ("neither a prompt nor messages",)),
    ("batch with image", b'{"custom_id": "x", "body": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}}',
     ("not text",)),
    ("batch message a text", b'{"custom_id": "x", "body": {"messages": ["hi"]}}', ("not text",)),
]  # fmt: skip


@pytest.mark.parametrize(("line", "words"), [b[1:] for b in BAD_LINES], ids=[b[0] for b in BAD_LINES])
def test_a_bad_line_is_named_and_the_others_are_read(
    tmp_path: Path, line: bytes, words: tuple[str, ...]
) -> None:
    path = jsonl(tmp_path, OK + line + b"\n" + b'{"id": "last"}\n')
    records, (problem,) = scan(path)
    assert [r.id for r in records] == ["ok", "last"]
    assert problem.file == str(path)
    assert problem.place == "line 2"
    assert all(word in f"{problem.wrong}; {problem.right}" for word in words), problem


def test_a_line_nested_without_end_is_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path, OK + b'{"a": ' + b"[" * 100_000 + b"\n")
    problems = Problems("x")
    assert len(list(scan_records(DataSet(name="d", file=str(path)), problems))) == 1
    (problem,) = problems.all()
    assert (problem.place, problem.wrong) == ("line 2", "nested too deeply")


def test_more_than_twenty_bad_lines_are_counted(tmp_path: Path) -> None:
    _, problems = scan(jsonl(tmp_path, b"x\n" * 1_500))
    assert len(problems) == 21
    assert problems[-1].wrong == "and 1,480 more"


def test_no_message_carries_the_text_of_a_record(tmp_path: Path) -> None:
    lines = [b'{"id": "%d", "text": "canary"' % k + rest for k, rest in enumerate([b"", b"} x", b", NaN}"])]
    _, problems = scan(jsonl(tmp_path, b"\n".join(lines)))
    assert len(problems) == 3
    assert "canary" not in str(problems)


def test_what_is_tolerated(tmp_path: Path) -> None:
    content = (
        "\ufeff".encode()
        + b'{"text": "a"}\r\n\n  \n{"id": 7}\n{"custom_id": "c"}\n{"text": "no newline at the end"}'
    )
    records, problems = scan(jsonl(tmp_path, content))
    assert not problems
    assert [(r.id, r.line) for r in records] == [("1", 1), ("7", 4), ("c", 5), ("6", 6)]


@pytest.mark.parametrize("content", [b"", b"\n\n", "\ufeff".encode()])
def test_a_data_set_without_records_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    records, (problem,) = scan(jsonl(tmp_path, content))
    assert not records
    assert "no records" in problem.wrong


def test_utf_16_is_named(tmp_path: Path) -> None:
    _, (problem,) = scan(jsonl(tmp_path, '{"id": "1"}\n'.encode("utf-16")))
    assert "UTF-16" in problem.wrong


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    _, (problem,) = scan(tmp_path / "gone.jsonl")
    assert "cannot be read" in problem.wrong


def test_openai_batch_lines_give_prompts(tmp_path: Path) -> None:
    chat = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}],
                },
            ],
        },
    }
    completion = {"custom_id": "b", "body": {"prompt": "Once"}}
    records, problems = scan(jsonl(tmp_path, f"{json.dumps(chat)}\n{json.dumps(completion)}\n".encode()))
    assert not problems
    assert records[0].fields == {
        "id": "a",
        "prompt": "Be brief.\n\nHi\nthere",
        "system": "Be brief.",
        "user": "Hi\nthere",
    }
    assert records[1].fields == {"id": "b", "prompt": "Once"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(st.dictionaries(st.text(min_size=1), st.text() | st.integers(-9, 9) | st.booleans()), min_size=1)
)
def test_json_lines_come_back_as_written(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    rows = [{**row, "id": f"r{k}", "custom_id": "-"} for k, row in enumerate(rows)]
    path = jsonl(tmp_path, "\n".join(json.dumps(row) for row in rows).encode())
    problems = Problems("x")
    assert [r.fields for r in scan_records(DataSet(name="d", file=str(path)), problems)] == rows
    assert not problems


CELLS = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6))
def test_csv_comes_back_as_written(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(("id", "a", "b"))
    writer.writerows((f"r{k}", *row) for k, row in enumerate(rows))
    path = tmp_path / "d.csv"
    path.write_bytes(text.getvalue().encode())
    problems = Problems("x")
    records = list(scan_records(DataSet(name="d", file=str(path)), problems))
    assert not problems, problems.all()
    assert [(r.fields["a"], r.fields["b"]) for r in records] == rows


CSV_MISTAKES: list[tuple[str, bytes, str, str]] = [
    ("a column twice", b"id,a,a\n1,2,3\n", "line 1", "name twice"),
    ("a column without name", b"id,,a\n1,2,3\n", "line 1", "empty name"),
    ("too few values", b"id,a\n1,2\n3\n", "line 3", "1 values"),
    ("too many values", b"id,a\n1,2,3\n", "line 2", "3 values"),
    ("after a value with line breaks", b'id,a\n1,"x\ny\nz"\n2\n', "line 5", "1 values"),
    ("quote never closed", b'id,a\n1,2\n3,"x\ny\n', "line 3", "not CSV"),
    ("text after a quote", b'id,a\n1,"x"y\n', "line 2", "not CSV"),
    ("not UTF-8", b"id,a\n1,2\n3,\xff\n", "line 3", "not UTF-8"),
    ("an id twice", b"id,a\n1,2\n1,3\n", "line 3", "stands in line 2"),
    ("only a header", b"id,a\n", "", "no records"),
    ("empty", b"", "", "no records"),
]


@pytest.mark.parametrize(
    ("content", "place", "word"), [m[1:] for m in CSV_MISTAKES], ids=[m[0] for m in CSV_MISTAKES]
)
def test_a_bad_csv_is_named_at_its_line(tmp_path: Path, content: bytes, place: str, word: str) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(content)
    _, problems = scan(path)
    assert problems[0].place == place, problems
    assert word in problems[0].wrong


def test_a_huge_line_is_refused_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    with path.open("wb") as file:
        file.write(OK + b'{"id": "huge", "text": "')
        for _ in range(200):
            file.write(b"x" * 1024**2)
        file.write(b'"}\n{"id": "last"}\n')
    problems = Problems("x")
    tracemalloc.start()
    records = list(scan_records(DataSet(name="d", file=str(path)), problems, 1024**2))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (problem,) = problems.all()
    assert [r.id for r in records] == ["ok", "last"]
    assert (problem.place, problem.wrong) == ("line 2", "longer than 1 MiB")
    assert peak_bytes < 16 * 1024**2


def test_reading_holds_one_line_at_a_time(tmp_path: Path) -> None:
    path = jsonl(tmp_path, b"".join(b'{"id": %d, "text": "%s"}\n' % (k, b"x" * 1000) for k in range(10_000)))
    tracemalloc.start()
    count = sum(1 for _ in scan_records(DataSet(name="d", file=str(path)), Problems("x")))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak_bytes < 5 * 1024**2  # the ids seen, not the 10 MB of text


def synthetic(**fields: object) -> DataSet:
    return DataSet(name="d", synthetic={"records": 2_000, "seed": 5, "fields": fields})


def column(data: DataSet, name: str) -> list[object]:
    return [record.fields[name] for record in scan_records(data, Problems("x"))]


def test_drawn_fields_follow_their_distribution() -> None:
    data = synthetic(
        u={"uniform": [10, 12]},
        n={"lognormal": {"median": 60.0, "p90": 350.0, "max": 1500}},
        c={"choice": {"x": 3.0, "y": 1.0}},
        p={"list": {"count": {"uniform": [0, 4]}, "tokens": {"uniform": [7, 7]}}},
    )
    assert {int(str(v)) for v in column(data, "u")} == {10, 11, 12}
    amounts = sorted(int(str(v)) for v in column(data, "n"))
    assert 54 < amounts[1_000] < 66
    assert 300 < amounts[1_800] < 400
    assert amounts[0] >= 1
    assert amounts[-1] <= 1500
    labels = column(data, "c")
    assert 0.72 < labels.count("x") / len(labels) < 0.78
    lists = column(data, "p")
    assert {len(v) for v in lists if isinstance(v, list)} == {0, 1, 2, 3, 4}
    assert all(v == [7] * len(v) for v in lists if isinstance(v, list))


def test_the_same_seed_draws_the_same_and_a_new_field_changes_no_other() -> None:
    one, two = synthetic(a={"uniform": [1, 99]}), synthetic(b={"uniform": [1, 99]}, a={"uniform": [1, 99]})
    assert column(one, "a") == column(one, "a") == column(two, "a")
    assert column(two, "a") != column(two, "b")
    assert [r.id for r in scan_records(one, Problems("x"))][:2] == ["0001", "0002"]


def test_lists_that_would_fill_the_memory_are_refused() -> None:
    data = synthetic(p={"list": {"count": {"uniform": [10**6, 10**6]}, "tokens": {"uniform": [1, 1]}}})
    problems = Problems("x")
    assert list(scan_records(data, problems)) == []
    (problem,) = problems.all()
    assert "elements" in f"{problem.wrong}; {problem.right}"
