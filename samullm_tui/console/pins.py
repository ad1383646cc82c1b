"""What an operator pins while asking what if, as texts that the forecaster reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["FIELDS", "Field", "Pins", "pin_texts", "wrong_pin"]

Field = str
FIELDS: tuple[Field, ...] = ("tp", "dp", "gpus", "stage")
"""In the order of the columns."""

Pins = Mapping[tuple[str, Field], str]
"""(LLM, field) → what was typed: a number from 1 up, of GPUs a list such as `0-3,6`."""

MOST_DIGITS = 4


def wrong_pin(field: Field, text: str, gpus: int) -> str:
    """What is wrong with a text, or nothing. Whether a plan can keep it the forecaster says."""
    if field != "gpus":
        fine = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS and int(text) > 0
        return "" if fine else f"{field} {text}: a whole number from 1 up"
    parts = [part.partition("-") for part in text.split(",")]
    for low, dash, high in parts:
        ends = (low, high) if dash else (low, low)
        if not all(end.isascii() and end.isdigit() and len(end) <= MOST_DIGITS for end in ends):
            return f"GPUs {text}: numbers such as 0-3,6"
        if int(ends[0]) > int(ends[1]) or int(ends[1]) >= gpus:
            return f"GPUs {text}: from 0 to {gpus - 1}"
    return ""


def pin_texts(pins: Pins, llms: Sequence[str]) -> tuple[str, ...]:
    """One text for each LLM with a pin: `vicuna-13b:tp=2,dp=4`."""
    texts = []
    for llm in llms:
        said = [f"{field}={pins[llm, field]}" for field in FIELDS if (llm, field) in pins]
        texts += [f"{llm}:{','.join(said)}"] if said else []
    return tuple(texts)
