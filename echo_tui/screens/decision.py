"""The decision room: the minutes of a decision, live, and the operator's word in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import OptionList

from echo_core.errors import EchoError
from echo_core.organisation import load_organisation
from echo_core.text import inert
from echo_core.workflow.minutes import minutes, write_minutes
from echo_core.workflow.operator import ENDED
from echo_core.workflow.record import DecisionRecord, Phase
from echo_tui.columns import clip
from echo_tui.messages import Say
from echo_tui.screens.ask import AskConfirm, AskText, AskWay
from echo_tui.screens.sheet import NARROW, Key, Sheet
from echo_tui.state import RoomState
from echo_tui.widgets.decision_list import NEWEST, DecisionList
from echo_tui.widgets.minutes import MUTED, STATUS, Minutes, shape

if TYPE_CHECKING:
    from echo_tui.link import Link

LIST_SECONDS = 2.0  # how often the list is read again


class DecisionScreen(Sheet):
    """Left the decisions (below a hundred columns only when asked for), right the minutes of the chosen one."""

    DEFAULT_CSS = """
    DecisionScreen {
        & > #room { height: 1fr; }
        & #list { width: 36; height: 1fr; margin: 1 0; }
        & #page { height: 1fr; padding: 1 2 1 3; scrollbar-size-vertical: 1; }
        &.wide #list { width: 48; }
        &.narrow #list { width: 1fr; display: none; }
        &.narrow #page { padding: 1 1; }
        &.narrow.choosing #list { display: block; }
        &.narrow.choosing #page { display: none; }
    }
    """
    AUTO_FOCUS = "#page"
    # The app's own n, a and p work here too: they are named in the key line and bound there.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "choose", "the list of decisions", id="decision.list"),
        Binding("s", "speak", "speak in the discussion", id="decision.speak"),
        Binding("i", "another_round", "another round", id="decision.again"),
        Binding("v", "overrule", "overrule", id="decision.overrule"),
        Binding("y", "approve", "approve", id="decision.approve"),
        Binding("w", "reject", "reject", id="decision.reject"),
        Binding("e", "escalate", "take it over", id="decision.escalate"),
        Binding("c", "cancel", "cancel the decision", id="decision.cancel"),
        Binding("g", "export", "write the minutes", id="decision.export"),
    ]

    def __init__(self, state: RoomState, link: Link | None = None) -> None:
        super().__init__(state, link)
        self._rows: list[dict[str, Any]] = []

    def body(self) -> Iterable[Widget]:
        yield Horizontal(DecisionList(id="list"), VerticalScroll(Minutes(self.state, id="minutes"), id="page"), id="room")

    def on_mount(self) -> None:
        super().on_mount()
        self._read_list()
        self.set_interval(LIST_SECONDS, self._read_list)

    def paint(self) -> None:
        self.set_class(self.size.width < NARROW, "narrow")
        self.set_class(self.size.width >= 160, "wide")
        record = self.state.decision
        if record is None:
            self.title_line.say([("Decision", "bold")])
        else:
            drawn, colour = shape(STATUS, record.status)
            status = {"pending": "open", "escalated": "waits for you"}.get(record.status, record.status)
            status += ", paused" if record.paused and record.status == "pending" else ""
            head = [("Decision ", "bold"), (f"#{record.number}  ", MUTED), (inert(record.subject), "")]
            self.title_line.say(head, [("  ", ""), (f"{drawn} {status}", colour)])
        self.query_one("#minutes", Minutes).show(self.state)
        self.call_after_refresh(self._paint_list)
        self.say_keys(self._keys(record))

    def _paint_list(self) -> None:
        record = self.state.decision
        rows = self._rows
        if record is not None:  # what is shown is newer than what was listed
            known = any(row["id"] == record.id for row in rows)
            rows = [_row_of(record) if row["id"] == record.id else row for row in rows]
            rows = rows if known else [_row_of(record), *rows]
        self.query_one(DecisionList).show(rows, record.id if record else None)

    def _keys(self, record: DecisionRecord | None) -> list[Key]:
        choose: list[Key] = [("t", "minutes" if self.has_class("choosing") else "list")]
        choose = choose if self.size.width < NARROW else [("tab", "list")]
        if record is None:
            return choose
        if record.status in ENDED:
            return [("g", "export the minutes"), *choose]
        if record.status == "escalated":
            return [("y", "approve"), ("w", "reject"), ("i", "another round"), ("s", "speak"), ("c", "cancel"),
                    ("g", "export"), *choose]  # fmt: skip
        keys: list[Key] = [("n", "next"), ("a", "step" if record.pace == "auto" else "auto")]
        keys += [("p", "resume" if record.paused else "pause"), ("s", "speak")]
        if record.phase >= Phase.DISCUSSION:
            keys.append(("i", "another round"))
        return [*keys, ("v", "overrule"), ("e", "escalate"), ("c", "cancel"), ("g", "export"), *choose]

    # -- the list ------------------------------------------------------------------------------------------------------

    @work(exclusive=True, group="list", exit_on_error=False)
    async def _read_list(self) -> None:
        if self.link is None:
            return
        try:
            self._rows = await self.link.decisions()
        except EchoError as error:
            self.trouble(str(error))
            return
        self.relieved()
        self._paint_list()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.remove_class("choosing")
        self.query_one("#page").focus()
        self.say_keys(self._keys(self.state.decision))
        self._choose(None if event.option.id == NEWEST else event.option.id)

    @work(exclusive=True, group="choose", exit_on_error=False)
    async def _choose(self, identity: str | None) -> None:
        if self.link is None:
            return
        try:
            await self.link.choose(identity)
        except EchoError as error:
            self.answer(str(error), urgent=True)

    def action_choose(self) -> None:
        narrow = self.size.width < NARROW
        to_list = not self.has_class("choosing") if narrow else self.focused is not self.query_one(DecisionList)
        self.set_class(to_list and narrow, "choosing")
        self.query_one("#list" if to_list else "#page").focus()
        self.paint()

    # -- the operator's word -------------------------------------------------------------------------------------------

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_speak(self) -> None:
        if record := self._open("There is nothing to speak to"):
            heard = "Everybody in the discussion reads it in the next round."
            said = await self.app.push_screen_wait(AskText("Speak in the discussion", heard, does="say it", needed=True))
            if said:
                number = record.phases[Phase.DISCUSSION - 1].detail.get("round")
                self.post_message(Say("speak", record.id, text=said, **({"round": number} if number else {})))

    def action_another_round(self) -> None:
        record = self._open("No discussion to go back to")
        if record is None:
            return
        if record.phase < Phase.DISCUSSION:
            self.answer("There was no discussion yet: another round comes after the first.")
        else:
            self.post_message(Say("another_round", record.id))

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_overrule(self) -> None:
        record = self._open("Nothing to overrule")
        if record is None:
            return
        ways = [("a", "approved", "approve"), ("r", "rejected", "reject")]
        told = "Your word ends the decision now, whatever the votes say. It stands in the minutes as yours."
        status = await self.app.push_screen_wait(AskWay("Overrule", told, ways))
        if status is None:
            return
        title = "Approve it yourself" if status == "approved" else "Reject it yourself"
        reason = await self.app.push_screen_wait(
            AskText(title, "Why? It stands in the minutes.", does="overrule", needed=True)
        )
        if reason is not None:
            self.post_message(Say("overrule", record.id, status=status, reason=reason))

    def action_approve(self) -> None:
        self._answer_escalation("approve")

    def action_reject(self) -> None:
        self._answer_escalation("reject")

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def _answer_escalation(self, name: str) -> None:
        record = self._open(f"Nothing to {name}")
        if record is None:
            return
        if record.status != "escalated":
            self.answer(f"It does not wait for your word yet; v overrules, e takes it over, then {name} it.")
            return
        detail = "Why? You may leave it empty; what you write stands in the minutes."
        reason = await self.app.push_screen_wait(AskText(f"{name.capitalize()} #{record.number}", detail, does=name))
        if reason is not None:
            self.post_message(Say(name, record.id, reason=reason))

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_escalate(self) -> None:
        record = self._open("Nothing to escalate")
        if record is None:
            return
        if record.status == "escalated":
            self.answer("It waits for your word already: y approves, w rejects.")
            return
        told = "The phases end here, and the decision waits for your approve or reject."
        if await self.app.push_screen_wait(AskConfirm(f"Take #{record.number} over?", told, does="take it over")):
            self.post_message(Say("escalate", record.id))

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_cancel(self) -> None:
        record = self._open("Nothing to cancel")
        if record is None:
            return
        told = f"{clip(record.subject, 200)}\nIt ends without a decision. What was said stays on record."
        if await self.app.push_screen_wait(AskConfirm(f"Cancel #{record.number}?", told, does="cancel the decision")):
            self.post_message(Say("cancel", record.id))

    def _open(self, otherwise: str) -> DecisionRecord | None:
        """The decision, if the operator can still say something about it; if not, says why."""
        record = self.state.decision
        if record is None:
            self.answer(f"{otherwise}: there is no decision yet. Press escape, then b to ask something.")
        elif record.status in ENDED:
            self.answer(f"{otherwise}: #{record.number} is {record.status}. Press escape, then b to ask again.")
        else:
            return record
        return None

    # -- the minutes as a file -----------------------------------------------------------------------------------------

    @work(exclusive=True, group="export", exit_on_error=False)
    async def action_export(self) -> None:
        record = self.state.decision
        if record is None:
            self.answer("No minutes to write: there is no decision yet.")
            return
        file = self.link.settings.organisation if self.link is not None else None
        try:
            path = await asyncio.to_thread(_export, record, file, Path.cwd())
        except EchoError as error:
            self.answer(str(error), urgent=True)
        else:
            self.answer(f"Minutes written to {path}")


def _export(record: DecisionRecord, organisation_file: Path | None, folder: Path) -> Path:
    return write_minutes(minutes(record, load_organisation(organisation_file)), folder, record.number)


def _row_of(record: DecisionRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "number": record.number,
        "subject": record.subject,
        "status": record.status,
        "phase": record.phase,
        "score": record.consensus_score,
        "inserted_at": record.inserted_at,
    }
