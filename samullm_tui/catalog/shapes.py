"""Shapes of known LLMs, from their published configurations."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import msgspec

from samullm_tui.latency.shape import Shape

__all__ = ["DATA", "checkpoints", "known_checkpoint", "shape_of"]

DATA = Path(__file__).resolve().parent / "data"


def shape_of(checkpoint: str) -> Shape | None:
    """The shape of a Hugging Face id, of a model name, or of `tiny:llama|qwen3|gpt2`."""
    known = known_checkpoint(checkpoint)
    return _shapes()[known] if known else None


def known_checkpoint(name: str) -> str | None:
    """The checkpoint of the catalog that `name` means: a checkpoint, its last part or a model name, in any case."""
    return _aliases().get(name.casefold()) or _aliases().get(last_part(name))


def checkpoints() -> tuple[str, ...]:
    """Every checkpoint whose shape is known."""
    return tuple(_shapes())


def last_part(name: str) -> str:
    """The model name of a checkpoint or folder, for comparing."""
    return name.rstrip("/").rpartition("/")[2].casefold()


@cache
def _rows() -> list[dict[str, str]]:
    with (DATA / "shapes.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def _shapes() -> dict[str, Shape]:
    return {row["checkpoint"]: _shape(row) for row in _rows()}


def _shape(row: dict[str, str]) -> Shape:
    fields = Shape.__struct_fields__
    return msgspec.convert({name: row[name] for name in fields}, Shape, strict=False)


@cache
def _aliases() -> dict[str, str]:
    """Casefolded checkpoint, model name and last part of the checkpoint to the checkpoint."""
    names: dict[str, str] = {}
    for row in _rows():
        checkpoint = row["checkpoint"]
        names |= {name.casefold(): checkpoint for name in (row["model"], last_part(checkpoint), checkpoint)}
    return names
