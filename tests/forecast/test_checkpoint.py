"""A checkpoint's shape read from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samullm_tui.catalog.shapes import shape_of
from samullm_tui.domain.errors import ApplicationError
from samullm_tui.forecast.checkpoint import read_shape, shape_from_config

LLAMA_8B = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}
QWEN_MOE = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
    "max_position_embeddings": 262144,
}
GPT2 = {
    "model_type": "gpt2",
    "n_layer": 12,
    "n_embd": 768,
    "n_head": 12,
    "vocab_size": 50257,
    "n_positions": 1024,
}


def test_it_equals_the_published_shape() -> None:
    shape, known = shape_from_config(LLAMA_8B, "config.json"), shape_of("Meta-Llama-3-8B")
    assert known is not None
    assert shape.params_b == pytest.approx(known.params_b, rel=0.01)
    assert (shape.kv_heads, shape.head_dim, shape.context) == (8, 128, 8192)


def test_a_mixture_counts_all_its_experts() -> None:
    shape = shape_from_config(QWEN_MOE, "config.json")
    assert (shape.experts, shape.experts_per_token, shape.intermediate) == (128, 8, 768)
    assert shape.params_b == pytest.approx(30.53, rel=0.01)


def test_older_names_are_read() -> None:
    shape = shape_from_config({**GPT2, "tie_word_embeddings": True}, "config.json")
    assert (shape.layers, shape.kv_heads, shape.head_dim, shape.intermediate) == (12, 12, 64, 3072)
    assert shape.params_b == pytest.approx(0.124, rel=0.02)


def test_the_text_part_of_a_multimodal_configuration_counts() -> None:
    assert shape_from_config({"model_type": "llava", "text_config": LLAMA_8B}, "f").layers == 32


def test_every_missing_key_is_named() -> None:
    with pytest.raises(ApplicationError) as caught:
        shape_from_config({**GPT2, "n_head": "12", "n_layer": 0}, "folder/config.json")
    assert [p.place for p in caught.value.problems] == ["num_hidden_layers", "num_attention_heads"]
    assert {p.file for p in caught.value.problems} == {"folder/config.json"}


@pytest.mark.parametrize(
    ("content", "said"), [("{", "not JSON"), ("[]", "not a JSON object"), (None, "No such file")]
)
def test_a_folder_without_a_configuration_is_said(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ApplicationError, match=said):
        read_shape(tmp_path)


def test_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    assert read_shape(tmp_path).hidden == 4096
