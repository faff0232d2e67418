"""A stand-in for an Ollama server, as a process: `python -m tests.support.ollama_server --port 0`.

It keeps to Ollama's HTTP API (/, /api/version, /api/tags, /api/show, /api/ps, /api/chat), its framing, its error bodies,
its one cold load at a time, and can be told to fail. It prints one JSON line with its address. Two paths are its own:

  POST /_script    {"faults": [...], "models": {"name": ["completion"]}, "load_seconds": 0, "unload": true}
  GET  /_requests  every request body of /api/chat since the last script, with what became of it

A fault is {"kind": K, "times": 1, "on": "chat" or "load", "after": chunks, "seconds": S, "content": "..."}; K is one of
404, 500, 503, slow, error_line, no_done, cut, length, nonsense, content, not_json, refuse.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.http_wire import as_json, read_request, respond, stream
from tests.support.ollama_answers import Answerer, pieces

KEEP_ALIVE = timedelta(minutes=5)
_MESSAGES = {
    503: "server busy, please try again.  maximum pending requests exceeded",
    500: "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details",
}
_STREAM_ERROR = "an error was encountered while running the model: unexpected EOF"


@dataclass
class Fault:
    kind: str
    times: int = 1
    on: str = "chat"
    after: int = 1
    seconds: float = 0.0
    content: str = ""


@dataclass
class Model:
    name: str
    capabilities: list[str]
    loaded: bool = False
    slot: asyncio.Lock = field(default_factory=asyncio.Lock)  # OLLAMA_NUM_PARALLEL=1
    expires: datetime = field(default_factory=lambda: datetime.now().astimezone())
    modified: datetime = field(default_factory=lambda: datetime.now().astimezone())

    @property
    def details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "1.2M",
            "quantization_level": "F16",
        }

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()


class Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Cut(Exception):
    """The connection is to be torn down in the middle."""


class OllamaServer:
    def __init__(self, models: dict[str, list[str]], load_seconds: float, token_seconds: float) -> None:
        self.models = {_full(name): Model(_full(name), can) for name, can in models.items()}
        self.load_seconds = load_seconds
        self.token_seconds = token_seconds
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []
        self._loading = asyncio.Lock()
        self._listener: asyncio.Server | None = None
        self.port = 0

    async def listen(self, port: int) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=2**24)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _refuse(self, seconds: float) -> None:
        assert self._listener is not None
        self._listener.close()
        await asyncio.sleep(seconds)
        await self.listen(self.port)

    # -- HTTP ----------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        before = b""
        try:
            while (request := await read_request(reader, before)) is not None:
                answer = asyncio.create_task(self._answer(request, writer))
                more = asyncio.create_task(_next_byte(reader))
                await asyncio.wait({answer, more}, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done() and more.result() == b"":  # the only cancel signal: the client closes
                    answer.cancel()
                    await asyncio.wait({answer})
                    return
                await answer
                if not more.done():
                    more.cancel()
                    await asyncio.wait({more})
                before = b"" if more.cancelled() else more.result()
        except (ConnectionError, Cut, asyncio.IncompleteReadError):
            reset = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # linger on, for no time: the client sees a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, request: tuple[str, str, bytes], writer: asyncio.StreamWriter) -> None:
        method, path, body = request
        routes: dict[str, tuple[str, Any]] = {
            "/": ("GET", None),
            "/api/version": ("GET", lambda _: {"version": "0.33.0"}),
            "/api/tags": ("GET", lambda _: {"models": [self._tag(model) for model in self.models.values()]}),
            "/api/ps": ("GET", lambda _: {"models": [_running(model) for model in self.models.values() if model.loaded]}),
            "/api/show": ("POST", self._show),
            "/_script": ("POST", self._script),
            "/_requests": ("GET", lambda _: self.requests),
        }
        if path == "/api/chat" and method == "POST":
            await self._chat(body, writer)
            return
        if path not in routes and path != "/api/chat":
            respond(writer, 404, b"404 page not found", "text/plain", method)
            return
        wanted, give = routes.get(path, ("POST", None))
        if method != wanted and not (method == "HEAD" and wanted == "GET"):
            respond(writer, 405, b"405 method not allowed", "text/plain", method)
            return
        if path == "/":
            respond(writer, 200, b"Ollama is running", "text/plain; charset=utf-8", method)
            return
        try:
            respond(writer, 200, as_json(give(_body(body) if wanted == "POST" else {})), method=method)
        except Refused as error:
            respond(writer, error.status, as_json({"error": str(error)}), method=method)

    # -- /api ----------------------------------------------------------------------------------------------------------

    def _tag(self, model: Model) -> dict[str, Any]:
        return {
            "name": model.name,
            "model": model.name,
            "modified_at": model.modified.isoformat(),
            "size": 123_456,
            "digest": model.digest,
            "details": {**model.details, "context_length": 2048, "embedding_length": 64},
            **({"capabilities": model.capabilities} if model.capabilities else {}),
        }

    def _show(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked.get("model") or asked.get("name")
        if not name:
            raise Refused(400, "model is required")
        model = self.models.get(_full(name))
        if model is None:
            raise Refused(404, f"model '{_full(name)}' not found")
        return {
            "modelfile": "# Modelfile",
            "template": "{{ .Prompt }}",
            "details": model.details,
            "model_info": {"general.architecture": "llama", "llama.context_length": 2048},
            "capabilities": model.capabilities,
            "modified_at": model.modified.isoformat(),
        }

    def _script(self, told: dict[str, Any]) -> dict[str, Any]:
        self.requests.clear()
        self.faults = [Fault(**fault) for fault in told.get("faults", [])]
        self.load_seconds = told.get("load_seconds", self.load_seconds)
        if "models" in told:
            self.models = {_full(name): Model(_full(name), can) for name, can in told["models"].items()}
        if told.get("unload"):
            for model in self.models.values():
                model.loaded = False
        for fault in [fault for fault in self.faults if fault.kind == "refuse"]:
            self.faults.remove(fault)
            self._refusing = asyncio.create_task(self._refuse(fault.seconds))
        return {"faults": len(self.faults)}

    async def _chat(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        started = time.perf_counter_ns()
        note: dict[str, Any] = {"became": "canceled"}
        self.requests.append(note)
        try:
            asked = _body(body)
            note["asked"] = asked
            name = str(asked.get("model") or "")
            if not name:
                raise Refused(400, "model is required")
            load_only = not asked.get("messages")
            fault = self._fault("load" if load_only else "chat")
            kind = fault.kind if fault else ""
            model = self.models.get(_full(name))
            if model is None or kind == "404":
                raise Refused(404, f"model '{name}' not found")
            if model.capabilities and "completion" not in model.capabilities:
                raise Refused(400, f'"{name}" does not support chat')
            if kind in ("503", "500"):
                raise Refused(int(kind), fault.content or _MESSAGES[int(kind)])  # type: ignore[union-attr]
            await self._load(model)
            load_ns = time.perf_counter_ns() - started
            if load_only:
                respond(writer, 200, as_json({**_chunk(name, ""), "done": True, "done_reason": "load"}))
            else:
                async with model.slot:
                    await self._generate(writer, asked, name, fault or Fault(""), started, load_ns)
                model.expires = datetime.now().astimezone() + KEEP_ALIVE
            note["became"] = f"answered {kind}".strip()
        except Refused as error:
            note["became"] = f"status {error.status}"
            respond(writer, error.status, as_json({"error": str(error)}))
        except Cut:
            note["became"] = "cut"
            raise
        await writer.drain()

    async def _load(self, model: Model) -> None:
        """One at a time; whoever's request began it and goes away ends it."""
        if model.loaded:
            return
        async with self._loading:
            if not model.loaded:
                await asyncio.sleep(self.load_seconds)
                model.loaded, model.expires = True, datetime.now().astimezone() + KEEP_ALIVE

    async def _generate(
        self,
        writer: asyncio.StreamWriter,
        asked: dict[str, Any],
        name: str,
        fault: Fault,
        started: int,
        load_ns: int,
    ) -> None:
        content = Answerer(name, asked["messages"]).content(asked.get("format"))
        reason = "stop"
        if fault.kind == "length":
            content, reason = content[: len(content) // 2], "length"
        elif fault.kind == "nonsense":
            content = fault.content or '{"nonsense": true}'
        elif fault.kind == "content":
            content = fault.content
        elif fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        words = pieces(content)
        # As many tokens as the prompt has words and the answer pieces: near enough for figures that are only shown.
        prompt_tokens = sum(len(str(message.get("content", "")).split()) for message in asked["messages"])
        prompt_ns = time.perf_counter_ns() - started - load_ns
        if not asked.get("stream", True):
            if fault.kind == "cut":
                raise Cut
            done = fault.kind != "no_done"
            end = self._end(name, content, reason, started, load_ns, prompt_ns, prompt_tokens, len(words))
            respond(writer, 200, b"oops" if fault.kind == "not_json" else as_json(end if done else _chunk(name, content)))
            return
        async with stream(writer) as send:
            for number, word in enumerate(words):
                if fault.kind in ("error_line", "no_done", "cut", "not_json") and number == fault.after:
                    break
                await send(_chunk(name, word))
                await asyncio.sleep(self.token_seconds)
            if fault.kind == "error_line":
                await send({"error": fault.content or _STREAM_ERROR})
            elif fault.kind == "cut":
                raise Cut
            elif fault.kind == "not_json":
                await send("oops")
            elif fault.kind != "no_done":
                await send(self._end(name, "", reason, started, load_ns, prompt_ns, prompt_tokens, len(words)))

    @staticmethod
    def _end(
        name: str, content: str, reason: str, started: int, load_ns: int, prompt_ns: int, prompt_tokens: int, tokens: int
    ) -> dict[str, Any]:
        total = time.perf_counter_ns() - started
        return {
            **_chunk(name, content),
            "done": True,
            "done_reason": reason,
            "total_duration": total,
            "load_duration": load_ns,
            "prompt_eval_count": prompt_tokens,
            "prompt_eval_duration": max(1, prompt_ns),
            "eval_count": tokens,
            "eval_duration": max(1, total - load_ns - prompt_ns),
        }

    def _fault(self, on: str) -> Fault | None:
        for fault in self.faults:
            if fault.on == on and fault.times > 0:
                fault.times -= 1
                return fault
        return None


async def _next_byte(reader: asyncio.StreamReader) -> bytes:
    """b"" when the client is gone, however it went."""
    try:
        return await reader.read(1)
    except ConnectionError:
        return b""


def _body(body: bytes) -> dict[str, Any]:
    if not body:
        raise Refused(400, "missing request body")
    try:
        asked = json.loads(body)
    except ValueError:
        raise Refused(400, "invalid character in request body") from None
    if not isinstance(asked, dict):
        raise Refused(400, "json: cannot unmarshal array into Go value")
    return asked


def _chunk(name: str, content: str) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"model": name, "created_at": now, "message": {"role": "assistant", "content": content}, "done": False}


def _running(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "size": 900_000,
        "digest": model.digest,
        "details": model.details,
        "expires_at": model.expires.isoformat(),
        "size_vram": 0,
        "context_length": 2048,
    }


def _full(name: str) -> str:
    return (name if ":" in name else f"{name}:latest").lower()


async def _run(options: argparse.Namespace) -> None:
    models = {name: ["completion"] for name in options.models.split(",") if name}
    server = OllamaServer(models, options.load_seconds, options.token_seconds)
    server.faults = [Fault(**fault) for fault in json.loads(options.faults)]
    await server.listen(options.port)
    print(json.dumps({"host": f"http://127.0.0.1:{server.port}", "port": server.port, "pid": os.getpid()}), flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="A stand-in for an Ollama server.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--models", default="llama3.2", help="names with commas; none: an empty store")
    parser.add_argument("--load-seconds", type=float, default=0.0, help="how long a cold load takes")
    parser.add_argument("--token-seconds", type=float, default=0.0, help="between two pieces of a streamed answer")
    parser.add_argument("--faults", default="[]", help="a JSON list, as for POST /_script")
    asyncio.run(_run(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
