"""What a process uses, read as cheaply as the system allows."""

from __future__ import annotations

import os
import resource
import sys
import time


class Vitals:
    """`cpu_percent` is of one core, since it was asked last."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._at = time.monotonic()
        self._percent = 0.0

    def cpu_percent(self) -> float:
        cpu, at = time.process_time(), time.monotonic()
        if at - self._at >= 0.5:  # over less, one message looks like a busy loop
            self._percent = round(100 * (cpu - self._cpu) / (at - self._at), 1)
            self._cpu, self._at = cpu, at
        return self._percent

    @staticmethod
    def rss_bytes() -> int:
        try:
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else peak * 1024
