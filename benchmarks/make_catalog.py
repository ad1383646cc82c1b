"""Computes the data files of `samullm_tui/catalog/data` from the measured data in ../shared/data.

python benchmarks/make_catalog.py            writes the files and prints what was fitted, how well
python benchmarks/make_catalog.py --check    only says whether the files are what would be written
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from samullm_tui.catalog.profiles import Facts, ProfileTable, unlimited
from samullm_tui.catalog.shapes import DATA
from samullm_tui.domain.cluster import PRESETS, GpuType
from samullm_tui.latency.experts import of_text
from samullm_tui.latency.fit import Fit, Iterations, fit
from samullm_tui.latency.model import IterationLatency
from samullm_tui.latency.profile import Profile, default_limits
from samullm_tui.latency.roofline import Rates, load_estimate_s, rates_of, roofline
from samullm_tui.latency.shape import Shape
from samullm_tui.latency.sharing import calibrated_rates
from samullm_tui.lengths.distribution import from_pmf

MEASURED = Path(__file__).resolve().parents[2] / "shared" / "data"
A100, CPU = PRESETS["a100-80g"], PRESETS["cpu"]
AUTHORS = "published measurements of SamuLLM's first author (puddingfjz/vllm)"
RESIDUE = 1e-9
"""A probability below this is a rounding error of the published tables (two have 1e-14 at the context window)."""
SAMPLES = 10_000

T = TypeVar("T")

# One tiny shape per family; the checkpoints are built with these by the engine room.
TINY = Shape(
    layers=2,
    hidden=128,
    heads=4,
    kv_heads=4,
    head_dim=32,
    intermediate=256,
    vocab=512,
    context=2048,
    params_b=0.00046,
)
# Median and mean output length of the tiny checkpoints at temperature 1, with the 95th percentile 7.3 times the median.
TINY_MEAN = {"tiny:llama": 220, "tiny:qwen3": 197, "tiny:gpt2": 150}
TINY_SHAPE = 0.8


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return csv.DictReader(io.StringIO(text.decode()))


def csv_text(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


# Output lengths


def lengths_text(measured: Path) -> str:
    """lengths.csv: the quantile table of every LLM of the authors, then the tiny checkpoints."""
    tables: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in read_rows(measured / "samullm-authors" / "output_length_pmf_no_robots.csv.gz"):
        tables[row["model"]].append((int(row["length"]), float(row["probability"])))
    rows = [_measured_lengths(name, table) for name, table in tables.items()]
    rows += [_tiny_lengths(name, mean) for name, mean in TINY_MEAN.items()]
    header = ("llm", "samples", "mean", "max", "censored_share", "source", "quantiles")
    return csv_text(header, rows)


def _measured_lengths(name: str, table: list[tuple[int, float]]) -> tuple[object, ...]:
    """One row. Every table ends at the LLM's context window: its mass there is what never ended by itself."""
    lengths, shares = np.array(table).T
    kept = shares > RESIDUE
    at_window = float(shares[-1]) if kept[-1] else 0.0
    source = f"about 10,000 no_robots prompts at temperature 1.0; {AUTHORS}"
    exact = from_pmf(name, lengths[kept], shares[kept], source=source, samples=SAMPLES)
    quantiles = " ".join(map(str, exact.representative().tolist()))
    return (name, SAMPLES, f"{exact.mean:.3f}", exact.max, f"{at_window:.6g}", source, quantiles)


def _tiny_lengths(name: str, mean: float) -> tuple[object, ...]:
    """A Weibull distribution of that mean, cut at the context window."""
    scale = mean / math.gamma(1 + 1 / TINY_SHAPE)
    lengths = np.arange(1, TINY.context)
    shares = -np.diff(np.exp(-((np.arange(TINY.context) / scale) ** TINY_SHAPE)))
    source = (
        f"estimate: Weibull of shape {TINY_SHAPE} with the mean of a few hundred answers at temperature 1"
    )
    table = from_pmf(name, lengths, shares, source=source, samples=300)
    quantiles = " ".join(map(str, table.representative().tolist()))
    return (name, 300, f"{table.mean:.3f}", table.max, "0", source, quantiles)


