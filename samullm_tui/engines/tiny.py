"""Tiny random checkpoints (under 3 MB) that a real engine serves on any machine, for self-tests.

Three families with hidden size 128, 4 heads of dimension 32 and 2 layers. The row of the end-of-text token in the
output head is scaled, so that at temperature 1 they stop by themselves after realistic numbers of tokens.
Building needs torch, transformers and tokenizers; it happens in a process of its own, once, into the cache folder.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from samullm_tui.domain.errors import EngineMissingError, EngineStartError, Problem
from samullm_tui.locations import cache_dir

__all__ = ["FAMILIES", "TINY", "build", "resolve_checkpoint", "tiny_folder"]

TINY = "tiny:"
FAMILIES = ("llama", "qwen3", "gpt2")
RECIPE = 2
"""Part of the folder's name: raise it when anything below changes the bytes of a checkpoint."""

VOCABULARY = 512
HIDDEN = 128
HEADS = 4
LAYERS = 2
INTERMEDIATE = 256
CONTEXT = 2048
END_OF_TEXT = "<|endoftext|>"
END_SCALE = 2.5
INITIALIZER_RANGE = 0.05
"""Wide enough that the scaled end-of-text logit moves a lot between contexts: lengths around 200, spread over decades."""
SEED = 20250423
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# What the merges of the tokenizer are learnt from.
WORDS = """
the and of to in a is that it for was on are as with his they be at one have this from or had by hot
word but what some we can out other were all there when up use your how said an each she which do
their time if will way about many then them write would like so these her long make thing see him
two has look more day could go come did number sound no most people my over know water than call
first who may down side been now find any new work part take get place made live where after back
little only round man year came show every good me give our under summary answer question document
context model prompt token request engine plan stage record field output input score judge rewrite
explain compare translate describe summarise paragraph sentence language following information
according important different between because through another should before system general however
"""


def tiny_folder(family: str) -> Path:
    """Where the checkpoint of `family` is, or will be."""
    return cache_dir() / "checkpoints" / f"tiny-{family}-{RECIPE}"


def resolve_checkpoint(checkpoint: str) -> str:
    """What vLLM takes as `--model`: a folder for `tiny:…` (built when it is not there), else `checkpoint` itself.

    Raises EngineStartError for an unknown tiny checkpoint or a build that failed, EngineMissingError without PyTorch.
    """
    if not checkpoint.startswith(TINY):
        return checkpoint
    family = checkpoint.removeprefix(TINY)
    if family not in FAMILIES:
        right = f"one of {', '.join(TINY + name for name in FAMILIES)}"
        raise EngineStartError(Problem(checkpoint, "", "there is no such tiny checkpoint", right))
    folder = tiny_folder(family)
    if not folder.is_dir():
        _build_elsewhere(family)
    return str(folder)


def _build_elsewhere(family: str) -> None:
    """Builds in another process: PyTorch must not stay in the memory of whoever only starts engines."""
    for module in ("torch", "transformers", "tokenizers"):
        if importlib.util.find_spec(module) is None:
            right = "install vLLM, which brings it (samullm-tui doctor says how)"
            raise EngineMissingError(Problem(TINY + family, "", f"building it needs {module}", right))
    command = [sys.executable, "-m", "samullm_tui.engines.tiny", family]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineStartError(Problem(TINY + family, "", f"building it failed: {last}"))


def build(family: str) -> Path:
    """Builds the checkpoint in this process. Atomic: its folder appears complete or not at all."""
    folder = tiny_folder(family)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(family, temporary)
        if not folder.is_dir():
            temporary.chmod(0o755)
            temporary.rename(folder)
    except OSError:
        # Somebody else's build may have been first; theirs has the same bytes.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write(family: str, folder: Path) -> None:
    torch = import_module("torch")
    tokenizer = _tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = _model(family, end=tokenizer.eos_token_id)
        with torch.no_grad():
            model.lm_head.weight[tokenizer.eos_token_id] *= END_SCALE
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _model(family: str, end: int) -> Any:
    """A random model. Never tied to its input embedding: the scaled row must change the output only."""
    transformers = import_module("transformers")
    common = {
        "vocab_size": VOCABULARY,
        "bos_token_id": end,
        "eos_token_id": end,
        "tie_word_embeddings": False,
        "initializer_range": INITIALIZER_RANGE,
    }
    if family == "gpt2":
        config = transformers.GPT2Config(
            n_embd=HIDDEN, n_head=HEADS, n_layer=LAYERS, n_positions=CONTEXT, n_inner=INTERMEDIATE, **common
        )
        return transformers.GPT2LMHeadModel(config)
    shape = {
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": CONTEXT,
        "head_dim": HIDDEN // HEADS,
    }
    if family == "qwen3":
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape, **common))
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, **common))


def _tokenizer() -> Any:
    """A byte-level BPE with 512 tokens: any text, whatever its script, has tokens."""
    tokenizers = import_module("tokenizers")
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = byte_level(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(byte_level.alphabet()),
        show_progress=False,
    )
    # Each word weighs differently, so that no two pairs tie and the merges come out the same everywhere.
    words = WORDS.split()
    bpe.train_from_iterator([f" {word}" * (len(words) - rank) for rank, word in enumerate(words)], trainer)
    return import_module("transformers").PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
    )


if __name__ == "__main__":
    # The hub is never asked for anything; saying so keeps transformers from trying.
    os.environ["HF_HUB_OFFLINE"] = "1"
    build(sys.argv[1])
