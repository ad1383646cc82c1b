"""The command lines and environments of vLLM servers, as data."""

from __future__ import annotations

from typing import Any

import pytest

from samullm_tui.domain.application import LLM
from samullm_tui.domain.errors import EngineStartError
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.vllm_command import Command, cookie_of, serve_command

REPLICA = Replica("big", (2, 3))
COOKIE = cookie_of("run-1", REPLICA, 4)


def command(
    llm: LLM, checkpoint: str = "meta/big", replica: Replica = REPLICA, device: Any = "gpu"
) -> Command:
    return serve_command(llm, checkpoint, replica, 8123, device=device, cookie=COOKIE, api_key="k-secret")


def big(**fields: Any) -> LLM:
    return LLM(name="big", checkpoint="meta/big", lengths="big", **fields)


def test_a_gpu_engine_with_two_gpus() -> None:
    served = command(big(context=8192, revision="abc", engine={"max_num_seqs": 512, "enable_lora": True}))
    assert served.argv == (
        *("python", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", "meta/big"),
        *("--served-model-name", "run-1/big.2-3/4"),
        *("--host", "127.0.0.1"),
        *("--port", "8123"),
        *("--tensor-parallel-size", "2"),
        *("--revision", "abc"),
        *("--max-model-len", "8192"),
        "--load-format=safetensors",
        "--max-num-seqs=512",
        "--enable-lora",
        *("--middleware", "samullm_tui.engines.abort_route.AbortRoute"),
        "--disable-uvicorn-access-log",
    )
    assert served.env == {
        "SAMULLM_RUN": "run-1/big.2-3/4",
        "VLLM_API_KEY": "k-secret",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "3600",
        "SPT_NOENV": "1",
        "CUDA_VISIBLE_DEVICES": "2,3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


def test_an_engine_gets_its_gpus_of_those_that_the_environment_lists() -> None:
    def visible(*listed: str) -> str:
        served = serve_command(
            big(), "meta/big", REPLICA, 8123, device="gpu", cookie=COOKIE, api_key="k", visible=listed
        )
        return served.env["CUDA_VISIBLE_DEVICES"]

    assert visible("7", "5", "GPU-c0ffee", "MIG-7ea") == "GPU-c0ffee,MIG-7ea"
    with pytest.raises(EngineStartError, match="GPU 3 is not among the 2 of CUDA_VISIBLE_DEVICES"):
        visible("0", "1")


def test_a_cpu_engine_has_a_kv_cache_size_and_one_thread() -> None:
    served = command(big(), "/cache/tiny", Replica("big", (1,)), "cpu")
    assert {"--kv-cache-memory-bytes=64M", "--enforce-eager"} <= set(served.argv)
    wanted = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    assert wanted.items() <= served.env.items()


def test_tensor_parallel_workers_on_the_cpu_are_bound_each_to_its_core() -> None:
    assert command(big(), device="cpu").env["VLLM_CPU_OMP_THREADS_BIND"] == "2|3"


def test_engine_arguments_of_the_application_go_before_our_defaults() -> None:
    engine = {"kv_cache_memory_bytes": "1G", "enforce_eager": False, "load_format": "dummy", "seed": -1}
    argv = command(big(engine=engine), device="cpu").argv
    assert [a for a in argv if a.startswith(("--kv-cache", "--no-enf", "--enf", "--load", "--seed"))] == [
        *("--load-format=dummy", "--kv-cache-memory-bytes=1G", "--no-enforce-eager", "--seed=-1")
    ]


def test_the_key_is_no_argument() -> None:
    assert "k-secret" not in " ".join(command(big()).argv)


def test_only_a_folder_keeps_the_engine_off_the_hub() -> None:
    assert "HF_HUB_OFFLINE" not in command(big()).env


@pytest.mark.parametrize(
    "name",
    ["port", "host", "api-key", "model", "trust_remote_code", "served_model_name", "tensor_parallel_size"],
)
def test_an_application_cannot_set_what_is_ours(name: str) -> None:
    with pytest.raises(EngineStartError, match=name):
        command(big(engine={name: "x"}))


@pytest.mark.parametrize(
    "name",
    ["worker_cls", "scheduler-cls", "tool_parser_plugin", "logits-processors", "middleware", "a b", "x=y"],
)
def test_an_application_cannot_name_code_to_run(name: str) -> None:
    with pytest.raises(EngineStartError):
        command(big(engine={name: "x"}))


def test_remote_code_is_off_unless_given_with_a_revision() -> None:
    assert "--trust-remote-code" not in command(big()).argv
    assert "--trust-remote-code" in command(big(trust_remote_code=True, revision="abc")).argv
    with pytest.raises(EngineStartError, match="without a revision"):
        command(big(trust_remote_code=True))
