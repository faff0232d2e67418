"""What is installed is what is here: the schema, the queries and the default organisation travel inside the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_wheel_carries_the_schema_the_default_organisation_and_both_commands(tmp_path: Path) -> None:
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode and "Building wheel" not in built.stdout:
        pytest.skip("the build backend is not installed here and can't be fetched")
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (points,) = [name for name in names if name.endswith("entry_points.txt")]
        commands = archive.read(points).decode()
        for path in (ROOT / "sql").rglob("*.sql"):
            shipped = f"echo_core/sql/{path.relative_to(ROOT / 'sql')}"
            assert archive.read(shipped) == path.read_bytes()
    packaged = {str(path.relative_to(ROOT)) for path in (*(ROOT / "echo_core").rglob("*"), *(ROOT / "echo_tui").rglob("*"))}
    wanted = {path for path in packaged if path.endswith((".py", ".toml", ".tcss"))}
    assert "echo_core/organisation/default.toml" in wanted
    assert wanted <= names
    assert "echo-tui = echo_tui.cli.main:main" in commands
    assert "echo-agent = echo_core.agents.cli:main" in commands
