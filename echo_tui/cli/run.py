"""`echo-tui run`: one question through all six phases, without a screen."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Annotated

import typer

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.outbox import Outbox, send
from echo_core.errors import DatabaseUnavailable, EchoError, UsageError
from echo_core.organisation import Organisation
from echo_core.services import resolve_urls
from echo_core.settings import Settings
from echo_core.snapshot import Snapshot
from echo_core.storage.database import Database
from echo_core.supervisor.client import SupervisorClient
from echo_core.workflow.commands import command
from echo_core.workflow.ledger import find_decision, load_decision
from echo_core.workflow.minutes import minutes, to_json
from echo_core.workflow.record import DecisionRecord, Phase, PhaseRecord
from echo_tui.cli import options
from echo_tui.cli.launch import Launch, time_limit
from echo_tui.cli.output import progress, say_json
from echo_tui.cli.session import STOP_SECONDS, by_key, check_servers, run_async, running_supervisor, stop_everything, wanted
from echo_tui.cli.session import known_organisation as known
from echo_tui.cli.text_input import body_from

FAILED, ESCALATED, OUT_OF_TIME = 1, 3, 4
DEFAULT_SECONDS = 1800.0  # six slow phases with a small model on a small machine
MODES = ("autonomous", "collaborative", "hierarchical", "human")
LOOK_SECONDS = 0.15


def run(
    settings: Settings,
    subject: Annotated[str, typer.Option("--subject", metavar="S", help="The question.")] = "",
    body: Annotated[str, typer.Option("--body", metavar="B", help="More about it; - reads standard input.")] = "",
    mode: Annotated[
        str, typer.Option("--mode", metavar="M", help="Who decides: " + ", ".join(MODES) + ".")
    ] = "collaborative",
    resume: Annotated[
        str, typer.Option("--resume", metavar="ID", help="Follow an unfinished decision to its end: its id or number.")
    ] = "",
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Give up waiting.")] = DEFAULT_SECONDS,
    json: options.Json = False,
) -> int:
    """Take one question through all six phases and print the minutes. Stops afterwards what it started itself."""
    if timeout <= 0:
        raise UsageError("--timeout takes seconds above 0")
    if resume and (subject or body):
        raise UsageError("--resume follows a decision that exists; leave --subject and --body out")
    if mode not in MODES:
        raise UsageError(f"--mode is {mode!r}; use one of: {', '.join(MODES)}")
    organisation = known(settings)
    message = None
    if not resume:
        if not subject.strip():
            raise UsageError("the subject is empty; ask with --subject, or follow a decision with --resume ID")
        content = {"mode": mode, "pace": "auto"}
        message = Message.compose("operator", "all", "request", subject, body_from(body), content=content)
    return run_async(Run(settings, organisation, timeout).whole(message, resume, json))


@dataclass(slots=True)
class Run:
    settings: Settings
    organisation: Organisation
    seconds: float
    _deadline: float = 0.0
    _identity: str = ""  # of the decision, once it is known
    _launched: list[tuple[str, int]] = field(default_factory=list)  # by us, at somebody else's supervisor

    async def whole(self, message: Message | None, resume: str, as_json: bool) -> int:
        self._deadline = asyncio.get_running_loop().time() + self.seconds
        client = SupervisorClient(self.settings)
        if await running_supervisor(self.settings) is None:
            await check_servers(self.settings)
        try:
            await self._up(client)
            urls = resolve_urls(self.settings)  # the embedded servers' place is known for sure once they run
            database = Database(urls.database_url, name="run")
            announcements = Announcements(urls.redis_url, name="run")
            try:
                self._identity = await self._begin(database, announcements, message, resume)
                record = await self._follow(database, self._identity)
                snapshot = await client.status()
            finally:
                await announcements.close()
                await database.close()
            self._print(record, snapshot, as_json)
            return self._code(record)
        except asyncio.CancelledError:
            goes_on = f"; `echo-tui run --resume {self._identity}` goes on with the decision" if self._identity else ""
            progress(f"interrupted: ending what was started here{goes_on}")
            raise
        finally:
            await self._leave(client)

    async def _up(self, client: SupervisorClient) -> None:
        await client.connect()
        keys = wanted(self.settings)
        if not client.started:
            running = {key for key, agent in by_key(await client.status()).items() if agent.pid is not None}
            self._launched = [key for key in keys if key not in running]
            await client.command("launch", roster=list(self.settings.roster), delay=self.settings.delay_seconds)
        launch = Launch(client, keys)
        missing = await launch.wait(min(time_limit(self.settings), self.seconds))
        if any(name in ("postgresql", "supervisor") for name in missing):
            notice = (await client.status()).notice
            raise EchoError(f"the organisation did not come up: {notice or ', '.join(missing)}")
        if missing:
            progress(f"going on without {', '.join(missing)}")

    async def _begin(self, database: Database, announcements: Announcements, message: Message | None, resume: str) -> str:
        outbox = Outbox(self.settings.outbox_dir)
        if message is None:
            identity = await find_decision(database, resume)
            record = await load_decision(database, identity)
            progress(f"decision #{record.number}: {record.subject}")
            if record.status == "pending":
                names = [*(["resume"] if record.paused else []), *(["auto"] if record.pace != "auto" else [])]
                for name in names:
                    await send(database, announcements, outbox, command(name, identity))
            return identity
        sent = await send(database, announcements, outbox, message)
        while sent.held:  # PostgreSQL went away at this very moment: the supervisor brings it back and sends what is held
            self._in_time("PostgreSQL to come back")
            await asyncio.sleep(LOOK_SECONDS)
            row = await _quietly(database, message.uid)
            if row is not None:
                return row
        assert sent.message.decision_id is not None
        progress(f"decision #{sent.message.id} {sent.message.decision_id}: {message.subject}")
        return sent.message.decision_id

    async def _follow(self, database: Database, identity: str) -> DecisionRecord:
        """Until it is decided, escalated or cancelled, or the time is up."""
        told = Story()
        record: DecisionRecord | None = None
        away = False
        while True:
            try:
                record = await load_decision(database, identity)
                away = False
                told.tell(record)
                if record.status != "pending":
                    return record
            except DatabaseUnavailable as error:
                if not away:
                    progress(str(error))
                away = True
            if asyncio.get_running_loop().time() > self._deadline:
                if record is None:
                    raise EchoError("out of time before the decision could be read; `echo-tui doctor` shows more")
                return record
            await asyncio.sleep(LOOK_SECONDS)

    def _in_time(self, waiting_for: str) -> None:
        if asyncio.get_running_loop().time() > self._deadline:
            raise OutOfTime(f"out of time while waiting for {waiting_for}")

    def _print(self, record: DecisionRecord, snapshot: Snapshot, as_json: bool) -> None:
        if record.status == "pending":
            progress(f"out of time after {self.seconds:g} s; `echo-tui run --resume {record.id}` goes on from here")
        if as_json:
            say_json(to_json(record, snapshot))
        else:
            sys.stdout.write(minutes(record, self.organisation))
        sys.stdout.flush()

    @staticmethod
    def _code(record: DecisionRecord) -> int:
        return {"approved": 0, "rejected": 0, "escalated": ESCALATED, "pending": OUT_OF_TIME}.get(record.status, FAILED)

    async def _leave(self, client: SupervisorClient) -> None:
        """End what this command started, and nothing else."""
        if client.started or client.starting:
            await client.end_started(STOP_SECONDS)
        if client.started:
            ended = await stop_everything(self.settings)
            if ended.left:
                progress(f"still running: {', '.join(ended.left)}; `echo-tui stop` ends it")
            return
        for role, instance in self._launched:
            try:
                await client.command("stop", role=role, instance=instance)
            except EchoError as error:
                progress(f"{role} may still run: {error}")


class OutOfTime(EchoError):
    """The time given was not enough; what was sent goes on by itself."""

    exit_code = OUT_OF_TIME


@dataclass(slots=True)
class Story:
    """Tells on standard error what became known since the last look, each thing once."""

    _said: set[tuple[object, ...]] = field(default_factory=set)

    def tell(self, record: DecisionRecord) -> None:
        for phase in record.phases:
            ended = phase.state in ("completed", "failed") and phase.phase != Phase.SYNTHESIS
            if ended:  # what happened inside comes before the line that ends it; of the last one follows the verdict
                self._inside(record, phase.phase)
            if phase.state != "pending":
                self._once(("phase", phase.phase, phase.state, _times(record, phase)), _line(phase))
            if not ended:
                self._inside(record, phase.phase)

    def _inside(self, record: DecisionRecord, phase: int) -> None:
        if phase == Phase.SELF_SELECTION:
            for item in record.participations:
                text = f"  {item.role}: {item.stance} {item.confidence:.2f} ({item.source})"
                self._once(("stance", item.role), text)
        elif phase == Phase.DISCUSSION:
            for said in record.contributions:
                text = f"  {said.role}, round {said.round}: {said.position or 'speaks'} ({said.source})"
                self._once(("contribution", said.message_id), text)
        elif phase == Phase.CONSENSUS:
            for vote in record.votes:
                text = f"  {vote.role}: {vote.vote} {vote.confidence:.2f} ({vote.source})"
                self._once(("vote", vote.role, vote.round), text)
        elif phase == Phase.SYNTHESIS and record.status != "pending":
            score = "" if record.consensus_score is None else f", score {record.consensus_score:.2f}"
            self._once(("status", record.status), f"{record.status}{score}")

    def _once(self, key: tuple[object, ...], text: str) -> None:
        if key not in self._said:
            self._said.add(key)
            progress(text)


def _times(record: DecisionRecord, phase: PhaseRecord) -> int:
    """Which time it is that the decision comes through a phase: another round leads back to the discussion."""
    if phase.phase in (Phase.DISCUSSION, Phase.CONSENSUS):
        return int(phase.detail.get("round") or 0)
    return _times(record, record.phases[Phase.CONSENSUS - 1]) if phase.phase == Phase.SYNTHESIS else 0


def _line(phase: PhaseRecord) -> str:
    state = phase.state
    reason = str(phase.detail.get("reason") or "")
    if state == "waiting":
        state = "waiting for the operator"
    elif state == "running":
        reason = str(phase.detail.get("again") or "")
    if state == "running" and phase.phase == Phase.DISCUSSION and phase.detail.get("round"):
        state = f"round {phase.detail['round']} of {phase.detail['rounds']}"
    elif phase.state in ("completed", "failed") and phase.seconds is not None:
        state = f"{state} after {phase.seconds:.1f} s"
    return f"phase {phase.phase} {Phase(phase.phase).title}: {state}{f' ({reason})' if reason else ''}"


async def _quietly(database: Database, uid: str) -> str | None:
    try:
        row = await database.fetch_one("message_by_uid", {"uid": uid})
    except DatabaseUnavailable:
        return None
    return str(row["decision_id"]) if row else None
