"""Applying what the operator said, inside the decision's transaction: each command once."""

from __future__ import annotations

from typing import Any

from echo_core.workflow.phases import MAXIMUM_ROUNDS, Phases
from echo_core.workflow.record import Phase
from echo_core.workflow.state import DecisionState, PhaseState

ENDED = ("approved", "rejected", "cancelled")


async def apply_command(decision: DecisionState, phases: Phases, name: str, content: dict[str, Any]) -> str:
    """Returns "" when it was done, else a sentence for the operator that says why not."""
    status = decision.row["status"]
    if status in ENDED:
        return f"the decision is already {status}"
    current = decision.current
    match name:
        case "advance":
            if status == "escalated":
                return "the decision waits for you: approve, reject, ask for another round or cancel"
            if seen := _gone_on(current, content):
                return seen
            decision.note(current, advance=True)
        case "auto" | "step":
            decision.set(pace=name)
        case "pause" | "resume":
            decision.set(paused=name == "pause")
        case "speak":
            if content.get("answer") != "contribution" or not content.get("text"):
                return 'its content needs "answer": "contribution", "role": "operator", "source": "operator" and "text"'
            await decision.event("operator", {"what": name}, "operator")
            return ""  # the message itself is the contribution; it stands on record already
        case "another_round":
            if current.phase < Phase.DISCUSSION or (current.phase == Phase.DISCUSSION and current.state != "running"):
                return "there was no discussion yet"
            if current.phase == Phase.DISCUSSION:
                if int(current.detail["rounds"]) >= MAXIMUM_ROUNDS:
                    return f"there are {MAXIMUM_ROUNDS} rounds already"
                decision.note(current, rounds=int(current.detail["rounds"]) + 1, asked_for=int(current.detail["rounds"]) + 1)
            elif not await phases.another_round(decision, "the operator asked for it"):
                return f"there were {MAXIMUM_ROUNDS} rounds already"
        case "approve" | "reject":
            if status != "escalated":
                return f"it is not waiting for approval; overrule ends it before phase {int(Phase.SYNTHESIS)} is done"
            await _end(decision, {"approve": "approved", "reject": "rejected"}[name], str(content.get("reason") or ""))
        case "overrule":
            if content.get("status") not in ("approved", "rejected"):
                return 'its content needs "status": "approved" or "rejected"'
            await _end(decision, str(content["status"]), str(content.get("reason") or "no reason given"))
        case "escalate":
            await _escalate(decision)
        case "cancel":
            await _cancel(decision)
        case _:
            return f"{name!r} is not a command"
    await decision.event("operator", {"what": name, **content}, "operator")
    return ""


def _gone_on(current: PhaseState, content: dict[str, Any]) -> str:
    """A person answers to what is on the screen: `phase` and `state` say what that was. "" when it still holds."""
    if content.get("phase", int(current.phase)) != int(current.phase):
        return f"it has gone on to {current.phase.title} already"
    if content.get("state") in ("pending", "waiting") and current.state == "running":
        return f"{current.phase.title} has begun already"
    return ""


async def _end(decision: DecisionState, status: str, reason: str) -> None:
    said = f"{status} by the operator" + (f": {reason}" if reason else "")
    outcome = dict(
        decision.row["outcome"]
        or {
            "summary": f"The operator overruled: {said}.",
            "rationale": reason,
            "actions": [],
            "dissent": [],
            "source": "operator",
        }
    )
    outcome["decided_by"], outcome["operator_reason"] = "operator", reason
    current = decision.current
    for phase in decision.phases.values():
        if phase.phase >= current.phase and phase.state != "completed":
            await decision.move(
                phase, "completed" if phase.detail.get("waiting_for") == "approval" else "failed", reason=said
            )
    decision.set(status=status, outcome=outcome)
    decision.announcements.append(("decisions:completed", {"decision_id": decision.id, "status": status}))
    await decision.event("decision", {"what": status, "by": "operator"})


async def _escalate(decision: DecisionState) -> None:
    for phase in decision.phases.values():
        if phase.phase >= decision.current.phase and phase.phase != Phase.SYNTHESIS and phase.state != "completed":
            await decision.move(phase, "failed", reason="escalated by the operator")
    summary = "The operator took the decision over before it was made."
    outcome = {"summary": summary, "rationale": "", "actions": [], "dissent": [], "source": "operator"}
    decision.set(status="escalated", phase=int(Phase.SYNTHESIS), outcome=decision.row["outcome"] or outcome)
    await decision.move(
        decision.phases[Phase.SYNTHESIS], "waiting", waiting_for="approval", reason="escalated by the operator"
    )
    decision.announcements.append(("decisions:escalated", {"decision_id": decision.id, "status": "escalated"}))


async def _cancel(decision: DecisionState) -> None:
    for phase in decision.phases.values():
        if phase.phase >= decision.current.phase and phase.state != "completed":
            await decision.move(phase, "failed", reason="cancelled by the operator")
    decision.set(status="cancelled")
    decision.announcements.append(("decisions:completed", {"decision_id": decision.id, "status": "cancelled"}))
