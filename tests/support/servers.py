"""Real servers for tests, in a folder that goes away with them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def new_data_dir() -> Path:
    """Short, so that sockets in it can be reached."""
    return Path(tempfile.mkdtemp(prefix="echo-test-"))


def remove_data_dir(data_dir: Path) -> None:
    """Also the server home that the data directory points to."""
    link = data_dir / "servers"
    if link.is_symlink():
        shutil.rmtree(os.readlink(link), ignore_errors=True)
    shutil.rmtree(data_dir, ignore_errors=True)
