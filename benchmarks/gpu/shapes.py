"""Checkpoint folders without weights: the configuration of a known shape, and a tokenizer of our own.

Weights are made up by the engine (`load_format=dummy`): a step takes as long as with real ones. What depends on their
values is not real: the experts that tokens choose, and all texts.

Every token but two is a word of three characters, so that a text of n words is n tokens, and the text of any tokens is
tokenised back into as many.
"""

from __future__ import annotations

import itertools
import json
import string
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.gpu.place import Place

__all__ = ["SHAPES", "context_of", "shape_folder", "shapes_of", "small_shapes_of", "words"]

Config = dict[str, Any]

CONTEXT = {"full": 8192, "small": 1024}
END, UNKNOWN = "<end>", "<unknown>"
ALPHABET = string.ascii_lowercase + string.ascii_uppercase + string.digits


def _llama(hidden: int, inner: int, layers: int, heads: int, kv: int, **more: object) -> Config:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": 128,
        "vocab_size": 128_256,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": False,
        **more,
    }


def _qwen3(hidden: int, inner: int, layers: int, heads: int, kv: int, **more: object) -> Config:
    common = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151_936}
    rest = {"rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0}
    return _llama(hidden, inner, layers, heads, kv, **{**common, **rest, **more})


def _qwen3_moe(hidden: int, inner: int, layers: int, heads: int, kv: int, experts: int, each: int) -> Config:
    return _qwen3(
        hidden,
        inner,
        layers,
        heads,
        kv,
        architectures=["Qwen3MoeForCausalLM"],
        model_type="qwen3_moe",
        num_experts=experts,
        num_experts_per_tok=8 if experts > 8 else 2,
        moe_intermediate_size=each,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        norm_topk_prob=True,
    )


_TINY = {"vocab_size": 4096, "head_dim": 32}

SHAPES: dict[str, Config] = {
    "llama-3.1-8b": _llama(4096, 14_336, 32, 32, 8),
    "qwen3-32b": _qwen3(5120, 25_600, 64, 64, 8),
    "qwen3-30b-a3b": _qwen3_moe(2048, 6144, 48, 32, 4, 128, 768),
    "llama-3.2-1b": _llama(2048, 8192, 16, 32, 8, head_dim=64, tie_word_embeddings=True),
    "qwen3-1.7b": _qwen3(2048, 6144, 28, 16, 8, tie_word_embeddings=True),
    "small-llama": _llama(128, 256, 2, 4, 4, **_TINY),
    "small-qwen3": _qwen3(128, 256, 2, 4, 4, **_TINY),
    "small-mixture": {**_qwen3_moe(128, 256, 2, 4, 4, 8, 64), **_TINY},
}
"""By name: the architecture as the checkpoint's own config.json has it, without its scaling of long contexts."""


def shapes_of(place: Place) -> tuple[str, ...]:
    """A dense LLM, a larger one, a mixture of experts."""
    full = place.sizes == "full"
    return ("llama-3.1-8b", "qwen3-32b", "qwen3-30b-a3b") if full else tuple(SHAPES)[-3:]


def small_shapes_of(place: Place) -> tuple[str, str]:
    """Two LLMs of which a GPU holds several."""
    return ("llama-3.2-1b", "qwen3-1.7b") if place.sizes == "full" else ("small-llama", "small-qwen3")


def context_of(place: Place) -> int:
    return CONTEXT[place.sizes]


def shape_folder(place: Place, name: str) -> Path:
    """The folder of a shape, made when it is not there."""
    folder = place.folder("shapes") / name
    if not (folder / "tokenizer.json").exists():
        write_shape(folder, SHAPES[name], context=2 * context_of(place))
    return folder


def write_shape(folder: Path, config: Config, *, context: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    whole = {
        **config,
        **ids,
        "max_position_embeddings": context,
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(whole, indent=1))
    tokenizers = import_module("tokenizers")
    vocabulary = {token: index for index, token in enumerate(words(config["vocab_size"]))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([END])
    fast = import_module("transformers").PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)


def words(size: int) -> list[str]:
    """The tokens of a vocabulary by their ids."""
    triples = ("".join(letters) for letters in itertools.product(ALPHABET, repeat=3))
    return [END, UNKNOWN, *itertools.islice(triples, size - 2)]
