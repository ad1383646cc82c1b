"""How many tokens a text has, before any tokenizer was seen."""

from __future__ import annotations

from collections.abc import Callable

from samullm_tui.domain.application import Application

__all__ = ["TINY_CONTEXT", "TokenCounter", "estimate", "estimator"]

TokenCounter = Callable[[str, str], int]
"""Name of the LLM and text → tokens."""

TINY_CONTEXT = 2048
"""Context of the tiny checkpoints."""

BYTES_PER_TOKEN = 4
"""Of English text in vocabularies of 32,000 tokens and more, roughly."""


def estimate(checkpoint: str, text: str) -> int:
    """An estimate: a token for every 4 bytes of UTF-8, rounded up. For tiny checkpoints, whose vocabulary is bytes
    and a few hundred pairs of them, every byte counts: an upper bound.
    """
    size = len(text) if text.isascii() else len(text.encode())
    return size if checkpoint.startswith("tiny:") else -(-size // BYTES_PER_TOKEN)


def estimator(application: Application) -> TokenCounter:
    """`estimate` by the names of the application's LLMs."""
    checkpoints = {llm.name: llm.checkpoint for llm in application.llms}
    return lambda llm, text: estimate(checkpoints[llm], text)
