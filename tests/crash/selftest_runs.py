"""Runs of the shipped self-test on real engines: as it is, or longer and slower, so that much can befall it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from crash_runs import Count, committed_rows, count_repeats

from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.event import RunEnded
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.engines.processes import marked
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.job import workload_of
from samullm_tui.supervisor.launch import create_run
from samullm_tui.supervisor.spec import RunPaths, existing_run, read_spec

__all__ = ["check_selftest", "command_of", "engine_cores", "make_selftest", "names_of", "servers"]

APPS = Path(__file__).resolve().parents[2] / "apps"
PLAN = Plan(
    planner="given",
    stages=(
        Stage((Placement("llama", 1, 1, (0,)), Placement("qwen3", 1, 1, (1,))), ("llama", "qwen3")),
        Stage((Placement("gpt2", 1, 2, (0, 1)),), ("gpt2",)),
    ),
)


def make_selftest(
    folder: Path, copies: int = 1, max_num_seqs: int | None = None, plan: Plan = PLAN
) -> RunPaths:
    """An approved run on the CPU build, with the data `copies` times; `max_num_seqs` of the first two LLMs."""
    (folder / "data").mkdir(parents=True)
    for data in (APPS / "data").glob("selftest-*.jsonl"):
        rows = [json.loads(line) for line in data.read_text().splitlines()]
        lines = [json.dumps(row | {"id": f"{row['id']}-{k}"}) for k in range(copies) for row in rows]
        (folder / "data" / data.name).write_text("\n".join(lines) + "\n")
    text = (APPS / "selftest.toml").read_text()
    if max_num_seqs is not None:
        for llm in ("llama", "qwen3"):
            checkpoint = f'checkpoint = "tiny:{llm}"\n'
            assert checkpoint in text
            text = text.replace(checkpoint, f"{checkpoint}engine = {{ max_num_seqs = {max_num_seqs} }}\n")
    (folder / "selftest.toml").write_text(text)
    given = {"approved": True, "samples": 1, "plan": plan}
    run = create_run(folder / "selftest.toml", cluster_from_preset("cpu:2"), "vllm", **given)  # type: ignore[arg-type]
    return existing_run(run)


def names_of(paths: RunPaths) -> list[tuple[str, str]]:
    """(node, id) of every request, by its index."""
    table = workload_of(read_spec(paths)).table
    return [(table.node_names[node], name) for node, name in zip(table.node.tolist(), table.ids, strict=True)]


def check_selftest(paths: RunPaths, count: Count) -> None:
    """The run succeeded with every output exactly once, and no engine's process is left."""
    rows = Counter((row["node"], row["id"]) for row in committed_rows(paths))
    wanted = Counter(names_of(paths))
    count.lost += sum((wanted - rows).values())
    count.doubled += sum((rows - wanted).values())
    count.orphans += len(marked(paths.run))
    events = list(read_events(paths.journal))
    if (paths.folder / "sends").exists():
        count_repeats(paths, events, names_of(paths), count)
    last = events[-1]
    assert isinstance(last, RunEnded)
    assert (last.status, rows, marked(paths.run)) == ("succeeded", wanted, [])
    assert paths.errors.read_bytes() == b""


def command_of(pid: int) -> str:
    """Its name and its arguments; empty when it is gone."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return name + " " + Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def servers(run: str) -> list[int]:
    """The API servers: the first process of each engine."""
    return [pid for pid in marked(run) if ".api_server" in command_of(pid)]


def engine_cores(run: str) -> list[int]:
    return [pid for pid in marked(run) if "EngineCor" in command_of(pid)]
