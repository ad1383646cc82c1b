"""Profiles of single layers: seconds of each kernel of one decoder layer, composed to whole engine steps.

Such a profile (that of LLMServingSim, for one) times each part of a layer inside the engine over a grid: parts that
depend on the tokens of a step, parts that depend on its sequences, and attention. A step is the sum over all layers;
the steps of the attention grid, fitted, give an iteration latency.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.errors import Problem, ProfileError
from samullm_tui.latency.fit import Fit, fit
from samullm_tui.latency.measurements import Iterations

__all__ = ["LayerProfile", "composed_steps", "fit_layers", "parse_layers"]

FloatArray = npt.NDArray[np.float64]
Table = Mapping[str, tuple[FloatArray, FloatArray]]

REPEATED = ("qkv_proj", "rotary_emb", "o_proj", "gate_up_proj", "act_fn", "down_proj")
"""Parts that every decoder layer has once; it has two layer norms."""
NORM = "layernorm"
ONCE = ("embedding", "final_layernorm")
PER_SEQUENCE = ("lm_head", "sampler")
ATTENTION = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """Seconds of the parts of one decoder layer on one tp rank.

    dense         part → ([n] tokens rising, [n] seconds)
    per_sequence  part → ([n] sequences rising, [n] seconds)
    attention     [m, 4] chunk tokens, cached tokens before the chunk, decoding sequences, context of each
    attention_s   [m] seconds
    skew          decodes of unequal contexts: how far attention lies from its time at their mean towards that at the
                  longest, 0 to 1 (the profile's own measurement; `alpha_default` in its meta.yaml)
    """

    dense: Table
    per_sequence: Table
    attention: FloatArray
    attention_s: FloatArray
    skew: float = 0.0


def parse_layers(dense: str, attention: str, per_sequence: str, *, skew: float = 0.0) -> LayerProfile:
    """The profile in the three CSV files of one tp (columns layer,tokens|sequences,time_us and ATTENTION,time_us).

    Raises ProfileError for missing columns, parts or numbers.
    """
    rows = _numbers(attention, "attention.csv", ATTENTION)
    grid = np.array([[row[name] for name in ATTENTION] for _, row in rows])
    return LayerProfile(
        _table(dense, "dense.csv", "tokens", (*REPEATED, NORM, *ONCE)),
        _table(per_sequence, "per_sequence.csv", "sequences", PER_SEQUENCE),
        grid,
        np.array([row["time_us"] for _, row in rows]) * 1e-6,
        skew,
    )


def _table(text: str, file: str, count: str, parts: Sequence[str]) -> Table:
    points: dict[str, dict[float, float]] = {}
    for part, row in _numbers(text, file, (count,)):
        points.setdefault(part, {})[row[count]] = row["time_us"] * 1e-6
    missing = [part for part in parts if len(points.get(part, ())) < 2]
    if missing:
        wrong = f"fewer than two rows of {', '.join(missing)}"
        raise ProfileError(Problem(file, "layer", wrong, f"rows of {', '.join(parts)}"))
    return {
        part: (np.array(sorted(points[part])), np.array([points[part][n] for n in sorted(points[part])]))
        for part in parts
    }


def _numbers(text: str, file: str, names: Sequence[str]) -> list[tuple[str, dict[str, float]]]:
    """(layer, numbers by column) of each row; the layer is empty where there is no such column."""
    columns = (*names, "time_us")
    reader = csv.DictReader(text.splitlines())
    absent = [name for name in columns if name not in (reader.fieldnames or ())]
    if absent:
        raise ProfileError(Problem(file, "line 1", f"column {absent[0]} is missing", ",".join(columns)))
    found = []
    for row in reader:
        try:
            numbers = {name: float(row[name]) for name in columns}
        except (TypeError, ValueError):
            numbers = {}
        if not numbers or not all(np.isfinite(v) and v >= 0 for v in numbers.values()):
            place = f"line {reader.line_num}"
            raise ProfileError(Problem(file, place, "not numbers from 0 up", ",".join(columns)))
        found.append((row.get("layer") or "", numbers))
    if not found:
        raise ProfileError(Problem(file, "", "no rows", ",".join(columns)))
    return found


def composed_steps(profile: LayerProfile, layers: int, *, longest: float = 1.0) -> Iterations:
    """One step for each point of the attention grid: all parts of all `layers`; nothing of the host.

    A step has at most one chunk of a prompt. The longest context of its decodes is `longest` times their mean, which
    is that of the grid.
    """
    chunk, cached, decodes, context = profile.attention.T
    tokens, seqs = chunk + decodes, decodes + (chunk > 0)
    layer_s = _attention_s(profile, longest) + 2 * _looked_up(profile.dense[NORM], tokens)
    for part in REPEATED:
        layer_s += _looked_up(profile.dense[part], tokens)
    once_s = np.zeros(len(tokens))
    for part in ONCE:
        once_s += _looked_up(profile.dense[part], tokens)
    for part in PER_SEQUENCE:
        once_s += _looked_up(profile.per_sequence[part], seqs)
    counts = (seqs, chunk, chunk * (cached + chunk / 2), decodes, decodes * context)
    return Iterations(*counts, layers * layer_s + once_s)


def _attention_s(profile: LayerProfile, longest: float) -> FloatArray:
    """[m] seconds at the grid's points, moved by the skew towards those at the longest context."""
    seconds = profile.attention_s.copy()
    if profile.skew == 0 or longest <= 1:
        return seconds
    _places, group = np.unique(profile.attention[:, :3], axis=0, return_inverse=True)
    for members in np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1]):
        rows = members[np.argsort(profile.attention[members, 3])]
        if profile.attention[rows[0], 2] > 1 and len(rows) > 1:
            contexts, at_mean = profile.attention[rows, 3], profile.attention_s[rows]
            at_longest = _looked_up((contexts, at_mean), contexts * longest)
            seconds[rows] += profile.skew * np.maximum(at_longest - at_mean, 0.0)
    return seconds


def _looked_up(table: tuple[FloatArray, FloatArray], at: FloatArray) -> FloatArray:
    """Linear between the points; beyond the last as steep as between the last two."""
    x, y = table
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.asarray(np.interp(at, x, y) + slope * np.maximum(at - x[-1], 0.0))


def fit_layers(
    profile: LayerProfile, layers: int, *, context: int, rng: np.random.Generator, longest: float = 1.0
) -> Fit:
    """The iteration latency of `layers` layers, fitted to composed steps with contexts up to `context` tokens."""
    steps = composed_steps(profile, layers, longest=longest)
    _chunk, cached, _decodes, decoding = profile.attention.T
    return fit(steps[(cached <= context) & (decoding <= context)], rng=rng, stalls=False)
