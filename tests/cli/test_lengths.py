"""The `lengths` verb: what is known, what was observed, and learning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samullm_tui.cli.main import main
from tests.cli.conftest import APPS, Verb

KEYS = {"llm", "source", "samples", "mean", "p50", "p90", "p99", "max", "censored_share", "families"}


def rows(tmp_path: Path, count: int = 300) -> Path:
    path = tmp_path / "answers.jsonl"
    lines = [{"output_tokens": 100 + k, "llm": "vicuna-13b", "prompt_tokens": 10} for k in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_file_is_reported_kept_and_planned_with(verb: Verb, home: Path, tmp_path: Path) -> None:
    found = verb("lengths", "--learn", rows(tmp_path), "--as", "mine")
    (row,) = found["llms"]
    assert set(row) >= KEYS
    assert (row["llm"], row["samples"], row["p50"]) == ("vicuna-13b", 300, 249)
    assert (found["learnt"], found["without_answer"]) == ("mine", 0)
    assert Path(found["file"]).parent == home / "lengths"
    app = tmp_path / "app.toml"
    app.write_text(
        'name = "a"\n[llms.x]\ncheckpoint = "lmsys/vicuna-13b-v1.5"\nlengths = "mine"\n'
        "[data.d.synthetic]\nrecords = 5\n[data.d.synthetic.fields]\nt = 20\n"
        '[nodes.n]\nllm = "x"\nfrom = "d"\nprompt = "{t}"\n'
    )
    (planned,) = verb("lengths", app)["llms"]
    assert planned["samples"] == 300
    assert "blended is used: 300 samples" in planned["why"]
    assert verb("plan", app, "--cluster", "a100-80g:1", "--samples", 2)["candidates"]


def test_a_run_and_its_recording_teach_the_same(verb: Verb, home: Path) -> None:
    run = verb(
        "run",
        APPS / "selftest.toml",
        "--engine",
        "simulated",
        "--cluster",
        "cpu:2",
        "--speed",
        "max",
        "--yes",
    )
    by_name = verb("lengths", "--learn", run["run"])
    assert sum(row["samples"] for row in by_name["llms"]) == run["outputs"]
    assert all("simulated" in row["estimated"] for row in by_name["llms"])
    by_folder = verb("lengths", "--learn", run["directory"])
    assert by_folder == by_name
    blended = verb("lengths", APPS / "selftest.toml", "--learn", run["run"])
    assert [row["llm"] for row in blended["llms"]] == ["llama", "qwen3", "gpt2"]
    assert sum(row["samples"] for row in blended["llms"]) == run["outputs"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["--learn"]),
        (("--as", "x"), ["--learn"]),
        (("--learn", "no-such-run"), ["no-such-run"]),
        (("--learn", "./missing.jsonl"), ["missing.jsonl"]),
        (("--learn", "{file}", "--as", "../x"), ["'../x' is not a name"]),
        (("--learn", "{bad}"), ["bad.jsonl", "line 2", "output_tokens -4"]),
        (("--learn", "{empty}"), ["empty.jsonl", "no rows"]),
        (("--learn", "{folder}"), ["folder"]),
    ],
)
def test_bad_input_is_refused_by_name_and_place(
    arguments: tuple[str, ...],
    words: list[str],
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"output_tokens": 4}\n{"output_tokens": -4}\n')
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "folder").mkdir()
    places = {name: str(tmp_path / f"{name}.jsonl") for name in ("bad", "empty")}
    places |= {"file": str(rows(tmp_path)), "folder": str(tmp_path / "folder")}
    app = [str(APPS / "selftest.toml")] if arguments == ("--as", "x") else []
    assert main(["lengths", *app, *(a.format(**places) for a in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    for word in words:
        assert word in captured.err
