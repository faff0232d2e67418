"""One process for each name in a data directory: a lock that the kernel releases, and who holds it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from echo_core.errors import AlreadyRunning, DataDirectoryError


class LockFile:
    """Held from `take` until the process ends. Holds `{"pid", "start_ticks"}`, so that a recycled pid is recognised."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def take(self, what: str) -> None:
        """Raises AlreadyRunning with one line when another process holds it, DataDirectoryError when it can't be made."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirectoryError(f"{self.path} can't be used ({error.strerror}); choose another --data-dir") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise AlreadyRunning(f"{what} already runs in this data directory; see `echo-tui status`") from error
        self._file = file
        holder = json.dumps({"pid": os.getpid(), "start_ticks": start_ticks(os.getpid())}).encode()
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, holder, 0)
        except OSError:
            # A full disk: the lock itself holds, only its reader has to do without the pid.
            return

    def release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def start_ticks(pid: int) -> int:
    """When a process began, in the kernel's own count: with the pid it names a process for good. 0 if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return 0
        return _start_centiseconds(pid)
    return int(stat.rpartition(")")[2].split()[19])


def _start_centiseconds(pid: int) -> int:
    """Where there is no /proc (macOS)."""
    import psutil

    try:
        return int(psutil.Process(pid).create_time() * 100)
    except psutil.NoSuchProcess:
        return 0
