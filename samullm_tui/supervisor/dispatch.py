"""Which ready request goes to which replica. Pure: looks at the lanes, changes nothing.

Among the replicas of an LLM that have room, the one that would be done first with it takes the next request, with all
that follows it in its chain: the rule of the forecast (`simulate.dealing`). The steps of a chain stay on the replica that
has the earlier ones. Replicas that still load are dealt requests as well, which are kept for them: or the first one
ready would take everything.

Suspects of killing engines are tried one group at a time for each LLM, on the replica that is the first to be empty.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import islice

from samullm_tui.supervisor.actions import Deal, MoveBack, Send
from samullm_tui.supervisor.lanes import Lane, Lanes, Load

__all__ = ["assign", "move_to"]


def assign(lanes: Lanes, held: Set[str]) -> Iterator[Send | Deal]:
    """What to send and to deal now. `held`: replicas that get nothing, because what they were sent last failed."""
    for llm, queue in lanes.queues.items():
        ours = {name: lane for name, lane in lanes.of.items() if lane.llm == llm and name not in held}
        yield from _trial(lanes, ours, llm)
        if queue:
            yield from _from_queue(lanes, ours, queue)
        else:
            yield from _kept(ours)
            if any(lane.kept and not lane.serving for lane in ours.values()):
                yield from _from_loading(lanes, ours)


def _trial(lanes: Lanes, ours: dict[str, Lane], llm: str) -> Iterator[Send]:
    """The next group of suspects, when a replica is empty. Takes out of `ours` the replica that is for suspects."""
    at_it = next((name for name, lane in lanes.of.items() if lane.llm == llm and lane.on_trial), None)
    if at_it is not None:
        ours.pop(at_it, None)
    elif lanes.trials[llm]:
        serving = (name for name, lane in ours.items() if lane.serving)
        name = min(serving, key=lambda n: (len(ours[n].sent), n), default=None)
        lane = ours.pop(name) if name is not None else None
        if name is not None and lane is not None and not lane.sent:
            for request in lanes.trials[llm][0][: lane.capacity]:
                yield Send(request, name)


def _from_queue(lanes: Lanes, ours: Mapping[str, Lane], queue: deque[int]) -> Iterator[Send | Deal]:
    """What is kept for serving replicas, then what waits for any."""
    yield from _kept(ours)
    room = {name: lane.capacity - len(lane.sent) - len(lane.kept) for name, lane in ours.items()}
    if all(free <= 0 for free in room.values()):
        return
    loads = {name: lanes.load(name) for name in ours}
    for request in islice(queue, sum(max(0, free) for free in room.values())):
        name, loads_with = _first_done(lanes, ours, loads, request, [n for n in room if room[n] > 0])
        yield Send(request, name) if ours[name].serving else Deal(request, name)
        room[name] -= 1
        loads[name] = loads_with


def _first_done(
    lanes: Lanes, ours: Mapping[str, Lane], loads: Mapping[str, Load], request: int, names: Sequence[str]
) -> tuple[str, Load]:
    """Which of these replicas would be done first, had it the request too; and all that it would have then."""
    brought, home = lanes.brings(request), lanes.home(request)
    after = {n: loads[n] if n == home else loads[n] + brought for n in names}
    name = min(names, key=lambda n: (ours[n].seconds(after[n]), n))
    return name, after[name]


def _from_loading(lanes: Lanes, ours: Mapping[str, Lane]) -> Iterator[Send]:
    """A serving replica with nothing left takes over from one that still loads, as long as it would be done earlier
    with what it takes.
    """
    loads = {name: lanes.load(name) for name in ours}
    room = {
        name: lane.capacity - len(lane.sent) - len(lane.kept) for name, lane in ours.items() if lane.serving
    }
    for victim, lane in ours.items():
        for request in reversed(lane.kept) if not lane.serving else ():
            free = [name for name in room if room[name] > 0]
            if not free:
                return
            name, loads_with = _first_done(lanes, ours, loads, request, free)
            if ours[name].seconds(loads_with) >= lane.seconds(loads[victim]):
                break
            yield Send(request, name)
            room[name] -= 1
            loads[name] = loads_with
            loads[victim] -= lanes.brings(request)


def _kept(ours: Mapping[str, Lane]) -> Iterator[Send]:
    for name, lane in ours.items():
        if lane.serving:
            for request in islice(lane.kept, max(0, lane.capacity - len(lane.sent))):
                yield Send(request, name)


def _available(lanes: Lanes, llm: str) -> int:
    """Requests of an LLM that are ready or in flight."""
    everyone = [lane for lane in lanes.of.values() if lane.llm == llm]
    tried = sum(map(len, lanes.trials[llm]))
    return len(lanes.queues[llm]) + tried + sum(len(lane.sent) + len(lane.kept) for lane in everyone)


def move_to(lanes: Lanes, replica: str, queued: Mapping[str, int]) -> MoveBack:
    """The requests to take back for a replica that just became ready: only such as wait in an engine's own queue.

    `queued`: for each replica how many of its requests have not begun. The latest sent are the ones that wait.
    """
    llm = lanes.of[replica].llm
    ours = {name: lane for name, lane in lanes.of.items() if lane.llm == llm}
    fair = -(-_available(lanes, llm) // len(ours))
    moved: list[int] = []
    for name, lane in ours.items():
        surplus = 0 if lane.on_trial else min(len(lane.sent) - fair, queued.get(name, 0))
        moved += list(islice(reversed(lane.sent), max(0, surplus)))
    return MoveBack(replica, tuple(moved))
