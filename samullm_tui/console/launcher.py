"""A process that starts a run: `python -m samullm_tui.console.launcher`, a Launch as JSON on its stdin.

Creating a run reads all of its data and checks its plan, which needs NumPy and the planner: the console itself stays
light, and draws on while this works. Prints `{"run": NAME}`; with status 2 `{"problems": [...]}` instead.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.event import EngineKind
from samullm_tui.domain.plan import Forecast
from samullm_tui.worker import answer

__all__ = ["Launch", "Launched", "main"]


class Launch(Struct, frozen=True, kw_only=True):
    """What to start: plan `rank` of a forecast. It is approved: the operator typed it."""

    application: str
    cluster: Cluster
    engine: EngineKind
    forecast: Forecast
    rank: int
    speed: float | Literal["max"] = 1.0
    seed: int = 0
    samples: int | None = None
    quantile: float = 0.5


class Launched(Struct, frozen=True):
    run: str


def main() -> int:
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Launch)
    return answer(lambda: _launched(asked))


def _launched(asked: Launch) -> Launched:
    from samullm_tui.supervisor.launch import create_run, spawn_supervisor

    run = create_run(
        Path(asked.application),
        asked.cluster,
        asked.engine,
        speed=asked.speed,
        seed=asked.seed,
        forecast=asked.forecast,
        approved=True,
        rank=asked.rank,
        samples=asked.samples,
        quantile=asked.quantile,
    )
    spawn_supervisor(run)
    return Launched(run)


if __name__ == "__main__":
    sys.exit(main())
