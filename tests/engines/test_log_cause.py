"""The cause of a failed engine is named, in one safe line, though vLLM's last line is always the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from samullm_tui.engines.log_cause import LIMIT, cause_of

LOGS = Path(__file__).parent / "logs"


@pytest.mark.parametrize(
    ("log", "begins"),
    [
        (
            "badpath",
            "HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': 'model'",
        ),
        ("notmodel", "ValueError: Invalid repository ID or local directory specified: 'empty'."),
        ("flag", "unrecognized arguments: --no-such-flag"),
        ("badvalue", "argument --max-num-seqs: invalid int value: 'lots'"),
        (
            "context",
            "ValueError: User-specified max_model_len (100000) is greater than the derived max_model_len",
        ),
        ("port", "OSError: [Errno 98] Address already in use"),
        ("kvsmall", "ValueError: No available memory for the cache blocks."),
        ("kvbig", "ValueError: Available memory on node 0 (6.5/8.09 GiB) on kv cache allocation is less"),
    ],
)
def test_the_cause_of_each_failing_start_of_a_real_server_is_found(log: str, begins: str) -> None:
    assert cause_of((LOGS / f"{log}.log").read_text()).startswith(begins)


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("", ""),
        ("INFO all is well\nValueErrorless prose\n    raise ValueError(x)\n", ""),
        ("torch.OutOfMemoryError: CUDA out of memory.", "OutOfMemoryError: CUDA out of memory."),
        ("Fatal Python error: Segmentation fault\n\nThread 0x1", "Segmentation fault"),
        (
            (
                "(EngineCore pid=9) ERROR 11-21 13:00:40 [core.py:1510] RuntimeError: CUDA error: an illegal access\n"
                "(APIServer pid=8) ERROR 11-21 13:00:41 [async_llm.py:7] vllm.v1.engine.exceptions.EngineDeadError: "
                "EngineCore encountered an issue. See stack trace (above) for the root cause.\n"
                "asyncio.exceptions.CancelledError\n"
            ),
            "RuntimeError: CUDA error: an illegal access",
        ),
        (
            "RuntimeError: Engine core initialization failed. See root cause above.",
            "RuntimeError: Engine core initialization failed. See root cause above.",
        ),
    ],
)
def test_the_last_error_that_is_no_consequence_is_the_cause(log: str, cause: str) -> None:
    assert cause_of(log) == cause


def test_the_line_is_short_and_has_no_control_sequence_no_folder_and_no_token() -> None:
    log = (
        "OSError: \x1b[2J\x1b]52;c;aGk=\x07 /home/somebody/models/llama/config.json hf_abcdefghijklmnop "
        + "x" * 999
    )
    cause = cause_of(log)
    assert cause.isprintable()
    assert len(cause) == LIMIT
    assert cause.startswith("OSError: ␛[2J␛]52;c;aGk=\\x07 config.json hf_… xxx")


def test_an_address_of_the_web_is_left_whole() -> None:
    assert cause_of("ValueError: see https://docs.vllm.ai/en/latest/x/ now").endswith(
        "https://docs.vllm.ai/en/latest/x/ now"
    )
