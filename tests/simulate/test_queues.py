"""The queues of the compiled simulator against sorted lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_cases import EXACT

from samullm_tui.simulate.arrivals import add_arrival, drop_arrival, first_arrival, next_arrival_s
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.endings import add_ending, drop_ending, first_ending, steps_to_ending
from samullm_tui.simulate.state import GROUP, ORDER, READY, SEGMENT, State, make_state

REQUESTS = 40


def room(longest: int = 1) -> State:
    """Two engines; the second has all requests but one."""
    engine = (EngineConfig(8, 64, 50, 4, 100), EXACT)
    s = make_state(REQUESTS, [engine, engine], longest=longest)
    s.eng[1, SEGMENT] = 1
    return s


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_arrivals_come_by_time_and_then_in_the_order_of_the_requests(data: st.DataObject) -> None:
    s = room()
    s.req[:, ORDER] = data.draw(st.permutations(range(REQUESTS)))
    s.times[:, READY] = data.draw(st.lists(st.integers(0, 9), min_size=REQUESTS, max_size=REQUESTS))
    outside, coming = list(range(1, REQUESTS)), []
    while outside or coming:
        what = data.draw(st.sampled_from(["add"] * bool(outside) + ["first", "any"] * bool(coming)))
        if what == "add":
            coming.append(outside.pop(0))
            add_arrival(s, 1, coming[-1])
        else:
            gone = first_arrival(s, 1) if what == "first" else data.draw(st.sampled_from(coming))
            coming.remove(gone)
            drop_arrival(s, 1, gone)
        coming.sort(key=lambda r: (s.times[r, READY], s.req[r, ORDER]))
        assert next_arrival_s(s, 1) == (s.times[coming[0], READY] if coming else np.inf)
        assert not coming or first_arrival(s, 1) == coming[0]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 5 * GROUP))
def test_endings_come_by_step_and_in_a_step_as_they_were_added(data: st.DataObject, longest: int) -> None:
    s = room(longest)
    queue = (s.req, s.endings[1], s.crowds[1])
    step, outside, settled = data.draw(st.integers(0, 1000)), list(range(REQUESTS)), []
    while outside or settled:
        if outside and (not settled or data.draw(st.booleans())):
            settled.append((step + data.draw(st.integers(1, longest)), outside.pop(0)))
            add_ending(*queue, settled[-1][1], settled[-1][0])
        elif data.draw(st.booleans()):
            settled.sort(key=lambda pair: pair[0])
            first = settled[0][0]
            assert steps_to_ending(s.endings[1], s.crowds[1], step) == first - step
            step = data.draw(st.integers(step, first - 1)) if data.draw(st.booleans()) else first
            while settled and settled[0][0] == step:
                assert first_ending(s.endings[1], step) == settled[0][1]
                drop_ending(*queue, settled[0][1], step)
                settled.pop(0)
            assert first_ending(s.endings[1], step) == -1
        else:
            end, r = settled.pop(data.draw(st.integers(0, len(settled) - 1)))
            drop_ending(*queue, r, end)
    assert not s.crowds.any()
