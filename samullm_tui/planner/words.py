"""Times, GPUs and names in the words of explanations."""

from __future__ import annotations

from collections.abc import Sequence

from samullm_tui.domain.plan import Placement

__all__ = ["duration", "gpu_list", "hundredths", "joined", "percent", "sized"]


def duration(seconds: float) -> str:
    """`0 s`, `1.5 s`, `48 s`, `6m 52s` or `1h 04m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if 0.05 <= seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def hundredths(parts: Sequence[float]) -> list[int]:
    """Each part's share in whole percents, rounded so that they add up to 100; all 0 for nothing."""
    total = sum(parts)
    if total <= 0:
        return [0] * len(parts)
    exact = [100 * part / total for part in parts]
    shares = [int(share) for share in exact]
    largest_rest = sorted(range(len(parts)), key=lambda k: shares[k] - exact[k])
    for k in largest_rest[: 100 - sum(shares)]:
        shares[k] += 1
    return shares


def joined(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def sized(placement: Placement) -> str:
    """`vicuna-13b tp1 ×6`."""
    return f"{placement.llm} tp{placement.tp} ×{placement.dp}"


def gpu_list(gpus: Sequence[int]) -> str:
    """`GPU 3`, `GPU 0–5` or `GPU 0–1, 4`."""
    runs: list[list[int]] = []
    for gpu in sorted(gpus):
        if runs and gpu == runs[-1][-1] + 1:
            runs[-1].append(gpu)
        else:
            runs.append([gpu])
    return "GPU " + ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
