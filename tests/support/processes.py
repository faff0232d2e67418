"""Which processes of a data directory run: looked up by what the kernel says, not by what ECHO says."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Every process that was started for `data_dir`, the embedded servers with it."""
    link = data_dir / "servers"
    names = {str(data_dir)} | ({os.readlink(link)} if link.is_symlink() else set())
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            said = [*process.cmdline(), _told_by_environment(process)]
        except (psutil.Error, OSError):
            continue
        if any(text == name or f"{name}/" in text for text in said for name in names):
            found.append(process)
    return found


def _told_by_environment(process: psutil.Process) -> str:
    try:
        return process.environ().get("ECHO_DATA_DIR", "")
    except (psutil.Error, OSError):  # not everything of another user's process may be read
        return ""


def end_all(data_dir: Path) -> None:
    """What a failed test left behind."""
    left = processes_of(data_dir)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=5)
