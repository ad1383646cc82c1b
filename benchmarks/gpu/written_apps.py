"""Application files for measurements: made-up words as prompts, all lengths forced and known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.gpu.engines import environment
from benchmarks.gpu.iterations import profile_of_shape
from benchmarks.gpu.pieces import NotHere
from benchmarks.gpu.place import Place
from benchmarks.gpu.shapes import context_of, shape_folder, words
from samullm_tui.forecast.profile_store import stored_file, write_profile

__all__ = ["SEED", "llm_table", "node_table", "store_profiles", "text", "write_application"]

SEED = 5
WORDS = 4000
"""Prompts are made of the first words of every vocabulary here."""


def text(tokens: int, rng: np.random.Generator) -> str:
    """A text of so many tokens."""
    known = words(WORDS)
    return " ".join(known[index] for index in rng.integers(2, WORDS, tokens).tolist())


def llm_table(place: Place, name: str, shape: str, arguments: Mapping[str, int] = {}) -> str:
    """`[llms.NAME]` with made-up weights."""
    more = "".join(f", {key} = {value}" for key, value in arguments.items())
    return (
        f"[llms.{name}]\n"
        f"checkpoint = {json.dumps(str(shape_folder(place, shape)))}\n"
        f"context = {context_of(place)}\n"
        f'engine = {{ load_format = "dummy"{more} }}\n'
    )


def node_table(name: str, llm: str, sources: Sequence[str], prompt: str, tokens: int, known: str) -> str:
    """`[nodes.NAME]`: exactly `tokens` of output, which the field `known` says."""
    return (
        f"[nodes.{name}]\nllm = {json.dumps(llm)}\nfrom = {json.dumps(list(sources))}\n"
        f"prompt = {json.dumps(prompt)}\noutput_tokens = {json.dumps(known)}\n"
        f"sampling = {{ max_tokens = {tokens}, ignore_eos = true, temperature = 1.0 }}\n"
    )


def write_application(folder: Path, name: str, tables: Sequence[str], records: Sequence[object]) -> Path:
    """The application's file, with its records beside it as the data set `texts`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    data = f'[data.texts]\nfile = "{name}.jsonl"\n'
    file = folder / f"{name}.toml"
    head = f'name = "{name}"\ntitle = "lengths are forced, texts mean nothing"\n'
    file.write_text("\n".join((head, data, *tables)))
    return file


def store_profiles(place: Place, shapes: Sequence[str]) -> None:
    """Puts what benchmarks.gpu.iterations measured where forecasts look for it. Raises NotHere when it is missing."""
    for shape in shapes:
        checkpoint = str(shape_folder(place, shape))
        profile = msgspec.structs.replace(profile_of_shape(place, shape), checkpoint=checkpoint)
        if profile.measured is None:
            raise NotHere(f"the profile of {shape} does not say how it was measured")
        with environment(SAMULLM_HOME=str(place.folder("home"))):
            file = stored_file(checkpoint, profile.gpu, profile.tp, profile.measured.vllm)
            write_profile(profile, file)
