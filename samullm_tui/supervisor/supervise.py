"""One run under one supervisor: plans it, waits for approval, runs it, and ends it. Whatever it was told is recorded."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import numpy as np

from samullm_tui.domain.errors import InputError, Problem, RunError, SamullmError
from samullm_tui.domain.event import (
    AnyEvent,
    Approved,
    ControlReceived,
    ForecastChanged,
    PlanningFinished,
    RequestFailed,
    RequestFinished,
    RunEnded,
    SupervisorStarted,
)
from samullm_tui.domain.plan import Candidate
from samullm_tui.engines.processes import sweep
from samullm_tui.journal.state import apply
from samullm_tui.supervisor.actions import End
from samullm_tui.supervisor.control import Status
from samullm_tui.supervisor.history import History, indices_of
from samullm_tui.supervisor.job import Job, load_job
from samullm_tui.supervisor.ledger import Ledger
from samullm_tui.supervisor.outputs import ErrorRow, OutputRow
from samullm_tui.supervisor.perform import Runner
from samullm_tui.supervisor.planning import plan_in_process
from samullm_tui.supervisor.record import Record
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.sampling import Sampler
from samullm_tui.supervisor.spec import RunPaths, RunSpec
from samullm_tui.supervisor.texts import Texts
from samullm_tui.telemetry.gpu import GpuSampler

__all__ = ["Supervisor"]

T = TypeVar("T")
