"""The control socket: JSON lines, one request and one answer each, or a stream of snapshots. For the owner only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from echo_core.errors import EchoError
from echo_core.logs import Log
from echo_core.services.paths import short_path
from echo_core.snapshot import Snapshot

SOCKET_NAME = "supervisor.sock"
LINE_BYTES = 65_536
BEHIND_BYTES = 1_048_576  # a client that leaves so much unread is not looking any more

Operation = Callable[..., Awaitable[dict[str, Any]]]


def socket_path(run_dir: Path) -> Path:
    return short_path(run_dir) / SOCKET_NAME


class ControlServer:
    """Answers clients. A bad line gets an error line; nothing a client sends or leaves unread harms the others."""

    def __init__(self, run_dir: Path, operations: dict[str, Operation], snapshot: Callable[[], Snapshot], log: Log) -> None:
        self._run_dir, self._operations, self._snapshot, self._log = run_dir, operations, snapshot, log
        self._server: asyncio.Server | None = None
        self._watchers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        path = socket_path(self._run_dir)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path=str(path), limit=LINE_BYTES)
        path.chmod(0o600)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._clients):
            writer.close()
        socket_path(self._run_dir).unlink(missing_ok=True)

    def broadcast(self) -> None:
        """Send the present snapshot to everybody who watches."""
        if not self._watchers:
            return
        line = _line({"snapshot": asdict(self._snapshot())})
        for writer in list(self._watchers):
            if writer.is_closing() or writer.transport.get_write_buffer_size() > BEHIND_BYTES:
                self._watchers.discard(writer)
                writer.transport.abort()
            else:
                writer.write(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:
                    writer.write(_line({"ok": False, "error": f"a request is at most {LINE_BYTES} bytes"}))
                    break
                if not line:
                    break
                answer = await self._answer(line, writer)
                writer.write(_line(answer))
                await writer.drain()
        except (ConnectionError, TimeoutError):
            # The client went away: that is its right, and there is nobody to tell.
            return
        finally:
            self._clients.discard(writer)
            self._watchers.discard(writer)
            writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = request.pop("op")
            identity = request.pop("id", None)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            return {"ok": False, "error": 'a request is one JSON object in one line, like {"op": "status"}'}
        if operation == "subscribe":
            self._watchers.add(writer)
            return {"id": identity, "ok": True, "snapshot": asdict(self._snapshot())}
        if operation == "status":
            return {"id": identity, "ok": True, "snapshot": asdict(self._snapshot())}
        handler = self._operations.get(operation) if isinstance(operation, str) else None
        if handler is None:
            known = ", ".join(["status", "subscribe", *self._operations])
            return {"id": identity, "ok": False, "error": f"unknown op {operation!r}; known are {known}"}
        try:
            return {"id": identity, "ok": True, **await handler(**request)}
        except EchoError as error:
            return {"id": identity, "ok": False, "error": str(error)}
        except (TypeError, ValueError) as error:
            return {"id": identity, "ok": False, "error": f"{operation}: {error}"}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
