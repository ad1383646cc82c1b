"""The answers that engines were stopped in, until another engine goes on with them."""

from __future__ import annotations

from samullm_tui.engines.protocol import Begun
from samullm_tui.supervisor.begun import BegunAnswers


def begun(tokens: int) -> Begun:
    return Begun(output_tokens=tokens, prompt_ids=(1,) * 10, token_ids=(2,) * tokens)


def test_what_is_kept_is_bounded_and_room_comes_back() -> None:
    answers = BegunAnswers(max_tokens=100)
    answers.keep(1, begun(40))
    answers.keep(2, begun(41))
    assert (answers.get(1), answers.get(2)) == (begun(40), None)
    answers.keep(1, begun(50))
    answers.keep(3, begun(30))
    assert [answers.get(k) for k in (1, 3)] == [begun(50), begun(30)]
    answers.keep(1, begun(60))
    assert answers.get(1) == begun(50), "what there was of it stays"
    answers.drop(1)
    answers.drop(2)
    answers.keep(4, begun(50))
    assert answers.get(4) == begun(50)
    assert len(answers) == 2
