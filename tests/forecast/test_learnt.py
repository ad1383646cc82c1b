"""Promises of learning output lengths from runs and files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samullm_tui.domain.application import LLM, Application
from samullm_tui.domain.errors import InputError
from samullm_tui.domain.event import AnyEvent, NodeInfo, RequestFailed, RequestFinished, RunCreated
from samullm_tui.forecast.answers import Observed, answers_of_events, read_answers
from samullm_tui.forecast.learnt import Learnt, learnt, write_learnt
from samullm_tui.forecast.lengths import learnt_report, length_report, lengths_of
from samullm_tui.lengths.answers import Answers
from samullm_tui.locations import lengths_dir


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path / "home"))


def read(tmp_path: Path, *rows: object, name: str = "rows.jsonl") -> Observed:
    path = tmp_path / name
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return read_answers(path)


def batch_output(tokens: int, finish: str, model: str = "m") -> dict[str, object]:
    body = {
        "model": model,
        "choices": [{"index": 0, "finish_reason": finish, "message": {"content": "…"}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": tokens + 5},
    }
    return {"custom_id": str(tokens), "response": {"status_code": 200, "body": body}, "error": None}


def test_exported_outputs_plain_rows_responses_and_batch_outputs_are_read_alike(tmp_path: Path) -> None:
    exported = {"id": "1", "node": "n", "output": "x", "finish_reason": "stop", "prompt_tokens": 5, "output_tokens": 7, "llm": "m"}  # fmt: skip
    found = read(
        tmp_path,
        exported,
        {"output_tokens": 8.0, "model": "m", "prompt_tokens": None},
        batch_output(9, "stop")["response"]["body"],  # type: ignore[index]
        batch_output(10, "length"),
    )
    (answers,) = found.learnt.answers.values()
    assert list(found.learnt.answers) == ["m"]
    assert answers.tokens.tolist() == [7, 8, 9, 10]
    assert answers.ended.tolist() == [True, True, True, False]
    assert answers.prompt_tokens.tolist() == [5, -1, 5, 5]


def test_csv_is_read_too(tmp_path: Path) -> None:
    found = read(
        tmp_path, "llm,prompt_tokens,output_tokens,finish_reason", "a,3,40,stop", "b,,50,length", name="r.csv"
    )
    assert found.learnt.answers["a"].tokens.tolist() == [40]
    assert found.learnt.answers["b"].ended.tolist() == [False]
    assert found.learnt.answers["b"].prompt_tokens.tolist() == [-1]


def test_llms_are_told_apart_by_llm_then_model_then_node_then_the_file(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"output_tokens": 1, "llm": "a", "model": "b", "node": "c"},
        {"output_tokens": 2, "model": "b", "node": "c"},
        {"output_tokens": 3, "node": "c"},
        {"output_tokens": 4},
    )
    assert {llm: a.tokens.tolist() for llm, a in found.learnt.answers.items()} == {
        "a": [1],
        "b": [2],
        "c": [3],
        "rows": [4],
    }


def test_rows_of_errors_are_counted_and_said_not_lost(tmp_path: Path) -> None:
    failed = {"custom_id": "2", "response": {"status_code": 500, "body": {}}, "error": {"code": "x"}}
    found = read(
        tmp_path, batch_output(9, "stop"), failed, {"id": "3", "node": "n", "error": "refused", "llm": "m"}
    )
    assert found.without_answer == 2
    assert "2 of 3 rows" in found.note


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"output_tokens": -3}, "output_tokens -3"),
        ({"output_tokens": 0}, "output_tokens 0"),
        ({"output_tokens": 2.5}, "output_tokens 2.5"),
        ({"output_tokens": True}, "output_tokens True"),
        ({"output_tokens": "many"}, "output_tokens 'many'"),
        ({"output_tokens": 10_000_001}, "output_tokens 10000001"),
        ('{"output_tokens": NaN}', "not JSON"),
        ({"text": "no figures"}, "output_tokens None"),
        ({"output_tokens": 3, "prompt_tokens": -1}, "prompt_tokens -1"),
        ({"choices": [{}, {}], "usage": {"completion_tokens": 8}}, "2 answers"),
        ("[1, 2]", "not a JSON object"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, {"output_tokens": 5}, row, {"output_tokens": 0.5})
    first, second = caught.value.problems
    assert first.place.startswith("line 2")
    assert said in first.wrong
    assert first.right
    assert second.place.startswith("line 3")


def test_an_answer_cut_before_its_first_token_is_an_answer(tmp_path: Path) -> None:
    found = read(tmp_path, {"output_tokens": 0, "finish_reason": "abort"}, {"output_tokens": 4})
    assert found.learnt.answers["rows"].ended.tolist() == [False, True]


@pytest.mark.parametrize("rows", [(), ({"id": "1", "error": "refused"},)])
def test_a_file_without_answers_is_refused(tmp_path: Path, rows: tuple[object, ...]) -> None:
    with pytest.raises(InputError, match="rows"):
        read(tmp_path, *rows)


def run_events(engine: str = "vllm") -> list[AnyEvent]:
    node = NodeInfo("n", "a", 5, "d", ())
    created = RunCreated(
        at_s=0, run="r1", application="app", application_sha256="", cluster="c", gpus=1, gpu_kind="cpu",
        engine=engine, seed=0, created_unix_s=0, nodes=(node,), llms=("a",), version="",  # type: ignore[arg-type]
    )  # fmt: skip

    def finished(key: str, tokens: int, reason: str = "stop") -> RequestFinished:
        return RequestFinished(
            at_s=1, node="n", id=key, llm="a", replica="", prompt_tokens=9, output_tokens=tokens,
            finish_reason=reason, sent_s=0, offset=0,
        )  # fmt: skip

    failed = RequestFailed(at_s=1, node="n", id="4", llm="a", cause="", offset=0)
    return [created, finished("1", 10), finished("2", 20, "length"), finished("1", 10), failed]


def test_a_run_is_learnt_from_its_journal_each_request_once(tmp_path: Path) -> None:
    found = answers_of_events(run_events(), "r1")
    answers = found.learnt.answers["a"]
    assert answers.tokens.tolist() == [10, 20]
    assert answers.ended.tolist() == [True, False]
    assert answers.prompt_tokens.tolist() == [9, 9]
    assert found.without_answer == 3
    assert "2 of 5 requests" in found.note
    assert not found.learnt.simulated


def test_a_simulated_run_is_never_called_measured() -> None:
    found = answers_of_events(run_events("simulated"), "r1").learnt
    (row,) = learnt_report(found).llms
    assert row.why.startswith("simulated is used")
    assert "simulated" in row.estimated
    write_learnt("fake", found)
    assert "simulated" in lengths_of(llm("a", "fake")).estimated


def test_a_run_without_outputs_says_so() -> None:
    with pytest.raises(InputError, match="no outputs"):
        answers_of_events(run_events()[:1], "r1")


def llm(name: str, lengths: str, checkpoint: str = "lmsys/vicuna-13b-v1.5") -> LLM:
    return LLM(name=name, checkpoint=checkpoint, lengths=lengths)


def application(*llms: LLM) -> Application:
    return Application(name="app", title="", file="app.toml", sha256="", llms=llms, data=(), nodes=())


def answers(n: int, seed: int = 0, median: float = 1000) -> Answers:
    return Answers.of(np.ceil(np.random.default_rng(seed).lognormal(np.log(median), 0.4, n)))


def test_what_is_kept_under_a_name_is_found_again_and_planned_with() -> None:
    assert learnt("mine") is None
    write_learnt("mine", Learnt("test", {"a": answers(3000)}))
    assert [path.name for path in lengths_dir().iterdir()] == ["mine.json"]
    back = learnt("mine")
    assert back
    assert back.answers["a"].tokens.tolist() == answers(3000).tokens.tolist()
    planned = lengths_of(llm("other-name", "mine"))
    assert (planned.estimated, planned.kind, planned.distribution.samples) == ("", "measured", 3000)
    assert int(planned.distribution.quantile(0.5)) == pytest.approx(1000, rel=0.05)


def test_few_answers_are_blended_with_the_table_of_the_checkpoint() -> None:
    write_learnt("few", Learnt("test", {"a": answers(8, median=150)}))
    (row,) = length_report(application(llm("a", "few"))).llms
    assert row.samples == 8
    assert row.why.startswith("blended is used: 8 samples and a prior counted as 10")
    assert "no_robots" in row.source
    assert row.estimated == ""
    (pooled,) = length_report(application(llm("a", "few", "nobody/knows"))).llms
    assert "pooled" in pooled.estimated


def test_a_name_that_nobody_gave_falls_back_to_the_checkpoint_and_says_so() -> None:
    found = lengths_of(llm("a", "mistyped"))
    assert found.distribution.name == "vicuna-13b-v1.5"
    assert "no lengths are called 'mistyped'" in found.estimated


def test_a_name_without_this_llm_says_which_it_has() -> None:
    write_learnt("two", Learnt("test", {"a": answers(50), "b": answers(50)}))
    assert lengths_of(llm("a", "two")).estimated == ""
    assert "have none of c (they have a, b)" in lengths_of(llm("c", "two")).estimated


def test_observed_answers_are_blended_only_into_the_llm_they_are_of() -> None:
    app = application(llm("a", "vicuna-13b-v1.5"), llm("b", "vicuna-13b-v1.5"))
    before = length_report(app).llms
    after = length_report(app, Learnt("test", {"b": answers(2000)})).llms
    assert after[0] == before[0]
    assert after[1].p50 == pytest.approx(1000, rel=0.1)
    with pytest.raises(InputError, match="answers of a, b"):
        length_report(app, Learnt("test", {"c": answers(5)}))


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 65])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is not a name"):
        write_learnt(name, Learnt("test", {"a": answers(5)}))
    assert learnt(name) is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = write_learnt("mine", Learnt("test", {"a": answers(5)}))
    path.write_text('{"source": "x", "llms": {"a": {"tokens": [0], "ended": [1], "prompt_tokens": [1]}}}')
    with pytest.raises(InputError, match=r"mine\.json"):
        lengths_of(llm("a", "mine"))


def test_prompts_that_matter_show_in_the_report() -> None:
    rng = np.random.default_rng(0)
    prompts = rng.integers(1, 1000, 2000)
    those = Answers.of(np.ceil(prompts * rng.lognormal(0, 0.3, 2000)), True, prompts)
    (row,) = learnt_report(Learnt("test", {"a": those})).llms
    assert len(row.strata) == 8
    assert [s.p50 for s in row.strata] == sorted(s.p50 for s in row.strata)
    assert row.strata[-1].prompt_tokens is None
    assert row.prompts.startswith("prompts matter")
    assert sum(s.samples for s in row.strata) == 2000


@pytest.mark.parametrize(
    ("tokens", "ended", "said"),
    [
        ([5], True, "1 sample; all that ended have one length, no family fits"),
        ([256] * 9, False, "none ended by itself; 100.0 % were cut short and stand where they were cut"),
        (list(range(1, 101)) + [100] * 100, [True] * 100 + [False] * 100, "beyond 100 tokens (50.0 %)"),
    ],
)
def test_the_reason_says_what_is_not_known(tokens: list[int], ended: list[bool] | bool, said: str) -> None:
    (row,) = learnt_report(Learnt("test", {"a": Answers.of(tokens, ended)})).llms
    assert said in row.why
