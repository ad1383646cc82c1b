"""The process in which plans are thought about: searching holds Python's lock, and must not hold up a run's requests.

`python -m samullm_tui.supervisor.reschedule_worker FD PARENT` answers questions on the socket FD until it is closed. It
is killed by the kernel when the process PARENT (more exactly, the thread of it that started this one) is gone.
"""

from __future__ import annotations

import socket
import sys

from samullm_tui.domain.request import RequestTable
from samullm_tui.supervisor.reschedule_wire import Question, Reply, ask, receive
from samullm_tui.worker import end_with

__all__ = ["main"]


def main() -> int:
    peer, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    end_with(parent)
    table: RequestTable | None = None
    while True:
        try:
            question = receive(peer, table)
        except (EOFError, ConnectionError):
            return 0
        if isinstance(question, RequestTable):
            table = question
        else:
            ask(peer, _reply(question))


def _reply(question: Question) -> Reply:
    import numpy as np

    from samullm_tui.planner.reschedule import forecast_rest, reconsider

    try:
        if question.what == "forecast":
            return Reply(forecast_rest(question.situation))
        return Reply(reconsider(question.situation, np.random.default_rng(question.seed)))
    except Exception as error:  # noqa: BLE001  # whatever it is, the run goes on with its plan and says so
        return Reply(failure=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