# Shapes


def shapes(measured: Path) -> dict[str, tuple[str, Shape]]:
    """Checkpoint → (model name, shape)."""
    found: dict[str, tuple[str, Shape]] = {}
    for row in read_rows(measured / "models.csv"):
        fields = {k: row[k] or "0" for k in Shape.__struct_fields__}
        found[row["checkpoint"]] = (row["model"], msgspec.convert(fields, Shape, strict=False))
    for name in TINY_MEAN:
        found[name] = (name, msgspec.structs.replace(TINY, family=name.removeprefix("tiny:")))
    return found


def shapes_text(measured: Path) -> str:
    header = ("model", "checkpoint", *Shape.__struct_fields__)
    rows = [
        (model, checkpoint, *msgspec.structs.astuple(shape))
        for checkpoint, (model, shape) in shapes(measured).items()
    ]
    return csv_text(header, rows)


# Iterations


def authors_iterations(measured: Path) -> dict[tuple[str, int], Iterations]:
    """(model, tp) → the measured steps. A prefill was padded to num_seqs × max_seq_len tokens.

    All tokens of all steps are token 0, as the authors' profiler made them: a mixture reads the experts of one token.
    """
    columns: dict[tuple[str, int], list[tuple[float, ...]]] = defaultdict(list)
    for row in read_rows(measured / "samullm-authors" / "iterations_a100.csv.gz"):
        seqs, length = int(row["num_seqs"]), int(row["max_seq_len"])
        context, seconds = int(row["total_tokens"]), float(row["total_s"])
        if row["phase"] == "prefill":
            step = (seqs, seqs * length, seqs * length * length / 2, 0, 0, seconds)
        else:
            step = (seqs, 0, 0, seqs, context, seconds)
        columns[row["model"], int(row["tp"])].append(step)
    return {key: Iterations(*np.array(steps, dtype=np.float64).T) for key, steps in columns.items()}


def cpu_iterations(measured: Path, run: str = "*") -> Iterations:
    """Every step of the real CPU runs, or of one. Contexts are of a replay, since the log has only their total."""
    steps: list[tuple[float, ...]] = []
    for log in sorted((measured / "vllm-cpu").glob(f"{run}_iterations.csv")):
        rows = read_rows(log.with_name(log.name.replace("_iterations", "_requests")))
        waiting = [(int(row["prompt_tokens"]), int(row["output_tokens"])) for row in rows]
        steps += _replayed(list(read_rows(log)), waiting)
    return Iterations(*np.array(steps, dtype=np.float64).T)


class Running:
    """One request in the replay."""

    def __init__(self, prompt: int, output: int) -> None:
        self.prompt, self.total, self.left, self.computed = prompt, prompt, output, 0


def _replayed(log: list[dict[str, str]], requests: list[tuple[int, int]]) -> Iterator[tuple[float, ...]]:
    """The steps with their contexts: first come first served, 64 sequences, 512 tokens a step, blocks enough."""
    waiting = [Running(prompt, output) for prompt, output in requests]
    running: list[Running] = []
    for row in log:
        budget, prefill, prefill_context, decodes, decode_context, seqs = 512, 0, 0.0, 0, 0, 0
        queue = [*running, *waiting[: 64 - len(running)]]
        for request in queue:
            tokens = min(request.total - request.computed, budget)
            if not tokens:
                break
            if request not in running:
                running.append(waiting.pop(0))
            if request.computed < request.prompt:
                prefill += tokens
                prefill_context += tokens * (request.computed + tokens / 2)
            else:
                decodes, decode_context = decodes + 1, decode_context + request.computed + 1
            request.computed += tokens
            budget, seqs = budget - tokens, seqs + 1
        logged = int(row["num_seqs"]), int(row["prefill_tokens"]), int(row["decode_seqs"])
        assert (seqs, prefill, decodes) == logged, "the replay departs from the log"
        yield seqs, prefill, prefill_context, decodes, decode_context, float(row["latency_s"])
        _sample(running)


