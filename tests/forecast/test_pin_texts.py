"""Pins as an operator writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.domain.cluster import Cluster, cluster_from_preset, with_gpus
from samullm_tui.domain.errors import ClusterError, PlanError
from samullm_tui.domain.pin import Pin
from samullm_tui.forecast.pins import pins_for, read_pins
from samullm_tui.locations import APPS
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import build_requests


def test_pins_of_one_llm_add_up() -> None:
    pins, wrong = read_pins(["a:tp=2,gpus=0-3,6", "a:dp=4", "b:stage=1"], ["a:tp=1,4", "a:gpus=7", "b:dp=3"])
    assert wrong == []
    assert pins == {
        "a": Pin(
            tp=2,
            dp=4,
            gpus=frozenset({0, 1, 2, 3, 6}),
            no_tp=frozenset({1, 4}),
            no_gpus=frozenset({7}),
        ),
        "b": Pin(stage=1, no_dp=frozenset({3})),
    }


UNREADABLE = """
a | a: | :tp=1 | a:2 | a:tp | a:tp= | a:tp=0 | a:tp=x | a:tp=1,2 | a:tp=-1 | a:gpus=3-1 | a:gpus=0-99999 | a:colour=1
| a:stage=0 | a:tp=1,tp=2 | a:dp=1.5 | a:gpus=0--1 | a:gpus=, |"""


@pytest.mark.parametrize("text", [text.strip() for text in UNREADABLE.split("|")])
def test_what_cannot_be_read_is_named_with_the_grammar(text: str) -> None:
    _, wrong = read_pins([text], [])
    assert wrong
    assert all(f"--pin {text}" in str(problem) and "LLM:tp=2" in str(problem) for problem in wrong)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_a_pin_or_a_problem(pin: str, forbid: str) -> None:
    for text, (pins, wrong) in ((pin, read_pins([pin], [])), (forbid, read_pins([], [forbid]))):
        assert wrong or (pins and ":" in text)


def test_what_cannot_be_read_and_what_is_impossible_are_named_together() -> None:
    workload = build_requests(load_application(APPS / "chain-summary.toml"))
    with pytest.raises(PlanError) as caught:
        pins_for(
            workload, cluster_from_preset("a100-80g:8"), ["x", "vicuna-13b:tp=64"], ["Llama-2-70b:when=1"]
        )
    said = str(caught.value)
    assert all(words in said for words in ("--pin x", "tp 64 is not possible", "'when' cannot be forbidden"))


def test_another_number_of_gpus_keeps_the_islands() -> None:
    pairs = cluster_from_preset("a100-80g:8")
    assert with_gpus(pairs, 4) == cluster_from_preset("a100-80g:4")
    assert with_gpus(pairs, 16).islands[-1] == (14, 15)
    own = Cluster(name="own", gpu=pairs.gpu, gpus=6, islands=((0, 1, 2, 3), (4, 5)), origin="file")
    assert with_gpus(own, 5).islands == ((0, 1, 2, 3), (4,))
    assert with_gpus(own, 4).islands == ((0, 1, 2, 3),)
    assert with_gpus(own, 11).islands == ((0, 1, 2, 3), (4, 5), (6, 7, 8, 9), (10,))
    for gpus in (0, 65):
        with pytest.raises(ClusterError):
            with_gpus(own, gpus)
