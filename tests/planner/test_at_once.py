"""How many requests engines run at a time: fewer where more would outgrow the KV cache, and never to their loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs
from planning_problems import SmallNode, model, table

from samullm_tui.domain.request import IntArray
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.planner.at_once import with_fitting_sequences
from samullm_tui.simulate.application import LLMModel, Problem
from samullm_tui.simulate.engine import EngineTrace, simulate_requests

SEQS = 64


def problem(kv_blocks: int, requests: int = 300) -> tuple[Problem, IntArray]:
    """One LLM; its requests have a prompt of 20 tokens and 10 to 390 more, and computing tokens again is dear."""
    llm = model("a", kv_blocks=kv_blocks, max_num_seqs=SEQS, tps=(1,))
    values = dict.fromkeys(COEFFICIENTS, 0.0) | {"constant_s": 0.005, "per_token_s": 2e-4}
    shape = structs.replace(llm.shapes[0], latency=IterationLatency(tuple(values.values())))
    llm = structs.replace(llm, shapes=(shape,))
    some = Problem(table(("a",), (SmallNode("a", requests),)), (llm,), 1, ((0,),))
    return some, np.random.default_rng(0).integers(10, 390, requests)


def served(some: Problem, lengths: IntArray, llm: LLMModel) -> EngineTrace:
    shape = llm.shapes[0]
    return simulate_requests(
        shape.config, shape.latency, np.zeros(len(lengths)), some.table.prompt_tokens, lengths
    )


def test_answers_that_outgrow_the_cache_are_served_sooner_with_fewer_at_a_time() -> None:
    some, lengths = problem(kv_blocks=300)
    (chosen,) = with_fitting_sequences(some, lengths)
    assert chosen.shapes[0].config.max_num_seqs < SEQS
    before, after = served(some, lengths, some.llms[0]), served(some, lengths, chosen)
    assert before.preemptions > 50, "the case is one in which it matters"
    assert after.preemptions < before.preemptions / 2
    assert after.makespan_s < 0.99 * before.makespan_s


@pytest.mark.parametrize("kv_blocks", [40, 80, 160, 320, 640, 1280])
def test_nothing_is_changed_to_its_loss(kv_blocks: int) -> None:
    some, lengths = problem(kv_blocks)
    (chosen,) = with_fitting_sequences(some, lengths)
    before, after = (served(some, lengths, llm).makespan_s for llm in (some.llms[0], chosen))
    assert chosen == some.llms[0] or after < before
    if kv_blocks == 1280:
        assert chosen == some.llms[0], "all that may run at a time fit"


def test_what_the_application_set_stays() -> None:
    some, lengths = problem(kv_blocks=300)
    assert with_fitting_sequences(some, lengths, {"a"}) == some.llms


def test_llms_without_requests_and_with_requests_that_fit_nowhere_stay() -> None:
    some, lengths = problem(kv_blocks=300)
    idle = replace(some, llms=(*some.llms, model("b")))
    idle = replace(idle, table=table(("a", "b"), (SmallNode("a", 300),)))
    assert with_fitting_sequences(idle, lengths)[1] == model("b")
    assert with_fitting_sequences(some, np.full(300, 10_000)) == some.llms
