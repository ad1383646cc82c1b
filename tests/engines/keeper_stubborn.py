"""A process that is as hard to end as an engine can be, for the keeper's tests.

`python keeper_stubborn.py ROLE`: the root starts one child of each kind and waits. Every one ignores SIGTERM but the first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

KINDS = ("plain", "deaf", "session", "orphan")
PROCESSES = 1 + len(KINDS)
"""How many processes there are once all have started."""


def wait_for_ever() -> None:
    while True:
        time.sleep(60)


def start_children() -> None:
    for kind in KINDS:
        subprocess.Popen([sys.executable, "-I", "-S", __file__, kind], start_new_session=kind == "session")


def main(role: str) -> None:
    if role != "plain":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if role == "root":
        start_children()
    if role == "orphan" and os.fork():
        # Its child goes on in a session of its own and is left without a parent: it must be adopted by the keeper.
        return
    if role == "orphan":
        os.setsid()
    wait_for_ever()


if __name__ == "__main__":
    main(sys.argv[1])
