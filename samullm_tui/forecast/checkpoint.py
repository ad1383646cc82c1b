"""The shape of a checkpoint in a folder, from its config.json (the names that published configurations use)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from samullm_tui.domain.errors import ApplicationError, Problem
from samullm_tui.latency.roofline import Shape

__all__ = ["quantisation", "read_shape", "shape_from_config"]

NAMES: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "vocab": ("padded_vocab_size", "vocab_size"),
    "context": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
}
KV_HEADS = ("num_key_value_heads", "multi_query_group_num", "num_kv_heads")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
INTERMEDIATE = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
UNGATED = ("gpt2", "gpt_neox", "gptj", "mpt", "opt", "falcon", "bloom", "phi", "gpt_bigcode", "starcoder2")
"""Families whose feed-forward part has two matrices; all others have three."""


def read_shape(folder: Path) -> Shape:
    """The shape of the checkpoint in `folder`. Raises ApplicationError."""
    return shape_from_config(_config(folder), str(folder / "config.json"))


def quantisation(folder: Path) -> tuple[str | None, int | None]:
    """(method, bits per weight) as the checkpoint in `folder` says them, None where it does not. Raises ApplicationError."""
    said = _config(folder).get("quantization_config")
    if not isinstance(said, dict):
        return None, None
    method, bits = said.get("quant_method"), said.get("bits")
    return (method if isinstance(method, str) else None), (bits if isinstance(bits, int) else None)


def _config(folder: Path) -> dict[str, object]:
    file = folder / "config.json"
    right = "a checkpoint folder as Hugging Face's save_pretrained writes it"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ApplicationError(Problem(str(file), "", f"cannot be read: {error.strerror}", right)) from None
    except ValueError as error:
        raise ApplicationError(Problem(str(file), "", f"not JSON: {error}", right)) from None
    if not isinstance(config, dict):
        raise ApplicationError(Problem(str(file), "", "not a JSON object", right))
    return config


def shape_from_config(config: Mapping[str, object], file: str) -> Shape:
    """The shape that a configuration describes. Raises ApplicationError naming every missing key of `file`."""
    inner = config.get("text_config")
    config = {**config, **inner} if isinstance(inner, dict) else config
    found = {name: _number(config, keys) for name, keys in NAMES.items()}
    problems = [
        Problem(file, keys[0], "missing, or not a whole number from 1 up", f"one of {', '.join(keys)}")
        for name, keys in NAMES.items()
        if found[name] is None
    ]
    if problems:
        raise ApplicationError(problems)
    known = {name: value for name, value in found.items() if value is not None}
    return _shape(config, known)


def _shape(config: Mapping[str, object], known: Mapping[str, int]) -> Shape:
    heads, hidden = known["heads"], known["hidden"]
    experts = _number(config, EXPERTS) or 0
    head_dim = _number(config, ("head_dim", "kv_channels")) or max(1, hidden // heads)
    intermediate = (experts and _number(config, ("moe_intermediate_size",))) or _number(config, INTERMEDIATE)
    kv_heads = _number(config, KV_HEADS) or (1 if config.get("multi_query") is True else heads)
    shape = Shape(
        **known,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=intermediate or 4 * hidden,
        params_b=0.0,
        experts=experts,
        experts_per_token=(_number(config, ("num_experts_per_tok",)) or 1) if experts else 0,
        family=str(config.get("model_type", "llama")),
    )
    return _with_params(shape, tied=config.get("tie_word_embeddings") is True)


def _with_params(shape: Shape, *, tied: bool) -> Shape:
    """Counts weights: embeddings, attention, feed-forward. Norms and biases are left out (under 0.1 %)."""
    matrices = 2 if shape.family in UNGATED else 3
    attention = 2 * shape.hidden * shape.head_dim * (shape.heads + shape.kv_heads)
    feed_forward = matrices * shape.hidden * shape.intermediate * max(1, shape.experts)
    router = shape.hidden * shape.experts
    embeddings = shape.vocab * shape.hidden * (1 if tied else 2)
    params = embeddings + shape.layers * (attention + feed_forward + router)
    fields = {name: getattr(shape, name) for name in shape.__struct_fields__}
    return Shape(**{**fields, "params_b": params / 1e9})


def _number(config: Mapping[str, object], keys: tuple[str, ...]) -> int | None:
    """The first of `keys` that holds a whole number from 1 up."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
    return None
