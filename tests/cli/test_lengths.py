"""The `lengths` verb: what is known, what was observed, and learning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samullm_tui.cli.main import main
from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.event import RequestFinished
from samullm_tui.forecast.problem import build_problem, read_workload
from samullm_tui.journal.compressed import zstd
from samullm_tui.journal.reader import read_events
from tests.cli.conftest import APPS

KEYS = {"llm", "source", "samples", "mean", "p50", "p90", "p99", "max", "censored_share", "families"}


Report = Callable[..., dict[str, Any]]


@pytest.fixture
def report(home: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    """`report("--learn", path)`: the JSON object of `samullm-tui lengths --learn PATH --json`."""

    def call(*arguments: object) -> dict[str, Any]:
        assert main(["lengths", *map(str, arguments), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def rows(tmp_path: Path, count: int = 300) -> Path:
    path = tmp_path / "answers.jsonl"
    lines = [{"output_tokens": 100 + k, "llm": "vicuna-13b", "prompt_tokens": 10} for k in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_file_is_reported_kept_and_planned_with(report: Report, home: Path, tmp_path: Path) -> None:
    found = report("--learn", rows(tmp_path), "--as", "mine")
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
    (planned,) = report(app)["llms"]
    assert planned["samples"] == 300
    assert "blended is used: 300 samples" in planned["why"]
    inputs = build_problem(read_workload(app), cluster_from_preset("a100-80g:1"))
    assert inputs.dists["x"].samples == 300
    assert inputs.estimated == {}


def test_a_run_its_folder_and_its_recording_teach_the_same(report: Report, home: Path) -> None:
    recording = APPS.parent / "recordings" / "selftest-real-engines.jsonl.zst"
    folder = home / "runs" / "a-run"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("{}")
    (folder / "journal.jsonl").write_bytes(zstd.decompress(recording.read_bytes()))
    by_name = report("--learn", "a-run")
    finished = sum(isinstance(event, RequestFinished) for event in read_events(recording))
    assert sum(row["samples"] for row in by_name["llms"]) == finished > 150
    assert any(row["tail"]["share"] > 0 for row in by_name["llms"])
    assert report("--learn", folder) == report("--learn", recording) == by_name
    blended = report(APPS / "selftest.toml", "--learn", "a-run")
    assert [row["llm"] for row in blended["llms"]] == ["llama", "qwen3", "gpt2"]
    assert sum(row["samples"] for row in blended["llms"]) == finished


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
