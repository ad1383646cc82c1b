"""What can be known of a checkpoint before a server is started: a failing start takes 12 to 32 seconds."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from msgspec import Struct

from samullm_tui.domain.application import LLM
from samullm_tui.domain.errors import EngineStartError, Problem
from samullm_tui.engines.hub_cache import local_snapshot

__all__ = ["check_checkpoint", "special_tokens"]


class AddedToken(Struct):
    id: int
    special: bool = False


class Tokenizer(Struct):
    added_tokens: tuple[AddedToken, ...] = ()


def check_checkpoint(llm: LLM, checkpoint: str) -> None:
    """Looks at a checkpoint folder; a Hugging Face id is left to vLLM. Raises EngineStartError."""
    folder = Path(checkpoint)
    if not folder.is_absolute():
        return
    config = folder / "config.json"
    try:
        read = json.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "there is no such folder" if not folder.is_dir() else "the folder has no config.json"
        raise _wrong(llm, str(folder), what, "a folder as save_pretrained writes it") from None
    except (OSError, ValueError) as error:
        raise _wrong(
            llm, str(config), f"cannot be read: {error}", "the checkpoint's own config.json"
        ) from None
    longest = (
        read.get("max_position_embeddings") or read.get("n_positions") if isinstance(read, dict) else None
    )
    if isinstance(longest, int) and llm.context is not None and llm.context > longest:
        what = f"context {llm.context} is more than the {longest} tokens of the checkpoint"
        raise _wrong(llm, str(config), what, f"context = {longest}, or less")


def special_tokens(checkpoint: str) -> frozenset[int]:
    """The ids that a text does not show (end of text, turns of a chat), as far as they can be found on this machine."""
    folder = Path(checkpoint) if checkpoint.startswith("/") else local_snapshot(checkpoint)
    if folder is None:
        return frozenset()
    try:
        found = msgspec.json.decode((folder / "tokenizer.json").read_bytes(), type=Tokenizer)
    except (OSError, msgspec.DecodeError):
        return frozenset()
    return frozenset(token.id for token in found.added_tokens if token.special)


def _wrong(llm: LLM, file: str, what: str, right: str) -> EngineStartError:
    return EngineStartError(Problem(file, llm.name, what, right))
