"""The control room in the moments that matter, with fixed data and a frozen clock: for snapshots and for the README."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from textual.pilot import Pilot

from echo_core.logs import log_line
from echo_core.settings import Settings
from echo_core.snapshot import Snapshot
from echo_core.workflow.record import DecisionRecord
from echo_tui.app import EchoApp
from tests.ui import data

SIZES = [(80, 24), (120, 36), (200, 60)]

Scene = Callable[[Pilot[int]], Awaitable[None]]


def control_room() -> EchoApp:
    """Connected to nothing; the clock stands at `data.NOW`."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    settings = replace(Settings.load(data_dir=Path("unused"), environ={}), llm="off")
    return EchoApp(settings, connect=False, clock=lambda: data.NOW)


async def show(pilot: Pilot[int], snapshot: Snapshot, decision: DecisionRecord | None = None) -> EchoApp:
    app = pilot.app
    assert isinstance(app, EchoApp)
    await pilot.pause()  # until the room is there
    await app.show_snapshot(snapshot)
    await app.show_decision(decision, int(decision is not None and decision.completed_at is None))
    await pilot.pause()
    for view in snapshot.agents:
        if view.state != "starting":
            app.room.append(view.name, _log_of(view.role, decision))
    await pilot.pause(0.1)  # a frame of the log views
    return app


def _log_of(role: str, decision: DecisionRecord | None) -> list[bytes]:
    """What an agent's log says until this moment of the decision."""
    lines: list[tuple[int, str, str]] = [
        (90, "start", f"{data.TITLES[role]} ({role}), process {data.agent(role).pid}"),
        (90, "ready", "handler started"),
        (89, "mind", "answers by rules"),
        (89, "reach", "PostgreSQL is there"),
    ]
    if decision is not None and decision.phase > 1:
        lines.append((63, "recv", f"#{data.NUMBER} request from operator: {data.SUBJECT}"))
    if decision is not None:
        lines += [
            (50, "judge", f"{p.stance} {p.confidence:.2f} {p.source}: {p.reasoning}")
            for p in decision.participations
            if p.role == role
        ]
        lines += [
            (40 - 5 * c.round, "speak", f"round {c.round} {c.position} {c.source}: {c.text}")
            for c in decision.contributions
            if c.role == role
        ]
        lines += [
            (12, "vote", f"{v.vote} {v.confidence:.2f} {v.source}: {v.rationale}") for v in decision.votes if v.role == role
        ]
    return [log_line("INFO", action, text, data.NOW - timedelta(seconds=ago)).encode() for ago, action, text in lines]


async def launch(pilot: Pilot[int]) -> None:
    await show(pilot, data.snapshot(launching=True))


async def ready(pilot: Pilot[int]) -> None:
    await show(pilot, data.snapshot())


async def composing(pilot: Pilot[int]) -> None:
    from textual.widgets import Input, TextArea

    app = await show(pilot, data.snapshot())
    await pilot.press("b")
    await pilot.pause()
    assert app.room.composer is not None
    subject, body = app.room.composer.query_one(Input), app.room.composer.query_one(TextArea)
    subject.cursor_blink = body.cursor_blink = False
    subject.value, body.text = data.SUBJECT, data.BODY
    await pilot.pause(0.4)  # the preview comes a moment after the last key


def in_phase(number: int) -> Scene:
    async def scene(pilot: Pilot[int]) -> None:
        await show(pilot, data.snapshot(), data.decision_in_phase(number))

    return scene


async def decided(pilot: Pilot[int]) -> None:
    await show(pilot, data.snapshot(), data.decided())


async def crashed(pilot: Pilot[int]) -> None:
    app = await show(pilot, data.snapshot(), data.decision_in_phase(3))
    await app.show_snapshot(data.snapshot(crashed=True))
    await pilot.pause(0.1)


async def helping(pilot: Pilot[int]) -> None:
    await show(pilot, data.snapshot(), data.decision_in_phase(2, waiting=True))
    await pilot.press("question_mark")
    await pilot.pause()


async def leaving(pilot: Pilot[int]) -> None:
    await show(pilot, data.snapshot(), data.decision_in_phase(4))
    await pilot.press("q")
    await pilot.pause()


async def deciding(pilot: Pilot[int]) -> None:
    await show(pilot, data.snapshot(), data.decided())
    await pilot.press("d")
    await pilot.pause()


SCENES: dict[str, Scene] = {
    "launch": launch,
    "ready": ready,
    "composing": composing,
    "phase_1_startup": in_phase(1),
    "phase_2_broadcast": in_phase(2),
    "phase_3_self_selection": in_phase(3),
    "phase_4_discussion": in_phase(4),
    "phase_5_consensus": in_phase(5),
    "phase_6_synthesis": decided,
    "crashed_agent": crashed,
    "help": helping,
    "leaving": leaving,
}