def _sample(running: list[Running]) -> None:
    """After a step: a token for every request that is computed whole, and its end."""
    for request in [r for r in running if r.computed == r.total]:
        request.total += 1
        request.left -= 1
        if not request.left:
            running.remove(request)


# Profiles


class Measured:
    """What the authors measured, by (checkpoint, tp), with the means to look for an LLM of the same shape."""

    def __init__(self, measured: Path) -> None:
        self.shapes = shapes(measured)
        names = {model: checkpoint for checkpoint, (model, _shape) in self.shapes.items()}
        folder = measured / "samullm-authors"
        self.load_s = {
            (row["model"], int(row["tp"])): float(row["init_s"])
            for row in read_rows(folder / "engine_init_seconds_a100.csv")
        }
        self.kv_blocks = {
            (names[row["model"]], int(row["tp"])): int(row["kv_blocks"])
            for row in read_rows(folder / "kv_blocks_a100_80g.csv")
        }
        self.fits = {
            (names[model], tp): fit(steps, rng=np.random.default_rng(0))
            for (model, tp), steps in authors_iterations(measured).items()
        }

    def same_shape(self, checkpoint: str) -> list[str]:
        """The checkpoint itself, then the others of its shape, those with the same context first."""
        shape = self.shapes[checkpoint][1]
        alike = [
            other
            for other, (_model, candidate) in self.shapes.items()
            if other != checkpoint and msgspec.structs.replace(candidate, context=shape.context) == shape
        ]
        return [checkpoint, *sorted(alike, key=lambda other: self.shapes[other][1].context != shape.context)]

    def pick(self, table: Mapping[tuple[str, int], T], checkpoint: str, tp: int) -> tuple[str, T] | None:
        """The checkpoint itself or the first of its shape that `table` has at `tp`, with its entry."""
        found = (other for other in self.same_shape(checkpoint) if (other, tp) in table)
        return next(((other, table[other, tp]) for other in found), None)

    def profile(self, checkpoint: str, tp: int) -> Profile | None:
        """The profile from the steps of the LLM or of one of the same shape; None without any."""
        picked = self.pick(self.fits, checkpoint, tp)
        if picked is None:
            return None
        donor, fitted = picked
        shape = self.shapes[checkpoint][1]
        where = "its iterations" if donor == checkpoint else f"the iterations of {donor} (same shape)"
        experts = "; they repeat one token: reading more experts than that estimated" if shape.experts else ""
        load_s, load_source = self.load(checkpoint, tp)
        blocks = self.pick(self.kv_blocks, checkpoint, tp)
        limits = default_limits(A100)
        return Profile(
            iteration=rounded(of_text(fitted.latency, roofline(shape, A100, tp))),
            checkpoint=checkpoint,
            gpu=A100.name,
            tp=tp,
            engine="vllm 0.3 (eager, fp16)",
            source=f"fitted to {where} on {A100.name}, {AUTHORS}{experts}; start time {load_source}",
            load_s=load_s,
            kv_blocks=blocks[1] if blocks else None,
            block_size=limits.block_size,
            max_num_seqs=limits.max_num_seqs,
            max_num_batched_tokens=limits.max_num_batched_tokens,
            **errors(fitted),
        )

    def load(self, checkpoint: str, tp: int) -> tuple[float, str]:
        """Start seconds and where they come from."""
        picked = self.pick(self.load_s, checkpoint, tp)
        if picked is None:
            return round(load_estimate_s(self.shapes[checkpoint][1], A100, tp), 1), "estimated"
        return picked[1], "measured" if picked[0] == checkpoint else f"of {picked[0]}"

    def facts(self, checkpoint: str, tp: int) -> Facts | None:
        """Start time and KV blocks where there are any."""
        load, blocks = self.pick(self.load_s, checkpoint, tp), self.pick(self.kv_blocks, checkpoint, tp)
        if load is None and blocks is None:
            return None
        return Facts(
            checkpoint=checkpoint,
            gpu=A100.name,
            tp=tp,
            load_s=load[1] if load else None,
            kv_blocks=blocks[1] if blocks else None,
        )


