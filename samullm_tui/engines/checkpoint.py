"""What can be known of a checkpoint before a server is started: a failing start takes 12 to 32 seconds."""

from __future__ import annotations

import json
from pathlib import Path

from samullm_tui.domain.application import LLM
from samullm_tui.domain.errors import EngineStartError, Problem

__all__ = ["check_checkpoint"]


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


def _wrong(llm: LLM, file: str, what: str, right: str) -> EngineStartError:
    return EngineStartError(Problem(file, llm.name, what, right))
