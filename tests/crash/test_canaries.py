"""Promise 18: prompts, outputs and keys are in no log, argument or error text; a run's files are the owner's alone."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from crash_runs import Nursery, until
from faults import Fault
from msgspec.structs import replace
from test_kills import MakeRun

from samullm_tui.cli.main import main
from samullm_tui.engines.processes import marked, sweep
from samullm_tui.journal.compressed import zstd
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.spec import RunPaths, read_spec, write_spec

ENGINES = Path(__file__).parents[1] / "engines"
PROMPT, OUTPUT = "canary-in-a-prompt", "canary-in-an-output"
RECORDS = [
    {"id": "q0", "question": f"echo {OUTPUT} {PROMPT}"},
    {"id": "q1", "question": f"status 400 {PROMPT}"},
    {"id": "q2", "question": f"status 500 {PROMPT}"},
    {"id": "q3", "question": PROMPT},
    {"id": "q4", "question": f"hang {PROMPT}"},
]


@pytest.fixture
def python(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text("{}")
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {ENGINES / "fake_vllm.py"} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def paths(make_run: MakeRun, tmp_path: Path) -> Iterator[RunPaths]:
    folder = tmp_path / f"app-{len(RECORDS)}"
    folder.mkdir()
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in RECORDS))
    made = make_run(len(RECORDS))
    write_spec(made, replace(read_spec(made), engine="vllm"))
    yield made
    sweep(made.run, grace_s=0.0)


def secrets_of(run: str) -> list[str]:
    """The canaries, and the keys of the servers, which stand in their environment only."""
    keys = []
    for pid in marked(run):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        keys += [v.partition(b"=")[2].decode() for v in variables if v.startswith(b"VLLM_API_KEY=")]
    assert len(set(keys)) == 2
    return [PROMPT, OUTPUT, *set(keys)]


def arguments_of_everything() -> str:
    """Of every process of the machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(found)


def text_of(path: Path) -> str:
    """Compressed or not."""
    data = path.read_bytes()
    return (zstd.decompress(data) if path.suffix == ".zst" else data).decode(errors="replace")


def check_files(paths: RunPaths, secrets: list[str]) -> None:
    """In the outputs are outputs; nowhere else is anything, and everything is for the owner alone."""
    files = [path for path in paths.folder.rglob("*") if path.is_file()]
    assert {paths.journal, paths.errors, paths.log, paths.spec, paths.inputs} <= set(files)
    assert len(list(paths.engines.iterdir())) == 2
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        told = [] if path == paths.outputs else [secret for secret in secrets if secret in text_of(path)]
        assert told == [], path.name
    for folder in (paths.folder, paths.engines):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_prompts_outputs_and_keys_are_in_no_file_argument_or_message(
    paths: RunPaths, nursery: Nursery, python: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """One request is answered, one refused and one failed, in answers that quote them, and one hangs till the stop."""
    ends: list[int] = []
    life = Thread(target=lambda: ends.append(nursery.live(paths, Fault(python=python))))
    life.start()
    # Of the two that fail only the refused one ends at once; its judge ends with it.
    until(lambda: bool(ends) or (len(marked(paths.run)) == 2 and len(ended(paths)) >= 6))
    assert not ends, paths.log.read_text()
    secrets, arguments = secrets_of(paths.run), arguments_of_everything()
    assert "fake_vllm.py" in arguments
    assert [secret for secret in secrets if secret in arguments] == []
    ControlClient(paths).stop()
    life.join()
    check_files(paths, secrets)
    outputs = text_of(paths.outputs)
    assert OUTPUT in outputs
    assert "status 500" in text_of(paths.journal), "the failed attempts are told"
    for verb in (("runs",), ("runs", "--json"), ("replay", str(paths.folder), "--headless"), ("resume", "x")):
        main(list(verb))
    said = "".join(capfd.readouterr())
    assert [secret for secret in secrets if secret in said] == []


def ended(paths: RunPaths) -> list[str]:
    rows = [path.read_text().splitlines() for path in (paths.outputs, paths.errors) if path.exists()]
    return [row for part in rows for row in part]
