"""The engine protocol on a real vLLM server: the CPU build with tiny checkpoints."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from samullm_tui.domain.application import LLM
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.installed import installed_vllm
from samullm_tui.engines.processes import alive, descendants, marked, shared_memory, sweep
from samullm_tui.engines.protocol import (
    Completion,
    GenerateRequest,
    PartialAnswerError,
    RequestRefusedError,
    Started,
)
from samullm_tui.engines.step_log import read_arrivals, read_setup, read_steps
from samullm_tui.engines.tiny import FAMILIES
from samullm_tui.engines.vllm_command import serve_command
from samullm_tui.engines.vllm_engine import VllmEngine
from samullm_tui.latency.measurements import MIN_ROWS
from tests.engine.step_gate import StepGate

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(installed_vllm() is None, reason="vLLM is not installed (make install-engine)"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(900),
]

CONTEXT = 1024
BUDGET = 256
CANARY = "a canary of a prompt that belongs into no log and no message"


def make(run: str, folder: Path, checkpoint: str, **fields: object) -> VllmEngine:
    llm = LLM(name="tiny", checkpoint=checkpoint, lengths="tiny", context=CONTEXT, **fields)
    log, steps = folder / "engine.log", folder / "steps.csv"
    return VllmEngine(llm, Replica("tiny", (0,)), run=run, epoch=1, log=log, device="cpu", steps=steps)


class Served:
    """A running engine, and what its start said."""

    def __init__(self, engine: VllmEngine, started: Started, run: str, folder: Path) -> None:
        self.engine, self.started, self.run = engine, started, run
        self.log, self.steps = folder / "engine.log", folder / "steps.csv"


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Served]:
    run = f"test-{uuid.uuid4().hex}"
    arguments = {"max_num_seqs": 64, "max_num_batched_tokens": BUDGET}
    engine = make(run, folder, "tiny:llama", engine=arguments)
    try:
        yield Served(engine, await engine.start(), run, folder)
    finally:
        await engine.stop()
        assert sweep(run) == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StepGate]:
    """Where `served` logs its steps to."""
    one = StepGate(tmp_path_factory.mktemp("gate") / "steps.csv")
    yield one
    one.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(gate: StepGate) -> AsyncIterator[Served]:
    async with serving(gate.path.parent) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(tmp_path_factory.mktemp("other")) as one:
        yield one


def asked(prompt: str, *, chat: bool = False, **sampling: object) -> GenerateRequest:
    return GenerateRequest(key=0, prompt=prompt, chat=chat, sampling=sampling)


async def test_forced_lengths_are_exact_with_many_in_flight(served: Served) -> None:
    lengths = [1 + 7 * index for index in range(20)]
    completions = await asyncio.gather(
        *(served.engine.generate(asked("the engine", ignore_eos=True, max_tokens=n)) for n in lengths)
    )
    assert [c.output_tokens for c in completions] == lengths
    assert [len(c.token_ids or ()) for c in completions] == lengths
    assert {c.finish_reason for c in completions} == {"length"}
    assert len({c.prompt_tokens for c in completions}) == 1


async def test_a_chat_answer_has_text_and_token_ids(served: Served) -> None:
    completion = await served.engine.generate(asked("hello", chat=True, ignore_eos=True, max_tokens=9))
    assert completion.output_tokens == len(completion.token_ids or ()) == 9
    assert completion.text


async def test_random_checkpoints_stop_by_themselves_after_lengths_of_every_size(served: Served) -> None:
    # Few at a time, whose prompts fit in a step: of a seeded one that it computes in parts this engine dies.
    at_a_time = asyncio.Semaphore(32)

    async def answer(number: int) -> Completion:
        async with at_a_time:
            return await served.engine.generate(asked(f"question {number}", temperature=1.0, seed=number))

    completions = await asyncio.gather(*map(answer, range(64)))
    assert 32 * max(c.prompt_tokens for c in completions) <= BUDGET
    lengths = sorted(c.output_tokens for c in completions)
    assert sum(c.finish_reason == "stop" for c in completions) > 48
    assert 40 < statistics.mean(lengths) < 600
    assert lengths[-4] > 4 * lengths[4]


async def test_a_prompt_longer_than_the_context_is_refused_without_being_quoted(served: Served) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        await served.engine.generate(asked(f"{CANARY} " * CONTEXT, max_tokens=1))
    assert str(CONTEXT) in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("sampling", [{"temperature": "hot"}, {"temperature": -1.0}, {"max_tokens": 0}])
async def test_sampling_that_is_wrong_is_refused_without_the_prompt(
    served: Served, sampling: dict[str, object]
) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        await served.engine.generate(asked(CANARY, **sampling))
    assert "canary" not in str(refused.value)
    assert next(iter(sampling)) in str(refused.value)


async def test_an_answer_that_does_not_fit_is_cut_short_and_says_length(served: Served) -> None:
    completion = await served.engine.generate(asked("the end " * 200, ignore_eos=True, max_tokens=CONTEXT))
    assert completion.finish_reason == "length"
    assert completion.prompt_tokens + completion.output_tokens == CONTEXT


async def test_the_engine_counts_what_it_does_and_knows_its_kv_blocks(served: Served) -> None:
    before = await served.engine.stats()
    await served.engine.generate(asked("count", ignore_eos=True, max_tokens=50))
    after = await served.engine.stats()
    assert after.output_tokens_total == before.output_tokens_total + 50
    assert (after.running, after.waiting) == (0, 0)
    assert after.kv_usage is not None
    # 64 MiB of keys and values: 2 layers, 4 heads of 32, two bytes each (four when it computes in 32 bits).
    assert served.started.kv_blocks in {64 * 1024**2 // (bytes_ * 2 * 2 * 128 * 128) for bytes_ in (2, 4)}
    assert served.started.load_s > 0


async def test_each_step_of_one_request_is_logged_exactly(other: Served) -> None:
    assert read_setup(other.steps).kv_blocks == other.started.kv_blocks
    assert read_setup(other.steps).max_num_batched_tokens == BUDGET
    since = other.steps.stat().st_size
    prompt = tuple(100 + index % 300 for index in range(600))
    sampling = {"max_tokens": MIN_ROWS, "ignore_eos": True}
    completion = await other.engine.generate(GenerateRequest(key=0, token_ids=prompt, sampling=sampling))
    assert (completion.prompt_tokens, completion.output_tokens) == (600, MIN_ROWS)
    rows = read_steps([(other.steps, since)])
    assert rows.num_seqs.tolist() == [1] * (MIN_ROWS + 2)
    assert rows.prefill_tokens.tolist() == [BUDGET, BUDGET, 600 - 2 * BUDGET, *[0] * (MIN_ROWS - 1)]
    assert rows.prefill_context.sum() == sum(range(1, 601))
    assert rows.decode_seqs.tolist() == [0, 0, 0, *[1] * (MIN_ROWS - 1)]
    assert rows.decode_context.tolist() == [0, 0, 0, *range(601, 600 + MIN_ROWS)]
    assert rows.latency_s.min() > 0


async def test_every_process_of_the_engine_carries_the_cookie(served: Served) -> None:
    (keeper,) = {_parent(pid) for pid in marked(served.run)} - set(marked(served.run))
    assert sorted(descendants(keeper)) == sorted(marked(served.run))
    assert len(marked(served.run)) >= 3, "API server, engine core, worker"


async def test_cancelled_requests_leave_the_engine(served: Served) -> None:
    before = (await served.engine.stats()).output_tokens_total
    request = asked("long", ignore_eos=True, max_tokens=CONTEXT)
    jobs = [asyncio.create_task(served.engine.generate(replace(request, key=key))) for key in range(64)]
    while (await served.engine.stats()).running == 0:
        assert not all(job.done() for job in jobs)
    for job in jobs:
        job.cancel()
    await asyncio.wait(jobs)
    while (await served.engine.stats()).running:  # noqa: ASYNC110  # another process sets no event
        await asyncio.sleep(0.05)
    made = (await served.engine.stats()).output_tokens_total - before
    assert made < 0.9 * len(jobs) * (CONTEXT - 16), "it went on with them"


ANSWERS = 24


def greedy(number: int) -> GenerateRequest:
    """Some stop by themselves, some at a word, some at their limit; every other one is a chat."""
    long = number % 3 == 0
    sampling: dict[str, object] = {
        "temperature": 0.0,
        "max_tokens": 880 if long else 400 + 3 * number,
        "ignore_eos": long,
    }
    if number % 4 == 1:
        sampling["stop"] = ["ft a", "\ufffdn"]
    prompt = f"{CANARY} {7919 * number}"
    return GenerateRequest(key=number, prompt=prompt, chat=bool(number % 2), sampling=sampling)


async def _begun(served: Served, gate: StepGate) -> list[asyncio.Task[Completion]]:
    """All requests, sent to an engine that is held a page of steps after the last of them has reached it."""
    gate.shut()
    since_s, all_came = time.monotonic(), False
    jobs = [asyncio.create_task(served.engine.generate(greedy(n))) for n in range(ANSWERS)]
    while True:
        while not gate.holds:
            assert not all(job.done() for job in jobs), "the engine had all the time that it wanted"
            await asyncio.sleep(0.01)
        if all_came:
            return jobs
        all_came = len(read_arrivals(served.steps, since_s)) == ANSWERS
        if not all_came:
            await asyncio.sleep(0.5)  # They are on their way to an engine that makes no step meanwhile.
        gate.let_on()


async def _stop(served: Served, gate: StepGate) -> None:
    """The engine is let on page by page, so that the order to give up finds it at work whenever it comes."""
    stopped = asyncio.create_task(served.engine.stop())
    while not stopped.done():
        await asyncio.wait({stopped}, timeout=1)
        gate.let_on()
    await stopped


async def test_a_stop_gives_back_tokens_with_which_another_engine_gives_the_same_answers(
    served: Served, gate: StepGate, other: Served
) -> None:
    whole = await asyncio.gather(*(served.engine.generate(greedy(n)) for n in range(ANSWERS)))
    failed = asyncio.create_task(served.engine.failed())
    jobs = await _begun(served, gate)
    await _stop(served, gate)
    assert marked(served.run) == []
    assert not failed.done()
    failed.cancel()
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    partial = [o for o in outcomes if isinstance(o, PartialAnswerError)]
    assert len(partial) >= ANSWERS // 4
    assert all(isinstance(o, PartialAnswerError | Completion) for o in outcomes)

    async def finish(number: int) -> Completion:
        outcome = outcomes[number]
        if isinstance(outcome, Completion):
            return outcome
        assert isinstance(outcome, PartialAnswerError)
        return await other.engine.generate(replace(greedy(number), begun=outcome.begun))

    finished = await asyncio.gather(*map(finish, range(ANSWERS)))
    # Where an answer goes round in a stop string's first letter there is no seam: that one may begin anew.
    assert sum(c.pieces == 2 for c in finished) >= 0.75 * len(partial)
    assert [replace(c, pieces=1) for c in finished] == whole
    log = served.log.read_text()
    assert "canary" not in log, "neither refused nor aborted prompts are logged"
    assert served.log.stat().st_mode & 0o777 == 0o600


async def test_nobody_else_can_make_a_server_give_up_what_it_has(other: Served) -> None:
    client = other.engine._client
    assert client is not None
    async with client._session.post("/v1/abort", headers={"Authorization": "Bearer guessed"}) as response:
        assert response.status == 401
    completion = await other.engine.generate(asked("hello", ignore_eos=True, max_tokens=5))
    assert completion.output_tokens == 5


async def test_a_sigkill_of_the_server_is_a_failure_and_leaves_no_orphan(other: Served) -> None:
    pids = marked(other.run)
    (server,) = (pid for pid in pids if _parent(pid) not in pids)
    shared = shared_memory(pids)
    assert shared, "engine core and worker talk through shared memory"
    failed = asyncio.create_task(other.engine.failed())
    os.kill(server, signal.SIGKILL)
    assert "SIGKILL" in await failed
    await other.engine.stop()
    assert not any(alive(pid) for pid in pids)
    assert not any(Path(path).exists() for path in shared)


async def test_vllms_own_parser_takes_the_flags() -> None:
    llm = LLM(
        name="tiny",
        checkpoint="/models/x",
        lengths="tiny",
        context=CONTEXT,
        trust_remote_code=True,
        engine={
            "max_num_seqs": 7,
            "enable_prefix_caching": False,
            "gpu_memory_utilization": 0.5,
            "enable_lora": True,
        },
    )
    replica = Replica("tiny", (4, 5))
    argvs = [
        serve_command(llm, "/models/x", replica, 8123, device=device, cookie="run/tiny/1", api_key="k").argv[
            3:
        ]
        for device in ("gpu", "cpu")
    ]
    script = (
        "import json, sys\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "names = ('model', 'served_model_name', 'host', 'port', 'tensor_parallel_size', 'max_model_len', 'max_num_seqs',\n"
        "         'enable_prefix_caching', 'gpu_memory_utilization', 'enable_lora', 'trust_remote_code', 'load_format',\n"
        "         'kv_cache_memory_bytes', 'enforce_eager', 'disable_uvicorn_access_log')\n"
        "for argv in json.loads(sys.argv[1]):\n"
        "    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(argv)\n"
        "    print(json.dumps({name: getattr(parsed, name) for name in names}))\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, json.dumps(argvs)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    gpu, cpu = map(json.loads, done.stdout.splitlines()[-2:])
    common = {
        "model": "/models/x",
        "served_model_name": ["run/tiny/1"],
        "host": "127.0.0.1",
        "port": 8123,
        "tensor_parallel_size": 2,
        "max_model_len": CONTEXT,
        "max_num_seqs": 7,
        "enable_prefix_caching": False,
        "gpu_memory_utilization": 0.5,
        "enable_lora": True,
        "trust_remote_code": True,
        "load_format": "safetensors",
        "disable_uvicorn_access_log": True,
    }
    assert common.items() <= gpu.items()
    assert common.items() <= cpu.items()
    assert (gpu["kv_cache_memory_bytes"], cpu["kv_cache_memory_bytes"]) == (None, 64 * 1024**2)
    assert cpu["enforce_eager"] is True


async def test_tiny_checkpoints_are_small_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    def build(cache: Path, family: str) -> dict[str, bytes]:
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        command = [sys.executable, "-m", "samullm_tui.engines.tiny", family]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        (folder,) = (cache / "samullm-tui" / "checkpoints").glob(f"tiny-{family}-*")
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    for family in FAMILIES:
        files = await asyncio.to_thread(build, tmp_path / "one", family)
        assert sum(map(len, files.values())) < 3_000_000
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= files.keys()
    assert await asyncio.to_thread(build, tmp_path / "two", family) == files


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
