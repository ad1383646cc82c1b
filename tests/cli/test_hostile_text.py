"""No verb writes a byte of a file, a journal or an engine's log to the terminal that could act on it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from samullm_tui.cli.following import Follower
from samullm_tui.cli.main import main
from samullm_tui.domain.event import (
    AnyEvent,
    ControlReceived,
    Decided,
    Decision,
    EngineFailed,
    RequestFailed,
    RequestRetried,
    RunCreated,
)
from samullm_tui.domain.plan import Replica
from samullm_tui.journal.reader import read_events
from samullm_tui.journal.writer import JournalWriter
from samullm_tui.supervisor.spec import RunPaths, RunSpec, write_spec

RECORDING = Path(__file__).resolve().parents[2] / "recordings"
HOSTILE = "\x1b]52;c;cm0gLXJmIC8=\x07\x1b[2J\x1bc\x9b31m\x90x\x9c\x00\x7f\x85\u202eevil\u202c\r"

APPLICATION = """
name = "hostile"
title = {bad}

[llms.{llm}]
checkpoint = "tiny:llama"
context = 512

[data.d]
file = "d.jsonl"

[nodes.n]
llm = {llm}
from = "d"
prompt = {prompt}
sampling = {{ max_tokens = 8{more} }}
"""


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """All that a verb wrote on both streams; it must be clean."""

    def call(*arguments: object) -> str:
        with suppress(SystemExit):  # usage
            main([*map(str, arguments)])
        return clean("".join(capfd.readouterr()))

    return call


def clean(text: str) -> str:
    bad = sorted({c for c in text if not (c.isprintable() or c in "\n\t")})
    assert bad == [], f"{bad} in {text!r}"
    return text


def toml(text: str) -> str:
    """As a TOML string that holds it all."""
    return '"' + "".join(f"\\U{ord(c):08X}" for c in text) + '"'


def write(
    folder: Path, *, title: str = "t", prompt: str = "{q}", more: str = "", llm: str = "a", row: object = None
) -> Path:
    (folder / "d.jsonl").write_text(json.dumps(row or {"id": "1", "q": "x"}) + "\n")
    text = APPLICATION.format(bad=toml(title), prompt=toml(prompt), more=more, llm=toml(llm))
    (folder / "hostile.toml").write_text(text)
    return folder / "hostile.toml"


@pytest.mark.parametrize("verb", ["check", "plan", "lengths"])
@pytest.mark.parametrize(
    "hostile",
    [
        {"title": HOSTILE},
        {"prompt": "{q" + HOSTILE + "}"},
        {"more": f", {toml(HOSTILE)} = 1"},
        {"llm": HOSTILE},
        {"row": {"id": HOSTILE, "q": "x"}},
        {"row": {"id": "1", HOSTILE: "x"}},
        {"row": {"id": "1", "q": [HOSTILE]}},
    ],
    ids=["title", "placeholder", "parameter", "LLM", "id", "field", "value"],
)
def test_an_application_and_its_data(
    tmp_path: Path, said: Callable[..., str], verb: str, hostile: dict[str, object]
) -> None:
    path = write(tmp_path, **hostile)  # type: ignore[arg-type]
    machine = () if verb == "check" else ("--cluster", "cpu:1", "--engine", "simulated")
    samples = ("--samples", 1) if verb == "plan" else ()
    assert said(verb, path, *(machine if verb == "plan" else ()), *samples)
    assert said(verb, path, *(machine if verb == "plan" else ()), *samples, "--json")


def test_a_cluster(tmp_path: Path, said: Callable[..., str]) -> None:
    cluster = tmp_path / "cluster.toml"
    own = (
        'name = "own"\ngpus = 1\n[gpu]\nname = {}\nmemory_gib = 80\nbandwidth_gb_per_s = 2000\ntflops = 300\n'
    )
    for text in (
        f'name = {toml(HOSTILE)}\ngpu = "a100-80g"\ngpus = 1\n',
        f'name = "x"\ngpu = {toml(HOSTILE)}\ngpus = 1\n',
        own.format(toml(HOSTILE)),
    ):
        cluster.write_text(text)
        assert said("plan", write(tmp_path), "--cluster", cluster, "--samples", 1)


def hostile_events() -> list[AnyEvent]:
    events = list(read_events(next(iter(sorted(RECORDING.glob("*.jsonl.zst"))))))
    first = events[0]
    assert isinstance(first, RunCreated)
    nodes = tuple(replace(node, name=HOSTILE + node.name) for node in first.nodes)
    replica = Replica(HOSTILE, (0,))
    return [
        replace(first, run=HOSTILE, application=HOSTILE, cluster=HOSTILE, nodes=nodes, version=HOSTILE),
        *events[1:6],
        EngineFailed(at_s=1.0, replica=replica, cause=HOSTILE, gave_up=False),
        RequestRetried(at_s=1.0, node=HOSTILE, id=HOSTILE, replica=HOSTILE, cause=HOSTILE),
        RequestFailed(at_s=1.0, node=HOSTILE, id=HOSTILE, llm=HOSTILE, cause=HOSTILE, offset=0),
        Decided(at_s=1.0, decision=Decision("start", HOSTILE, HOSTILE)),
        ControlReceived(at_s=1.0, command="stop", by=HOSTILE),
    ]


@pytest.fixture
def run(home: Path) -> RunPaths:
    """A run of this machine whose journal somebody else may have written."""
    paths = RunPaths(home / "runs" / "0101-hostile-0000")
    paths.folder.mkdir(parents=True)
    with JournalWriter(paths.journal) as journal:
        for event in hostile_events():
            journal.append(event)
    from samullm_tui.domain.cluster import cluster_from_preset

    cluster = cluster_from_preset("cpu:1")
    write_spec(paths, RunSpec(run=paths.run, application=HOSTILE, cluster=cluster, engine="simulated"))
    return paths


def test_a_run(run: RunPaths, said: Callable[..., str], tmp_path: Path) -> None:
    for arguments in (
        ("runs",),
        ("replay", run.folder, "--headless"),
        ("export", run.run, "-o", tmp_path / "out.jsonl"),
        ("resume", run.run),
        ("stop", run.run),
        ("lengths", "--learn", run.run, "--as", "x"),
    ):
        assert said(*arguments)
        assert said(*arguments, "--json")


def test_a_run_that_is_followed(run: RunPaths, capfd: pytest.CaptureFixture[str]) -> None:
    follower = Follower(run.run)
    for event in read_events(run.journal):
        follower._tell(event)
    text = clean("".join(capfd.readouterr()))
    assert "evil" in text


def test_files_that_are_something_else(tmp_path: Path, said: Callable[..., str]) -> None:
    other = tmp_path / f"x{HOSTILE.replace('/', '').replace(chr(0), '')}.csv"
    other.write_bytes(os.fsencode(HOSTILE) + b"\xff\n1,2\n")
    for arguments in (
        ("check", other),
        ("replay", other, "--headless"),
        ("simulate", other, "--latency", other),
        ("fit-latency", other, "-o", tmp_path / "p.json"),
        ("plan", other, "--cluster", other),
        ("run", other, "--plan", other, "--yes"),
        ("export", HOSTILE, "-o", other),
    ):
        assert said(*arguments)
