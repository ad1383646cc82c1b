"""Promise 15: a run goes on with the application and the data that it began with; otherwise the difference is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from samullm_tui.domain.errors import ApplicationError, RunError
from samullm_tui.supervisor.inputs import changes, inputs_of, read_inputs, write_inputs
from samullm_tui.supervisor.spec import RunPaths
from samullm_tui.workload.application_file import load_application

APPLICATION = """
name = "small"
title = "before"

[llms.llama]
checkpoint = "tiny:llama"
lengths = "x"
context = 1024
tp = [1, 2]
engine = { max_num_seqs = 8 }

[llms.qwen3]
checkpoint = "tiny:qwen3"

[llms.gpt2]
checkpoint = "tiny:gpt2"

[data.questions]
file = "questions.jsonl"

[nodes.answer]
llm = "llama"
from = "questions"
prompt = "{question} the canary"
n = 2
sampling = { max_tokens = 400, temperature = 0.5, seed = 7 }

[nodes.judge]
llm = "qwen3"
from = ["questions", "answer"]
prompt = "{question} {answer} good?"
where = { field = "kind", equals = "sum" }
output_tokens = "tokens"

[nodes.both]
llm = "gpt2"
from = ["judge"]
prompt = "{judge}"

[nodes.other]
llm = "qwen3"
from = "questions"
prompt = "{question}"
"""
DATA = "".join(f'{{"id": "q{k}", "question": "{k}?", "kind": "sum", "tokens": 5}}\n' for k in range(4))


@pytest.fixture
def application(tmp_path: Path) -> Path:
    (tmp_path / "questions.jsonl").write_text(DATA)
    (tmp_path / "small.toml").write_text(APPLICATION)
    return tmp_path / "small.toml"


def found(application: Path, text: str | None = None, data: str | None = None) -> list[str]:
    """What is named when, after a run was made, the files are these."""
    paths = RunPaths(application.parent)
    write_inputs(paths, inputs_of(load_application(application)))
    if text is not None:
        application.write_text(text)
    if data is not None:
        (application.parent / "questions.jsonl").write_text(data)
    problems = changes(read_inputs(paths), application, allow_outside=False)
    assert all(problem.right for problem in problems)
    return [f"{Path(p.file).name}: {p.place}: {p.wrong}" for p in problems]


def test_nothing_changed(application: Path) -> None:
    assert found(application, APPLICATION, DATA) == []


def test_how_it_is_written_down_is_no_difference(application: Path) -> None:
    text = APPLICATION.replace("title = ", "# a comment\ntitle = ").replace("before", "after")
    assert found(application, text.replace('from = "questions"', 'from = ["questions"]')) == []


@pytest.mark.parametrize(
    ("old", "new", "place", "values"),
    [
        ('name = "small"', 'name = "other"', "name", 'it was "small", it is "other"'),
        ('"tiny:llama"', '"tiny:gpt2"', "llms.llama.checkpoint", 'it was "tiny:llama", it is "tiny:gpt2"'),
        ("context = 1024", "context = 2048", "llms.llama.context", "it was 1024, it is 2048"),
        ("context = 1024\n", "", "llms.llama.context", "it was 1024, it is null"),
        ("tp = [1, 2]", "tp = [1]", "llms.llama.tp", "it was [1,2], it is [1]"),
        ("seqs = 8", "seqs = 9", "llms.llama.engine.max_num_seqs", "it was 8, it is 9"),
        ('"x"', '"y"', "llms.llama.lengths", 'it was "x", it is "y"'),
        ("n = 2", "n = 3", "nodes.answer.n", "it was 2, it is 3"),
        ("400", "401", "nodes.answer.sampling.max_tokens", "it was 400, it is 401"),
        ("0.5", "0.75", "nodes.answer.sampling.temperature", "it was 0.5, it is 0.75"),
        ("n = 2", "n = 2\nchat = true", "nodes.answer.chat", "it was false, it is true"),
        ('"sum"', '"product"', "nodes.judge.where.equals", 'it was "sum", it is "product"'),
        ('"tokens"', '"kind"', "nodes.judge.output_tokens", 'it was "tokens", it is "kind"'),
        ('llm = "qwen3"', 'llm = "gpt2"', "nodes.judge.llm", 'it was "qwen3", it is "gpt2"'),
    ],
)
def test_every_changed_field_is_named_with_both_values(
    application: Path, old: str, new: str, place: str, values: str
) -> None:
    told = found(application, APPLICATION.replace(old, new, 1))
    assert f"small.toml: {place}: has changed since the run began: {values}" in told
    assert len(told) == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (", seed = 7", "", "nodes.answer.sampling.seed: is gone since the run began"),
        ("0.5,", "0.5, top_k = 3,", "nodes.answer.sampling.top_k: was not there when the run began"),
    ],
)
def test_what_was_added_or_taken_out_is_named(application: Path, old: str, new: str, told: str) -> None:
    assert found(application, APPLICATION.replace(old, new, 1)) == [f"small.toml: {told}"]


def test_a_changed_prompt_is_named_and_not_quoted(application: Path) -> None:
    told = found(application, APPLICATION.replace("the canary", "another canary"))
    assert told == ["small.toml: nodes.answer.prompt: has changed since the run began"]


LINES = DATA.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (DATA.replace("2?", "3?"), "line 3: has changed since the run began"),
        (
            DATA + LINES[0].replace("q0", "q9"),
            "line 5: has changed since the run began (it had 4 lines, it has 5)",
        ),
        ("".join(LINES[:3]), "line 4: has changed since the run began (it had 4 lines, it has 3)"),
        ("".join([*LINES[1:], LINES[0]]), "line 1: has changed since the run began"),
        (DATA.rstrip("\n"), "line 4: has changed since the run began"),
    ],
)
def test_the_first_changed_line_of_the_data_is_named(application: Path, data: str, told: str) -> None:
    assert found(application, data=data) == [f"questions.jsonl: {told}"]


def test_an_application_or_data_that_are_gone_are_an_error_with_their_name(application: Path) -> None:
    inputs = inputs_of(load_application(application))
    (application.parent / "questions.jsonl").unlink()
    with pytest.raises(ApplicationError, match=r"questions\.jsonl"):
        changes(inputs, application, allow_outside=False)
    application.unlink()
    with pytest.raises(ApplicationError, match=r"small\.toml"):
        changes(inputs, application, allow_outside=False)


def test_a_damaged_list_of_inputs_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text("{")
    with pytest.raises(RunError, match=r"inputs\.json: cannot be read"):
        read_inputs(RunPaths(tmp_path))
