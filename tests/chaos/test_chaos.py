"""The short storm of every test run. The whole one is `make chaos`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SEED = 1
DEADLOCK_SECONDS = 300  # a run takes half a minute; on a busy machine longer


@pytest.mark.chaos
def test_a_short_storm_loses_nothing_doubles_nothing_hangs_nothing_and_leaves_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short", "--seed", str(SEED)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLOCK_SECONDS,
        check=False,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    wanted = {"lost": 0, "doubled": 0, "out_of_order": 0, "hung_decisions": 0, "timeline_gaps": 0, "orphans": 0}
    assert {name: report[name] for name in wanted} == wanted, f"{report.get('failures')}\n{done.stderr}"
    assert report["ok"], f"{report['failures']}\nagain: {report['reproduce']}"
    assert report["faults"] == 18
    assert report["messages_sent"] >= 120
    assert done.returncode == 0
