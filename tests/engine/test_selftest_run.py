"""The main job on real parts: plan, approve, two vLLM servers, every output; and nothing left when all is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samullm_tui.domain.event import EngineReady, RequestFinished
from samullm_tui.engines.installed import installed_vllm
from samullm_tui.journal.reader import JournalTail, read_events
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import build_requests

APP = Path(__file__).resolve().parents[2] / "apps" / "selftest.toml"
DEADLINE_S = 400

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(installed_vllm() is None, reason="vLLM is not installed (make install-engine)"),
]


def samullm(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "samullm_tui", *map(str, arguments)],
        env={**os.environ, "SAMULLM_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def as_json(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def engine_processes(run: str) -> Iterator[int]:
    """Processes that carry the run's cookie in their environment."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"SAMULLM_RUN={run}/".encode() in environment:
                yield int(entry.name)


def wait_until_gone(run: str, within_s: float) -> list[int]:
    """What is left of a run's engines after `within_s` seconds, asked until nothing is."""
    deadline = time.monotonic() + within_s
    while (left := list(engine_processes(run))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def test_the_selftest_application_runs_on_two_real_engines(tmp_path: Path) -> None:
    home = tmp_path / "home"
    outcome = as_json(samullm(home, "run", APP, "--engine", "vllm", "--yes", "--json"))
    assert outcome["status"] == "succeeded"
    assert outcome["errors"] == 0

    workload = build_requests(load_application(APP))
    table = workload.table
    assert outcome["outputs"] == outcome["requests"] == len(table)
    wanted = {(table.node_names[node], i) for node, i in zip(table.node.tolist(), table.ids, strict=True)}

    as_json(samullm(home, "export", outcome["run"], "-o", tmp_path / "out.jsonl", "--json"))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert Counter((row["node"], row["id"]) for row in rows) == Counter(wanted)
    for row in rows:
        assert row["finish_reason"] in {"stop", "length"}
        assert row["prompt_tokens"] > 0
        limit = workload.application.node(row["node"]).max_tokens
        assert limit is not None
        assert 0 < row["output_tokens"] <= limit
        assert row["llm"] == workload.application.node(row["node"]).llm

    events = list(read_events(Path(outcome["directory"])))
    ready = [event for event in events if isinstance(event, EngineReady)]
    assert len({event.replica.gpus for event in ready}) == 2, "both slots served"
    finished = {(e.node, e.id): e.at_s for e in events if isinstance(e, RequestFinished)}
    for index in range(len(table)):
        own = finished[table.node_names[table.node[index]], table.ids[index]]
        for parent in table.parents_of(index):
            assert finished[table.node_names[table.node[parent]], table.ids[parent]] <= own

    hashes = [
        as_json(samullm(home, "replay", outcome["directory"], "--headless", "--speed", "max", "--json"))[
            "state_sha256"
        ]
        for _ in range(2)
    ]
    assert hashes[0] == hashes[1]
    assert not wait_until_gone(outcome["run"], 10)


def test_killing_the_supervisor_leaves_no_engine_and_resume_finishes_the_run(tmp_path: Path) -> None:
    home = tmp_path / "home"
    started = as_json(samullm(home, "run", APP, "--engine", "vllm", "--yes", "--detach", "--json"))
    run, tail = started["run"], JournalTail(Path(started["directory"]))
    deadline = time.monotonic() + DEADLINE_S
    outputs = 0
    while outputs < 5:
        assert time.monotonic() < deadline, "no engine gave an output"
        outputs += sum(isinstance(event, RequestFinished) for event in tail.poll())
        time.sleep(0.1)
    (summary,) = as_json(samullm(home, "runs", "--json"))["runs"]
    assert summary["status"] == "running"
    os.kill(summary["pid"], signal.SIGKILL)
    assert not wait_until_gone(run, 10)
    (summary,) = as_json(samullm(home, "runs", "--json"))["runs"]
    assert summary["status"] == "interrupted"

    outcome = as_json(samullm(home, "resume", run, "--json"))
    assert (outcome["status"], outcome["outputs"]) == ("succeeded", outcome["requests"])
    as_json(samullm(home, "export", run, "-o", tmp_path / "out.jsonl", "--json"))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len({(row["node"], row["id"]) for row in rows}) == len(rows) == outcome["requests"]
    assert not wait_until_gone(run, 10)
