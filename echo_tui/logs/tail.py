"""The growing end of a log file that may be replaced, cut short, missing or unreadable at any moment."""

from __future__ import annotations

import os
import stat
import threading
from collections import deque
from pathlib import Path

CHUNK_BYTES = 64 * 1024  # at 64 KiB the cost of a read is in its bytes, no longer in the call
PACE_BYTES = 256 * 1024  # a call: at ten calls a second that is far more than an agent writes
LINE_BYTES = 64 * 1024  # a longer line is handed out in pieces, so that a file without line ends fills no memory


class _File:
    """An open file and how far it was read. It stays readable after it was renamed or deleted."""

    def __init__(self, descriptor: int, status: os.stat_result, position: int = 0) -> None:
        self.descriptor = descriptor
        self.identity = (status.st_dev, status.st_ino)
        self.position = position
        self.partial = b""
        self.drop_first = position > 0  # the rest of a line whose beginning is not read

    def size(self) -> int:
        return os.fstat(self.descriptor).st_size


class Tail:
    """Whole lines as they are written to `path`, also across its rotation to `path.1`.

    The first call begins `start_bytes` before the end (None: at the very beginning), reaching back into `path.1` when
    `path` was replaced a moment ago. Where more than `skip_bytes` wait (None: never) the oldest of them are passed over,
    and a line says so. One call reads at most `pace_bytes`; `behind` tells that more was waiting.
    """

    def __init__(
        self,
        path: Path | str,
        start_bytes: int | None = 65536,
        *,
        pace_bytes: int = PACE_BYTES,
        skip_bytes: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.behind = False
        self._start_bytes = start_bytes
        self._pace_bytes = pace_bytes
        self._skip_bytes = skip_bytes
        self._files: deque[_File] = deque()  # the last is the newest; those before it are read to their end first
        self._started = False
        self._closed = False
        self._busy = threading.Lock()

    def read(self) -> list[bytes]:
        """Whole lines written since the last call, without their line ends. Never raises OSError."""
        with self._busy:
            lines = [] if self._closed else self._read()
        if self._closed:
            self.close()
        return lines

    def close(self) -> None:
        """May be called from another thread than the one that reads; it never waits for that one."""
        self._closed = True
        if self._busy.acquire(blocking=False):
            try:
                while self._files:
                    self._drop(self._files.pop())
            finally:
                self._busy.release()

    def _read(self) -> list[bytes]:
        lines: list[bytes] = []
        self.behind = False
        self._look()
        budget = self._pace_bytes
        while self._files:
            file = self._files[0]
            budget -= self._take(file, budget, lines)
            if budget <= 0:
                self.behind = True
                break
            if len(self._files) == 1:
                break
            if file.partial:  # nobody will end it any more
                lines.append(file.partial)
            self._drop(self._files.popleft())
        return lines

    def _look(self) -> None:
        """Opens the file that stands at `path`, unless it is the one being read."""
        try:
            status = os.stat(self.path)
        except OSError:  # none yet, or just being replaced
            # Whatever appears after a first look into an empty folder is new, and is read from its beginning.
            self._started = self._started or not self._old_path.exists()
            return
        if self._files and self._files[-1].identity == (status.st_dev, status.st_ino):
            return
        file = self._open(self.path)
        if file is None:
            return
        if not self._started:
            self._begin(file)
        self._started = True
        self._files.append(file)

    @property
    def _old_path(self) -> Path:
        return self.path.with_name(self.path.name + ".1")

    def _begin(self, file: _File) -> None:
        if self._start_bytes is None:
            return
        missing = self._start_bytes - self._from_end(file, self._start_bytes)
        if missing > 0 and (old := self._open(self._old_path)) is not None:
            if old.identity == file.identity:  # replaced between the two looks
                self._drop(old)
            else:
                self._from_end(old, missing)
                self._files.append(old)

    def _from_end(self, file: _File, wanted: int) -> int:
        """Puts the position `wanted` bytes before the end, at a whole line; answers how many bytes there are to read."""
        try:
            size = file.size()
        except OSError:
            return 0
        # One byte earlier: when that is a line end, the line after it is whole.
        file.position = max(0, size - wanted - 1)
        file.drop_first = file.position > 0
        return size - file.position

    def _open(self, path: Path) -> _File | None:
        descriptor = -1
        try:
            # Non-blocking: opening a pipe that stands in the file's place must not hang.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(descriptor)
        except OSError:
            if descriptor >= 0:
                os.close(descriptor)
            return None
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            return None
        return _File(descriptor, status)

    def _drop(self, file: _File) -> None:
        try:
            os.close(file.descriptor)
        except OSError:
            return  # it was open for reading only: nothing can be lost

    def _take(self, file: _File, budget: int, lines: list[bytes]) -> int:
        """Reads up to `budget` bytes to the end of the file; answers how many it read."""
        taken = 0
        try:
            size = file.size()
            if size < file.position:  # cut short: it is written from its beginning again
                file.position, file.partial, file.drop_first = 0, b"", False
            self._skip(file, size, lines)
            while taken < budget:
                data = os.pread(file.descriptor, min(CHUNK_BYTES, budget - taken), file.position)
                if not data:
                    break
                taken += len(data)
                file.position += len(data)
                self._split(file, data, lines)
        except OSError:  # a folder that went away, a disk that does not answer: the next call asks again
            return taken
        return taken

    def _skip(self, file: _File, size: int, lines: list[bytes]) -> None:
        if self._skip_bytes is None or size - file.position <= self._skip_bytes:
            return
        position = size - self._skip_bytes // 2
        passed = position - file.position
        lines.append(f"… {passed // 1024:,} KiB passed over: written faster than they can be read".encode())
        file.position, file.partial, file.drop_first = position, b"", True

    def _split(self, file: _File, data: bytes, lines: list[bytes]) -> None:
        pieces = data.split(b"\n")
        if file.drop_first:
            if len(pieces) == 1:
                return
            del pieces[0]
            file.drop_first = False
        elif file.partial:
            pieces[0] = file.partial + pieces[0]
        file.partial = pieces.pop()
        lines += pieces
        if len(file.partial) >= LINE_BYTES:
            lines.append(file.partial)
            file.partial = b""
