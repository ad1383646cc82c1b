"""Observed lengths against expected: a drift is said when there is one, and never because short answers come first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from samullm_tui.domain.event import AnyEvent, RequestFinished
from samullm_tui.domain.length_report import SeenLengths
from samullm_tui.hindsight.lengths import lengths_seen
from samullm_tui.hindsight.observed import observe
from samullm_tui.lengths.distribution import from_samples
from samullm_tui.simulate.application import Problem
from tests.planner.planning_problems import SmallNode, model, problem

N = 600
RNG = np.random.default_rng(5)
MEASURED = RNG.lognormal(4.0, 0.8, 20_000).astype(np.int64).clip(1)
DIST = from_samples("a", MEASURED, source="measured")
POINTS = [[0.0, 50.0, 1e6]]


def one_llm() -> Problem:
    made = problem([model("a")], [SmallNode("a", N)])
    return replace(made, expected=np.full(N, round(DIST.mean)))


def run(lengths: np.ndarray, until_s: float | None, *, known: bool = False) -> SeenLengths:
    """Requests sent one a second; each answer takes a second a token. Looked at `until_s`, or after the end."""
    made = one_llm()
    if known:
        made = replace(made, table=replace(made.table, known_tokens=lengths))
    events: list[AnyEvent] = [
        RequestFinished(
            at_s=float(i + tokens), node="node0", id=f"0/{i}", llm="a", replica="a.0", prompt_tokens=20,
            output_tokens=int(tokens), finish_reason="stop", sent_s=float(i), offset=0,
        )
        for i, tokens in enumerate(lengths)
    ]  # fmt: skip
    seen = [event for event in events if until_s is None or event.at_s <= until_s]
    (row,) = lengths_seen(made, {"a": DIST}, observe(made.table, seen), until_s, {"a": 7}, POINTS)
    return row


def test_the_same_lengths_are_no_drift() -> None:
    row = run(DIST.sample(N, RNG), None)
    assert (row.answers, row.requests, row.running, row.judged) == (N, N, 7, N)
    assert row.drift is False
    assert row.ks is not None
    assert row.ks < 0.07
    assert row.cdf[0] == 0.0
    assert row.cdf[-1] == 1.0


def test_longer_answers_are_a_drift_with_their_mean() -> None:
    row = run((1.3 * DIST.sample(N, RNG)).astype(np.int64).clip(1), None)
    assert row.drift is True
    assert row.judged_mean > 1.2 * row.expected_mean


def test_short_answers_that_come_first_are_no_drift() -> None:
    row = run(DIST.sample(N, RNG), 500.0)
    assert row.mean < 0.97 * row.judged_mean, "all answers so far are the short ones"
    assert 30 <= row.judged < row.answers
    assert row.drift is False


def test_few_answers_say_nothing() -> None:
    assert run(DIST.sample(20, RNG), None).drift is None
    assert run(np.zeros(0, np.int64), 3.0) == SeenLengths(llm="a", answers=0, running=7, requests=N)


def test_requests_whose_length_the_data_says_are_not_compared() -> None:
    assert run(np.full(N, 400), None, known=True).answers == 0
