"""The broadcast composer: docked over the lower third, so that the logs stay in view."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message as UiMessage
from textual.timer import Timer
from textual.widgets import Input, Label, Select, Static, TextArea

from echo_core.bus.message import BODY_BYTES, MESSAGE_TYPES, SUBJECT_CHARACTERS, Message
from echo_core.errors import InvalidMessage
from echo_core.minds.relevance import relevance, stance_for
from echo_core.organisation import Organisation
from echo_core.text import inert

MODES = ("collaborative", "autonomous", "hierarchical", "human")
PREVIEW_SECONDS = 0.15  # after the last key; nobody reads faster


class Composer(Vertical):
    """Keeps its draft when it is closed. Problems stand beside their field, as it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send", "send", id="send", priority=True),
        Binding("escape", "close", "keep the draft and go back", id="close-composer", priority=True),
    ]
    DEFAULT_CSS = """
    Composer { height: auto; max-height: 50%; padding: 0 1; }
    Composer Horizontal { height: 1; }
    Composer Label { width: 10; color: $text-muted; }
    Composer .label-later { width: auto; padding: 0 1 0 2; }
    Composer Select { width: 1fr; max-width: 28; }
    Composer Input { width: 1fr; }
    Composer .problem { width: auto; max-width: 50%; color: $error; padding: 0 0 0 1; }
    Composer TextArea { height: 1fr; min-height: 3; width: 1fr; }
    Composer #body-row { height: 6; }
    Composer #live { height: auto; max-height: 2; color: $text-muted; }
    """

    class Submitted(UiMessage):
        """A message the database will take. The composer waits for `sent` or `refused`."""

        def __init__(self, message: Message) -> None:
            super().__init__()
            self.message = message

    class Closed(UiMessage):
        """The operator went back; the draft is kept."""

    def __init__(self, organisation: Organisation) -> None:
        super().__init__()
        self._organisation = organisation
        self._roster: tuple[str, ...] = ()
        self._pace = "step"
        self.sending = False
        self._preview_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        titles = [(role.title, role.role) for role in self._organisation.roles.values()]
        recipients = [("all", "all"), ("leadership", "leadership"), *titles]
        with Horizontal():
            yield Label("To")
            yield Select(recipients, value="all", allow_blank=False, compact=True, id="to")
            yield Label("Type", classes="label-later")
            yield Select(
                [(name, name) for name in MESSAGE_TYPES], value="request", allow_blank=False, compact=True, id="type"
            )
            yield Label("Decide", classes="label-later", id="mode-label")
            yield Select([(name, name) for name in MODES], value=MODES[0], allow_blank=False, compact=True, id="mode")
        with Horizontal():
            yield Label("Subject")
            yield Input(compact=True, id="subject", placeholder="What should the organisation decide?")
            yield Static("", classes="problem", id="subject-problem", markup=False)
        with Horizontal(id="body-row"):
            yield Label("Body")
            yield TextArea(compact=True, id="body", placeholder="What they should know: facts, figures, limits.")
            yield Static("", classes="problem", id="body-problem", markup=False)
        yield Static("", id="live", markup=False)

    def open(self, to_role: str | None, *, roster: tuple[str, ...], pace: str) -> None:
        """Show it, with the draft there was. `roster`: whom a broadcast reaches; `pace`: of the decision it opens."""
        self._roster, self._pace = roster, pace
        if to_role is not None:
            self.query_one("#to", Select).value = to_role
        self.display = True
        self.screen.set_focus(self.query_one("#subject", Input))  # at once: what is typed next is meant for it
        self._preview()

    def sent(self) -> None:
        """It is stored or held: the draft has done its work."""
        self.sending = False
        self.query_one("#to", Select).value = "all"
        self.query_one("#type", Select).value = "request"
        self.query_one("#subject", Input).value = ""
        self.query_one("#body", TextArea).text = ""
        self._problem("subject", "")
        self._problem("body", "")
        self.display = False

    def refused(self, reason: str) -> None:
        """Nothing was sent; the draft stays."""
        self.sending = False
        self.query_one("#live", Static).update(inert(reason))

    def action_close(self) -> None:
        self.display = False
        self.post_message(self.Closed())

    def action_send(self) -> None:
        if self.sending or not (self._check_subject() & self._check_body()):
            return
        content: dict[str, str] = {}
        if self._asks_everybody:
            content = {"mode": str(self.query_one("#mode", Select).value), "pace": self._pace}
        try:
            message = Message.compose(
                "operator",
                str(self.query_one("#to", Select).value),
                str(self.query_one("#type", Select).value),
                self.query_one("#subject", Input).value,
                self.query_one("#body", TextArea).text,
                content=content,
            )
        except InvalidMessage as error:
            self._problem("body", str(error))
            return
        self.sending = True
        self.query_one("#live", Static).update("sending…")
        self.post_message(self.Submitted(message))

    # -- validation, in place -------------------------------------------------------------------------------------------

    @on(Input.Blurred, "#subject")
    def _subject_left(self) -> None:
        if self.display and (self.query_one("#body", TextArea).text or self.query_one("#subject", Input).value):
            self._check_subject()

    @on(Input.Changed, "#subject")
    def _subject_changed(self) -> None:
        self._problem("subject", "")
        self._preview_soon()

    @on(TextArea.Changed, "#body")
    def _body_changed(self) -> None:
        self._check_body()
        self._preview_soon()

    @on(Select.Changed)
    def _choice_changed(self) -> None:
        for name in ("#mode", "#mode-label"):
            self.query_one(name).display = self._asks_everybody
        self._preview_soon()

    @on(Input.Submitted, "#subject")
    def _subject_done(self) -> None:
        self.query_one("#body", TextArea).focus()

    def _check_subject(self) -> bool:
        subject = " ".join(self.query_one("#subject", Input).value.split())
        problem = "" if subject else "a subject is needed"
        if len(subject) > SUBJECT_CHARACTERS:
            problem = f"{len(subject)} characters; {SUBJECT_CHARACTERS} are possible"
        self._problem("subject", problem)
        return not problem

    def _check_body(self) -> bool:
        size = len(self.query_one("#body", TextArea).text.encode("utf-8", "surrogatepass"))
        self._problem("body", "" if size <= BODY_BYTES else f"{size:,} bytes; {BODY_BYTES:,} are possible")
        return size <= BODY_BYTES

    def _problem(self, field: str, text: str) -> None:
        self.query_one(f"#{field}-problem", Static).update(inert(text))

    # -- who would be drawn in --------------------------------------------------------------------------------------------

    @property
    def _asks_everybody(self) -> bool:
        return self.query_one("#to", Select).value == "all" and self.query_one("#type", Select).value == "request"

    def _preview_soon(self) -> None:
        if self._preview_timer is not None:
            self._preview_timer.stop()
        self._preview_timer = self.set_timer(PREVIEW_SECONDS, self._preview)

    def _preview(self) -> None:
        if not self.sending:
            self.query_one("#live", Static).update(inert(self._foresight()))

    def _foresight(self) -> str:
        to, kind = str(self.query_one("#to", Select).value), str(self.query_one("#type", Select).value)
        if not self._asks_everybody:
            what = {"request": "gets an answer", "escalation": "goes up the line"}.get(kind, "is noted")
            whom = to if to in ("all", "leadership") else self._organisation.role(to).title
            if to in self._organisation.roles and to not in self._roster:
                return f"nobody plays {whom} now: it waits until somebody does (ctrl+p starts one)"
            return f"a {kind} to {whom} {what}; only a request to all opens a decision"
        text = f"{self.query_one('#subject', Input).value}\n{self.query_one('#body', TextArea).text}"
        if not text.strip():
            return "a request to all opens a decision; keywords show here whom it would draw in"
        found = []
        for role in dict.fromkeys(self._roster):
            if role in self._organisation.roles:
                score = relevance(self._organisation.roles[role].keywords, text).score
                if (stance := stance_for(score)) in ("lead", "assist"):
                    found.append((score, f"{self._organisation.roles[role].title} ({stance})"))
        if not found:
            return f"keywords would draw in nobody: {self._organisation.leader.title} would lead"
        names = ", ".join(name for _, name in sorted(found, key=lambda item: -item[0]))
        return f"keywords would draw in {names}"
