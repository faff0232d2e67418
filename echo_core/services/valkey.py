"""A real Valkey for one data directory, on a Unix socket only. It keeps nothing: PostgreSQL is the record."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from echo_core.errors import EchoError
from echo_core.services.home import ServerHome
from echo_core.services.process import POLL_SECONDS, end, living, read_pid, spawn

START_SECONDS = 10.0


@dataclass(slots=True)
class EmbeddedValkey:
    home: ServerHome
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.home.valkey_data / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int | None:
        if self._process is not None:
            self._process.poll()
        pid = read_pid(self.home.valkey_data / "valkey.pid")
        folder = self.home.valkey_data
        return pid if living(pid, "valkey", folder) or living(pid, "redis", folder) else None

    async def start(self) -> None:
        if self.pid is None:
            binary = await asyncio.to_thread(self.home.valkey_binary)
            arguments = [
                str(binary), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
                "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", str(self.home.valkey_data),
                "--pidfile", str(self.home.valkey_data / "valkey.pid"), "--maxclients", "1000",
                "--client-output-buffer-limit", "pubsub 16mb 8mb 30",
            ]  # fmt: skip
            self._process = spawn(arguments, self.log, self.home.spawn_options, self.home.valkey_data)
        for _ in range(int(START_SECONDS / POLL_SECONDS)):
            if self._process is not None and self._process.poll() is not None:
                raise EchoError(f"Valkey stopped while starting; its log is {self.log}")
            if await asyncio.to_thread(self._answers):
                return
            await asyncio.sleep(POLL_SECONDS)
        raise EchoError(f"Valkey did not answer within {START_SECONDS:g} s; its log is {self.log}")

    async def stop(self) -> None:
        for program in ("valkey", "redis"):
            await end(self.pid, program, self.home.valkey_data, ((signal.SIGTERM, 3.0), (signal.SIGKILL, 2.0)))
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)
            self._process = None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            try:
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
            except OSError:
                return False