def rounded(latency: IterationLatency) -> IterationLatency:
    """Coefficients to 6 digits: more would only differ from machine to machine."""
    return msgspec.structs.replace(
        latency, coefficients=tuple(float(f"{c:.6g}") for c in latency.coefficients)
    )


def errors(fitted: Fit) -> dict[str, float]:
    return {name: round(getattr(fitted, name), 4) for name in ("median_ape", "mape", "bias")}


def cpu_profiles(measured: Path) -> list[Profile]:
    """The tiny checkpoints on the CPU build: one shape, one measurement."""
    fitted = fit(cpu_iterations(measured), rng=np.random.default_rng(0))
    limits = default_limits(CPU)
    return [
        Profile(
            iteration=rounded(fitted.latency),
            checkpoint=name,
            gpu=CPU.name,
            engine="vllm 0.32.0 (CPU build, eager, float32)",
            source="fitted to every step of two real runs of a tiny Llama on two cores; start time 22 to 25 s, "
            "45 s beside another start; KV cache of 64 MiB",
            load_s=25.0,
            kv_blocks=256,
            block_size=limits.block_size,
            max_num_seqs=limits.max_num_seqs,
            max_num_batched_tokens=limits.max_num_batched_tokens,
            **errors(fitted),
        )
        for name in TINY_MEAN
    ]


def profile_table(measured: Path) -> ProfileTable:
    source = Measured(measured)
    places = [(name, tp) for name in source.shapes if name not in TINY_MEAN for tp in (1, 2, 4)]
    profiles = {place: source.profile(*place) for place in places}
    facts = [source.facts(*place) for place, profile in profiles.items() if profile is None]
    measured_profiles = (*(p for p in profiles.values() if p), *cpu_profiles(measured))
    rates = {gpu.name: shared_rates(source, measured_profiles, gpu) for gpu in (A100, CPU)}
    return ProfileTable(measured_profiles, tuple(f for f in facts if f), rates)


def shared_rates(source: Measured, profiles: tuple[Profile, ...], gpu: GpuType) -> Rates:
    """The rates that the LLMs measured on that GPU type share, to 6 digits.

    No step there read more experts than those of one token: what reading one takes stays that of the prior.
    """
    shaped = [(source.shapes[p.checkpoint][1], p) for p in profiles if p.gpu == gpu.name]
    rates = calibrated_rates([(unlimited(shape), p.tp, p.iteration) for shape, p in shaped], gpu)
    values = {name: float(f"{getattr(rates, name):.6g}") for name in Rates.__struct_fields__}
    return Rates(**values | {"expert_factor": rates_of(gpu).expert_factor})


def profiles_text(table: ProfileTable) -> str:
    return msgspec.json.format(msgspec.json.encode(table), indent=1).decode() + "\n"


def print_errors(table: ProfileTable) -> None:
    print(f"{'checkpoint':45} {'GPU':12} tp  median APE   MAPE    bias  (rows kept out of the fit)")
    for p in table.profiles:
        print(f"{p.checkpoint:45} {p.gpu:12} {p.tp:2}  {p.median_ape:9.1%} {p.mape:7.1%} {p.bias:+7.1%}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 when a file would change"
    )
    parser.add_argument("--measured", type=Path, default=MEASURED, help="folder of the measured data")
    arguments = parser.parse_args()
    table = profile_table(arguments.measured)
    texts = {
        "lengths.csv": lengths_text(arguments.measured),
        "shapes.csv": shapes_text(arguments.measured),
        "profiles.json": profiles_text(table),
    }
    print_errors(table)
    if arguments.check:
        changed = [name for name, text in texts.items() if (DATA / name).read_text(encoding="utf-8") != text]
        print("changed:", ", ".join(changed) or "nothing")
        return int(bool(changed))
    for name, text in texts.items():
        (DATA / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
