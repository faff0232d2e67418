"""An agent as a process: up at once, lacking what it lacks, and finishing what it has in hand before it ends."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from psycopg.types.json import Jsonb

from echo_core import __version__
from echo_core.agents.handler import IDLE, Handler, Statement
from echo_core.agents.lockfile import LockFile
from echo_core.agents.vitals import Vitals
from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message, announcement_channel
from echo_core.bus.receive import Effects, Receiver
from echo_core.errors import EchoError
from echo_core.health.states import HEARTBEAT_SECONDS, AgentState, Heartbeat
from echo_core.health.transitions import Transitions
from echo_core.logs import Log
from echo_core.minds.choose import choose_mind
from echo_core.minds.protocol import Mind
from echo_core.minds.rules import RuleMind
from echo_core.organisation import Organisation, Role, load_organisation
from echo_core.services import resolve_urls
from echo_core.settings import Settings
from echo_core.storage.database import Connection, Database
from echo_core.storage.queries import query

HEARTBEAT_CHANNEL = "agents:heartbeat"
REPORT_SECONDS = 10.0  # agent_status follows the heartbeats more slowly; while Redis is away it takes their place
BEAT_GAP_SECONDS = 0.25  # a busy agent changes its activity often; nobody can read faster
ENDING_SECONDS = 1.0  # of the grace period, kept for saying goodbye
_FAREWELL_SECONDS = 0.5


def run_agent(settings: Settings, role_name: str, instance: int, *, supervised: bool) -> int:
    """Run until told to stop; returns the exit code. Raises UnknownRole and AlreadyRunning before anything starts."""
    organisation = load_organisation(settings.organisation)
    role = organisation.role(role_name)
    name = role.role if instance == 1 else f"{role.role}-{instance}"
    lock = LockFile(settings.run_dir / f"{name}.lock")
    lock.take(f"the agent {name}")
    log = Log(settings.logs_dir / f"{name}.log", echo=not supervised)
    try:
        asyncio.run(Agent(resolve_urls(settings), organisation, role, instance, log).run())
    except BaseExceptionGroup as errors:
        for error in errors.exceptions:
            log.error("crash", f"{type(error).__name__}: {error}")
        raise
    finally:
        log.close()
        lock.release()
    return 0


class Agent:
    """One role instance: a receiver, a mind and a heartbeat around one connection to each server."""

    def __init__(self, settings: Settings, organisation: Organisation, role: Role, instance: int, log: Log) -> None:
        self._settings = settings
        self._organisation = organisation
        self._role = role
        self._instance = instance
        self._log = log
        self._vitals = Vitals()
        self._host = socket.gethostname()
        self._state = AgentState.STARTING
        self._activity = IDLE
        self._steps = 0
        self._changed = asyncio.Event()
        self._calls: list[Any] = []
        self._mind: Mind | None = None
        self._mind_chosen: asyncio.Task[Mind] | None = None
        self._database = Database(
            settings.database_url,
            name=f"{role.role}-{instance}",
            durable=False,
            on_reachable=self._told("PostgreSQL", "messages wait there until it is back"),
            on_connect=self._join,
        )
        self._announcements = Announcements(
            settings.redis_url,
            name=f"{role.role}-{instance}",
            on_reachable=self._told("Redis", "messages are found by catch-up until it is back"),
        )
        self._transitions = Transitions(self._database, role.role, instance)
        self._transitions.watch("postgresql", self._database.breaker)
        self._transitions.watch("redis", self._announcements.breaker)
        handler = Handler(
            role, self._chosen_mind, self._database, log, on_activity=self._note_activity, calls=self._take_calls
        )
        self._handler = handler
        # Two data directories of one machine may have an agent of the same name: only this one's lock tells who is dead.
        home = hashlib.blake2s(os.fsencode(settings.data_dir), digest_size=4).hexdigest()
        life = f"{role.role}-{instance}@{self._host}/{home}:"
        groups = ("all", "leadership") if role.leadership else ("all",)
        self._receiver = Receiver(
            self._database,
            self._announcements,
            role.role,
            f"{life}{os.getpid()}",
            self._handle,
            log,
            channels=[announcement_channel(to) for to in (role.role, *groups)],
            predecessors=life,
        )

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        self._log.info("start", f"{self._role.title} ({self._role.role}), process {os.getpid()}")
        self._mind_chosen = loop.create_task(self._choose(), name="choose a mind")
        async with asyncio.TaskGroup() as group:
            receiving = group.create_task(self._receiver.run(), name="receive")
            helpers = [
                group.create_task(self._beat(), name="heartbeat"),
                group.create_task(self._report(), name="report"),
                group.create_task(self._transitions.write(), name="breaker events"),
            ]
            self._state = AgentState.HEALTHY
            self._log.info("ready", "handler started")
            gc.collect()
            gc.freeze()
            await receiving
            # The heartbeat stops last: until here this agent was finishing its work.
            for helper in helpers:
                helper.cancel()
        self._state, self._activity = AgentState.STOPPED, IDLE
        await self._farewell()
        self._log.info("stopped", "asked to stop; nothing is left in hand")

    def _stop(self) -> None:
        self._note_activity("stopping" if self._activity == IDLE else self._activity)
        self._receiver.stop(max(self._settings.grace_seconds - ENDING_SECONDS, ENDING_SECONDS))

    async def _handle(self, message: Message) -> Effects:
        return await self._handler.handle(message)

    # The mind -----------------------------------------------------------------------------------------------------------

    async def _choose(self) -> Mind:
        try:
            mind = await choose_mind(
                self._role,
                self._organisation,
                self._settings,
                record=self._calls.append,
                log=lambda text: self._log.info("mind", text),
                warn=lambda text: self._log.warn("mind", text),
                on_breaker=lambda model, old, new, reason: self._transitions.note(f"model:{model}", old, new, reason),
            )
        except EchoError as error:
            self._log.error("mind", f"rules, because {error}")
            mind = RuleMind(self._role, self._organisation)
        self._mind = mind
        if isinstance(mind, RuleMind):
            self._log.info("mind", "answers by rules")
        self._changed.set()
        return mind

    async def _chosen_mind(self) -> Mind:
        assert self._mind_chosen is not None
        return await asyncio.shield(self._mind_chosen)

    def _mind_name(self) -> str:
        return str(getattr(self._mind, "label", "rules"))

    def _take_calls(self, message: Message) -> list[Statement]:
        calls, self._calls[:] = list(self._calls), []
        fields = ("model", "purpose", "outcome", "load_ms", "first_token_ms", "total_ms", "prompt_tokens", "output_tokens")
        place = {"role": self._role.role, "decision_id": message.decision_id}
        return [("record_llm_call", {**{name: getattr(call, name, None) for name in fields}, **place}) for call in calls]

    # Health -------------------------------------------------------------------------------------------------------------

    def _note_activity(self, activity: str) -> None:
        self._steps += 1
        if activity != self._activity:
            self._activity = activity
            if self._state in (AgentState.HEALTHY, AgentState.BUSY):
                self._state = AgentState.HEALTHY if activity == IDLE else AgentState.BUSY
            self._changed.set()

    def _heartbeat(self) -> Heartbeat:
        mind_breaker = getattr(self._mind, "breaker", None)
        breakers = {"postgresql": self._database.breaker.state.value, "redis": self._announcements.breaker.state.value}
        if mind_breaker is not None:
            breakers[f"model:{self._mind_name()}"] = mind_breaker.state.value
        return Heartbeat(
            role=self._role.role,
            instance=self._instance,
            pid=os.getpid(),
            state=self._state.value,
            activity=self._activity,
            progress=self._receiver.progress + self._steps,
            waiting=self._receiver.waiting,
            rss_bytes=self._vitals.rss_bytes(),
            cpu_percent=self._vitals.cpu_percent(),
            dependencies={
                "postgresql": self._database.reachable is True,
                "redis": self._announcements.reachable is True,
                "ollama": bool(getattr(self._mind, "ollama_reachable", False)),
            },
            breakers=breakers,
            mind=self._mind_name(),
            version=__version__,
            host=self._host,
        )

    async def _beat(self) -> None:
        """At once, on each change, and every two seconds; a hung Redis delays a beat by its timeout at most."""
        while True:
            self._changed.clear()
            await self._announcements.publish(HEARTBEAT_CHANNEL, self._heartbeat().payload())
            await asyncio.sleep(BEAT_GAP_SECONDS)
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS - BEAT_GAP_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _report(self) -> None:
        """agent_status: the record of who is there, and the heartbeat of last resort."""
        reported_at = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() - reported_at >= REPORT_SECONDS or self._announcements.reachable is False:
                try:
                    await self._write_status()
                    reported_at = loop.time()
                except EchoError:
                    # Said once by the connection itself; heartbeats go on without the database.
                    reported_at = float("-inf")
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _write_status(self) -> None:
        beat = self._heartbeat().payload()
        await self._database.execute(
            "agent_reports",
            {
                "role": self._role.role,
                "instance": self._instance,
                "status": beat["state"],
                "version": __version__,
                "capabilities": Jsonb(list(self._role.responsibilities)),
                "metadata": Jsonb(beat),
            },
        )

    async def _farewell(self) -> None:
        """The last heartbeat says stopped; servers that are away are not waited for."""
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._announcements.publish(HEARTBEAT_CHANNEL, self._heartbeat().payload())
                if self._database.reachable:
                    await self._write_status()
                    await self._transitions.flush()
        except (EchoError, TimeoutError) as error:
            self._log.warn("lost", f"the last report was not taken: {error}")
        await self._announcements.close()
        await self._database.close()

    # The servers --------------------------------------------------------------------------------------------------------

    def _told(self, server: str, meanwhile: str) -> Callable[[bool, str], None]:
        def on_reachable(reachable: bool, detail: str) -> None:
            if reachable:
                self._log.info("reach", f"{server} is there")
            else:
                self._log.warn("lost", f"{server} can't be reached: {detail}; {meanwhile}")
            self._changed.set()

        return on_reachable

    async def _join(self, connection: Connection) -> None:
        """On each new connection: make sure the schema, the role and its place in the roster are there."""
        row = await (await connection.execute(query("schema_present"))).fetchone()
        if row is not None and not row["present"]:
            from echo_core.storage.migrations import ensure_schema

            await ensure_schema(connection)
        row = await (await connection.execute(query("role_exists"), {"role": self._role.role})).fetchone()
        if row is not None and not row["known"]:
            from echo_core.storage.roles import sync_roles

            await sync_roles(connection, self._organisation, None)
        await connection.execute(query("activate_role"), {"role": self._role.role})
