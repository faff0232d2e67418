"""The supervisor: servers first, then the conductor, then the agents one after another; restarts what dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from echo_core.bus.announcements import Announcements
from echo_core.bus.outbox import Outbox
from echo_core.errors import EchoError, UsageError
from echo_core.health.breaker import BreakerState
from echo_core.health.follow import follow_agent_status, follow_heartbeats
from echo_core.health.memory import ended_for_memory, out_of_memory_kills
from echo_core.health.monitor import AgentHealth, HealthMonitor, describe_exit
from echo_core.health.states import AgentState
from echo_core.logs import Log
from echo_core.organisation import Organisation
from echo_core.services import resolve_urls
from echo_core.settings import Settings
from echo_core.snapshot import AgentView, LaunchView, Snapshot
from echo_core.storage.database import Database
from echo_core.supervisor.child import Child, RestartPolicy
from echo_core.supervisor.control import ControlServer
from echo_core.supervisor.dependencies import Dependencies
from echo_core.supervisor.servers import ServerKeeper
from echo_core.supervisor.timeline import Timeline
from echo_core.supervisor.view import agent_view, launch_order, name_of

TICK_SECONDS = 0.1
INSTANCES = 999  # of one role
DELAY_SECONDS = 600.0  # between two launches, at most


class Supervisor:
    """Keeps the processes of one data directory until asked to stop. See the package's child module for one process."""

    def __init__(
        self, settings: Settings, organisation: Organisation, log: Log, *, policy: RestartPolicy | None = None
    ) -> None:
        self.settings = resolve_urls(settings)
        self._given = settings
        self._policy = policy or RestartPolicy()
        self._organisation = organisation
        self._log = log
        self._servers = ServerKeeper(
            settings,
            organisation,
            log,
            active_roles=self._active_roles,
            on_settings=self._servers_found,
            note=lambda payload: self._timeline.note("process", None, payload),
        )
        self._monitor = HealthMonitor(on_transition=self._health_changed, on_breaker=self._breaker_changed)
        self._children: dict[tuple[str, int], Child] = {}
        self._conductor: Child | None = None
        self._queue: list[tuple[str, int]] = []  # still to launch, in order
        self._next_launch: float | None = None  # monotonic seconds
        self._delay = settings.delay_seconds
        self._stopping = asyncio.Event()
        self._changed = True
        self._oom_kills = out_of_memory_kills()
        self._database = Database(self.settings.database_url, name="supervisor", on_reachable=self._database_reachable)
        self._timeline = Timeline(self._database, log, may_write=lambda: self._servers.ready)
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
                "servers": self._servers.keep,
                "processes": self._keep_processes,
                "health": self._hear_health,
                "health from the database": self._poll_agent_status,
                "dependencies": self._watch_dependencies,
                "events": self._timeline.write,
                "outbox": self._drain_outbox,
                "snapshots": self._send_snapshots,
            }.items()
        ]
        await self._stopping.wait()
        self._changed = True  # whoever watches is told that this end is wanted
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
        self._refuse_while_stopping()
        roles = list(self._given.roster if roster is None else roster)
        if delay is not None:
            self._delay = min(max(0.0, float(delay)), DELAY_SECONDS)
        counts: dict[str, int] = {}
        for role in roles:
            self._organisation.role(role)
        for role in roles:
            counts[role] = counts.get(role, 0) + 1
            self._enqueue((role, counts[role]))
        if roster is not None and self._queue:
            self._timeline.note("operator", None, {"what": "launch", "roster": roles})
        return {"queued": len(self._queue)}

    async def start(self, role: str, instance: int = 1) -> dict[str, Any]:
        """Also one that was stopped or given up, and one whose turn in the launch has not come yet."""
        key = self._key(role, instance)
        child = self._children.get(key)
        if child is not None and child.running:
            raise UsageError(f"{child.name} already runs as pid {child.pid}")
        self._timeline.note("operator", role, {"what": "start", "instance": instance})
        self._start_now(key)
        return {}

    async def stop(self, role: str, instance: int = 1) -> dict[str, Any]:
        """It stays stopped until it is started again; one that waits for its launch or its restart never starts."""
        key = self._key(role, instance)
        child = self._child(key)
        child.wanted = False
        child.restart_at = None
        self._timeline.note("operator", role, {"what": "stop", "instance": instance})
        was_running = child.running
        await child.stop(self.settings.grace_seconds)
        self._reap(key, child)
        if not was_running:
            child.gave_up = False
            self._monitor.stopped(*key)
            self._timeline.note("process", role, {"instance": instance, "what": AgentState.STOPPED, "exit": ""})
        self._changed = True
        return {}

    async def restart(self, role: str, instance: int = 1) -> dict[str, Any]:
        key = self._key(role, instance)
        child = self._child(key)
        child.wanted = False
        self._timeline.note("operator", role, {"what": "restart", "instance": instance})
        await child.stop(self.settings.grace_seconds)
        self._reap(key, child)
        self._refuse_while_stopping()
        self._start_now(key)
        return {}

    async def add(self, role: str) -> dict[str, Any]:
        self._refuse_while_stopping()
        self._organisation.role(role)
        taken = [number for name, number in [*self._children, *self._queue] if name == role]
        instance = 1 + max(taken, default=0)
        self._key(role, instance)
        self._timeline.note("operator", role, {"what": "add", "instance": instance})
        self._enqueue((role, instance))
        return {"instance": instance}

    async def shutdown(self) -> dict[str, Any]:
        ended = [child.name for child in self._children.values() if child.running]
        self._log.info("stop", "asked to end everything")
        self._timeline.note("operator", None, {"what": "shutdown"})
        self._stopping.set()
        return {"stopping": ended}

    def _key(self, role: str, instance: int) -> tuple[str, int]:
        self._refuse_while_stopping()
        self._organisation.role(role)
        if isinstance(instance, bool) or not isinstance(instance, int) or not 1 <= instance <= INSTANCES:
            raise UsageError(f"an instance is a number from 1 to {INSTANCES}, not {instance!r}")
        return role, instance

    def _child(self, key: tuple[str, int]) -> Child:
        """Raises UsageError for one that was never launched here and is not about to be."""
        if key in self._queue:
            self._queue.remove(key)
            self._children.setdefault(key, self._make_child(key))
        child = self._children.get(key)
        if child is None:
            raise UsageError(f"{key[0]} (instance {key[1]}) is not kept by this machine's supervisor")
        return child

    def _start_now(self, key: tuple[str, int]) -> None:
        if key in self._queue:
            self._queue.remove(key)
        if (child := self._children.get(key)) is not None:
            child.forgive()
        self._launch(key)

    def _refuse_while_stopping(self) -> None:
        if self._stopping.is_set():
            raise UsageError("everything is being stopped; `echo-tui up` starts it again afterwards")

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
                self._timeline.note("process", role, {"instance": int(number), "what": "adopted", "pid": child.pid})

    def _enqueue(self, key: tuple[str, int]) -> None:
        child = self._children.get(key)
        if key in self._queue or (child is not None and (child.running or child.restart_at is not None)):
            return
        self._queue.append(key)
        self._changed = True

    def _make_child(self, key: tuple[str, int]) -> Child:
        role, instance = key
        command = [sys.executable, "-m", "echo_core.agents", role]
        command += ["--autonomous", "--instance", str(instance), "--supervised"]
        return self._process(name_of(key), command)

    def _process(self, name: str, command: list[str]) -> Child:
        environment = {**os.environ, **self.settings.environment()}
        return Child(name, command, environment, self.settings.run_dir, self.settings.logs_dir / f"{name}.log", self._policy)

    def _launch(self, key: tuple[str, int]) -> None:
        child = self._children.setdefault(key, self._make_child(key))
        child.wanted = True
        if child.running:  # two operators asked for it at once
            return
        adopted = child.adopt()
        if not adopted:
            try:
                child.start()
            except OSError as error:
                self._log.error("start", f"{child.name} can't be started: {error.strerror}")
                child.crashed()
                return
        self._log.info("adopt" if adopted else "start", f"{child.name} as pid {child.pid}")
        self._monitor.started(*key, child.pid or 0)
        self._timeline.note(
            "process", key[0], {"instance": key[1], "what": "adopted" if adopted else "started", "pid": child.pid}
        )

    def _reap(self, key: tuple[str, int], child: Child) -> None:
        pid = child.pid
        ended, code = child.ended()
        if not ended:
            return
        expected = not child.wanted
        if not expected:
            child.crashed()
        self._monitor.exited(*key, code, expected=expected, gave_up=child.gave_up)
        health = self._monitor.agent(*key)
        health.exit += self._for_memory(pid, code)
        if expected:
            self._log.info("stopped", f"{child.name}: {health.exit}")
        elif child.gave_up:
            self._log.error("gave up", f"{child.name} crashed {child.crashes} times, last: {health.exit}")
        else:
            self._log.warn("crash", f"{child.name}: {health.exit}; restart in {child.restart_in or 0:.1f} s")
        self._timeline.note("process", key[0], {"instance": key[1], "what": health.state, "exit": health.exit})

    def _for_memory(self, pid: int | None, code: int | None) -> str:
        """What the kernel says of a kill: its counter counts everybody's, its log names whom."""
        before, self._oom_kills = self._oom_kills, out_of_memory_kills()
        if code != -9 or pid is None or self._oom_kills <= before:
            return ""
        named = ended_for_memory(pid)
        return "" if named is False else " (out of memory)" if named else " (perhaps out of memory)"

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
        return self._servers.tried

    def _keep_conductor(self, now: float) -> None:
        if not self._may_launch():
            return
        if self._conductor is None:
            self._conductor = self._process("conductor", [sys.executable, "-m", "echo_core.workflow"])
            if self._conductor.adopt():
                self._timeline.note("process", "conductor", {"what": "adopted", "pid": self._conductor.pid})
            else:
                self._start_conductor(self._conductor)
            return
        ended, code = self._conductor.ended()
        if ended:
            self._conductor.crashed()
            self._conductor.gave_up = False  # without it no decision moves: it is tried for ever, at the slowest pace
            self._conductor.restart_at = now + (self._conductor.restart_in or self._conductor.policy.maximum_seconds)
            self._changed = True
            self._log.warn("crash", f"the conductor: {describe_exit(code)}")
            self._timeline.note("process", "conductor", {"what": AgentState.CRASHED, "exit": describe_exit(code)})
        if self._conductor.restart_at is not None and now >= self._conductor.restart_at:
            self._start_conductor(self._conductor)

    def _start_conductor(self, child: Child) -> None:
        try:
            child.start()
        except OSError as error:
            self._log.error("start", f"the conductor can't be started: {error.strerror}")
            child.restart_at = time.monotonic() + child.policy.maximum_seconds
            return
        self._changed = True
        self._monitor.started("conductor", 1, child.pid or 0)
        self._timeline.note("process", "conductor", {"what": "started", "pid": child.pid})

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
            await asyncio.wait_for(self._timeline.flush(), 2.0)
        await self._database.close()
        await self._servers.stop()

    # -- servers -------------------------------------------------------------------------------------------------------

    def _servers_found(self, settings: Settings) -> None:
        self.settings = settings
        self._database.url = settings.database_url
        self._announcements.url = settings.redis_url

    def _active_roles(self) -> set[str] | None:
        """In our own database the roster is all there is; a shared one may have other machines' agents."""
        running = {role for role, _ in self._children}
        return {*self._given.roster, *running} if not self._given.database_url else None

    # -- health --------------------------------------------------------------------------------------------------------

    async def _hear_health(self) -> None:
        await self._servers.wait_until_tried()
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
        await self._servers.wait_until_tried()
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
        order = launch_order(self._given.roster, self._organisation, [*self._children, *self._queue], self._monitor)
        views = [self._view(key) for key in order]
        starting = not self._servers.ready
        wait = max(0.0, self._next_launch - time.monotonic()) if self._queue and self._next_launch else None
        return Snapshot(
            at=time.time(),
            data_dir=str(self.settings.data_dir),
            organisation=self._organisation.name,
            database_url=self.settings.database_url,
            redis_url=self.settings.redis_url,
            supervisor_pid=os.getpid(),
            stopping=self._stopping.is_set(),
            conductor_pid=self._conductor.pid if self._conductor else None,
            conductor_state=self._conductor_state(),
            dependencies=self._dependencies.views(self._servers.notice, starting=starting),
            agents=tuple(views),
            launch=LaunchView(tuple(name_of(key) for key in self._queue), wait),
            pending=self._dependencies.pending,
            dead=self._dependencies.dead,
            outbox=self._outbox.count(),
            models=self._dependencies.models,
            ollama_host=self.settings.ollama_host,
            notice=self._servers.notice or self._dependencies.notice(views, starting=starting),
        )

    def _conductor_state(self) -> str:
        if self._conductor is None:
            return "starting"
        if not self._conductor.running:
            return "crashed"
        health = self._monitor.agent("conductor")
        return health.state if health.beat is not None else "starting"

    def _view(self, key: tuple[str, int]) -> AgentView:
        return agent_view(
            self._organisation.roles[key[0]].title,
            self._monitor.agent(*key),
            self._monitor.age(self._monitor.agent(*key)),
            self._children.get(key),
            queued=key in self._queue,
            log_path=str(self.settings.logs_dir / f"{name_of(key)}.log"),
        )
