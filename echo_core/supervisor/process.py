"""The supervisor: servers first, then the conductor, then the agents one after another; restarts what dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from psycopg.types.json import Jsonb

from echo_core.bus.announcements import Announcements
from echo_core.bus.outbox import Outbox
from echo_core.errors import EchoError, UsageError
from echo_core.health.breaker import BreakerState
from echo_core.health.follow import follow_agent_status, follow_heartbeats
from echo_core.health.monitor import AgentHealth, HealthMonitor, out_of_memory_kills
from echo_core.health.states import AgentState
from echo_core.logs import Log
from echo_core.organisation import Organisation
from echo_core.services import EmbeddedServers, resolve_urls
from echo_core.settings import Settings
from echo_core.snapshot import AgentView, LaunchView, Snapshot
from echo_core.storage.database import Database
from echo_core.storage.migrations import ensure_schema
from echo_core.storage.roles import sync_roles
from echo_core.supervisor.child import Child, RestartPolicy
from echo_core.supervisor.control import ControlServer
from echo_core.supervisor.dependencies import Dependencies

TICK_SECONDS = 0.1
SERVER_CHECK_SECONDS = 0.5


class Supervisor:
    """Keeps the processes of one data directory until asked to stop. See the package's child module for one process."""

    def __init__(self, settings: Settings, organisation: Organisation, log: Log) -> None:
        self.settings = resolve_urls(settings)
        self._given = settings
        self._organisation = organisation
        self._log = log
        self._servers = EmbeddedServers(settings)
        self._monitor = HealthMonitor(on_transition=self._health_changed, on_breaker=self._breaker_changed)
        self._children: dict[tuple[str, int], Child] = {}
        self._conductor: Child | None = None
        self._queue: list[tuple[str, int]] = []  # still to launch, in order
        self._next_launch: float | None = None  # monotonic seconds
        self._delay = settings.delay_seconds
        self._notice = ""
        self._stopping = asyncio.Event()
        self._servers_ready = asyncio.Event()
        self._changed = True
        self._events: asyncio.Queue[tuple[str, str | None, dict[str, Any]]] = asyncio.Queue(maxsize=1000)
        self._oom_kills = out_of_memory_kills()
        self._database = Database(self.settings.database_url, name="supervisor", on_reachable=self._database_reachable)
        self._announcements = Announcements(self.settings.redis_url, name="supervisor", on_reachable=self._redis_reachable)
        self._outbox = Outbox(settings.outbox_dir, log=log)
        self._dependencies = Dependencies(self.settings, self._database, self._announcements, self._outbox)
        self._control = ControlServer(
            settings.run_dir,
            {
                "launch": self.launch,
                "start": self.start,
                "stop": self.stop,
                "restart": self.restart,
                "add": self.add,
                "shutdown": self.shutdown,
            },
            self.snapshot,
            log,
        )

    def request_shutdown(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        self._log.info("ready", f"supervisor of {self.settings.data_dir} as pid {os.getpid()}")
        await self._control.start()
        self._adopt()
        await self.launch(self._given.roster, self._delay)
        tasks = [
            asyncio.create_task(self._forever(name, work), name=name)
            for name, work in {
                "servers": self._keep_servers,
                "processes": self._keep_processes,
                "health": self._hear_health,
                "health from the database": self._poll_agent_status,
                "dependencies": self._watch_dependencies,
                "events": self._write_events,
                "outbox": self._drain_outbox,
                "snapshots": self._send_snapshots,
            }.items()
        ]
        await self._stopping.wait()
        for task in tasks:
            if task.get_name() != "snapshots":
                task.cancel()
        await self._end_everything()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._announcements.close()
        await self._database.close()
        await self._control.close()
        self._log.info("stopped", "everything in this data directory has ended")

    # -- operations of the control socket ------------------------------------------------------------------------------

    async def launch(self, roster: Any = None, delay: float | None = None) -> dict[str, Any]:
        """Queue what of the roster does not run yet. `*3` was already expanded by the client."""
        roles = list(self._given.roster if roster is None else roster)
        if delay is not None:
            self._delay = max(0.0, float(delay))
        counts: dict[str, int] = {}
        for role in roles:
            self._organisation.role(role)
            counts[role] = counts.get(role, 0) + 1
            self._enqueue((role, counts[role]))
        return {"queued": len(self._queue)}

    async def start(self, role: str, instance: int = 1) -> dict[str, Any]:
        self._organisation.role(role)
        child = self._children.get((role, instance))
        if child is not None and child.running:
            raise UsageError(f"{child.name} already runs as pid {child.pid}")
        if child is not None:
            child.forgive()
        self._launch((role, instance))
        return {}

    async def stop(self, role: str, instance: int = 1) -> dict[str, Any]:
        child = self._child(role, instance)
        child.wanted = False
        child.restart_at = None
        await child.stop(self.settings.grace_seconds)
        return {}

    async def restart(self, role: str, instance: int = 1) -> dict[str, Any]:
        child = self._child(role, instance)
        child.wanted = False
        await child.stop(self.settings.grace_seconds)
        self._reap((role, instance), child)
        child.forgive()
        self._launch((role, instance))
        return {}

    async def add(self, role: str) -> dict[str, Any]:
        self._organisation.role(role)
        instance = 1 + max((number for name, number in self._children if name == role), default=0)
        self._enqueue((role, instance))
        return {"instance": instance}

    async def shutdown(self) -> dict[str, Any]:
        ended = [child.name for child in self._children.values() if child.running]
        self._log.info("stop", "asked to end everything")
        self._stopping.set()
        return {"stopping": ended}

    def _child(self, role: str, instance: int) -> Child:
        child = self._children.get((role, instance))
        if child is None:
            self._organisation.role(role)
            raise UsageError(f"{role} (instance {instance}) is not kept by this machine's supervisor")
        return child

    # -- processes -----------------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Take over what an earlier supervisor left running."""
        for lock in sorted(self.settings.run_dir.glob("*.lock")):
            role, _, number = lock.stem.rpartition("-") if "-" in lock.stem else (lock.stem, "", "1")
            if role not in self._organisation.roles or not number.isdigit():
                continue
            child = self._make_child((role, int(number)))
            if child.adopt():
                self._children[role, int(number)] = child
                self._log.info("adopt", f"{child.name} runs as pid {child.pid}")
                self._monitor.started(role, int(number), child.pid or 0)

    def _enqueue(self, key: tuple[str, int]) -> None:
        child = self._children.get(key)
        if key in self._queue or (child is not None and (child.running or child.restart_at is not None)):
            return
        self._queue.append(key)
        self._changed = True

    def _make_child(self, key: tuple[str, int]) -> Child:
        role, instance = key
        name = role if instance == 1 else f"{role}-{instance}"
        command = [sys.executable, "-m", "echo_core.agents", role]
        command += ["--autonomous", "--instance", str(instance), "--supervised"]
        return self._process(name, command)

    def _process(self, name: str, command: list[str]) -> Child:
        environment = {**os.environ, **self.settings.environment()}
        return Child(
            name, command, environment, self.settings.run_dir, self.settings.logs_dir / f"{name}.log", RestartPolicy()
        )

    def _launch(self, key: tuple[str, int]) -> None:
        child = self._children.setdefault(key, self._make_child(key))
        child.wanted = True
        if not child.adopt():
            try:
                child.start()
            except OSError as error:
                self._log.error("start", f"{child.name} can't be started: {error.strerror}")
                child.crashed()
                return
        self._log.info("start", f"{child.name} as pid {child.pid}")
        self._monitor.started(*key, child.pid or 0)
        self._note("process", key[0], {"instance": key[1], "what": "started", "pid": child.pid})

    def _reap(self, key: tuple[str, int], child: Child) -> None:
        ended, code = child.ended()
        if not ended:
            return
        expected = not child.wanted
        if not expected:
            child.crashed()
        self._monitor.exited(*key, code, expected=expected, gave_up=child.gave_up)
        health = self._monitor.agent(*key)
        if code == -9 and out_of_memory_kills() > self._oom_kills:
            health.exit += " (out of memory)"
        self._oom_kills = out_of_memory_kills()
        if expected:
            self._log.info("stopped", f"{child.name}: {health.exit}")
        elif child.gave_up:
            self._log.error("gave up", f"{child.name} crashed {child.crashes} times, last: {health.exit}")
        else:
            self._log.warn("crash", f"{child.name}: {health.exit}; restart in {child.restart_in or 0:.1f} s")
        self._note("process", key[0], {"instance": key[1], "what": health.state, "exit": health.exit})

    async def _keep_processes(self) -> None:
        while True:
            now = time.monotonic()
            for key, child in list(self._children.items()):
                self._reap(key, child)
                if child.wanted and child.restart_at is not None and now >= child.restart_at:
                    self._launch(key)
            self._keep_conductor(now)
            if self._queue and self._may_launch() and (self._next_launch is None or now >= self._next_launch):
                self._launch(self._queue.pop(0))
                self._next_launch = now + self._delay if self._queue else None
                self._changed = True
            self._monitor.tick()
            wait = TICK_SECONDS
            if self._queue and self._delay == 0 and self._may_launch():
                wait = 0
            await asyncio.sleep(wait)

    def _may_launch(self) -> bool:
        """Agents need no server to start; they wait only for the first look at ours, so that they come up quietly."""
        return self._servers_ready.is_set() or bool(self._notice)

    def _keep_conductor(self, now: float) -> None:
        if not self._may_launch():
            return
        if self._conductor is None:
            self._conductor = self._process("conductor", [sys.executable, "-m", "echo_core.workflow"])
            if not self._conductor.adopt():
                self._conductor.start()
            self._changed = True
            return
        ended, code = self._conductor.ended()
        if ended:
            self._conductor.crashed()
            self._conductor.gave_up = False  # without it no decision moves: it is tried for ever, at the slowest pace
            self._conductor.restart_at = now + (self._conductor.restart_in or self._conductor.policy.maximum_seconds)
            self._log.warn("crash", f"the conductor ended (code {code})")
        if self._conductor.restart_at is not None and now >= self._conductor.restart_at:
            self._conductor.start()

    async def _end_everything(self) -> None:
        self._queue.clear()
        for child in self._children.values():
            child.wanted = False
        await asyncio.gather(*(child.stop(self.settings.grace_seconds) for child in self._children.values()))
        if self._conductor is not None:
            await self._conductor.stop(self.settings.grace_seconds)
        for key, child in self._children.items():
            self._reap(key, child)
        with contextlib.suppress(EchoError, TimeoutError):
            await asyncio.wait_for(self._flush_events(), 2.0)
        await self._database.close()
        if self._given.embedded:
            await self._servers.stop()

    # -- servers -------------------------------------------------------------------------------------------------------

    async def _keep_servers(self) -> None:
        wait = 0.5
        while not self._servers_ready.is_set():
            try:
                if self._given.embedded:
                    await self._servers.start()
                    self.settings = resolve_urls(self._given)
                    self._database.url = self.settings.database_url
                    self._announcements.url = self.settings.redis_url
                await self._prepare_schema()
                self._notice = ""
                self._servers_ready.set()
            except EchoError as error:
                if self._notice != str(error):
                    self._log.error("servers", str(error))
                self._notice = str(error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, 5.0)
        while self._given.embedded:
            await asyncio.sleep(SERVER_CHECK_SECONDS)
            for name, given, pid in (
                ("postgresql", self._given.database_url, self._servers.postgres_pid),
                ("valkey", self._given.redis_url, self._servers.valkey_pid),
            ):
                if given or pid() is not None:
                    continue
                self._log.warn("servers", f"{name} died; starting it again")
                self._note("process", None, {"what": "server died", "server": name})
                try:
                    await self._servers.ensure(name)
                    self._log.info("servers", f"{name} is back")
                except EchoError as error:
                    self._log.error("servers", str(error))

    async def _prepare_schema(self) -> None:
        url = self._given.database_url or self._servers.admin_url
        admin = Database(url, name="schema")
        try:
            async with admin.session(timeout=30) as connection:
                await ensure_schema(connection)
                await sync_roles(connection, self._organisation, self._active_roles())
        finally:
            await admin.close()

    def _active_roles(self) -> set[str] | None:
        """In our own database the roster is all there is; a shared one may have other machines' agents."""
        running = {role for role, _ in self._children}
        return {*self._given.roster, *running} if not self._given.database_url else None

    # -- health --------------------------------------------------------------------------------------------------------

    async def _hear_health(self) -> None:
        await follow_heartbeats(self._monitor, self._announcements)

    async def _poll_agent_status(self) -> None:
        await follow_agent_status(self._monitor, self._announcements, self._database)

    def _health_changed(self, health: AgentHealth, old: AgentState, new: AgentState, reason: str) -> None:
        self._changed = True
        if {old, new} != {AgentState.HEALTHY, AgentState.BUSY}:
            self._log.info("health", f"{health.role}-{health.instance}: {old} -> {new} {reason}".rstrip())

    def _breaker_changed(self, health: AgentHealth, old: BreakerState, new: BreakerState, reason: str) -> None:
        self._changed = True

    # -- the rest ------------------------------------------------------------------------------------------------------

    async def _watch_dependencies(self) -> None:
        while True:
            await self._dependencies.look()
            self._changed = True
            await asyncio.sleep(1.0)

    async def _drain_outbox(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            if self._database.reachable and self._outbox.count():
                sent = await self._outbox.drain(self._database, self._announcements)
                if sent:
                    self._log.info("outbox", f"{sent} held messages went out")

    def _note(self, kind: str, role: str | None, payload: dict[str, Any]) -> None:
        """An event for the timeline; dropped, with a log line, only when PostgreSQL stays away for a thousand of them."""
        try:
            self._events.put_nowait((kind, role, payload))
        except asyncio.QueueFull:
            self._log.warn("events", f"not recorded: {kind} {role} {payload}")

    async def _write_events(self) -> None:
        while True:
            await self._flush_events()
            await asyncio.sleep(0.5)

    async def _flush_events(self) -> None:
        while not self._events.empty() and self._servers_ready.is_set():
            kind, role, payload = self._events.get_nowait()
            try:
                await self._database.execute(
                    "insert_event", {"kind": kind, "decision_id": None, "role": role, "payload": Jsonb(payload)}
                )
            except EchoError:
                self._events.put_nowait((kind, role, payload))
                raise

    async def _send_snapshots(self) -> None:
        last = 0.0
        while True:
            now = time.monotonic()
            if self._changed or now - last >= 1.0:
                self._changed, last = False, now
                self._control.broadcast()
            await asyncio.sleep(TICK_SECONDS)

    async def _forever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """A part that fails is logged and begins again: the supervisor itself never dies of it."""
        said = ""
        while True:
            try:
                await work()
                return
            except EchoError as error:
                if said != str(error):
                    self._log.warn(name.split()[0][:8], str(error))
                said = str(error)
            except Exception as error:  # noqa: BLE001 - the keeper of all processes must outlive a fault in one part
                self._log.error(name.split()[0][:8], f"{type(error).__name__}: {error}")
            await asyncio.sleep(1.0)

    def _database_reachable(self, reachable: bool, detail: str) -> None:
        self._changed = True
        self._log.info("postgres", "reached" if reachable else f"lost: {detail}")

    def _redis_reachable(self, reachable: bool, detail: str) -> None:
        self._changed = True
        self._log.info("redis", "reached" if reachable else f"lost: {detail}")

    def snapshot(self) -> Snapshot:
        views = [self._view(key) for key in self._order()]
        starting = not self._servers_ready.is_set()
        wait = max(0.0, self._next_launch - time.monotonic()) if self._queue and self._next_launch else None
        return Snapshot(
            at=time.time(),
            data_dir=str(self.settings.data_dir),
            organisation=self._organisation.name,
            database_url=self.settings.database_url,
            redis_url=self.settings.redis_url,
            supervisor_pid=os.getpid(),
            conductor_pid=self._conductor.pid if self._conductor else None,
            conductor_state=self._conductor_state(),
            dependencies=self._dependencies.views(self._notice, starting=starting),
            agents=tuple(views),
            launch=LaunchView(tuple(_name(key) for key in self._queue), wait),
            pending=self._dependencies.pending,
            dead=self._dependencies.dead,
            outbox=self._outbox.count(),
            models=self._dependencies.models,
            ollama_host=self.settings.ollama_host,
            notice=self._notice or self._dependencies.notice(views, starting=starting),
        )

    def _conductor_state(self) -> str:
        if self._conductor is None:
            return "starting"
        if not self._conductor.running:
            return "crashed"
        health = self._monitor.agent("conductor")
        return health.state if health.beat is not None else "starting"

    def _order(self) -> list[tuple[str, int]]:
        known = list(dict.fromkeys([*self._children, *self._queue]))
        remote = [(h.role, h.instance) for h in self._monitor.agents() if (h.role, h.instance) not in known]
        roles = list(dict.fromkeys([*self._given.roster, *self._organisation.roles]))
        own = [key for key in [*known, *remote] if key[0] in roles]
        return sorted(own, key=lambda key: (key[1], roles.index(key[0])) if key[1] > 1 else (1, roles.index(key[0])))

    def _view(self, key: tuple[str, int]) -> AgentView:
        role, instance = key
        child = self._children.get(key)
        health = self._monitor.agent(role, instance)
        beat = health.beat
        age = self._monitor.age(health)
        title = self._organisation.roles[role].title
        view = AgentView(
            role=role,
            instance=instance,
            title=title if instance == 1 else f"{title} {instance}",
            state=AgentState.STARTING if child is None and key in self._queue else health.state,
            pid=health.pid,
            heartbeat_age=None if age is None else round(age, 1),
            breaker=health.breaker.state,
            exit=health.exit,
            local=child is not None or key in self._queue,
            log_path=str(self.settings.logs_dir / f"{_name(key)}.log"),
        )
        if beat is not None:
            view = replace(
                view,
                activity=beat.activity,
                waiting=beat.waiting,
                mind=beat.mind,
                rss_bytes=beat.rss_bytes,
                cpu_percent=beat.cpu_percent,
            )
        if child is not None:
            view = replace(
                view,
                pid=child.pid,
                restart_in=child.restart_in,
                crashes=child.crashes,
                crash_limit=child.policy.crashes,
            )
        return view


def _name(key: tuple[str, int]) -> str:
    return key[0] if key[1] == 1 else f"{key[0]}-{key[1]}"
