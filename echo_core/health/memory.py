"""Whether the kernel ended a process for want of memory. Source: the Linux kernel's own log and counters."""

from __future__ import annotations

import os
import re
from pathlib import Path

_RECORD_BYTES = 8192  # the kernel hands out one record a read, none longer than this
_HOST_PROCESSES = "pid:[4026531836]"  # the first namespace's fixed number: elsewhere the log's pids are not ours
_KILLED = re.compile(rb"Killed process (\d+) ")


def out_of_memory_kills() -> int:
    """How many processes the kernel has ended for memory since boot, anybody's; 0 where it does not say."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        return 0
    return 0


def ended_for_memory(pid: int) -> bool | None:
    """Whether the kernel's log names this process among those it ended; None where the log can't be read."""
    try:
        if os.readlink("/proc/self/ns/pid") != _HOST_PROCESSES:
            return None
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    named = False
    try:
        while True:
            try:
                match = _KILLED.search(os.read(log, _RECORD_BYTES))
            except BrokenPipeError:  # a record was overwritten while it was read: the next one follows
                continue
            named = named or (match is not None and int(match.group(1)) == pid)
    except BlockingIOError:
        return named
    except OSError:
        return None
    finally:
        os.close(log)
