"""What-if pins as an operator writes them: `LLM:tp=2,dp=4,gpus=0-3,stage=1` to prescribe, `LLM:tp=1` to forbid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec.structs import asdict

from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.errors import PlanError, Problem
from samullm_tui.domain.pin import Pin
from samullm_tui.forecast.problem import build_problem
from samullm_tui.planner.pins import wrong_pins
from samullm_tui.workload.requests import Workload

__all__ = ["PIN_GRAMMAR", "pins_for", "read_pins"]

PIN_GRAMMAR = "LLM:tp=2,dp=4,gpus=0-3,stage=1 (any of the four)"
FORBID_GRAMMAR = "LLM:tp=1,dp=3,gpus=0-1 (any of the three, lists allowed)"
MOST_GPUS = 1024
_NUMBERS = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*")


def read_pins(pins: Sequence[str], forbids: Sequence[str]) -> tuple[dict[str, Pin], list[Problem]]:
    """What the texts of `--pin` and `--forbid` say, by LLM, and everything that cannot be understood."""
    asked: dict[str, Pin] = {}
    wrong: list[Problem] = []
    for flag, texts, read in (("--pin", pins, _pinned), ("--forbid", forbids, _forbidden)):
        for text in texts:
            right = PIN_GRAMMAR if flag == "--pin" else FORBID_GRAMMAR
            llm, colon, rest = text.partition(":")
            found = _parts(rest)
            if not llm or not colon or not found:
                wrong.append(Problem("", f"{flag} {text}", "cannot be read", right))
                continue
            for key, value in found:
                changed, what = read(asked.get(llm, Pin()), key, value)
                asked[llm] = changed
                wrong += [Problem("", f"{flag} {text}", what, right)] if what else []
    return asked, wrong


def pins_for(
    workload: Workload, cluster: Cluster, pins: Sequence[str], forbids: Sequence[str]
) -> Mapping[str, Pin]:
    """The pins of these texts. Raises PlanError naming all that cannot be understood, and then all that is not
    possible with this application on this cluster as well.
    """
    asked, wrong = read_pins(pins, forbids)
    if wrong:
        raise PlanError([*wrong, *wrong_pins(build_problem(workload, cluster, asked, checked=False).problem)])
    return asked


def _parts(text: str) -> list[tuple[str, str]]:
    """`gpus=0-3,5,tp=2` → [("gpus", "0-3,5"), ("tp", "2")]; empty when it does not begin with a key."""
    parts: list[tuple[str, str]] = []
    for piece in text.split(","):
        key, equals, value = piece.partition("=")
        if equals:
            parts.append((key.strip(), value.strip()))
        elif parts:
            parts[-1] = (parts[-1][0], f"{parts[-1][1]},{piece.strip()}")
        else:
            return []
    return parts


def _numbers(text: str) -> frozenset[int]:
    """`0-3,5` → 0, 1, 2, 3, 5; empty when it is no such list."""
    if not _NUMBERS.fullmatch(text):
        return frozenset()
    ranges = [(int(low), int(high or low)) for low, _, high in (p.partition("-") for p in text.split(","))]
    if any(high < low or high - low >= MOST_GPUS for low, high in ranges):
        return frozenset()
    return frozenset(number for low, high in ranges for number in range(low, high + 1))


def _pinned(pin: Pin, key: str, value: str) -> tuple[Pin, str]:
    """The pin with one thing more prescribed, or what is wrong with it."""
    numbers = _numbers(value)
    if key not in ("tp", "dp", "gpus", "stage"):
        return pin, f"{key!r} cannot be pinned"
    if not numbers or (key != "gpus" and (len(numbers) > 1 or 0 in numbers)):
        return pin, f"{key}={value} is no {'list of GPUs' if key == 'gpus' else 'whole number from 1 up'}"
    new = numbers if key == "gpus" else min(numbers)
    before = asdict(pin)[key]
    if before and before != new:
        return pin, f"{key} is pinned twice"
    return Pin(**{**asdict(pin), key: new}), ""


def _forbidden(pin: Pin, key: str, value: str) -> tuple[Pin, str]:
    """The pin with one thing more forbidden, or what is wrong with it."""
    numbers = _numbers(value)
    if key not in ("tp", "dp", "gpus"):
        return pin, f"{key!r} cannot be forbidden"
    if not numbers:
        return pin, f"{key}={value} is no list of numbers"
    name = f"no_{key}"
    return Pin(**{**asdict(pin), name: asdict(pin)[name] | numbers}), ""
