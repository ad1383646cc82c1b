"""The product's whole path (journal, outputs, HTTP) against vLLM's own offline `generate`, on the same requests.

Both have one engine of a small LLM, set up alike. Counted is the time from the engine's first token to the last output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.gpu.engines import CPU_ENGINE, ON_CPU, on_gpu
from benchmarks.gpu.pieces import Found, Part, Piece, Table, main
from benchmarks.gpu.place import Place
from benchmarks.gpu.shapes import context_of, shape_folder, small_shapes_of
from benchmarks.gpu.verbs import last_object, samullm
from benchmarks.gpu.written_apps import SEED, llm_table, node_table, text, write_application
from samullm_tui.domain.errors import EngineError, Problem
from samullm_tui.domain.event import EngineReady, RequestFinished
from samullm_tui.journal.reader import read_events

__all__ = ["PIECE"]

REQUESTS = {"full": 4000, "small": 100}
TOKENS = {"full": 64, "small": 16}
"""Of each prompt and of each output."""
SETTINGS = {
    "full": {"max_num_seqs": 256, "max_num_batched_tokens": 8192},
    "small": {"max_num_seqs": 64, "max_num_batched_tokens": 1024},
}
NEEDS_S = {"full": 150.0, "small": 60.0}
ROUNDS = 2


def parts(place: Place) -> list[Part]:
    """In turns: whatever else the machine does meets both."""
    ways = {"product": _product, "offline": _offline}
    return [
        Part(f"{name} {number}", partial(way, place), NEEDS_S[place.sizes])
        for number in range(1, ROUNDS + 1)
        for name, way in ways.items()
    ]


def _product(place: Place) -> Found:
    tables = [
        llm_table(place, "one", small_shapes_of(place)[0], SETTINGS[place.sizes]),
        node_table("answer", "one", ["texts"], "{text}", TOKENS[place.sizes], "written"),
    ]
    app = write_application(place.folder("apps"), "dispatched", tables, _records(place))
    on_cpu = ("--cluster", place.cluster) if place.cluster else ()
    command = ("run", str(app), "--engine", "vllm", *on_cpu, "--allow-outside", "--yes")
    outcome = samullm(place, *command, timeout_s=place.left_s)
    events = list(read_events(Path(outcome["directory"])))
    ready_s = min(event.at_s for event in events if isinstance(event, EngineReady))
    done = [event for event in events if isinstance(event, RequestFinished)]
    if len(done) != REQUESTS[place.sizes]:
        raise EngineError(Problem("dispatched", "", f"{len(done)} outputs of {REQUESTS[place.sizes]}"))
    tokens = sum(event.output_tokens for event in done)
    return {"tokens": tokens, "took_s": max(event.at_s for event in done) - ready_s}


def _records(place: Place) -> list[dict[str, object]]:
    rng, tokens = np.random.default_rng(SEED), TOKENS[place.sizes]
    return [
        {"id": f"{index:05d}", "text": text(tokens, rng), "written": tokens}
        for index in range(REQUESTS[place.sizes])
    ]


def _offline(place: Place) -> Found:
    question = {
        "engine": {
            "model": str(shape_folder(place, small_shapes_of(place)[0])),
            "load_format": "dummy",
            "max_model_len": context_of(place),
            **SETTINGS[place.sizes],
            **(CPU_ENGINE if place.device == "cpu" else {}),
        },
        "prompts": [record["text"] for record in _records(place)],
        "tokens": TOKENS[place.sizes],
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.offline"],
        input=json.dumps(question),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=max(place.left_s, 1.0),
        env={**os.environ, **(ON_CPU if place.device == "cpu" else on_gpu())},
    )
    if done.returncode != 0:
        raise EngineError(
            Problem("offline", "", f"ended with status {done.returncode} (its words are above)")
        )
    return last_object(done.stdout)


def table(_place: Place, found: Mapping[str, Found]) -> Table:
    rates = {name: part["tokens"] / part["took_s"] for name, part in found.items()}
    rows = []
    for number in range(1, ROUNDS + 1):
        product, offline = (rates.get(f"{name} {number}") for name in ("product", "offline"))
        shown = ("" if rate is None else f"{rate:,.0f}" for rate in (product, offline))
        rows.append((str(number), *shown, f"{product / offline:.2f}" if product and offline else ""))
    header = ("round", "product, output tokens/s", "offline generate", "ratio")
    return Table("(g) dispatcher against vLLM's offline generate", header, rows)


PIECE = Piece("dispatcher", __doc__ or "", parts, table)

if __name__ == "__main__":
    main(PIECE)
