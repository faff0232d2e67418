"""What stands below the phases: the launch, the stances, the rounds, the vote board, the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from textual.content import Content

from echo_core.workflow.record import DecisionRecord, Phase, VoteRecord
from echo_tui.columns import Part, clip, duration, row, wrapped
from echo_tui.glyphs import agent_glyph, either, phase_glyph
from echo_tui.state import READY, RoomState

_VOTES = {"approve": ("✔", "+", "$success"), "reject": ("✕", "x", "$error"), "abstain": ("·", ".", "$text-muted")}
_STANCES = {"lead": "Leading", "assist": "Assisting", "observe": "Observing", "none": "Not concerned"}
_POSITIONS = {"for": ("✔", "+", "$success"), "against": ("✕", "x", "$error"), "conditional": ("◐", "~", "$text-muted")}


def phase_detail(state: RoomState, width: int) -> list[Content]:
    """Lines of at most `width` cells."""
    decision = state.decision
    launching = state.snapshot is None or bool(state.snapshot.launch.pending)
    if decision is None or launching:
        return list(_launch(state, width))
    return list(_VIEWS[Phase(decision.phase)](state, decision, width))


def _launch(state: RoomState, width: int) -> Iterator[Content]:
    snapshot = state.snapshot
    if snapshot is None:
        yield _muted("Waking the supervisor", width)
        yield _muted(duration(state.waited_seconds), width)
        return
    starting = [light for light in snapshot.dependencies if light.name != "ollama" and light.state != "up"]
    if starting and not snapshot.agents:
        yield _muted("Starting the servers", width)
    pending = snapshot.launch.pending
    yield _muted("Agents", width)
    for agent in snapshot.agents:
        shape, colour = agent_glyph(agent.state)
        queued = agent.name in pending
        if queued:
            shape, colour = either("·", "."), "$text-muted"
        told = "next" if pending and agent.name == pending[0] else "" if agent.state in READY or queued else agent.state
        if told == "next" and snapshot.launch.next_in is not None:
            told = f"in {duration(snapshot.launch.next_in)}"
        style = "$text-muted" if queued else ""
        yield row([(f"{shape} ", colour), (agent.title, style)], [(f" {told}".rstrip(), "$text-muted")], width)
    if pending:
        return
    yield Content("")
    ready = sum(agent.state in READY for agent in snapshot.agents)
    if not snapshot.agents:
        text = "No agents here yet. ctrl+p adds some."
    elif state.decision is None:
        all_ready = f"All {ready} are ready. " if ready == len(snapshot.agents) else f"{ready} are ready. "
        text = f"{all_ready}No decision yet. Press b to ask the organisation something."
    else:
        return
    for line in wrapped(text, width, 6):
        yield _muted(line, width)


def _startup(state: RoomState, decision: DecisionRecord, width: int) -> Iterator[Content]:
    yield _muted("Who is there", width)
    for agent in state.agents:
        shape, colour = agent_glyph(agent.state)
        told = "" if agent.state in READY else agent.state
        yield row([(f"{shape} ", colour), (agent.title, "")], [(f" {told}".rstrip(), "$text-muted")], width)


def _broadcast(state: RoomState, decision: DecisionRecord, width: int) -> Iterator[Content]:
    yield _muted("Received", width)
    for receipt in decision.receipts:
        handled = receipt.state == "handled"
        shape, colour = phase_glyph("completed" if handled else "pending")
        told = "" if handled else receipt.state
        yield row([(f"{shape} ", colour), (state.title(receipt.role), "")], [(f" {told}".rstrip(), "$text-muted")], width)


def _stances(state: RoomState, decision: DecisionRecord, width: int) -> Iterator[Content]:
    answered = {item.role for item in decision.participations}
    for stance in ("lead", "assist", "observe", "none"):
        items = [item for item in decision.participations if item.stance == stance]
        if items:
            yield _muted(_STANCES[stance], width)
        style = "bold" if stance == "lead" else "" if stance == "assist" else "$text-muted"
        for item in items:
            yield row([("  ", ""), (state.title(item.role), style)], [(f" {item.confidence:.2f}", "$text-muted")], width)
    asked = decision.phases[Phase.SELF_SELECTION - 1].detail.get("asked", ())
    waiting = [role for role in asked if role not in answered]
    if waiting:
        yield _muted("Judging", width)
    for role in waiting:
        yield row([("  ", ""), (state.title(role), "$accent")], [], width)
    if decision.participations:
        yield _sources("by", [item.source for item in decision.participations], width)


def _discussion(state: RoomState, decision: DecisionRecord, width: int) -> Iterator[Content]:
    detail = decision.phases[Phase.DISCUSSION - 1].detail
    number, rounds = int(detail.get("round", 0)), int(detail.get("rounds", 0))
    if not number:
        yield from _stances(state, decision, width)
        return
    yield row([(f"Round {number} of {rounds}", "$text-muted")], [], width)
    said = {item.role: item for item in decision.contributions if item.round == number}
    for role in detail.get("asked", decision.participants):
        item = said.get(role)
        drawn, plain, colour = _POSITIONS[item.position] if item and item.position in _POSITIONS else ("…", ".", "$accent")
        told = {"conditional": "cond."}.get(item.position, item.position) if item else ""
        yield row(
            [(f"{either(drawn, plain)} ", colour), (state.title(role), "")], [(f" {told}".rstrip(), "$text-muted")], width
        )
    latest = decision.contributions[-1] if decision.contributions else None
    if latest is not None:
        yield Content("")
        yield row([(state.title(latest.role), "bold"), (f" ({latest.source})", "$text-muted")], [], width)
        for line in wrapped(latest.text, width, 5):
            yield Content(clip(line, width))


def _consensus(state: RoomState, decision: DecisionRecord, width: int) -> Iterator[Content]:
    number = int(decision.phases[Phase.CONSENSUS - 1].detail.get("round", 0))
    if not number:
        yield from _discussion(state, decision, width)
        return
    votes = [vote for vote in decision.votes if vote.round == number]
    score = decision.consensus_score
    yield row([("Votes", "$text-muted")], [(f" round {number}" if number > 1 else "", "$text-muted")], width)
    yield _board(decision, votes, width)
    voted = {vote.role: vote for vote in votes}
    for role in decision.participants:
        vote = voted.get(role)
        drawn, plain, colour = _VOTES[vote.vote] if vote else ("…", ".", "$accent")
        told = f" {vote.confidence:.2f}" if vote else ""
        yield row([(f"{either(drawn, plain)} ", colour), (state.title(role), "")], [(told, "$text-muted")], width)
    cast = sum(vote.vote != "abstain" for vote in votes)
    yield row([(f"cast {cast} of {len(decision.participants)}", "$text-muted")], [], width)
    if score is not None:
        yield row([(f"score {score:.2f}", "bold")], [(f" needs {decision.threshold:.2f}", "$text-muted")], width)
    if votes:
        yield _sources("by", [vote.source for vote in votes], width)


def _board(decision: DecisionRecord, votes: Sequence[VoteRecord], width: int) -> Content:
    """A bar of what is for and against so far, and a mark at the threshold. The formula is the conductor's own."""
    from echo_core.workflow.consensus import STANCE_WEIGHTS

    stances = decision.phases[Phase.SELF_SELECTION - 1].detail.get("stances", {})
    weights = {"approve": 0.0, "reject": 0.0, "abstain": 0.0}
    for vote in votes:
        weights[vote.vote] += STANCE_WEIGHTS.get(stances.get(vote.role, ""), 0.0) * vote.confidence
    total = weights["approve"] + weights["reject"]
    share = weights["approve"] / total if total else 0.0
    filled, mark = round(share * width), min(width - 1, round(decision.threshold * width))
    parts: list[Part] = []
    for position in range(width):
        colour = "$text-muted" if not total else "$success" if position < filled else "$error"
        shape = either("┃", "|") if position == mark else either("━", "=")
        parts.append((shape, "bold $foreground" if position == mark else colour))
    return Content.assemble(*parts)


