"""The control room as an application: it owns the link, turns what arrives into states, and keys into words."""

from __future__ import annotations

import asyncio
import gc
import importlib
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from echo_core.errors import EchoError, OrganisationStopped
from echo_core.settings import DEFAULT_ROSTER, Settings
from echo_core.snapshot import Snapshot
from echo_core.workflow.record import DecisionRecord, Phase
from echo_tui.keys import APP_BINDINGS
from echo_tui.logs.feed import LogFeed
from echo_tui.messages import ComposeTo, Control, Say, Tell
from echo_tui.news import agent_news, decision_news
from echo_tui.screens.over import OverScreen
from echo_tui.screens.room import Room
from echo_tui.state import RoomState
from echo_tui.themes import DARK, LIGHT

if TYPE_CHECKING:
    from echo_core.organisation import Organisation
    from echo_tui.link import Link
    from echo_tui.screens.quit import QuitScreen
    from echo_tui.widgets.composer import Composer

AGAIN_SECONDS = 1.0  # between attempts to reach what is away
SURE_SECONDS = 4.0  # within this, a second `n` cuts a running phase short
MAIL_SECONDS = 1.0
FREEZE_SECONDS = 3.0  # after the start: what lives then lives long, and full collections cost a visible pause
OVER = {
    "decision": "DecisionScreen",
    "health": "HealthScreen",
    "messages": "MessagesScreen",
    "models": "ModelsScreen",
}


def local_now() -> datetime:
    return datetime.now().astimezone()


