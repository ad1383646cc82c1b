"""The iteration profile of LLM shapes with made-up weights, as `samullm-tui profile` measures it.

Batches from 1 to the engine's largest, contexts up to 8,192 tokens, prompts in chunks. Beside each profile stands
NAME.steps.csv.gz with every step: another model can be fitted to the same measurement.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.gpu.engines import mark_compiled
from benchmarks.gpu.pieces import Found, NotHere, Part, Piece, Table, main, read_part
from benchmarks.gpu.place import Place
from benchmarks.gpu.shapes import context_of, shape_folder, shapes_of, small_shapes_of
from benchmarks.gpu.verbs import samullm
from samullm_tui.latency.model import IterationLatency
from samullm_tui.latency.profile import Profile, decode_profile

__all__ = ["PIECE", "profile_of_shape"]

LOAD_S = {"full": 90.0, "small": 6.0}
"""Of the large shapes; the small ones are loaded half as long."""
NEEDS_S = {"full": (220.0, 300.0), "small": (60.0, 60.0)}
"""Of a shape that is started once, or twice."""
DUMMY = ("--argument", "load_format=dummy")


def parts(place: Place) -> list[Part]:
    names = dict.fromkeys((*shapes_of(place), *small_shapes_of(place)))
    return [
        Part(name, partial(_measure, place, name), NEEDS_S[place.sizes][_starts(place, name) - 1])
        for name in names
    ]


def _starts(place: Place, name: str) -> int:
    """How often it is started: what applications are predicted by needs a start with its caches."""
    return 2 if place.sizes == "full" and name in shapes_of(place)[:2] else 1


def _measure(place: Place, name: str) -> Found:
    """The object that `profile --json` prints."""
    folder = shape_folder(place, name)
    load_s = LOAD_S[place.sizes] / (1 if name in shapes_of(place) else 2)
    with tempfile.TemporaryDirectory(prefix="steps-", dir=place.folder("logs")) as temporary:
        steps = Path(temporary) / "steps.csv"
        on_cpu = ("--cluster", "cpu:1") if place.device == "cpu" else ()
        found = samullm(
            place,
            *("profile", str(folder), *on_cpu, *DUMMY),
            *("--seconds", str(load_s), "--context", str(context_of(place))),
            *("--starts", str(_starts(place, name))),
            *("--iterations", str(steps)),
            timeout_s=place.left_s,
        )
        rows = gzip.compress(steps.read_bytes(), mtime=0)
    (place.results / f"iterations.{name}.steps.csv.gz").write_bytes(rows)
    mark_compiled(place, name)
    del found["file"]
    # The folder is another one on another machine.
    return {**found, "checkpoint": name}


def profile_of_shape(place: Place, name: str) -> Profile:
    """What was measured of a shape. Raises NotHere when nothing was."""
    found = read_part(place, "iterations", name)
    if found is None:
        raise NotHere(f"needs what benchmarks.gpu.iterations measures of {name}")
    fields = {key: value for key, value in found.items() if key != "measured_in_s"}
    return decode_profile(msgspec.json.encode(fields), f"iterations.{name}")


def table(_place: Place, found: Mapping[str, Found]) -> Table:
    rows = []
    for name, part in found.items():
        latency = IterationLatency(
            tuple(part["iteration"]["coefficients"]),
            part["iteration"].get("experts", 0),
            part["iteration"].get("experts_per_token", 0),
        )
        largest, measured = part["max_num_seqs"], part["measured"]
        rows.append(
            (
                name,
                f"{part['kv_blocks']:,} × {part['block_size']}",
                f"{part['load_s']:.1f}",
                f"{_decode_ms(latency, 1):.2f} / {_decode_ms(latency, largest):.2f} ({largest})",
                f"{measured['rows']:,}",
                f"{part['median_ape']:.1%}",
                f"{part['mape']:.1%}",
                f"{part['bias']:+.1%}",
                "yes" if measured["asynchronous"] else "no",
            )
        )
    errors = ("median error", "mean", "bias")
    header = (
        "shape",
        "KV blocks",
        "start s",
        "ms a step, 1 / most sequences",
        "steps",
        *errors,
        "asynchronous",
    )
    return Table("(b) iteration profiles with made-up weights", header, rows)


def _decode_ms(latency: IterationLatency, batch: int) -> float:
    """A decode step of so many sequences with 512 tokens of context each."""
    return 1e3 * latency.seconds(batch, 0, 0.0, batch, 512.0 * batch)


PIECE = Piece("iterations", __doc__ or "", parts, table)

if __name__ == "__main__":
    main(PIECE)
