"""Promises of the test whether prompts matter, and of the strata when they do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from samullm_tui.lengths.answers import Answers
from samullm_tui.lengths.conditional import by_prompt, dependence
from samullm_tui.lengths.survival import kaplan_meier


def conditional(answers: Answers):  # type: ignore[no-untyped-def]
    found = dependence(answers)
    return found, by_prompt(kaplan_meier("x", answers, source="test"), answers, found)


def test_lengths_that_do_not_depend_on_the_prompt_are_seldom_taken_to() -> None:
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(200):
        answers = Answers.of(np.ceil(rng.lognormal(5, 1, 400)), True, np.ceil(rng.lognormal(5, 1, 400)))
        outcome, distribution = conditional(answers)
        p_values.append(outcome.p_value)
        assert outcome.found == (distribution.strata is not None)
    # The test keeps its level: of 200 p-values about 10 are under 0.05.
    assert 2 <= int((np.array(p_values) < 0.05).sum()) <= 22
    assert min(p_values) > 1e-4


def test_the_statistic_is_that_of_kruskal_and_wallis_where_nothing_was_cut() -> None:
    rng = np.random.default_rng(1)
    prompts = np.ceil(rng.lognormal(5, 1, 500)).astype(int)
    tokens = np.ceil(prompts**0.2 * rng.lognormal(3, 1, 500)).astype(int)
    found = dependence(Answers.of(tokens, True, prompts))
    place = np.searchsorted(found.edges, prompts)
    expected = stats.kruskal(*(tokens[place == k] for k in range(found.strata)))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_a_dependence_that_is_not_monotone_is_found() -> None:
    rng = np.random.default_rng(2)
    prompts = rng.integers(1, 1000, 4000)
    tokens = np.ceil(np.where(np.abs(prompts - 500) < 250, 400, 100) * rng.lognormal(0, 0.5, 4000))
    answers = Answers.of(tokens, True, prompts)
    assert abs(stats.spearmanr(prompts, tokens).statistic) < 0.05
    outcome, distribution = conditional(answers)
    assert outcome.found
    medians = [int(part.quantile(0.5)) for part in distribution.strata.distributions]
    assert min(medians[2:6]) > 2 * max(medians[0], medians[7])


@pytest.mark.parametrize("cut", [None, 250])
def test_it_is_found_and_drawn_although_many_answers_were_cut(cut: int | None) -> None:
    rng = np.random.default_rng(3)
    prompts = np.ceil(rng.lognormal(5, 1, 3000)).astype(int)
    whole = np.ceil(prompts**0.5 * 15 * rng.lognormal(0, 0.4, 3000))
    tokens = whole if cut is None else np.minimum(whole, cut)
    outcome, distribution = conditional(Answers.of(tokens, whole <= tokens, prompts))
    assert outcome.found
    first, last = distribution.strata.distributions[0], distribution.strata.distributions[-1]
    assert int(first.quantile(0.3)) < int(last.quantile(0.3))
    assert distribution.samples == 3000


def test_a_trifle_is_not_worth_strata_however_certain() -> None:
    rng = np.random.default_rng(4)
    prompts = rng.integers(1, 1000, 100_000)
    tokens = np.ceil((1000 + 0.1 * prompts) * rng.lognormal(0, 0.4, 100_000))
    outcome = dependence(Answers.of(tokens, True, prompts))
    assert outcome.p_value < 1e-6
    assert not outcome.found


@pytest.mark.parametrize(
    ("tokens", "prompts"),
    [
        ([], []),
        ([5], [10]),
        (range(1, 90), range(1, 90)),
        ([7] * 500, range(500)),
        (range(1, 501), [3] * 500),
    ],
)
def test_too_few_answers_or_nothing_to_tell_apart_is_no_dependence(
    tokens: list[int], prompts: list[int]
) -> None:
    outcome = dependence(Answers.of(list(tokens), True, np.array(list(prompts), dtype=int)))
    assert not outcome.found
    assert (outcome.p_value, outcome.strata) == (1.0, 1)


def test_prompts_that_nobody_knows_take_no_part() -> None:
    rng = np.random.default_rng(5)
    prompts = rng.integers(1, 1000, 1000)
    known = Answers.of(prompts, True, prompts)
    mixed = Answers.of(np.append(prompts, [9] * 300), True, np.append(prompts, [-1] * 300))
    assert dependence(mixed).answers == 1000
    assert dependence(mixed).p_value == dependence(known).p_value


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans(), st.integers(-1, 20)), min_size=1, max_size=300))
def test_whatever_the_data_every_prompt_has_a_distribution(rows: list[tuple[int, bool, int]]) -> None:
    tokens, ended, prompts = map(list, zip(*rows, strict=True))
    outcome, distribution = conditional(Answers.of(tokens, ended, prompts))
    assert 0 <= outcome.p_value <= 1
    assert 0 <= outcome.effect <= 1
    parts = distribution.given(np.arange(0, 30))
    assert sorted(i for _, chosen in parts for i in chosen.tolist()) == list(range(30))
    assert all(part.cumulative[-1] == 1.0 for part, _ in parts)


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "columns", "depends"),
    [
        ("sharegpt_val_10k_llama2", ("num_prefill_tokens", "num_decode_tokens"), True),
        ("azure_llm_2023_conv", ("ContextTokens", "GeneratedTokens"), True),
        ("mooncake_conversation", ("input_length", "output_length"), False),
    ],
)
def test_of_the_measured_sets_those_depend_whose_held_out_error_says_so(  # type: ignore[no-untyped-def]
    measured, file: str, columns: tuple[str, str], depends: bool
) -> None:
    import csv
    import gzip

    with gzip.open(measured / "lengths" / f"{file}.csv.gz", "rt") as stream:
        rows = [[int(float(row[c])) for c in columns] for row in csv.DictReader(stream)]
    prompts, tokens = np.array(rows).T
    half = np.random.default_rng(0).permutation(len(tokens)) < len(tokens) // 2
    answers = Answers.of(tokens, True, prompts)
    outcome, distribution = conditional(answers.where(half))
    assert outcome.found == depends
    if depends:
        kept_out = answers.where(~half)
        assert pinball(distribution, kept_out, strata=True) < pinball(distribution, kept_out, strata=False)


def pinball(distribution, answers: Answers, *, strata: bool) -> float:  # type: ignore[no-untyped-def]
    """Mean pinball loss of the deciles."""
    levels = np.arange(1, 10) / 10
    whole = [(distribution, np.arange(len(answers)))]
    loss = 0.0
    for part, chosen in distribution.given(answers.prompt_tokens) if strata else whole:
        error = answers.tokens[chosen, None] - part.quantile(levels)
        loss += float(np.maximum(levels * error, (levels - 1) * error).sum())
    return loss / len(answers)
