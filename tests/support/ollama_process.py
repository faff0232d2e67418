"""The stand-in for Ollama as a running process, and the words to make it fail."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class OllamaProcess:
    """Start it, script its faults, read what it was asked; `stop` ends it, so that its port refuses."""

    def __init__(self) -> None:
        self.host = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *options: str, port: int = 0) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.support.ollama_server", "--port", str(port), *options),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.host = json.loads(await self._process.stdout.readline())["host"]

    async def restart(self, *options: str) -> None:
        """At the address it had."""
        port = int(self.host.rpartition(":")[2])
        await self.stop()
        await self.start(*options, port=port)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def script(self, *faults: dict[str, Any], **more: Any) -> None:
        """Forget what was asked so far, and fail like this from now on."""
        await self._fetch("/_script", {"faults": list(faults), **more})

    async def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._fetch("/_requests")
        return found

    async def chats(self) -> list[dict[str, Any]]:
        """The requests that were questions, not loads."""
        return [item["asked"] for item in await self.requests() if item.get("asked", {}).get("messages")]

    async def _fetch(self, path: str, body: Any = None) -> Any:
        def fetch() -> Any:
            data = None if body is None else json.dumps(body).encode()
            with _OPENER.open(urllib.request.Request(self.host + path, data=data), timeout=10) as answer:
                return json.load(answer)

        return await asyncio.to_thread(fetch)