def _outcome(state: RoomState, decision: DecisionRecord, width: int) -> Iterator[Content]:
    outcome = decision.outcome
    if outcome is None:
        yield from _consensus(state, decision, width)
        return
    colour = {"approved": "$success", "rejected": "$error", "escalated": "$warning"}.get(decision.status, "$text-muted")
    score = "" if decision.consensus_score is None else f" {decision.consensus_score:.2f}"
    yield row([(decision.status.capitalize(), f"bold {colour}")], [(score, "$text-muted")], width)
    for line in wrapped(str(outcome.get("summary", "")), width, 7):
        yield Content(clip(line, width))
    dissent = len(outcome.get("dissent", ()))
    actions = len(outcome.get("actions", ()))
    yield _muted(f"{actions} action{'' if actions == 1 else 's'}, {dissent} dissent", width)
    yield _muted(f"written by {_NAMES.get(str(outcome.get('source')), 'rules')}", width)
    yield Content("")
    wish = "d: approve, reject, again" if decision.status == "escalated" else "d shows the whole"
    yield row([(wish, "$accent")], [], width)


_NAMES = {"llm": "a model", "keywords": "keywords", "rules": "rules", "operator": "the operator"}


def _sources(word: str, sources: list[str], width: int) -> Content:
    """Where the answers came from: `by keywords`, `by a model 4, rules 2`."""
    kinds = list(dict.fromkeys(sources))
    if len(kinds) == 1:
        return _muted(f"{word} {_NAMES.get(kinds[0], kinds[0])}", width)
    counted = ", ".join(f"{_NAMES.get(kind, kind)} {sources.count(kind)}" for kind in kinds)
    return _muted(f"{word} {counted}", width)


def _muted(text: str, width: int) -> Content:
    return Content.styled(clip(text, width), "$text-muted")


_VIEWS: dict[Phase, Callable[[RoomState, DecisionRecord, int], Iterator[Content]]] = {
    Phase.STARTUP: _startup,
    Phase.BROADCAST: _broadcast,
    Phase.SELF_SELECTION: _stances,
    Phase.DISCUSSION: _discussion,
    Phase.CONSENSUS: _consensus,
    Phase.SYNTHESIS: _outcome,
}
