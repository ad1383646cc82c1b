"""The tables of a run: GPUs, LLMs, nodes."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from samullm_tui.console.layout.bars import filled, sparkline
from samullm_tui.console.layout.duration import duration
from samullm_tui.console.layout.gantt import Mark
from samullm_tui.console.layout.numbers import compact, gib, percent
from samullm_tui.console.layout.text import Line, fit, pad_line
from samullm_tui.console.views.run_charts import moment_s, planned_ends_s
from samullm_tui.domain.event import GpuSample
from samullm_tui.journal.run_state import LLMState, ReplicaState, RunState

__all__ = ["gpu_table", "gpu_width", "llm_table"]

HISTORY_FROM = 60
"""A GPU table at least this wide has room for the history of each GPU."""
ENDS_FROM = 60
"""An LLM table at least this wide has room for when each is planned to end."""


# GPUs


def gpu_width(state: RunState, width: int) -> int:
    """How much of a line the GPU table takes: less when nobody measures power and temperature."""
    return max(32, (width - 3) * 5 // 12 if not _meters(state) else width * 11 // 25)


def _meters(state: RunState) -> bool:
    return any(gpu.power_w is not None or gpu.temperature_c is not None for gpu in state.gpus.values())


def gpu_table(
    state: RunState, marks: Mapping[str, Mark], width: int, height: int, *, live: bool
) -> list[Line]:
    """A header and a line for each GPU; the host below, where there is room.

    Unless `live` nobody measures any more: old figures would look like news, so none are shown.
    """
    if state.gpu_kind == "cpu":
        return _slots(state, marks, width, height)
    samples = state.gpus if live else {}
    meters = _meters(state)
    history = 16 if width >= HISTORY_FROM else 0
    bar = width - 5 - 4 - 8 - (9 if meters else 0) - (history + 1 if history else 0)
    room = bar + 4 + (history + 1 if history else 0)
    name = fit(_bar_name(state, room), room)
    lines: list[Line] = [[(f"GPU  {name}{'GiB':>8}{'    W  °C' if meters else ''}", "dim")]]
    for gpu in range(state.gpu_count):
        sample = samples.get(gpu, GpuSample(gpu))
        lines.append(_gpu(sample, _holder(state, gpu, marks), _past(state, gpu, history), bar, meters=meters))
    return _with_host(_cut(lines, height, "GPUs"), state if live else RunState(), height)


def _bar_name(state: RunState, room: int) -> str:
    simulated = "~" if any(sample.simulated for sample in state.gpus.values()) else ""
    return f"{simulated}utilization %" if room >= 14 else f"{simulated}util %"


def _past(state: RunState, gpu: int, width: int) -> Line:
    """The utilization of a GPU so far, where there is room for it."""
    past = [value or 0.0 for value in state.gpu_utilization.get(gpu, [])]
    return [*sparkline(past, width, "dim", 1.0), (" ", "")] if width else []


def _gpu(sample: GpuSample, holder: tuple[str, str], past: Line, bar: int, *, meters: bool) -> Line:
    letter, style = holder
    memory = f"{gib(sample.memory_used_bytes)}/{gib(sample.memory_total_bytes)}"
    line: Line = [
        (f"{sample.index:>2} ", "dim"),
        (letter, f"{style} bold"),
        (" ", ""),
        *past,
        *filled(sample.utilization, bar, style),
        (f"{percent(sample.utilization):>4}", ""),
        (f"{memory if sample.memory_total_bytes else '–':>8}", ""),
    ]
    if meters:
        line.append((f"{_whole(sample.power_w):>5}{_whole(sample.temperature_c):>4}", _heat(sample)))
    return line


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _heat(sample: GpuSample) -> str:
    return "warning" if (sample.temperature_c or 0) >= 85 else "dim" if sample.power_w is None else ""


def _holder(state: RunState, gpu: int, marks: Mapping[str, Mark]) -> tuple[str, str]:
    """The letter of the engine on a GPU; hatched while it loads, a cross after a failure."""
    for replica in reversed(state.replicas.values()):
        if gpu not in replica.gpus:
            continue
        mark = marks.get(replica.llm, Mark("?", 0))
        if replica.status == "serving":
            return mark.letter, mark.text_style
        if replica.status == "loading":
            return "▒", mark.text_style
    failed = any(gpu in r.gpus and r.status == "failed" for r in state.replicas.values())
    return ("✗", "bad") if failed else ("·", "dim")


def _slots(state: RunState, marks: Mapping[str, Mark], width: int, height: int) -> list[Line]:
    """CPU slots have no meters of their own: engines and the host instead."""
    lines: list[Line] = [[(fit("slot", 5) + fit("engine", width - 5), "dim")]]
    for slot in range(state.gpu_count):
        letter, style = _holder(state, slot, marks)
        engines = [
            name
            for name, r in state.replicas.items()
            if slot in r.gpus and r.status in {"loading", "serving"}
        ]
        what = f"{engines[0]} {state.replicas[engines[0]].status}" if engines else "–"
        lines.append([(f"{slot:>2} ", "dim"), (letter, f"{style} bold"), (f" {fit(what, width - 5)}", "")])
    return _with_host(_cut(lines, height, "slots"), state, height)


def _with_host(lines: list[Line], state: RunState, height: int) -> list[Line]:
    host = state.host
    if host is None or len(lines) >= height:
        return lines
    memory = f"{gib(host.memory_used_bytes)}/{gib(host.memory_total_bytes)} GiB"
    text = f"host CPU {percent(host.cpu_utilization)} %  memory {memory}  disk {gib(host.disk_free_bytes)} GiB free"
    return [*lines, [(text, "dim")]]


def _cut(lines: list[Line], height: int, what: str) -> list[Line]:
    if len(lines) <= height:
        return lines
    return [*lines[: height - 1], [(f"   … {len(lines) - height + 1} more {what}: g shows all", "dim")]]


# LLMs


class Totals(Struct, frozen=True):
    """The living engines of one LLM together."""

    tp: int = 0
    dp: int = 0
    running: int = 0
    tokens_per_s: float = 0.0
    kv_usage: float | None = None


def llm_table(
    state: RunState, marks: Mapping[str, Mark], width: int, height: int, *, live: bool
) -> list[Line]:
    """A header and a line for each LLM; throughput and nodes below, where there is room."""
    done, ends = width >= 52, width >= ENDS_FROM
    room = width - 2 - 6 - 6 - 5 - 6 - 4 - (8 if done else 0) - (9 if ends else 0)
    head = f"{fit('LLM', room + 2)}{'tp×dp':>6}{'left':>6}{'run':>5}{'done' if done else '':>{8 if done else 0}}{'tok/s':>6}{'KV%':>4}"
    lines: list[Line] = [[(head + ("    ~ends" if ends else ""), "dim")]]
    ends_s = planned_ends_s(state) if ends and live else {}
    for llm, sums in state.llms.items():
        line = _llm(llm, sums, _totals(state, llm), marks.get(llm, Mark("?", 0)), room, done=done)
        lines.append([*line, *_end(state, sums, ends_s.get(llm))] if ends else line)
    lines = _cut(lines, height, "LLMs")
    return [*lines, *_below(state, marks, width, height - len(lines), live=live)]


def _totals(state: RunState, llm: str) -> Totals:
    alive: list[ReplicaState] = [
        r for r in state.replicas.values() if r.llm == llm and r.status in {"loading", "serving"}
    ]
    usage = [r.kv_usage for r in alive if r.kv_usage is not None]
    return Totals(
        tp=max((len(r.gpus) for r in alive), default=0),
        dp=len(alive),
        running=sum(r.running for r in alive),
        tokens_per_s=sum(r.output_tokens_per_s for r in alive),
        kv_usage=max(usage, default=None),
    )


def _llm(llm: str, sums: LLMState, now: Totals, mark: Mark, room: int, *, done: bool) -> Line:
    ended = sums.finished + sums.failed
    left = max(0, sums.requests - ended)
    finished = not left and sums.requests > 0
    shape = f"{now.tp}×{now.dp}" if now.dp else "done" if finished else "–"
    style = "dim" if not now.dp else ""
    name = min(room, 18) if room >= 26 else room
    share = ended / sums.requests if sums.requests else None
    return [
        (f"{mark.letter} ", f"{mark.text_style} bold"),
        (fit(llm, name), style),
        *([(" ", ""), *filled(share, room - name - 1, mark.text_style)] if room > name else []),
        (f"{shape:>6}", style),
        (f"{compact(left):>6}{compact(now.running):>5}", style),
        (f"{compact(ended):>8}" if done else "", style),
        (f"{compact(now.tokens_per_s):>6}", style),
        (f"{percent(now.kv_usage):>4}", "warning" if (now.kv_usage or 0) > 0.97 else style),
    ]


def _end(state: RunState, sums: LLMState, planned_s: float | None) -> Line:
    """When the plan in force ends an LLM that has requests left; a warning when that has gone by."""
    if planned_s is None or sums.finished + sums.failed >= sums.requests:
        return [(" " * 9, "")]
    late = (moment_s(state) or 0.0) > planned_s
    return [(f"{'~' + duration(planned_s):>9}", "warning" if late else "")]


def _below(state: RunState, marks: Mapping[str, Mark], width: int, room: int, *, live: bool) -> list[Line]:
    """Throughput, then how far each node is."""
    if room < 2:
        return []
    rates = [rate for _, rate in state.throughput]
    now = f" {compact(rates[-1]) if rates and live else '–'} tok/s"
    lines: list[Line] = [[], [*sparkline(rates, width - len(now), "dim"), (now, "")]]
    if room >= len(lines) + 1 + len(state.nodes) and len(state.nodes) > 1:
        lines.append([])
    for name, node in list(state.nodes.items())[: max(0, room - len(lines))]:
        ended = node.finished + node.failed
        share = ended / node.requests if node.requests else None
        mark = marks.get(node.llm, Mark("?", 0))
        tail = fit(f"{compact(ended)}/{compact(node.requests)}", 14, "right")
        bar = max(4, width // 3)
        line: Line = [
            (fit(name, width - bar - len(tail)), "dim"),
            *filled(share, bar, mark.text_style),
            (tail, ""),
        ]
        lines.append(pad_line(line, width))
    return lines[:room]
