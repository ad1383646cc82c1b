"""Which ready request goes to which replica. Pure: looks at the ledger, changes nothing.

Among the serving replicas of an LLM that have room, the one with the fewest outstanding tokens takes the next
request. A chain's steps stay on the replica that has its earlier ones, whose prefix cache holds them. While another
replica of the LLM still loads, none takes more than its share, or the first one ready would take everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from itertools import islice

from samullm_tui.supervisor.actions import MoveBack, Send
from samullm_tui.supervisor.ledger import Lane, Ledger

__all__ = ["assign", "move_to"]


def assign(ledger: Ledger, loading: Mapping[str, int], held: Set[str]) -> Iterator[Send]:
    """What to send now. `loading`: for each LLM how many more of its replicas will be ready soon.

    `held`: replicas that get nothing now, because what they were sent last failed.
    """
    for llm, queue in ledger.queues.items():
        lanes = {name: lane for name, lane in ledger.lanes.items() if lane.llm == llm}
        if not lanes or not (queue or any(lane.pinned for lane in lanes.values())):
            continue
        share = _share(ledger, lanes, loading.get(llm, 0))
        room = {
            n: 0 if n in held else min(lane.capacity, share) - len(lane.sent) for n, lane in lanes.items()
        }
        outstanding = {name: lane.outstanding_tokens for name, lane in lanes.items()}
        for name, lane in lanes.items():
            for request in islice(lane.pinned, max(0, room[name])):
                yield Send(request, name)
                room[name] -= 1
                outstanding[name] += ledger.tokens_of(request)
        for request in islice(queue, sum(max(0, free) for free in room.values())):
            name = min((n for n in room if room[n] > 0), key=lambda n: (outstanding[n], n))
            yield Send(request, name)
            room[name] -= 1
            outstanding[name] += ledger.tokens_of(request)


def _share(ledger: Ledger, lanes: Mapping[str, Lane], loading: int) -> int:
    """The most requests that one replica may have in flight."""
    if not loading:
        return len(ledger.table)
    return -(-_available(ledger, lanes) // (len(lanes) + loading))


def _available(ledger: Ledger, lanes: Mapping[str, Lane]) -> int:
    """Requests of the LLM of `lanes` that are ready or in flight."""
    llm = next(iter(lanes.values())).llm
    return len(ledger.queues[llm]) + sum(len(lane.sent) + len(lane.pinned) for lane in lanes.values())


def move_to(ledger: Ledger, replica: str, queued: Mapping[str, int]) -> MoveBack:
    """The requests to take back for a replica that just became ready: only such as wait in an engine's own queue.

    `queued`: for each replica how many of its requests have not begun. The latest sent are the ones that wait.
    """
    llm = ledger.lanes[replica].llm
    lanes = {name: lane for name, lane in ledger.lanes.items() if lane.llm == llm}
    fair = -(-_available(ledger, lanes) // len(lanes))
    moved: list[int] = []
    for name, lane in lanes.items():
        surplus = min(len(lane.sent) - fair, queued.get(name, 0))
        moved += list(islice(reversed(lane.sent), max(0, surplus)))
    return MoveBack(replica, tuple(moved))
