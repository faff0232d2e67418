"""One run: an organisation at work, the faults of the seed, then quiet, then the audit."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.outbox import send
from echo_core.bus.publish import publish
from echo_core.errors import DatabaseUnavailable, EchoError
from echo_core.services import resolve_urls
from echo_core.storage.database import Database
from echo_core.workflow.commands import command
from tests.chaos.audit import Findings, audit
from tests.chaos.faults import Faults, unheld
from tests.chaos.logs import repeated
from tests.chaos.organisation import Organisation, Sender
from tests.chaos.plan import Planned, plan, uid, write
from tests.chaos.recovery import Recovery
from tests.chaos.schedule import Fault, schedule

SHORT_SECONDS, LONG_SECONDS = 2.5, 60.0  # what a fault may last in a short run, and in a whole one
AT_ONCE = 4  # faults in flight
TRIES = 40  # to find somebody to hit
STILL_SECONDS = 90.0  # without any change before what is left counts as hung
LOOK_SECONDS = 0.3
SAY_SECONDS = 0.25

_LEFT = """
SELECT (SELECT count(*) FROM messages) AS messages,
       (SELECT count(*) FROM deliveries WHERE role <> 'operator' AND state IN ('pending', 'claimed')) AS owed,
       (SELECT count(*) FROM deliveries WHERE state = 'dead') AS dead,
       (SELECT count(*) FROM decisions WHERE status = 'pending') AS pending,
       (SELECT count(*) FROM decisions WHERE jsonb_array_length(coalesce(context -> 'queue', '[]')) > 0) AS commands,
       (SELECT coalesce(sum(phase), 0) FROM decisions) AS phases
