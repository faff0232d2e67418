"""A link between two machines that can be cut, or go silent without closing: a small TCP proxy before a Unix socket."""

from __future__ import annotations

import asyncio
from contextlib import suppress

CHUNK_BYTES = 65_536


class Link:
    """Forwards `127.0.0.1:port` to `target`, a Unix socket."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.port = 0
        self._open = asyncio.Event()
        self._open.set()
        self._deaf = False
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Every connection breaks; new ones are taken at once."""
        for end in list(self._ends):
            end.transport.abort()

    def silence(self) -> None:
        """Nothing gets through any more, and nobody is told. New connections are accepted and not answered."""
        self._open.clear()

    def deafen(self) -> None:
        """What is said still arrives; the answers get lost, until `restore`."""
        self._deaf = True

    def restore(self) -> None:
        self._deaf = False
        self._open.set()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._ends.add(writer)
        ends = [writer]
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_unix_connection(self.target)
            ends.append(far_writer)
            self._ends.add(far_writer)
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer, answers=True))
        except OSError:
            return  # the far end is down: that is for the two that talk to find out
        finally:
            for end in ends:
                self._ends.discard(end)
                end.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool = False) -> None:
        while data := await source.read(CHUNK_BYTES):
            await self._open.wait()
            if answers and self._deaf:
                continue
            sink.write(data)
            await sink.drain()
        with suppress(OSError, RuntimeError):  # it may be aborted by now
            sink.write_eof()
