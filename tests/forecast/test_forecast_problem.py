"""From an application and a cluster to what a planner needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.errors import ApplicationError, PlacementError
from samullm_tui.forecast.problem import ForecastInputs, build_problem
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import build_requests

FILE = """
name = "app"
title = "t"
[data.d.synthetic]
records = {records}
seed = 1
[data.d.synthetic.fields]
question = {{ uniform = [5, 9] }}
{llms}
{nodes}
"""


def inputs(
    folder: Path, cluster: str, llms: Mapping[str, str], *, records: int = 3, node: str = ""
) -> ForecastInputs:
    """The problem of an application in which each LLM (name: its TOML lines) answers `records` prompts."""
    heads = "\n".join(f"[llms.{name}]\n{lines}" for name, lines in llms.items())
    nodes = "\n".join(
        f'[nodes.{n}-node]\nllm = "{n}"\nfrom = "d"\nprompt = "{{question}}"\n{node}' for n in llms
    )
    path = folder / "app.toml"
    path.write_text(FILE.format(llms=heads, nodes=nodes, records=records))
    workload = build_requests(load_application(path, allow_outside=True))
    return build_problem(workload, cluster_from_preset(cluster))


def test_a_measured_llm_is_not_marked(tmp_path: Path) -> None:
    got = inputs(tmp_path, "a100-80g:8", {"v": 'checkpoint = "lmsys/vicuna-13b-v1.5"'})
    assert got.estimated == {}
    (model,) = got.problem.llms
    assert [shape.tp for shape in model.shapes] == [1, 2], "tp stays inside the island of two"
    assert got.context.tolist() == [4096]
    assert all(shape.config.max_model_len == 4096 for shape in model.shapes)


def test_an_unmeasured_llm_is_marked_with_what_stands_in(tmp_path: Path) -> None:
    got = inputs(tmp_path, "h100-80g:8", {"q": 'checkpoint = "Qwen/Qwen3-32B"\ncontext = 8192'})
    assert "roofline" in got.estimated["q"]
    assert got.problem.llms[0].shapes


def test_an_llm_that_needs_two_gpus_has_no_shape_on_one(tmp_path: Path) -> None:
    got = inputs(tmp_path, "a100-80g:4", {"b": 'checkpoint = "meta-llama/Llama-2-70b-chat-hf"'})
    assert [shape.tp for shape in got.problem.llms[0].shapes] == [2]


def test_tp_and_engine_arguments_of_the_application_count(tmp_path: Path) -> None:
    lines = """checkpoint = "lmsys/vicuna-13b-v1.5"
tp = [2]
context = 1024
engine = { max_num_seqs = 7, max_num_batched_tokens = 4096, num_gpu_blocks_override = 500 }"""
    (model,) = inputs(tmp_path, "a100-80g:8", {"v": lines}).problem.llms
    (shape,) = model.shapes
    config = shape.config
    assert shape.tp == 2
    assert (config.max_num_seqs, config.max_num_batched_tokens, config.kv_blocks) == (7, 4096, 500)
    assert config.max_model_len == 1024


@pytest.mark.parametrize(
    ("cluster", "engine", "expected"),
    [
        ("a100-80g:1", "", (True, True, "fcfs")),
        ("cpu:1", "", (False, True, "fcfs")),
        ("a100-80g:1", "engine = { enable_prefix_caching = false }", (True, False, "fcfs")),
        (
            "a100-80g:1",
            'engine = { async_scheduling = false, scheduling_policy = "priority" }',
            (False, True, "priority"),
        ),
    ],
)
def test_the_schedule_is_that_of_the_engine_as_it_will_run(
    tmp_path: Path, cluster: str, engine: str, expected: tuple[bool, bool, str]
) -> None:
    """vLLM's own defaults for the device, unless the application says otherwise."""
    checkpoint = "tiny:llama"
    lines = f'checkpoint = "{checkpoint}"\ncontext = 2048\n{engine}'
    config = inputs(tmp_path, cluster, {"v": lines}).problem.llms[0].shapes[0].config
    assert (config.async_scheduling, config.prefix_caching, config.scheduling_policy) == expected


def test_less_memory_means_fewer_blocks(tmp_path: Path) -> None:
    plain = inputs(tmp_path, "a100-80g:8", {"v": 'checkpoint = "lmsys/vicuna-13b-v1.5"'})
    lines = 'checkpoint = "lmsys/vicuna-13b-v1.5"\nengine = { gpu_memory_utilization = 0.6 }'
    less = inputs(tmp_path, "a100-80g:8", {"v": lines})
    assert less.problem.llms[0].shapes[0].config.kv_blocks < plain.problem.llms[0].shapes[0].config.kv_blocks


