"""Answers as they were observed: how long each was, and whether it ended by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray

__all__ = ["MOST_TOKENS", "Answers", "BoolArray"]

BoolArray = npt.NDArray[np.bool_]

MOST_TOKENS = 10_000_000
"""No answer is longer: what says otherwise is a mistake in the data."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """`n` observed answers. Make them with `of`, which checks them.

    tokens         [n] output tokens seen: all of an answer that ended, else those before it was cut or looked at
    ended          [n] whether it ended by itself. Of the others it is known only that they are longer than `tokens`:
                   cut by max_tokens or the context window, or still running (right-censored)
    prompt_tokens  [n] tokens of its prompt, -1 where nobody knows
    """

    tokens: IntArray
    ended: BoolArray
    prompt_tokens: IntArray

    @classmethod
    def of(
        cls, tokens: npt.ArrayLike, ended: npt.ArrayLike = True, prompt_tokens: npt.ArrayLike = -1
    ) -> Answers:
        """Broadcasts the three against each other. Raises ValueError: not whole, negative, absurd, ended without a token."""
        given = np.atleast_1d(np.asarray(tokens))
        prompts = np.broadcast_to(np.asarray(prompt_tokens), given.shape)
        finished = np.array(np.broadcast_to(np.asarray(ended, dtype=np.bool_), given.shape))
        if given.ndim != 1:
            raise ValueError("answers are a list of token counts")
        whole, whole_prompts = _whole(given), _whole(prompts)
        if ((whole < finished) | (whole > MOST_TOKENS)).any():
            raise ValueError(f"an answer that ended has 1 to {MOST_TOKENS:,} tokens")
        return cls(whole, finished, whole_prompts)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def censored_share(self) -> float:
        """Share of the answers that did not end by themselves; 0 of none."""
        return float(1.0 - self.ended.mean()) if len(self) else 0.0

    def where(self, chosen: BoolArray) -> Answers:
        """The answers at which `chosen` [n] is true."""
        return Answers(self.tokens[chosen], self.ended[chosen], self.prompt_tokens[chosen])


def _whole(values: npt.NDArray[np.generic]) -> IntArray:
    if values.size and (values.dtype.kind not in "iuf" or not np.isfinite(values).all()):
        raise ValueError("token counts are finite whole numbers")
    whole = values.astype(np.int64)
    if (whole != values).any() or (whole < -1).any():
        raise ValueError("token counts are whole numbers from 0 up")
    return whole