"""


@dataclass(frozen=True, slots=True)
class Size:
    seed: int
    faults: int
    messages: int
    decisions: int
    home: str
    away: str
    short: bool = False
    quiet: bool = False

    @property
    def command(self) -> str:
        """What repeats this run."""
        return (
            f"python -m tests.chaos {'--short ' if self.short else ''}--seed {self.seed} --faults {self.faults} "
            f"--messages {self.messages} --decisions {self.decisions}"
        )


@dataclass(slots=True)
class Run:
    size: Size
    organisation: Organisation
    recovery: Recovery
    injected: Counter[str] = field(default_factory=Counter)
    said: dict[str, str] = field(default_factory=dict)  # what the run itself sent: uid by token
    failures: list[str] = field(default_factory=list)
    retried: int = 0
    quiet_after: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    async def go(self) -> dict[str, Any]:
        size, organisation = self.size, self.organisation
        findings = Findings()
        try:
            await organisation.start()
            self._tell("the organisation is up")
            planned = self._prepare_senders()
            keeper = asyncio.create_task(self._keep(), name="keep an eye on it")
            saying = asyncio.create_task(self._say(), name="say something")
            longest = SHORT_SECONDS if size.short else LONG_SECONDS
            await self._inject(schedule(size.seed, size.faults, longest_seconds=longest))
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
            healed = time.monotonic()
            await self._heal_and_wait()
            self.quiet_after = time.monotonic() - healed
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            also = {**self.said, **{token: uid(token) for token in self.recovery.probes}}
            findings = await audit(organisation.servers.admin_url, planned, also)
            self._look_into_logs()
        except EchoError as error:
            self.failures.append(str(error))
        trouble = await organisation.stop()
        left = [f"{process.pid} {' '.join(process.cmdline()[:5])}" for process in organisation.left()]
        findings.add("still running after the stop", left)
        self.failures += [*trouble, *self.recovery.failures, *findings.sentences]
        return self._report(findings, len(left), time.monotonic() - self.begun)

    # -- the load ------------------------------------------------------------------------------------------------------

    def _prepare_senders(self) -> list[Planned]:
        """Two at home, one away."""
        size, organisation = self.size, self.organisation
        assert organisation.away is not None
        planned = plan(size.seed, size.messages, size.decisions, 3, organisation.roles)
        self._progress(0.0)
        for number, machine in enumerate([organisation.home, organisation.home, organisation.away]):
            path, journal = organisation.folder / f"sender-{number}.plan", organisation.folder / f"sender-{number}.journal"
            write(planned, number, path)
            organisation.senders.append(Sender(machine, path, journal, self._progress_file))
        return planned

    @property
    def _progress_file(self) -> Path:
        return self.organisation.folder / "progress"

    def _progress(self, share: float) -> None:
        """The senders go on as far as this."""
        temporary = self._progress_file.with_suffix(".new")
        temporary.write_text(str(share))
        temporary.replace(self._progress_file)

    async def _say(self) -> None:
        """A sender that is never killed, like a control room: there is always somebody who sends."""
        settings = resolve_urls(self.organisation.home.settings)
        database, announcements = (
            Database(settings.database_url, name="chaos"),
            Announcements(settings.redis_url, name="chaos"),
        )
        draw = random.Random(f"said {self.size.seed}")
        try:
            while True:
                token = f"said-{self.size.seed}-{len(self.said)}"
                message = Message.compose(
                    "operator",
                    draw.choice(self.organisation.roles),
                    "notification",
                    "For your information",
                    content={"token": token, "body": token},
                    uid=uid(token),
                )
                self.said[token] = message.uid
                await asyncio.shield(send(database, announcements, self.organisation.home.outbox(), message))
                await asyncio.sleep(SAY_SECONDS)
        except EchoError as error:
            self.failures.append(f"a message was refused: {error}")
        finally:
            await announcements.close()
            await database.close()

    async def _keep(self) -> None:
        while True:
            await self.organisation.look()
            await asyncio.sleep(LOOK_SECONDS)

    # -- the storm -----------------------------------------------------------------------------------------------------

    async def _inject(self, faults: list[Fault]) -> None:
        injector = Faults(self.organisation, self.recovery)
        running: set[asyncio.Task[None]] = set()
        for fault in faults:
            self._progress(fault.number / len(faults) - 0.5 / len(faults))
            await asyncio.sleep(fault.pause_seconds)
            task = asyncio.create_task(self._inject_one(injector, fault), name=fault.kind)
            running.add(task)
            task.add_done_callback(running.discard)
            if fault.alone:
                await asyncio.wait([task])
            while len(running) >= AT_ONCE:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if running:
            await asyncio.gather(*running)
        self._progress(1.0)

    async def _inject_one(self, injector: Faults, fault: Fault) -> None:
        for _ in range(TRIES):
            hit = await injector.inject(fault)
            if hit:
                self.injected[fault.kind] += 1
                self._tell(f"{fault.number:>4} {fault.kind}: {hit}")
                return
            await asyncio.sleep(0.25)
        self.failures.append(f"fault {fault.number} ({fault.kind}) found nobody to hit")

    # -- quiet ---------------------------------------------------------------------------------------------------------

    async def _heal_and_wait(self) -> None:
        """Nothing is held or cut any more; wait until everything is done, or nothing changes any more."""
        for machine in self.organisation.machines:
            unheld(machine)
        self._tell("no more faults; waiting until it is quiet")
        before: object = None
        changed = time.monotonic()
        while True:
            state = await self._state()
            if state is not None and self._is_quiet(state):
                return
            if state != before:
                before, changed = state, time.monotonic()
            elif time.monotonic() - changed > STILL_SECONDS:
                self.failures.append(f"nothing has changed for {STILL_SECONDS:g} s: {state}")
                return
            await asyncio.sleep(0.5)

    def _is_quiet(self, state: dict[str, int]) -> bool:
        sent = all(sender.done for sender in self.organisation.senders)
        return sent and not any(state[key] for key in ("owed", "dead", "pending", "commands", "held"))

    async def _state(self) -> dict[str, int] | None:
        url = self.organisation.servers.admin_url
        try:
            async with await psycopg.AsyncConnection.connect(
                url, autocommit=True, row_factory=dict_row, connect_timeout=3
            ) as admin:
                row = await (await admin.execute(_LEFT)).fetchone()
                assert row is not None
                if row["dead"]:
                    self.retried += await _retry_dead(admin)
                paused = await (
                    await admin.execute("SELECT id FROM decisions WHERE paused AND status = 'pending'")
                ).fetchall()
                waiting = await (await admin.execute(_COMMANDS_WAITING)).fetchall()
        except (psycopg.Error, OSError):
            return None
        if paused and not waiting and all(sender.done for sender in self.organisation.senders):
            await self._resume([str(one["id"]) for one in paused])
        return {**row, "held": sum(machine.outbox().count() for machine in self.organisation.machines)}

    async def _resume(self, decisions: list[str]) -> None:
        """The operator's last word: nothing stays paused."""
        settings = resolve_urls(self.organisation.home.settings)
        database, announcements = (
            Database(settings.database_url, name="chaos"),
            Announcements(settings.redis_url, name="chaos"),
        )
        try:
            for identity in decisions:
                await publish(database, announcements, command("resume", identity))
        except DatabaseUnavailable:
            return  # asked again with the next look
        finally:
            await announcements.close()
            await database.close()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _look_into_logs(self) -> None:
        """No traceback, nothing set aside, and no outage said twice."""
        for machine in self.organisation.machines:
            for path in sorted(machine.settings.logs_dir.glob("*.log*")):
                text = path.read_text(errors="replace")
                if "Traceback (most recent call last)" in text:
                    last = text.partition("Traceback (most recent call last)")[2].strip().splitlines()
                    self.failures.append(
                        f"a traceback in {machine.settings.data_dir.name}/{path.name}: {last[-1] if last else ''}"
                    )
            self.failures += [f"in {machine.settings.data_dir.name}: {text}" for text in repeated(machine.settings.logs_dir)]
            bad = list(machine.settings.outbox_dir.glob("*.bad"))
            if bad:
                self.failures.append(f"{len(bad)} held messages were set aside in {machine.settings.data_dir.name}")

    def _report(self, findings: Findings, orphans: int, seconds: float) -> dict[str, Any]:
        report: dict[str, Any] = {
            "seed": self.size.seed,
            "faults": sum(self.injected.values()),
            "faults_by_kind": dict(self.injected.most_common()),
            "messages_sent": findings.sent,
            "lost": findings.lost,
            "doubled": findings.doubled,
            "out_of_order": findings.disordered,
            "hung_decisions": findings.hung,
            "timeline_gaps": findings.gaps,
            "orphans": orphans,
            "recovery_seconds": self.recovery.figures(),
            "quiet_after_seconds": round(self.quiet_after, 1),
            "dead_letters_retried": self.retried,
            **findings.counts,
            **self.organisation.counts(),
            "duration_seconds": round(seconds, 1),
            "ok": not self.failures,
        }
        if self.failures:
            report |= {"failures": self.failures, "reproduce": self.size.command}
        return report

    def _tell(self, text: str) -> None:
        if not self.size.quiet:
            print(f"{time.monotonic() - self.begun:6.1f} s {text}", file=sys.stderr, flush=True)