def test_what_fits_nowhere_is_named_with_the_gib_that_are_missing(tmp_path: Path) -> None:
    llms = {
        "big": 'checkpoint = "meta-llama/Llama-2-70b-chat-hf"',
        "fine": 'checkpoint = "lmsys/vicuna-13b-v1.5"',
        "wide": 'checkpoint = "mistralai/Mixtral-8x7B-Instruct-v0.1"',
    }
    with pytest.raises(PlacementError) as caught:
        inputs(tmp_path, "l40s-48g:8", llms)
    assert [p.place for p in caught.value.problems] == ["LLM big", "LLM wide"]
    assert all("GiB" in p.wrong for p in caught.value.problems)
    lacking = float(caught.value.problems[0].wrong.split(" lacks ")[1].split(" GiB")[0])
    assert 80 < lacking < 130, "128 GiB of weights on a GPU of 48 GiB"


def test_a_tp_that_the_cluster_cannot_give_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlacementError, match="no tp of 4 is possible"):
        inputs(tmp_path, "a100-80g:8", {"v": 'checkpoint = "lmsys/vicuna-13b-v1.5"\ntp = [4]'})


def test_every_unknown_checkpoint_is_named(tmp_path: Path) -> None:
    llms = {"x": 'checkpoint = "nobody/x-1b"', "y": 'checkpoint = "nobody/y-1b"'}
    with pytest.raises(ApplicationError) as caught:
        inputs(tmp_path, "a100-80g:8", llms)
    assert [p.place for p in caught.value.problems] == ["llms.x.checkpoint", "llms.y.checkpoint"]


def test_a_folder_with_a_configuration_is_planned_by_estimate(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    config = {
        "model_type": "llama",
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "num_attention_heads": 32,
        "intermediate_size": 8192,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    got = inputs(tmp_path, "a100-80g:2", {"mine": f'checkpoint = "{folder}"'})
    assert "estimate" in got.estimated["mine"]
    assert "pooled" in got.estimated["mine"]
    assert got.context.tolist() == [2048]


def test_quantised_weights_and_a_small_cache_take_less_memory(tmp_path: Path) -> None:
    """Llama-2-70b has 128 GiB at 16 bit: two L40S of 48 GiB do not hold it, at 4 bit one does."""
    plain = 'checkpoint = "meta-llama/Llama-2-70b-chat-hf"'
    with pytest.raises(PlacementError, match="GiB"):
        inputs(tmp_path, "l40s-48g:1", {"b": plain})
    got = inputs(tmp_path, "l40s-48g:1", {"b": plain + '\nengine = { quantization = "awq" }'})
    assert [shape.tp for shape in got.problem.llms[0].shapes] == [1]
    assert "estimate" in got.estimated["b"]
    vicuna = 'checkpoint = "lmsys/vicuna-13b-v1.5"'
    small = vicuna + '\nengine = { kv_cache_dtype = "fp8", gpu_memory_utilization = 0.9 }'
    blocks = [
        inputs(tmp_path, "a100-80g:1", {"v": lines}).problem.llms[0].shapes[0].config.kv_blocks
        for lines in (vicuna + "\nengine = { gpu_memory_utilization = 0.9 }", small)
    ]
    assert blocks[1] == pytest.approx(2 * blocks[0], rel=0.01)


def test_an_unknown_quantisation_is_named(tmp_path: Path) -> None:
    lines = 'checkpoint = "lmsys/vicuna-13b-v1.5"\nengine = { quantization = "tomorrow" }'
    with pytest.raises(PlacementError, match="LLM v: quantization: the memory under 'tomorrow' is not known"):
        inputs(tmp_path, "a100-80g:1", {"v": lines})


def test_the_quantisation_of_a_checkpoint_folder_counts(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    config = {
        "model_type": "llama",
        "num_hidden_layers": 80,
        "hidden_size": 8192,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "intermediate_size": 28672,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
    }
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(PlacementError, match="GiB"):
        inputs(tmp_path, "l40s-48g:1", {"mine": f'checkpoint = "{folder}"'})
    file.write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    assert inputs(tmp_path, "l40s-48g:1", {"mine": f'checkpoint = "{folder}"'}).problem.llms[0].shapes


def test_tiny_checkpoints_run_on_cpu_slots(tmp_path: Path) -> None:
    got = inputs(tmp_path, "cpu:2", {"t": 'checkpoint = "tiny:llama"'})
    (shape,) = got.problem.llms[0].shapes
    assert shape.tp == 1
    assert shape.config.block_size == 128
    assert np.all(got.context <= shape.config.most_tokens)


def test_engines_run_fewer_requests_at_a_time_where_answers_outgrow_the_cache(tmp_path: Path) -> None:
    long_answers = 'checkpoint = "lmsys/vicuna-13b-v1.5"\nlengths = "baize-v2-13b"'
    llms = {"long": long_answers, "own": f"{long_answers}\nengine = {{ max_num_seqs = 256 }}"}
    got = inputs(tmp_path, "a100-80g:2", llms, records=2000, node="sampling = { max_tokens = 512 }")
    assert set(got.fewer_at_once) == {("long", 1)}, "at tp 2 all fit, and what the application says stays"
    (seqs,) = got.fewer_at_once.values()
    settings = {m.name: [s.config.max_num_seqs for s in m.shapes] for m in got.problem.llms}
    assert settings == {"long": [seqs, 256], "own": [256, 256]}
    assert seqs < 256
    assert f"long {seqs} at tp 1" in got.notes[-1]
