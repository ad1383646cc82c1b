"""Promises of what fits on a GPU, held against the blocks of measured engines."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.catalog.shapes import checkpoints, shape_of
from samullm_tui.domain.cluster import PRESETS, GpuType
from samullm_tui.domain.errors import PlacementError
from samullm_tui.latency.memory import (
    BF16,
    DEFAULT_UTILIZATION,
    Precision,
    kv_blocks,
    kv_budget_bytes,
    lacking_bytes,
    precision_of,
    stored_weight_bytes,
)
from samullm_tui.latency.shape import Shape, weight_bytes

A100 = PRESETS["a100-80g"]
SHAPES = [shape for shape in map(shape_of, checkpoints()) if shape]
GPUS = [gpu for gpu in PRESETS.values() if gpu.kind == "gpu"]
GIB = 1024**3


def known(name: str) -> Shape:
    shape = shape_of(name)
    assert shape
    return shape


@given(st.sampled_from(SHAPES), st.sampled_from(GPUS), st.sampled_from([1, 2, 4, 8]))
def test_blocks_grow_with_memory_and_fall_with_its_use(shape: Shape, gpu: GpuType, tp: int) -> None:
    def blocks(utilization: float, batched_tokens: int = 2048) -> int:
        return kv_blocks(
            shape, gpu, tp, block_size=16, utilization=utilization, batched_tokens=batched_tokens
        )

    assert blocks(0.9) < blocks(0.95)
    assert blocks(0.9, 16384) < blocks(0.9)


def test_an_llm_that_is_too_large_gets_no_blocks() -> None:
    assert kv_blocks(known("Llama-2-70b-chat-hf"), A100, 1, block_size=16, utilization=0.9) <= 0
    assert kv_blocks(known("Llama-2-70b-chat-hf"), A100, 2, block_size=16, utilization=0.9) > 0


def test_on_the_cpu_the_cache_has_its_fixed_size() -> None:
    tiny = known("tiny:llama")
    assert (
        kv_blocks(
            tiny, PRESETS["cpu"], 1, block_size=128, utilization=0.9, precision=precision_of(dtype="float32")
        )
        == 256
    )
    assert kv_blocks(known("Llama-2-7b-hf"), PRESETS["cpu"], 1, block_size=128, utilization=0.9) <= 0


@pytest.mark.parametrize(
    ("arguments", "precision"),
    [
        ({}, Precision()),
        ({"dtype": "float32"}, Precision(4, 4, 4, 4)),
        ({"kv_cache_dtype": "fp8_e4m3"}, Precision(kv=1)),
        ({"dtype": "float32", "kv_cache_dtype": "bfloat16"}, Precision(4, 4, 2, 4)),
        ({"quantization": "fp8"}, Precision(weight=1)),
        ({"quantization": "awq"}, Precision(weight=0.51953125)),
        ({"quantization": "gptq", "bits": 8}, Precision(weight=1.01953125)),
    ],
)
def test_the_engine_arguments_say_how_many_bytes(arguments: dict[str, object], precision: Precision) -> None:
    assert precision_of(**arguments) == precision  # type: ignore[arg-type]


@pytest.mark.parametrize("argument", ["dtype", "quantization", "kv_cache_dtype"])
def test_an_unknown_precision_is_refused_by_the_argument_s_name(argument: str) -> None:
    with pytest.raises(PlacementError, match=argument):
        precision_of(**{argument: "int3"})  # type: ignore[arg-type]


def test_quantisation_leaves_embeddings_and_the_output_head_alone() -> None:
    """Llama-3.1-70B: 70.55e9 parameters, 2 · 128256 · 8192 of them in embeddings and output head."""
    llama = known("Llama-3.1-70B")
    layers, embeddings = 70.55e9 - 2 * 128_256 * 8192, 2 * 128_256 * 8192
    assert stored_weight_bytes(llama, BF16) == weight_bytes(llama)
    assert stored_weight_bytes(llama, precision_of(quantization="fp8")) == layers + 2 * embeddings
    four = stored_weight_bytes(llama, precision_of(quantization="awq"))
    assert four == pytest.approx(layers * (4 + 16 / 128 + 4 / 128) / 8 + 2 * embeddings)


@given(st.sampled_from(SHAPES), st.sampled_from(GPUS), st.sampled_from([1, 2, 4, 8]), st.integers(1, 100_000))
def test_what_lacks_is_exactly_what_would_make_it_fit(
    shape: Shape, gpu: GpuType, tp: int, context: int
) -> None:
    lacking = lacking_bytes(shape, gpu, tp, context=context)
    fits = (kv_blocks(shape, gpu, tp, block_size=16) - 1) * 16 >= context
    assert fits == (lacking == 0)
    more = GpuType("x", gpu.memory_bytes + int(lacking / 0.99 / 0.92) + 2, 1.0, 1.0)
    assert (kv_blocks(shape, more, tp, block_size=16) - 1) * 16 >= context


@given(st.sampled_from(SHAPES), st.sampled_from(GPUS), st.sampled_from([1, 2, 4]))
def test_smaller_numbers_leave_more_for_the_cache_and_wider_ones_less(
    shape: Shape, gpu: GpuType, tp: int
) -> None:
    plain = kv_budget_bytes(shape, gpu, tp)
    assert kv_budget_bytes(shape, gpu, tp, precision=precision_of(quantization="fp8")) > plain
    assert kv_budget_bytes(shape, gpu, tp, precision=precision_of(dtype="float32")) < plain
    fp8_cache = kv_blocks(shape, gpu, tp, block_size=16, precision=Precision(kv=1))
    if plain > 0:
        assert fp8_cache >= 2 * kv_blocks(shape, gpu, tp, block_size=16)


def test_a_70b_llm_that_lacks_memory_on_one_gpu_fits_when_quantised() -> None:
    llama = known("Llama-3.1-70B")
    lacking = lacking_bytes(llama, A100, 1, context=8192)
    assert 60 < lacking / GIB < 70
    assert lacking_bytes(llama, A100, 1, context=8192, precision=precision_of(quantization="awq")) == 0
    assert DEFAULT_UTILIZATION == 0.92


@pytest.mark.data
def test_blocks_are_within_2_percent_of_the_authors_engines(measured: Path) -> None:
    with (measured / "samullm-authors" / "kv_blocks_a100_80g.csv").open() as file:
        rows = list(csv.DictReader(file))
    errors = []
    for row in rows:
        shape = known(row["model"])
        # Those engines could prefill a whole context in one step.
        tokens = max(shape.context, 2560)
        estimate = kv_blocks(
            shape,
            A100,
            int(row["tp"]),
            block_size=int(row["block_tokens"]),
            utilization=float(row["gpu_memory_utilization"]),
            batched_tokens=tokens,
        )
        errors.append(estimate / int(row["kv_blocks"]) - 1)
    assert np.abs(errors).max() < 0.02
    assert np.median(np.abs(errors)) < 0.005