_COMMANDS_WAITING = """
SELECT 1 FROM deliveries d JOIN messages m ON m.id = d.message_id
WHERE d.role = 'conductor' AND d.state <> 'handled' AND m.from_role = 'operator'
UNION ALL SELECT 1 FROM decisions WHERE jsonb_array_length(coalesce(context -> 'queue', '[]')) > 0
"""


async def _retry_dead(admin: psycopg.AsyncConnection[dict[str, Any]]) -> int:
    """As the operator does from the screen. A message whose agent was killed five times in a row is one."""
    cursor = await admin.execute(
        "UPDATE deliveries SET state = 'pending', attempts = 0, claimed_by = NULL, lease_until = NULL,"
        " next_attempt_at = now() WHERE state = 'dead'"
    )
    return cursor.rowcount


async def run(size: Size, *, keep: bool = False) -> dict[str, Any]:
    """Returns the report; `keep` leaves the folder of a failed run for a look, and names it."""
    organisation = Organisation(size.home, size.away)
    report: dict[str, Any] = {}
    try:
        report = await Run(size, organisation, Recovery(organisation)).go()
        return report
    finally:
        if keep and not report.get("ok"):
            print(f"the logs are in {organisation.folder}", file=sys.stderr)
            await organisation.stop()
        else:
            organisation.remove()
