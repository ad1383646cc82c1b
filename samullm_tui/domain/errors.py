"""Every error a user can meet, as one tree.

SamullmError                     exit status 1 unless said otherwise
├── InputError                   exit status 2: what the user gave is wrong, at a named place
│   ├── ApplicationError         an application file, or the data it names
│   ├── ClusterError             a cluster preset or file
│   ├── ProfileError             a latency profile, or the measurements to fit one to
│   ├── PlanError                a plan file
│   ├── PlacementError           an LLM that fits on no placement of the cluster
│   └── RecordingError           a file that is not a recording
├── EngineError                  an engine failed while working
│   ├── EngineMissingError            vLLM is not installed (exit status 2)
│   └── EngineStartError         an engine did not become ready
├── RunError                     a run cannot do what was asked
│   └── RunNotFoundError              no run of that name (exit status 2)
└── JournalError                 the journal could not be written or is damaged
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ApplicationError",
    "ClusterError",
    "EngineError",
    "EngineMissingError",
    "EngineStartError",
    "InputError",
    "JournalError",
    "PlacementError",
    "PlanError",
    "Problem",
    "ProfileError",
    "RecordingError",
    "RunError",
    "RunNotFoundError",
    "SamullmError",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: in which file, at which place, what, and what would be right."""

    file: str
    place: str
    wrong: str
    right: str = ""

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.file, self.place) if part)
        what = f"{self.wrong}; {self.right}" if self.right else self.wrong
        return f"{where}: {what}" if where else what


class SamullmError(Exception):
    """Root of the tree. Carries one or more problems; its text is one problem a line."""

    exit_status = 1

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class InputError(SamullmError):
    """What the user gave is wrong."""

    exit_status = 2


class ApplicationError(InputError):
    """An application file, or the data it names, is wrong."""


class ClusterError(InputError):
    """A cluster preset or file is wrong."""


class ProfileError(InputError):
    """A latency profile, or the measurements to fit one to, are wrong."""


class PlanError(InputError):
    """A plan file is wrong, or does not belong to the application and cluster."""


class PlacementError(InputError):
    """An LLM fits on no placement of the cluster."""


class RecordingError(InputError):
    """A file is not a recording."""


class EngineError(SamullmError):
    """An engine failed while working."""


class EngineMissingError(EngineError):
    """vLLM is not installed."""

    exit_status = 2


class EngineStartError(EngineError):
    """An engine did not become ready. The problem names the cause found in its log."""


class RunError(SamullmError):
    """A run cannot do what was asked of it."""


class RunNotFoundError(RunError):
    """There is no run of that name."""

    exit_status = 2


class JournalError(SamullmError):
    """The journal could not be written, or is damaged before its end."""
