"""`echo-tui` as a person starts it: a real process, its exit code and what it said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("echo-tui")
SECONDS = 120.0  # no command is waited for longer, however slow the machine


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class EchoTui:
    """Commands for one data directory, without a model and without the caller's own ECHO settings."""

    data_dir: Path
    options: tuple[str, ...] = ()
    cwd: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ECHO_", "OLLAMA_"))}
        return {**kept, "ECHO_LLM": "off", "COLUMNS": "200"}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(PROGRAM), *arguments, "--data-dir", str(self.data_dir), *self.options],
            env={**self.environment, **environment},
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, given: str = "", environment: Mapping[str, str] | None = None) -> Said:
        done = subprocess.run(
            [str(PROGRAM), *arguments, "--data-dir", str(self.data_dir), *self.options],
            env={**self.environment, **(environment or {})},
            cwd=self.cwd,
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)
