"""A run of a million requests under a real supervisor: `python soak.py FOLDER REQUESTS` prints what was seen.

The supervisor is a process of its own, as always; this one only asks it now and then how far it is.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Soak", "soak"]

APPLICATION = """
name = "soak"
title = "a source and a consumer, lengths only"

[llms.llama]
checkpoint = "tiny:llama"
context = 1024

[llms.qwen3]
checkpoint = "tiny:qwen3"
context = 1024

[data.questions]
synthetic = {{ records = {records}, seed = 1, fields = {{ question = {{ uniform = [8, 32] }} }} }}

[nodes.answer]
llm = "llama"
from = "questions"
prompt = "{{question}}"
sampling = {{ max_tokens = 24 }}

[nodes.judge]
llm = "qwen3"
from = ["questions", "answer"]
prompt = "{{question}} {{answer}} good?"
sampling = {{ max_tokens = 8 }}
"""


@dataclass
class Soak:
    """`at`: (outputs, MiB resident, CPU seconds) of the supervisor, ten times on its way."""

    requests: int
    at: list[tuple[int, float, float]] = field(default_factory=list)


def _seen(pid: int) -> tuple[float, float]:
    """MiB resident and CPU seconds of all threads of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return rss / 1024, (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
