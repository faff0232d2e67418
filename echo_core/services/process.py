"""Starting, finding again and ending a server process that outlives its starter."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import psutil

POLL_SECONDS = 0.02


def living(pid: int | None, program: str, folder: Path) -> bool:
    """Whether `pid` is a running (not a zombie) process of that program for that folder.

    A recycled pid is not, even when it became another server of the same kind, as after a restart of the machine.
    """
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or program not in process.name():
            return False
        return any(str(folder) in argument for argument in process.cmdline())
    except psutil.Error:
        return False


def read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text().split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):
        return None


def spawn(arguments: list[str], log: Path, options: dict[str, object], cwd: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, so that it survives the terminal and the supervisor."""
    with log.open("ab") as output:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
            umask=0o077,
            **options,  # type: ignore[call-overload]
        )


async def end(pid: int | None, program: str, folder: Path, signals: tuple[tuple[signal.Signals, float], ...]) -> None:
    """Send each signal in turn, waiting its seconds for the process to be gone."""
    for number, seconds in signals:
        if not living(pid, program, folder):
            return
        assert pid is not None
        os.kill(pid, number)
        for _ in range(int(seconds / POLL_SECONDS)):
            if not living(pid, program, folder):
                return
            await asyncio.sleep(POLL_SECONDS)
