"""Promises 1, 2 and 11 over thousands of drawn fault schedules: scripted engines, virtual time."""

from __future__ import annotations

from collections import Counter
from math import inf

import numpy as np
import pytest
from crash_runs import Count, Tally
from scripted_engine import Outcome, Script, candidate_of, run_bench, state_of, table_of

from samullm_tui.domain.event import EngineFailed, LateAnswerDropped, RequestRetried
from samullm_tui.domain.plan import Placement

PAIRS = 12
STAGES = (
    ([Placement("a", 1, 2, (0, 1)), Placement("b", 1, 1, (2,))], "a"),
    ([Placement("b", 1, 2, (2, 0))], "b"),
)


def script_of(rng: np.random.Generator) -> Script:
    """Engines that do not start, die at random or of a request, fail attempts, refuse, and answer when nobody asks."""
    poison = rng.integers(0, 2 * PAIRS, rng.integers(0, 3)).tolist()
    return Script(
        seed=int(rng.integers(2**32)),
        start_fails=float(rng.choice([0.0, 0.3])),
        attempt_fails=float(rng.choice([0.0, 0.1, 0.4])),
        refuses=float(rng.choice([0.0, 0.1])),
        dies_within_s=float(rng.choice([inf, 8.0, 60.0])),
        ignores_cancelling=float(rng.choice([0.0, 0.5, 1.0])),
        max_in_flight=int(rng.integers(1, 8)),
        poison=frozenset(poison),
        fails_first=bool(rng.random() < 0.5),
    )


def run(script: Script) -> Outcome:
    """`b` takes each output of `a`, in two stages; an engine of `b` moves from one GPU to another between them."""
    pairs = [*[("a", ())] * PAIRS, *[("b", (k,)) for k in range(PAIRS)]]
    return run_bench(state_of(table_of("ab", pairs), candidate_of(*STAGES)), script)  # type: ignore[arg-type]


def try_schedules(schedules: int, seed: int, count: Count) -> Counter[str]:
    """Returns how often each kind of fault struck."""
    rng, struck = np.random.default_rng(seed), Counter[str]()
    for _ in range(schedules):
        outcome = run(script_of(rng))
        for kind in (EngineFailed, RequestRetried, LateAnswerDropped):
            struck[kind.__name__] += len(outcome.tape.of(kind))
        rows = Counter(row.id for row in (*outcome.tape.outputs, *outcome.tape.errors))
        count.faults += 1
        count.lost += 2 * PAIRS - len(rows)
        count.doubled += sum(rows.values()) - len(rows)
        count.orphans += len(outcome.world.holders)
        assert rows == Counter(map(str, range(2 * PAIRS)))
        assert not outcome.world.holders
        assert outcome.end.status in {"succeeded", "failed"}
        count.survived += 1
    return struck


def test_every_request_ends_once_whatever_engines_do(tally: Tally) -> None:
    struck = try_schedules(60, 1, tally.of("engine fault schedules"))
    assert min(struck[kind] for kind in ("EngineFailed", "RequestRetried", "LateAnswerDropped")) >= 5


@pytest.mark.torture
def test_every_request_ends_once_in_thousands_of_schedules(tally: Tally) -> None:
    try_schedules(2000, 2, tally.of("engine fault schedules"))
