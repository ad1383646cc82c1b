"""Random weights for a checkpoint folder, so that starting an engine reads what a real one reads.

`python -m benchmarks.gpu.weights FOLDER` writes them in shards, in a process of its own (PyTorch stays there).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.gpu.place import Place
from benchmarks.gpu.shapes import SHAPES, context_of, write_shape
from samullm_tui.domain.errors import EngineError, Problem

__all__ = ["drop_from_page_cache", "read_through", "weighted_folder"]

SHARD_BYTES = 4 * 1024**3
INDEX = "model.safetensors.index.json"
NOISE_NUMBERS = 1 << 24
BLOCK_BYTES = 16 * 1024**2


def weighted_folder(place: Place, name: str) -> Path:
    """The folder of a shape with weights on disk, made when it is not there. Raises EngineError."""
    folder = place.folder("weights") / name
    if not (folder / INDEX).exists():
        write_shape(folder, SHAPES[name], context=2 * context_of(place))
        command = [sys.executable, "-m", "benchmarks.gpu.weights", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise EngineError(Problem(str(folder), "", f"weights could not be written: {last}"))
    return folder


def drop_from_page_cache(folder: Path) -> None:
    """The next reader finds the files on the disk only (as far as the file system does as it is told)."""
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_through(folder: Path) -> None:
    """The next reader finds the files in memory."""
    for file in folder.glob("*.safetensors"):
        with file.open("rb", buffering=0) as stream:
            while stream.read(BLOCK_BYTES):
                pass


def _write(folder: Path) -> None:
    torch, transformers = import_module("torch"), import_module("transformers")
    save_file = import_module("safetensors.torch").save_file
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        shapes = transformers.AutoModelForCausalLM.from_config(config).state_dict()
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    noise = torch.randn(NOISE_NUMBERS, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    where: dict[str, str] = {}
    for shard, names in enumerate(_shards(shapes)):
        file = f"model-{shard:05d}.safetensors"
        tensors = {name: _filled(torch, noise, tuple(shapes[name].shape)) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(names, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))


def _shards(shapes: dict[str, Any]) -> list[list[str]]:
    """Names of tensors, in groups of at most SHARD_BYTES where one tensor is not larger."""
    groups: list[list[str]] = [[]]
    held = 0
    for name, tensor in shapes.items():
        size = 2 * tensor.numel()
        if held + size > SHARD_BYTES and groups[-1]:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return groups


def _filled(torch: Any, noise: Any, shape: tuple[int, ...]) -> Any:
    """The same random numbers over and over: drawing as many as there are would take minutes. Norms are ones."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    count = 1
    for side in shape:
        count *= side
    return noise.repeat(-(-count // len(noise)))[:count].reshape(shape).contiguous()


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    _write(Path(sys.argv[1]))
