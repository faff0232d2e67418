"""One process the supervisor keeps: started, adopted, restarted with back-off, ended in time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from echo_core.agents.lockfile import start_ticks

ALREADY_RUNNING = 75  # a child says with it that another process holds its lock
POLL_SECONDS = 0.1
KILLED_SECONDS = 2.0  # how long a killed process may take to be gone


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Back-off between restarts in seconds, and how many crashes in a window are too many."""

    first_seconds: float = 0.5
    factor: float = 2.0
    maximum_seconds: float = 10.0
    crashes: int = 5
    window_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.first_seconds <= 0 or self.factor < 1 or self.crashes < 1 or self.window_seconds <= 0:
            raise ValueError(f"contradictory restart policy: {self}")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A pid with its start time: together they name one process for ever."""

    pid: int
    ticks: int

    def alive(self) -> bool:
        return start_ticks(self.pid) == self.ticks and not _zombie(self.pid)


class Child:
    """`name` names its lock file (`run/<name>.lock`) and its log. At most one process for each name runs."""

    def __init__(
        self, name: str, command: Sequence[str], environment: dict[str, str], run_dir: Path, log: Path, policy: RestartPolicy
    ) -> None:
        self.name = name
        self.log = log
        self.policy = policy
        self.wanted = True
        self.gave_up = False
        self.restart_at: float | None = None  # monotonic seconds
        self._command, self._environment, self._lock = list(command), environment, run_dir / f"{name}.lock"
        self._process: subprocess.Popen[bytes] | None = None
        self._id: ProcessId | None = None
        self._crashes: deque[float] = deque()

    @property
    def pid(self) -> int | None:
        return self._id.pid if self._id else None

    @property
    def running(self) -> bool:
        return self._id is not None

    @property
    def crashes(self) -> int:
        """Within the policy's window."""
        limit = time.monotonic() - self.policy.window_seconds
        while self._crashes and self._crashes[0] < limit:
            self._crashes.popleft()
        return len(self._crashes)

    @property
    def restart_in(self) -> float | None:
        return None if self.restart_at is None else max(0.0, self.restart_at - time.monotonic())

    def adopt(self) -> bool:
        """Take over a process that an earlier supervisor started: it holds the lock, and its start time is right."""
        holder = lock_holder(self._lock)
        if holder is None:
            return False
        self._id, self._process, self.restart_at = holder, None, None
        return True

    def start(self) -> None:
        """Raises OSError when the system can't start it."""
        self.restart_at = None
        self.gave_up = False
        with contextlib.ExitStack() as stack:
            try:
                errors: int = stack.enter_context(self.log.open("ab")).fileno()
            except OSError:  # a full disk or an unwritable log stops no agent
                errors = subprocess.DEVNULL
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=self._environment,
                start_new_session=True,
                umask=0o077,
            )
        self._id = ProcessId(self._process.pid, start_ticks(self._process.pid))

    def ended(self) -> tuple[bool, int | None]:
        """Whether its process is gone, and with what exit code (None: not our child, so unknown). Reaps it."""
        if self._id is None:
            return False, None
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return False, None
            self._id, self._process = None, None
            if code == ALREADY_RUNNING and self.adopt():
                return False, None
            return True, code
        if self._id.alive():
            return False, None
        self._id = None
        return True, None

    def crashed(self) -> None:
        """Count a crash, and decide when to start again or to give up."""
        self._crashes.append(time.monotonic())
        if self.crashes >= self.policy.crashes:
            self.gave_up, self.restart_at = True, None
            return
        wait = min(self.policy.first_seconds * self.policy.factor ** (self.crashes - 1), self.policy.maximum_seconds)
        self.restart_at = time.monotonic() + wait

    def forgive(self) -> None:
        """A person starts it by hand: earlier crashes no longer count."""
        self._crashes.clear()
        self.gave_up, self.restart_at = False, None

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL when it has not ended in time. A stopped (SIGSTOP) process is let go on, to hear it."""
        identity = self._id
        if identity is None:
            return
        for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, KILLED_SECONDS)):
            if not self._signal(identity, number):
                return
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if not identity.alive():
                    return
                await asyncio.sleep(0.02)

    def _signal(self, identity: ProcessId, number: signal.Signals) -> bool:
        if not identity.alive():
            return False
        try:
            os.kill(identity.pid, number)
            if number == signal.SIGTERM:
                os.kill(identity.pid, signal.SIGCONT)
        except ProcessLookupError:
            return False
        return True


def lock_holder(path: Path) -> ProcessId | None:
    """Who holds a lock file, if it is held and the process written in it is the one that runs."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        pass
    finally:
        os.close(file)
    try:
        written = json.loads(path.read_text())
        identity = ProcessId(int(written["pid"]), int(written["start_ticks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return identity if identity.alive() else None


def _zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("Z", "X")