class EchoApp(App[int]):
    """`connect=False`: nothing is started or reached; states are handed in with `show` (pictures, tests)."""

    TITLE = "ECHO"
    CSS_PATH = Path(__file__).with_name("echo.tcss")
    BINDINGS: ClassVar[list[BindingType]] = APP_BINDINGS
    COMMAND_PALETTE_BINDING = "ctrl+p"

    def __init__(self, settings: Settings, *, connect: bool = True, clock: Callable[[], datetime] = local_now) -> None:
        super().__init__()
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        self.theme = DARK.name  # before the first styles are made, or all of them are made twice
        self.settings = settings
        self.state = RoomState()
        self.room = Room(self.state)
        self.link: Link | None = None
        self.failure: Exception | None = None
        self._connect = connect
        self._clock = clock
        self._began = time.monotonic()
        self._organisation: Organisation | None = None
        self._linked = asyncio.Event()
        self._sure: tuple[str, int, float] = ("", 0, 0.0)  # the running phase that `n` was pressed in, and when
        self._feed = LogFeed(self._lines_arrived)

    def get_default_screen(self) -> Screen[None]:
        return self.room

    def on_mount(self) -> None:
        self.room.tick(self._clock())
        if self._connect:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.exit, 0)
            self.set_interval(1.0, self._tick)
            self.set_timer(FREEZE_SECONDS, _freeze)
            self.call_after_refresh(self._begin)  # the first paint comes first

    def _begin(self) -> None:
        self.run_worker(self._feed.run(), name="logs", exit_on_error=True)
        self._follow()

    def _follow(self) -> None:
        self._follow_supervisor()
        self._follow_decision()
        self._hear_announcements()
        self._read_mail()

    async def on_unmount(self) -> None:
        if self.link is not None:
            with suppress(EchoError):
                await self.link.close()

    # -- states ---------------------------------------------------------------------------------------------------------

    async def show(self, **changes: Any) -> None:
        """Replace fields of the state and hand it to whatever is on the screen."""
        self.state = replace(self.state, **changes)
        await self.room.show(self.state)
        for screen in self.screen_stack:
            if isinstance(screen, OverScreen):
                screen.show(self.state)

    def tell(self, text: str, *, urgent: bool = False) -> None:
        self.room.tell(self._clock(), text, urgent=urgent)
        if isinstance(self.screen, OverScreen):
            self.screen.told(text, urgent=urgent)

    async def _tick(self) -> None:
        self.room.tick(self._clock())
        if self.state.snapshot is None:
            await self.show(waited_seconds=time.monotonic() - self._began)

    def _lines_arrived(self, name: str, lines: list[bytes]) -> None:
        self.room.append(name, lines)

    async def show_snapshot(self, snapshot: Snapshot) -> None:
        before = self.state.snapshot
        for agent in snapshot.agents:
            if agent.local and self._connect:
                self._feed.watch(agent.name, agent.log_path)
        titles = self.state.titles or (
            {r.role: r.title for r in self._organisation.roles.values()} if self._organisation else {}
        )
        await self.show(
            snapshot=snapshot, problem="", titles={**titles, **{a.role: a.title for a in snapshot.agents if a.instance == 1}}
        )
        for item in agent_news(before, snapshot, self._clock()):
            self.tell(item.text, urgent=item.urgent)
            if item.log_line:
                self.room.append(item.agent, [item.log_line])

    async def show_decision(self, record: DecisionRecord | None, open_decisions: int) -> None:
        before = self.state.decision
        await self.show(decision=record, open_decisions=open_decisions)
        for text, urgent in decision_news(before, record):
            self.tell(text, urgent=urgent)

    # -- what arrives ---------------------------------------------------------------------------------------------------

    @work(exit_on_error=True, name="supervisor")
    async def _follow_supervisor(self) -> None:
        """What the first paint can do without is imported and read beside it; then the supervisor is asked or started."""
        link_module = await asyncio.to_thread(importlib.import_module, "echo_tui.link")
        await asyncio.to_thread(lambda: self.organisation)
        if self.link is None:
            self.link = link_module.Link(self.settings)
            self._linked.set()
        while True:
            try:
                async for snapshot in self.link.snapshots():
                    await self.show_snapshot(snapshot)
            except OrganisationStopped as error:
                await self.show(problem=str(error))
                if not await self._start_again():
                    self.exit(0)
                    return
            except EchoError as error:
                await self.show(problem=str(error))
            await asyncio.sleep(AGAIN_SECONDS)

    async def _start_again(self) -> bool:
        from echo_tui.screens.stopped import StoppedScreen

        again: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        self.push_screen(StoppedScreen(), again.set_result)
        return bool(await again)

    @work(exit_on_error=True, name="decision")
    async def _follow_decision(self) -> None:
        link = await self._reached()
        while True:
            try:
                async for record in link.decision_changes():
                    await self.show_decision(record, link.open_decisions)
            except EchoError:
                # The header's light and the notice say that the database is away; here it is only tried again.
                await asyncio.sleep(AGAIN_SECONDS)

    @work(exit_on_error=True, name="announcements")
    async def _hear_announcements(self) -> None:
        await (await self._reached()).hear_announcements()

    @work(exit_on_error=True, name="mail")
    async def _read_mail(self) -> None:
        link = await self._reached()
        while True:
            try:
                for message in await link.mail():
                    body = f": {message.body}" if message.body else ""
                    urgent = message.type == "escalation" or message.subject.startswith("Not done")
                    self.tell(f"{self.state.title(message.from_role)}: {message.subject}{body}", urgent=urgent)
            except EchoError:
                # Away, and said so elsewhere; what was sent meanwhile is read when it is back.
                await asyncio.sleep(AGAIN_SECONDS)
            await asyncio.sleep(MAIL_SECONDS)

    async def _reached(self) -> Link:
        await self._linked.wait()
        assert self.link is not None
        return self.link

    # -- what the operator says -----------------------------------------------------------------------------------------

    def on_tell(self, message: Tell) -> None:
        self.tell(message.text, urgent=message.urgent)

    @work(name="say", exit_on_error=True)
    async def on_say(self, message: Say) -> None:
        try:
            sent = await (await self._reached()).command(message.name, message.decision_id, **message.content)
        except EchoError as error:
            self.tell(str(error), urgent=True)
        else:
            if sent.held:
                self.tell(f"{message.name}: held on disk until PostgreSQL is back", urgent=True)

    @work(name="control", exit_on_error=True)
    async def on_control(self, message: Control) -> None:
        role = message.arguments.get("role", "")
        self.tell(f"{message.op} {self.state.title(role)}…")
        try:
            await (await self._reached()).control(message.op, **message.arguments)
        except EchoError as error:
            self.tell(str(error), urgent=True)

    async def on_compose_to(self, message: ComposeTo) -> None:
        await self.action_compose(message.to_role)

    # The composer is handled by name: its module is imported when somebody composes.
    @work(name="send", exit_on_error=True)
    async def on_composer_submitted(self, event: Composer.Submitted) -> None:
        composer = self.room.composer
        assert composer is not None
        link = await self._reached()
        try:
            sent, owed = await link.send(event.message)
        except EchoError as error:
            composer.refused(str(error))
            return
        composer.sent()
        self.room.composer_left()
        if sent.held:
            self.tell("held on disk: PostgreSQL can't be reached; it goes out, once, when it is back", urgent=True)
            return
        whom = (
            f"{len(owed)} agents"
            if event.message.to_role in ("all", "leadership")
            else self.state.title(event.message.to_role)
        )
        self.tell(f"#{sent.message.id} to {whom}")
        await link.choose(None)

    def on_composer_closed(self) -> None:
        self.room.composer_left()

    async def action_compose(self, to_role: str | None = None) -> None:
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        await self.room.open_composer(self.organisation, to_role)

    @property
    def organisation(self) -> Organisation:
        if self._organisation is None:
            from echo_core.organisation import load_organisation

            self._organisation = load_organisation(self.settings.organisation)
        return self._organisation

    # -- keys -----------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        own = action in {"compose", "next_phase", "toggle_pace", "pause", "over", "help"}
        if own and (self.room.typing or self.room.has_class("-small")) and self.screen is self.room:
            return False
        return super().check_action(action, parameters)

    def _open(self) -> DecisionRecord | None:
        """The decision that can be moved; says why when there is none."""
        decision = self.state.decision
        if decision is None:
            self.tell("there is no decision yet: press b to ask the organisation something")
        elif decision.status == "escalated":
            self.tell("it waits for your word: press d to approve, reject or ask for another round", urgent=True)
        elif decision.status != "pending":
            self.tell(f"#{decision.number} is {decision.status}: press b to ask something else")
        else:
            return decision
        return None

    def action_next_phase(self) -> None:
        decision = self._open()
        if decision is None:
            return
        phase = decision.phases[decision.phase - 1]
        title = Phase(phase.phase).title
        if decision.paused:
            self.tell("paused: press p to go on")
            return
        if phase.state == "running":
            number, number_phase, since = self._sure
            if (number, number_phase) != (decision.id, phase.phase) or time.monotonic() - since > SURE_SECONDS:
                self._sure = (decision.id, phase.phase, time.monotonic())
                self.tell(f"{title} is not over yet: press n again to go on without the rest", urgent=True)
                return
        self._sure = ("", 0, 0.0)
        self.tell(f"going on: {title}")
        self.post_message(Say("advance", decision.id, phase=phase.phase, state=phase.state))

    async def action_toggle_pace(self) -> None:
        decision = self.state.decision
        pace = "step" if self.state.pace == "auto" else "auto"
        await self.show(next_pace=pace)
        self.tell("running on automatically" if pace == "auto" else "step by step: n goes on to the next phase")
        if decision is not None and decision.status == "pending":
            self.post_message(Say(pace, decision.id))

    def action_pause(self) -> None:
        decision = self._open()
        if decision is not None:
            self.tell("going on" if decision.paused else "paused: p goes on; time limits stand still")
            self.post_message(Say("resume" if decision.paused else "pause", decision.id))

    def action_over(self, name: str) -> None:
        """One screen lies over the control room at a time; its key again goes back."""
        module = importlib.import_module(f"echo_tui.screens.{name}")
        kind = getattr(module, OVER[name])
        if isinstance(self.screen, kind):
            self.pop_screen()
        elif isinstance(self.screen, OverScreen):
            self.switch_screen(kind(self.state, self.link))
        else:
            self.push_screen(kind(self.state, self.link))

    def action_help(self) -> None:
        from echo_tui.screens.help import HelpScreen

        self.push_screen(HelpScreen())

    def action_leave(self) -> None:
        from echo_tui.screens.quit import QuitScreen

        running = sum(agent.pid is not None for agent in self.state.agents)
        if isinstance(self.screen, QuitScreen):
            return
        self.push_screen(QuitScreen(running, self.state.open_decisions), self._left)

    def _left(self, choice: str | None) -> None:
        if choice == "detach":
            self.exit(0)

    @work(name="stop", exit_on_error=True)
    async def on_quit_screen_stop_everything(self, event: QuitScreen.StopEverything) -> None:
        for worker in self.workers:
            if worker.name in ("supervisor", "decision", "mail", "announcements"):
                worker.cancel()  # it would start another supervisor as soon as this one ends
        try:
            await (await self._reached()).stop_everything()
        except EchoError as error:
            self._follow()
            event.asker.failed(str(error))
        else:
            self.exit(0)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        from echo_tui.commands import commands

        yield from commands(self)

    # -- the end --------------------------------------------------------------------------------------------------------

    def _handle_exception(self, error: Exception) -> None:
        """A fault of ours: the screen is put back in order, the person gets one line, the log the details."""
        self.failure = self.failure or error
        if self.is_headless:
            super()._handle_exception(error)
        else:
            self._return_code = 1
            self._close_messages_no_wait()


def _freeze() -> None:
    gc.collect()
    gc.freeze()


def run(settings: Settings) -> int:
    """The control room until it is left; returns the exit code. Raises OrganisationError or UnknownRole before it opens."""
    app = EchoApp(settings)
    if settings.organisation or settings.roster != DEFAULT_ROSTER:  # ours is known to be right, and the first paint waits
        for role in settings.roster:
            app.organisation.role(role)
    app.run()
    if app.failure is not None:
        raise app.failure
    return app.return_code or 0
