"""Processor time, which other work on the machine changes less than the wall's."""

from __future__ import annotations

import os

__all__ = ["processor_s"]


def processor_s() -> float:
    """Seconds of this process and of all that it started and has waited for."""
    return sum(os.times()[:4])
