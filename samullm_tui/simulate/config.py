"""How one engine is set up, as far as its schedule depends on it."""

from __future__ import annotations

from msgspec import Struct

from samullm_tui.domain.errors import InputError, Problem

__all__ = ["EngineConfig"]


class EngineConfig(Struct, frozen=True):
    """vLLM's settings by their own names.

    `kv_blocks` are blocks of `block_size` tokens as the engine reports them: one is reserved.
    Raises InputError when no schedule is possible.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    kv_blocks: int
    block_size: int
    max_model_len: int

    def __post_init__(self) -> None:
        least = {
            "max_num_seqs": 1,
            "max_num_batched_tokens": 1,
            "kv_blocks": 2,
            "block_size": 1,
            "max_model_len": 2,
        }
        problems = [
            Problem("", name, f"is {getattr(self, name)}", f"at least {low}")
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        if problems:
            raise InputError(problems)

    @property
    def usable_blocks(self) -> int:
        return self.kv_blocks - 1

    @property
    def most_tokens(self) -> int:
        """The most tokens a request may end with: the context, and what the KV cache holds of one request.

        The last token sampled is never fed, so it needs no place in the cache.
        """
        return min(self.max_model_len, self.usable_blocks * self.block_size + 1)
