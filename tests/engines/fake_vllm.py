"""A server that speaks vLLM's HTTP and follows a script: for tests of what a real one does once in a thousand runs.

Started as a real one is (the arguments of `serve_command`). How it starts stands in the checkpoint's config.json under
"start", how it answers in the prompt.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

from aiohttp import web

METRICS = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="x"} 3.0
vllm:num_requests_waiting{engine="0",model_name="x"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="x",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="x"} 0.25
vllm:num_preemptions_total{engine="0",model_name="x"} 4.0
vllm:generation_tokens_total{engine="0",model_name="x"} 1234.0
vllm:iteration_tokens_total_bucket{engine="0",le="8.0",model_name="x"} 50.0
vllm:iteration_tokens_total_count{engine="0",model_name="x"} 60.0
vllm:iteration_tokens_total_sum{engine="0",model_name="x"} 2234.0
vllm:cache_config_info{block_size="128",cache_dtype="auto",engine="0",num_gpu_blocks="511",user="x"} 1.0
"""
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
UNAUTHORIZED = 401
CONTEXT = 2048


class Fake:
    def __init__(self, name: str, *, is_mute: bool = False) -> None:
        self.name = name
        self.is_mute = is_mute
        self.key = os.environ.get("VLLM_API_KEY")
        self.aborted = asyncio.Event()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self.authenticate])
        app.router.add_get("/health", lambda _: web.Response())
        models = {"data": [{"id": self.name, "max_model_len": CONTEXT}]}
        app.router.add_get("/v1/models", lambda _: web.json_response(models))
        app.router.add_get("/metrics", lambda _: web.Response(text=METRICS))
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_post("/v1/abort", self.abort)
        app.router.add_post("/detokenize", self.detokenize)
        return app

    @web.middleware
    async def authenticate(self, request: web.Request, handler: web.RequestHandler) -> web.StreamResponse:
        wanted = f"Bearer {self.key}"
        if self.key is None:
            return await handler(request)
        if request.path.startswith("/v1") and request.headers.get("Authorization") != wanted:
            return web.json_response({"error": "Unauthorized"}, status=UNAUTHORIZED)
        return await handler(request)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        chat = "messages" in body
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        if isinstance(prompt, list):
            text = "lo, " + json.dumps(body)
            choice = {"index": 0, "finish_reason": "stop", "text": text, "token_ids": list(text.encode())}
            usage = {"prompt_tokens": len(prompt), "completion_tokens": len(text)}
            return web.json_response({"choices": [choice], "usage": usage})
        if prompt.startswith("status "):
            status = int(prompt.split()[1])
            return web.json_response(
                {"error": {"message": f"wrong: {prompt}", "code": status}}, status=status
            )
        if prompt == "die":
            print("(EngineCore pid=7) ERROR 11-21 13:00:40 [core.py:1510] " + OUT_OF_MEMORY, flush=True)
            os._exit(1)
        if self.is_mute:
            await asyncio.Event().wait()
        if prompt.startswith("hang"):
            await self.aborted.wait()
            return web.json_response(partial(prompt, chat=chat))
        reason = {"abort": "abort", "stop": "stop"}.get(prompt, "length")
        text = json.dumps(body) if prompt == "body" else prompt[5:] if prompt.startswith("echo ") else "hello"
        content = {"message": {"content": text}} if chat else {"text": text}
        choice = {"index": 0, "finish_reason": reason, "token_ids": [5, 6, 7], **content}
        usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
        return web.json_response({"choices": [choice], "usage": usage})

    async def abort(self, _: web.Request) -> web.StreamResponse:
        self.aborted.set()
        return web.Response()

    async def detokenize(self, request: web.Request) -> web.StreamResponse:
        """Its tokens are bytes."""
        tokens = (await request.json())["tokens"]
        return web.json_response({"prompt": bytes(tokens).decode(errors="replace")})


def partial(prompt: str, *, chat: bool) -> dict[str, object]:
    """An aborted answer, as vLLM 0.32 gives it: the prompt's ids stand elsewhere in a chat."""
    ids = {"prompt_token_ids": list(prompt.encode())}
    content = {"message": {"content": "hel"}} if chat else {"text": "hel", **ids}
    choice = {"index": 0, "finish_reason": "abort", "token_ids": list(b"hel"), **content}
    usage = {"prompt_tokens": len(prompt), "completion_tokens": 3}
    return {"choices": [choice], "usage": usage, **(ids if chat else {})}


def start_badly(how: str, folder: Path, port: int, name: str) -> None:
    """What a server does that does not get as far as serving; returns where only the first start is bad."""
    first = folder / "started before"
    if how == "fail":
        print(
            "ValueError: No available memory for the cache blocks.\nRuntimeError: Engine core initialization failed."
        )
        sys.exit(1)
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    if how == "wait":
        while not (folder / "go").exists():
            time.sleep(0.02)
    if how == "impostor" and not first.exists():
        first.touch()
        # Another program, which says of itself whatever is wanted: our name, no key.
        environment = {k: v for k, v in os.environ.items() if k not in {"SAMULLM_RUN", "VLLM_API_KEY"}}
        environment["FAKE_IMPOSTOR"] = str(folder / "impostor saw")
        command = [sys.executable, __file__, "--port", str(port), "--served-model-name", name]
        subprocess.Popen(command, env=environment, start_new_session=True)
        while not (folder / "impostor saw").exists():
            time.sleep(0.02)
        time.sleep(1.5)
        print("OSError: [Errno 98] Address already in use", flush=True)
        sys.exit(1)


def start_core() -> None:
    """A child that the server cannot live without, as vLLM's EngineCore is."""
    core = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(3600)", "EngineCore"])

    def watch() -> None:
        core.wait()
        print("EngineDeadError: EngineCore encountered an issue.", flush=True)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="/nowhere")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", default="x")
    arguments, _ = parser.parse_known_args()
    folder = Path(arguments.model)
    if saw := os.environ.get("FAKE_IMPOSTOR"):
        app = Fake(arguments.served_model_name).application()
        lines: list[str] = []
        app.on_startup.append(lambda _: asyncio.to_thread(Path(saw).touch))

        @web.middleware
        async def note(request: web.Request, handler: web.RequestHandler) -> web.StreamResponse:
            lines.append(f"{request.method} {request.path}")
            Path(saw).write_text("\n".join(lines))
            return await handler(request)

        app.middlewares.insert(0, note)
    else:
        config = json.loads((folder / "config.json").read_text())
        if config.get("core"):
            start_core()
        start_badly(config.get("start", ""), folder, arguments.port, arguments.served_model_name)
        app = Fake(arguments.served_model_name, is_mute=config.get("start") == "mute").application()
    web.run_app(
        app, host="127.0.0.1", port=arguments.port, reuse_address=True, print=None, handle_signals=True
    )


if __name__ == "__main__":
    main()
