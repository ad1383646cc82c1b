"""The answers that engines were stopped in, kept until another engine has gone on with them."""

from __future__ import annotations

from samullm_tui.engines.protocol import Begun

__all__ = ["MAX_TOKENS", "BegunAnswers"]

MAX_TOKENS = 8_000_000
"""Tokens of prompts and answers kept at once: some 32 MB, and the texts. What is beyond that begins anew."""


class BegunAnswers:
    """By request. They are in memory only: the next supervisor lets these requests begin anew."""

    def __init__(self, max_tokens: int = MAX_TOKENS) -> None:
        self._max_tokens = max_tokens
        self._kept: dict[int, Begun] = {}
        self._tokens = 0

    def keep(self, index: int, begun: Begun) -> None:
        """In place of what was kept of it before; where there is no room, that stays."""
        more = _size(begun) - (_size(self._kept[index]) if index in self._kept else 0)
        if self._tokens + more <= self._max_tokens:
            self._kept[index] = begun
            self._tokens += more

    def get(self, index: int) -> Begun | None:
        return self._kept.get(index)

    def tokens(self) -> dict[int, int]:
        """Output tokens of each."""
        return {index: begun.output_tokens for index, begun in self._kept.items()}

    def drop(self, index: int) -> None:
        """The request has ended."""
        if index in self._kept:
            self._tokens -= _size(self._kept.pop(index))

    def __len__(self) -> int:
        return len(self._kept)


def _size(begun: Begun) -> int:
    return len(begun.prompt_ids) + len(begun.token_ids)
