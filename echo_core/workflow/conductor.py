"""Drives every open decision through its phases. It remembers nothing: kill it at any instant, and it goes on."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from psycopg.types.json import Jsonb

from echo_core import __version__
from echo_core.agents.vitals import Vitals
from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message, announcement_channel
from echo_core.bus.publish import announce
from echo_core.bus.receive import Effects, Receiver
from echo_core.errors import DatabaseUnavailable, EchoError
from echo_core.health.breaker import BreakerState
from echo_core.health.follow import follow_agent_status, follow_heartbeats
from echo_core.health.monitor import AgentHealth, HealthMonitor
from echo_core.health.states import HEARTBEAT_SECONDS, AgentState, Heartbeat
from echo_core.logs import Log
from echo_core.organisation import Organisation
from echo_core.settings import Settings
from echo_core.storage.database import Connection, Database
from echo_core.storage.queries import query
from echo_core.workflow.commands import COMMANDS
from echo_core.workflow.operator import apply_command
from echo_core.workflow.phases import Phases
from echo_core.workflow.state import DecisionState

TICK_SECONDS = 0.5  # time limits and silent agents are noticed within this; answers wake it at once
GET_TO_KNOW_SECONDS = 8.0  # after its own start the conductor waits for agents it has not heard yet
SILENT_SECONDS = 15.0  # conducting or standing by, it asks the database something every half second
HEALTH_EVENTS = 500  # kept while PostgreSQL is away
STEPS = 12  # transitions of one decision in one turn, so that others get theirs


class Conductor:
    """One process of the organisation holds the advisory lock and conducts; any other stands by."""

    def __init__(self, settings: Settings, organisation: Organisation, log: Log) -> None:
        self._settings, self._organisation, self._log = settings, organisation, log
        self._monitor = HealthMonitor(on_transition=self._health_changed, on_breaker=self._breaker_changed)
        self._started = time.monotonic()
        self._wake = asyncio.Event()
        self._began = asyncio.Event()  # conducting for the first time, or stopping before that
        self._stopping = asyncio.Event()
        self._conducting = False
        self._trouble: dict[str, str] = {}  # by decision: what was logged last
        self._health_events: deque[tuple[str, str, dict[str, Any]]] = deque()
        self._vitals = Vitals()
        self._database = Database(
            settings.database_url, name="conductor", on_reachable=self._database_reachable, on_connect=self._take_lock
        )
        self._announcements = Announcements(settings.redis_url, name="conductor", on_reachable=self._redis_reachable)
        self._receiver = Receiver(
            self._database,
            self._announcements,
            "conductor",
            f"conductor@{socket.gethostname()}:{os.getpid()}",
            self._handle,
            log,
            channels=(announcement_channel("conductor"),),
        )
        self._phases = Phases(organisation, self)

    def live(self, role: str) -> bool:
        unknown = role not in {health.role for health in self._monitor.agents()}
        if unknown:
            return time.monotonic() - self._started < GET_TO_KNOW_SECONDS
        return self._monitor.live(role)

    def seen(self, role: str) -> bool:
        return self._monitor.live(role)

    def request_stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        self._began.set()

    async def run(self) -> None:
        self._log.info("ready", f"conductor started as pid {os.getpid()}")
        tasks = [
            asyncio.create_task(self._forever(work), name=name)
            for name, work in {
                "conduct": self._conduct,
                "heartbeats": lambda: follow_heartbeats(self._monitor, self._announcements),
                "agent status": lambda: follow_agent_status(self._monitor, self._announcements, self._database),
                "hints": self._hear_hints,
                "heartbeat": self._beat,
                "health": self._record_health,
            }.items()
        ]
        receiver = asyncio.create_task(self._receive_while_conducting(), name="receive")
        await self._stopping.wait()
        self._receiver.stop(self._settings.grace_seconds / 2)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(receiver), self._settings.grace_seconds)
        for task in (*tasks, receiver):
            task.cancel()
        await asyncio.gather(*tasks, receiver, return_exceptions=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._announcements.publish("agents:heartbeat", self._heartbeat("stopped").payload()), 1)
        await self._announcements.close()
        await self._database.close()
        self._log.info("stopped", "every decision stands in the database as it is")

    # -- conducting ----------------------------------------------------------------------------------------------------

    async def _take_lock(self, connection: Connection) -> None:
        """On each new connection: the lock lives and dies with it, so two can never conduct at once.

        A conductor that is frozen says nothing: the server then ends its connection, and another may conduct.
        """
        await connection.execute(f"SET idle_session_timeout TO '{SILENT_SECONDS:g}s'".encode())
        row = await (await connection.execute(query("try_conduct"))).fetchone()
        taken = bool(row and row["taken"])
        if taken != self._conducting or not taken:
            self._log.info("lock", "conducting" if taken else "another conductor works; standing by")
        self._conducting = taken
        if taken:
            self._began.set()

    async def _conduct(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            if await self._holds_lock():
                for row in await self._database.fetch_all("open_decisions"):
                    await self._progress_safely(str(row["id"]))
            self._monitor.tick()
            await self._wake_or_tick()

    async def _wake_or_tick(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), TICK_SECONDS)

    async def _holds_lock(self) -> bool:
        """Standing by, the lock is tried again; conducting, the connection that holds it is the one that is used."""
        async with self._database.session() as connection:
            if not self._conducting:
                row = await (await connection.execute(query("try_conduct"))).fetchone()
                self._conducting = bool(row and row["taken"])
                if self._conducting:
                    self._log.info("lock", "conducting")
                    self._began.set()
        return self._conducting

    async def _progress_safely(self, identity: str) -> None:
        """A decision in trouble never stops the others."""
        try:
            await self._progress(identity)
            self._trouble.pop(identity, None)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one decision, the others go on
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            if self._trouble.get(identity) != text:
                self._log.error("error", f"decision {identity}: {text}")
            self._trouble[identity] = text

    async def _progress(self, identity: str) -> None:
        """One transaction: apply what the operator said, then move the phases as far as they go."""
        async with self._database.transaction() as connection:
            decision = await DecisionState.load(connection, identity)
            if decision is None:
                return
            await self._apply_commands(decision)
            for _ in range(STEPS):
                if decision.row["status"] != "pending" or not await self._step(decision):
                    break
            await decision.save()
        for message in decision.messages:
            await announce(self._announcements, message)
            self._log.info("sent", f"#{message.id} {message.content.get('ask', message.type)} to {message.to_role}")
        for channel, payload in decision.announcements:
            await self._announcements.publish(channel, payload)
            if channel == "workflow:phase":
                self._log.info("phase", f"{identity[:8]} {payload['phase']} {payload['name']}: {payload['state']}")
            else:
                self._log.info("decision", f"{identity[:8]} {channel.partition(':')[2]}")

    async def _apply_commands(self, decision: DecisionState) -> None:
        queue = decision.row["context"].get("queue") or []
        if not queue:
            return
        decision.row["context"]["queue"] = []
        decision.changed = True
        for item in queue:
            problem = await apply_command(decision, self._phases, item["name"], item["content"])
            self._log.info("operator", f"{item['name']}{': ' + problem if problem else ''}")
            if problem:
                await decision.send("operator", "response", f"Not done: {item['name']}", {"body": problem})

    async def _step(self, decision: DecisionState) -> bool:
        """One transition of the present phase; False when it waits for something."""
        phase = decision.current
        if self._held(decision):
            return False
        if phase.state in ("pending", "waiting"):
            first = decision.row["phase"] == 1
            if not first and decision.row["pace"] == "step" and not phase.detail.get("advance"):
                if phase.state == "pending":
                    await decision.move(phase, "waiting", waiting_for="operator")
                return False
            await self._phases.start(decision, phase)
            return True
        if phase.state == "running" and not await self._phases.check(decision, phase):
            return False
        if decision.row["status"] == "pending" and decision.current.state in ("completed", "failed"):
            decision.set(phase=decision.row["phase"] + 1)
        return True

    @staticmethod
    def _held(decision: DecisionState) -> bool:
        """Paused: nothing moves, and the time that passes does not count."""
        phase = decision.current
        if decision.row["paused"]:
            if "paused_at" not in phase.detail:
                decision.note(phase, paused_at=decision.now)
            return True
        if "paused_at" in phase.detail:
            paused = decision.now - phase.detail.pop("paused_at")
            phase.changed = True
            if "since" in phase.detail:
                decision.note(phase, since=float(phase.detail["since"]) + paused)
        return False

    # -- the bus -------------------------------------------------------------------------------------------------------

    async def _receive_while_conducting(self) -> None:
        await self._began.wait()
        if not self._stopping.is_set():
            await self._receiver.run()

    async def _handle(self, message: Message) -> Effects:
        """Answers are read from the tables when the decision moves; the operator's commands are queued with it."""
        self._wake.set()
        asyncio.get_running_loop().call_later(0.01, self._wake.set)  # again, when the acknowledgement has committed
        name = message.subject
        if message.type != "request" or message.from_role != "operator":
            return Effects()
        if name not in COMMANDS or message.decision_id is None:
            why = "a command names a decision" if name in COMMANDS else f"known are {', '.join(COMMANDS)}"
            answer = Message.compose(
                "conductor", "operator", "response", f"Not done: {name}"[:500], f"{name}: {why}", in_reply_to=message.id
            )
            return Effects((answer,))
        queued = Jsonb([{"name": name, "content": message.content, "message_id": message.id}])
        return Effects((), (("enqueue_command", {"decision_id": message.decision_id, "command": queued}),))

    async def _hear_hints(self) -> None:
        channels = ["messages:all", "messages:conductor", "decisions:new"]
        await self._announcements.listen(channels, lambda _channel, _data: self._wake.set(), self._wake.set)

    async def _beat(self) -> None:
        while True:
            await self._announcements.publish("agents:heartbeat", self._heartbeat("healthy").payload())
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _heartbeat(self, state: str) -> Heartbeat:
        return Heartbeat(
            role="conductor",
            instance=1,
            pid=os.getpid(),
            state=state,
            activity="conducting" if self._conducting else "standing by",
            rss_bytes=self._vitals.rss_bytes(),
            cpu_percent=self._vitals.cpu_percent(),
            dependencies={"postgresql": bool(self._database.reachable), "redis": bool(self._announcements.reachable)},
            breakers={"postgresql": self._database.breaker.state, "redis": self._announcements.breaker.state},
            version=__version__,
            host=socket.gethostname(),
        )

    # -- health --------------------------------------------------------------------------------------------------------

    def _health_changed(self, health: AgentHealth, old: AgentState, new: AgentState, reason: str) -> None:
        self._wake.set()
        if {old, new} != {AgentState.HEALTHY, AgentState.BUSY}:
            self._note_health("health", health, {"from": old, "to": new, "reason": reason})

    def _breaker_changed(self, health: AgentHealth, old: BreakerState, new: BreakerState, reason: str) -> None:
        self._note_health("breaker", health, {"from": old, "to": new, "reason": reason})

    def _note_health(self, kind: str, health: AgentHealth, payload: dict[str, Any]) -> None:
        """For the timeline. Standing by, it is the other conductor that writes; without PostgreSQL it is kept."""
        if self._database.reachable and not self._conducting:
            return
        if len(self._health_events) >= HEALTH_EVENTS:
            self._log.warn("health", f"not recorded: {kind} {health.role} {payload}")
            return
        seen = {"instance": health.instance, "by": os.getpid(), **payload}
        self._health_events.append((kind, health.role, seen))

    async def _record_health(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self._database.reachable and not self._conducting:
                self._health_events.clear()
            while self._conducting and self._health_events:
                kind, role, payload = self._health_events[0]
                await self._database.execute("insert_transition", {"kind": kind, "role": role, "payload": Jsonb(payload)})
                if self._health_events:
                    self._health_events.popleft()
                if kind == "health":
                    await self._announcements.publish("agents:status", {"role": role, **payload})

    # -- staying alive -------------------------------------------------------------------------------------------------

    async def _forever(self, work: Callable[[], Awaitable[None]]) -> None:
        said = ""
        while not self._stopping.is_set():
            try:
                await work()
            except DatabaseUnavailable:
                pass  # said once by the connection itself, when it was lost
            except EchoError as error:
                if str(error) != said:
                    self._log.warn("error", str(error))
                said = str(error)
            except Exception as error:  # noqa: BLE001 - the conductor outlives a fault in one of its parts
                self._log.error("error", f"{type(error).__name__}: {' '.join(str(error).split())}")
            await asyncio.sleep(0.5)

    def _database_reachable(self, reachable: bool, detail: str) -> None:
        if not reachable:
            self._conducting = False
        self._log.info(
            "reach" if reachable else "lost",
            "PostgreSQL is there" if reachable else f"PostgreSQL can't be reached: {detail}",
        )

    def _redis_reachable(self, reachable: bool, detail: str) -> None:
        self._log.info(
            "reach" if reachable else "lost", "Redis is there" if reachable else f"Redis can't be reached: {detail}"
        )
