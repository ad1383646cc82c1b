"""The command line and environment of a vLLM server, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from samullm_tui.domain.application import LLM, Scalar
from samullm_tui.domain.cluster import VISIBLE
from samullm_tui.domain.errors import EngineStartError, Problem
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.abort_route import MIDDLEWARE
from samullm_tui.engines.installed import Device
from samullm_tui.engines.processes import COOKIE
from samullm_tui.engines.step_log import SCHEDULER, STEPS

__all__ = ["CPU_KV_CACHE", "OWNED_ARGUMENTS", "Command", "cookie_of", "serve_command"]

SERVER_IDLE_S = 3600
"""How long a server keeps a connection that nobody uses. With vLLM's own 5 s, on a machine with too much to do, requests
failed because the server had closed the connection that they came over (ServerDisconnectedError).
"""
CPU_KV_CACHE = "64M"
"""Without a size a CPU engine takes 92 % of the machine's memory."""

OWNED_ARGUMENTS = frozenset(
    {
        *("model", "tokenizer", "served_model_name", "revision", "trust_remote_code", "max_model_len"),
        *("host", "port", "uds", "api_key", "tensor_parallel_size", "root_path", "config", "fd"),
    }
)
"""Engine arguments that an application does not set by `engine`: they come from its other fields, or from here."""

# These name code to import or to read from a file. An application is data.
NAMES_CODE = (
    *("_cls", "_class", "_plugin", "middleware", "logits_processors"),
    *("distributed_executor_backend", "kv_transfer_config", "ec_transfer_config"),
)


class Command(Struct, frozen=True):
    """`env` is what is added to the environment of the caller."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


def cookie_of(run: str, replica: Replica, epoch: int) -> str:
    """`<run>/<replica>/<epoch>`: also the name under which the server serves its model."""
    return f"{run}/{replica.name}/{epoch}"


def serve_command(
    llm: LLM,
    checkpoint: str,
    replica: Replica,
    port: int,
    *,
    device: Device,
    cookie: str,
    api_key: str,
    python: str = "python",
    steps: str = "",
    visible: tuple[str, ...] | None = None,
) -> Command:
    """Serves `checkpoint` (a folder or a Hugging Face id) on the replica's GPUs, on 127.0.0.1:`port`.

    `visible`: the GPUs that there are, where the caller's environment lists them.
    `steps` is a file to log every step to (step_log). The key stands in the environment: an argument would be readable by everybody. Raises EngineStartError when the
    engine arguments of `llm` are not an application's to set.
    """
    is_folder = checkpoint.startswith("/")
    argv = (
        *(python, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", checkpoint),
        *("--served-model-name", cookie),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--tensor-parallel-size", str(replica.tp)),
        *_checkpoint_flags(llm, is_folder),
        *_engine_flags(llm, device),
        *(("--scheduler-cls", SCHEDULER) if steps else ()),
        *("--middleware", MIDDLEWARE),
        "--disable-uvicorn-access-log",
    )
    env = {
        COOKIE: cookie,
        "VLLM_API_KEY": api_key,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(SERVER_IDLE_S),
        # Process titles would be written over the environment, and the cookie with it.
        "SPT_NOENV": "1",
        **({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if is_folder else {}),
        **({STEPS: steps} if steps else {}),
        **_device_env(replica, device, visible),
    }
    return Command(argv, env)


def _checkpoint_flags(llm: LLM, is_folder: bool) -> Iterator[str]:
    if llm.revision is not None and not is_folder:
        yield from ("--revision", llm.revision)
    if llm.trust_remote_code:
        if llm.revision is None and not is_folder:
            right = "pin it with a revision (a commit), so that what was looked at is what runs"
            raise EngineStartError(
                Problem(llm.checkpoint, llm.name, "trust_remote_code without a revision", right)
            )
        yield "--trust-remote-code"
    if llm.context is not None:
        yield from ("--max-model-len", str(llm.context))


def _engine_flags(llm: LLM, device: Device) -> Iterator[str]:
    """The engine arguments of the application over our defaults."""
    defaults: dict[str, Scalar] = {
        "load_format": "safetensors"
    }  # Pickled weights run code when they are read.
    if device == "cpu":
        defaults |= {"kv_cache_memory_bytes": CPU_KV_CACHE, "enforce_eager": True}
    for name, value in (defaults | dict(llm.engine)).items():
        option = name.replace("-", "_")
        if option in OWNED_ARGUMENTS or not option.replace("_", "").isalnum():
            raise EngineStartError(
                Problem(llm.checkpoint, llm.name, f"{name} is not an engine argument to set here")
            )
        if option.endswith(NAMES_CODE):
            raise EngineStartError(
                Problem(llm.checkpoint, llm.name, f"{name} names code, an application is data")
            )
        yield from _flag(option, value)


def _flag(option: str, value: Scalar) -> Iterator[str]:
    dashed = option.replace("_", "-")
    if isinstance(value, bool):
        yield f"--{dashed}" if value else f"--no-{dashed}"
    else:
        # One word: a value that begins with a dash must not become a flag.
        yield f"--{dashed}={value}"


def _device_env(replica: Replica, device: Device, visible: tuple[str, ...] | None) -> dict[str, str]:
    if device == "gpu":
        if visible is not None and max(replica.gpus) >= len(visible):
            wrong = f"GPU {max(replica.gpus)} is not among the {len(visible)} of {VISIBLE}"
            raise EngineStartError(Problem(replica.name, "", wrong))
        gpus = map(str, replica.gpus) if visible is None else (visible[gpu] for gpu in replica.gpus)
        return {VISIBLE: ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    # Each slot is a core. Binding is only wanted where vLLM insists on it: between tensor-parallel workers.
    bind = "nobind" if replica.tp == 1 else "|".join(map(str, replica.gpus))
    return {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": bind, VISIBLE: ""}
