"""The stand-in for Ollama as a running process, and the words to make it fail."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class OllamaProcess:
    """Start it, script its faults, read what it was asked; `stop` ends it, so that its port refuses."""

    def __init__(self) -> None:
        self.host = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *options: str) -> None:
        """At a free port; the next start is at the same one."""
        port = self.host.rpartition(":")[2] or "0"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.ollama_server", "--port", port, *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.host = json.loads(self._process.stdout.readline())["host"]

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()

    async def script(self, *faults: dict[str, Any], **more: Any) -> None:
        """Forget what was asked so far, and fail like this from now on; `more` as in POST /_script."""
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
