"""`profile` on a real vLLM server: the CPU build with a tiny checkpoint. Counts are exact, times are only there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from samullm_tui.engines.installed import installed_vllm
from samullm_tui.latency.measurements import parse_iterations
from samullm_tui.latency.profile import decode_profile

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(installed_vllm() is None, reason="vLLM is not installed (make install-engine)"),
    pytest.mark.timeout(600),
]

DEADLINE_S = 300


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of its own, by which every process started here is known."""
    folder = tmp_path / "home"
    yield folder
    for pid in processes_of(folder):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files of its own, with a path short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


def processes_of(home: Path) -> list[int]:
    """Living processes that were started with this home."""
    mark = f"SAMULLM_HOME={home}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def command(home: Path, temporary: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "samullm_tui", "profile", "tiny:llama", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SAMULLM_HOME": str(home), "TMPDIR": str(temporary)},
        # Whoever runs the tests in the background may ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def none_left(home: Path) -> bool:
    """Waits for what is about to end."""
    deadline = time.monotonic() + 20
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not processes_of(home)


def test_a_profile_is_measured_written_and_leaves_nothing_behind(
    home: Path, tmp_path: Path, temporary: Path
) -> None:
    output, steps = tmp_path / "out.json", tmp_path / "steps.csv"
    arguments = (
        "--beside",
        0,
        "--seconds",
        6,
        "--starts",
        1,
        "--max-num-seqs",
        16,
        "-o",
        output,
        "--iterations",
        steps,
    )
    process = command(home, temporary, *arguments, "--json")
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    shown = json.loads(out)
    found = decode_profile(output.read_bytes(), str(output))
    (stored,) = (home / "profiles").glob("*.json")
    assert decode_profile(stored.read_bytes(), "stored") == found
    assert shown["file"] == str(output)
    assert (shown["kv_blocks"], shown["load_s"]) == (found.kv_blocks, found.load_s)

    # 64 MiB of keys and values: 2 layers, 4 heads of 32, two bytes each (four when it computes in 32 bits).
    assert found.kv_blocks in {64 * 1024**2 // (bytes_ * 2 * 2 * 128 * 128) for bytes_ in (2, 4)}
    assert (found.block_size, found.max_num_seqs, found.max_num_batched_tokens) == (128, 16, 2048)
    assert (found.checkpoint, found.gpu, found.tp, found.estimate) == ("tiny:llama", "CPU slot", 1, False)
    measured, vllm = found.measured, installed_vllm()
    assert measured is not None
    assert vllm is not None
    assert (measured.vllm, measured.beside, measured.arguments) == (vllm.version, 0, {"max_num_seqs": 16})
    assert (measured.max_model_len, measured.driver, measured.asynchronous) == (2048, "", False)
    assert [len(one) for one in measured.starts_s] == [1]
    assert found.load_s == measured.starts_s[-1][0] > 0
    rows = parse_iterations(steps.read_bytes(), "steps")
    assert measured.rows == len(rows) > measured.held_out_rows > 0
    assert rows.num_seqs.max() <= 16
    assert rows.decode_seqs.max() > 1
    assert (rows.prefill_tokens > 0).sum() > 1
    assert found.iteration.seconds(1, 0, 0.0, 1, 100.0) > 0
    assert none_left(home)
    assert [path for path in temporary.iterdir() if path.name.startswith("samullm")] == []


def test_ctrl_c_ends_the_engine_and_leaves_nothing_behind(home: Path, temporary: Path) -> None:
    process = command(home, temporary, "--beside", 0, "--json")
    deadline = time.monotonic() + DEADLINE_S
    while not any(temporary.glob("samullm-profile-*/*.log")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert none_left(home)
    assert [path for path in temporary.iterdir() if path.name.startswith("samullm")] == []
    assert not any((home / "profiles").glob("*.json"))
