"""What each of the six phases does when it starts, and when it is over. All state is in the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from echo_core.minds.protocol import Contribution, Question, Tally, Vote
from echo_core.minds.rules import RuleMind, amounts_usd
from echo_core.organisation import Organisation
from echo_core.workflow import consensus
from echo_core.workflow.record import Phase
from echo_core.workflow.state import DecisionState, PhaseState

MAXIMUM_ROUNDS = 10  # however often another round is asked for


class Company(Protocol):
    """Who is there, as the health monitor sees it."""

    def live(self, role: str) -> bool:
        """Whether an answer of the role may be waited for."""

    def seen(self, role: str) -> bool:
        """Whether the role has been heard and is well."""


class Phases:
    """The rules of the six phases. `start` and `check` work on a locked decision, within its transaction."""

    def __init__(self, organisation: Organisation, company: Company) -> None:
        self._organisation = organisation
        self._company = company
        self._starts: dict[Phase, Callable[[DecisionState, PhaseState], Any]] = {
            Phase.STARTUP: self._start_startup,
            Phase.BROADCAST: self._start_broadcast,
            Phase.SELF_SELECTION: self._start_self_selection,
            Phase.DISCUSSION: self._start_discussion,
            Phase.CONSENSUS: self._start_consensus,
            Phase.SYNTHESIS: self._start_synthesis,
        }
        self._checks = {
            Phase.STARTUP: self._check_startup,
            Phase.BROADCAST: self._check_broadcast,
            Phase.SELF_SELECTION: self._check_self_selection,
            Phase.DISCUSSION: self._check_discussion,
            Phase.CONSENSUS: self._check_consensus,
            Phase.SYNTHESIS: self._check_synthesis,
        }

    async def start(self, decision: DecisionState, phase: PhaseState) -> None:
        phase.detail.pop("waiting_for", None)
        phase.detail.pop("advance", None)
        await decision.move(phase, "running", since=decision.now)
        await self._starts[phase.phase](decision, phase)

    async def check(self, decision: DecisionState, phase: PhaseState) -> bool:
        """Whether the phase ended; then its state says how."""
        return bool(await self._checks[phase.phase](decision, phase))

    # -- 1 startup -----------------------------------------------------------------------------------------------------

    async def _start_startup(self, decision: DecisionState, phase: PhaseState) -> None:
        decision.announcements.append(("decisions:new", {"decision_id": decision.id, **decision.question}))
        await decision.event("decision", {"what": "opened", **decision.question}, decision.row["initiator_role"])

    async def _check_startup(self, decision: DecisionState, phase: PhaseState) -> bool:
        roles = await self._active(decision)
        there = [role for role in roles if self._company.seen(role)]
        missing = [role for role in roles if role not in there]
        if missing and not self._over(decision, phase, self._organisation.limits.startup):
            return False
        for role in missing:
            decision.degrade(phase, f"{role} was not there when it began")
        reason = self._short(phase, f"without {', '.join(missing)}" if missing else "")
        await decision.move(phase, "completed", there=there, missing=missing, reason=reason)
        return True

    # -- 2 broadcast ---------------------------------------------------------------------------------------------------

    async def _start_broadcast(self, decision: DecisionState, phase: PhaseState) -> None:
        return None  # the message to all stands since the decision was opened: this phase counts the receipts

    async def _check_broadcast(self, decision: DecisionState, phase: PhaseState) -> bool:
        receipts = await decision.fetch("receipts", message_id=decision.row["message_id"])
        open_roles = [r["role"] for r in receipts if r["state"] != "handled" and self._company.live(r["role"])]
        if open_roles and not self._over(decision, phase, self._organisation.limits.broadcast):
            return False
        received = [r["role"] for r in receipts if r["state"] == "handled"]
        absent = [r["role"] for r in receipts if r["state"] != "handled"]
        for role in absent:
            decision.degrade(phase, f"{role} had not received the question when the others went on")
        reason = self._short(phase, f"not yet received by {', '.join(absent)}" if absent else "")
        await decision.move(phase, "completed", received=received, reason=reason)
        return True

    # -- 3 self-selection ----------------------------------------------------------------------------------------------

    async def _start_self_selection(self, decision: DecisionState, phase: PhaseState) -> None:
        roles = [role for role in await self._active(decision) if self._company.live(role)]
        await self._ask(decision, phase, roles, "judge")

    async def _check_self_selection(self, decision: DecisionState, phase: PhaseState) -> bool:
        rows = await decision.fetch("participations_of")
        answered = {row["role"] for row in rows}
        if not self._answered(decision, phase, answered, self._organisation.limits.self_selection):
            return False
        stances = {row["role"]: row["stance"] for row in rows}
        leader = self._organisation.leader.role
        if decision.row["mode"] == "hierarchical":
            stances[leader] = "lead"
        if "lead" not in stances.values():
            relevant = [row["role"] for row in rows if row["stance"] in ("assist", "observe")]
            chosen = relevant[0] if relevant else leader
            stances[chosen] = "lead"
            why = "nobody wanted to lead" if relevant else "nobody found it relevant"
            decision.degrade(phase, f"{why}: {chosen} leads, by rule")
        decision.set(participants=[role for role, stance in stances.items() if stance in consensus.STANCE_WEIGHTS])
        counted = {role: stance for role, stance in stances.items() if stance in consensus.STANCE_WEIGHTS}
        await decision.move(phase, "completed", stances=counted, reason=self._unanswered(decision, phase, answered))
        return True

    # -- 4 discussion --------------------------------------------------------------------------------------------------

    async def _start_discussion(self, decision: DecisionState, phase: PhaseState) -> None:
        number = int(phase.detail.get("round", 0)) + 1
        rounds = max(int(phase.detail.get("rounds", 0)), self._organisation.limits.rounds)
        await self._begin_round(decision, phase, number, rounds)

    async def _begin_round(self, decision: DecisionState, phase: PhaseState, number: int, rounds: int) -> None:
        decision.note(phase, round=number, rounds=rounds, since=decision.now)
        live = [role for role in decision.row["participants"] if self._company.live(role)]
        await self._ask(decision, phase, live, "contribute", round=number)

    async def _check_discussion(self, decision: DecisionState, phase: PhaseState) -> bool:
        number, rounds = int(phase.detail["round"]), int(phase.detail["rounds"])
        said = [row for row in await decision.fetch("answers_of", answer="contribution") if row["from_role"] != "operator"]
        now = [row for row in said if int(row["content"].get("round") or 1) == number]
        answered = {row["from_role"] for row in now}
        skip = bool(phase.detail.get("advance"))
        if not self._answered(decision, phase, answered, self._organisation.limits.discussion):
            return False
        reason = self._unanswered(decision, phase, answered)
        nothing_new = bool(now) and all(row["content"].get("nothing_new") for row in now)
        wanted = number < int(phase.detail.get("asked_for", 0))  # the operator wants it, whether or not there is news
        if number < rounds and not skip and (wanted or not (number >= 2 and nothing_new)):
            phase.detail.pop("advance", None)
            await self._begin_round(decision, phase, number + 1, rounds)
            return False
        if nothing_new and number < rounds:
            reason = reason or "nothing new was said"
        await decision.move(phase, "completed", reason=reason)
        return True

    async def another_round(self, decision: DecisionState, why: str) -> bool:
        """Back to the discussion, for one round more. False when there were too many."""
        discussion = decision.phases[Phase.DISCUSSION]
        number = int(discussion.detail.get("round", 0)) + 1
        if number > MAXIMUM_ROUNDS:
            return False
        for later in (Phase.CONSENSUS, Phase.SYNTHESIS):
            phase = decision.phases[later]
            if phase.state != "pending":
                phase.detail = {key: phase.detail[key] for key in ("round", "retried", "degraded") if key in phase.detail}
                await decision.move(phase, "pending")
        decision.set(phase=int(Phase.DISCUSSION), status="pending", consensus_score=None, outcome=None)
        await decision.move(discussion, "running", again=why, reason="")
        discussion.detail.pop("advance", None)
        await self._begin_round(decision, discussion, number, max(number, int(discussion.detail.get("rounds", 0))))
        return True

    # -- 5 consensus ---------------------------------------------------------------------------------------------------

    async def _start_consensus(self, decision: DecisionState, phase: PhaseState) -> None:
        number = int(phase.detail.get("round", 0)) + 1
        decision.note(phase, round=number, threshold=self._organisation.threshold, quorum=self._organisation.quorum)
        live = [role for role in decision.row["participants"] if self._company.live(role)]
        await self._ask(decision, phase, live, "vote", round=number)
        payload = {"decision_id": decision.id, "round": number, "participants": list(decision.row["participants"])}
        decision.announcements.append(("decisions:vote_required", payload))

    async def _check_consensus(self, decision: DecisionState, phase: PhaseState) -> bool:
        number = int(phase.detail["round"])
        rows = [row for row in await decision.fetch("votes_of") if row["round"] == number]
        answered = {row["voter_role"] for row in rows}
        if not self._answered(decision, phase, answered, self._organisation.limits.consensus):
            return False
        stances = decision.phases[Phase.SELF_SELECTION].detail.get("stances", {})
        votes = [Vote.model_validate({**row, "role": row["voter_role"]}) for row in rows]
        leads = [role for role, stance in stances.items() if stance == "lead"]
        amount = max(amounts_usd(decision.text), default=0.0)
        mode = consensus.effective_mode(decision.row["mode"], self._organisation, leads, amount)
        if mode != decision.row["mode"]:
            decision.degrade(phase, f"${amount:,.0f} is beyond a lead's authority: decided together instead of autonomously")
        tally = consensus.count(votes, stances, self._organisation, mode=mode)
        reason = self._unanswered(decision, phase, answered)
        if tally.verdict == "no consensus" and mode != "human" and not phase.detail.get("retried"):
            decision.note(phase, retried=True)
            if await self.another_round(decision, "no consensus yet"):
                return False
        decision.set(consensus_score=tally.score)
        if tally.verdict in ("approved", "rejected"):
            await decision.move(phase, "completed", tally=tally.model_dump(), reason=reason)
        else:
            why = "too few voted for or against" if tally.verdict == "no quorum" else "no consensus"
            await decision.move(phase, "failed", tally=tally.model_dump(), reason=f"{why}; {reason}" if reason else why)
        return True

    # -- 6 synthesis ---------------------------------------------------------------------------------------------------

    async def _start_synthesis(self, decision: DecisionState, phase: PhaseState) -> None:
        leader = self._organisation.leader.role
        live = [leader] if self._company.live(leader) else []
        tally = decision.phases[Phase.CONSENSUS].detail.get("tally")
        await self._ask(decision, phase, live, "synthesise", tally=tally)

    async def _check_synthesis(self, decision: DecisionState, phase: PhaseState) -> bool:
        leader = self._organisation.leader.role
        asked_in = phase.detail.get("messages", {}).get(leader)
        written = [
            row["content"]
            for row in await decision.fetch("outcomes_of")
            if row["from_role"] == leader and row["in_reply_to"] == asked_in
        ]
        if not self._answered(decision, phase, {leader} if written else set(), self._organisation.limits.synthesis):
            return False
        reason = ""
        if written:
            outcome = {key: value for key, value in written[-1].items() if key not in ("answer", "body")}
        else:
            reason = f"{leader} could not write the outcome: written by rules"
            decision.degrade(phase, reason)
            outcome = await self._outcome_by_rules(decision)
        await self._finish(decision, phase, outcome, reason)
        return True

    async def _outcome_by_rules(self, decision: DecisionState) -> dict[str, Any]:
        number = decision.phases[Phase.CONSENSUS].detail.get("round", 1)
        heard = [
            Contribution.model_validate({**row["content"], "role": row["from_role"]})
            for row in await decision.fetch("answers_of", answer="contribution")
        ]
        votes = [
            Vote.model_validate({**row, "role": row["voter_role"]})
            for row in await decision.fetch("votes_of")
            if row["round"] == number
        ]
        tally = Tally.model_validate(decision.phases[Phase.CONSENSUS].detail["tally"])
        mind = RuleMind(self._organisation.leader, self._organisation)
        outcome = await mind.synthesise(Question.model_validate(decision.question), heard, votes, tally)
        return outcome.model_dump(mode="json")

    async def _finish(self, decision: DecisionState, phase: PhaseState, outcome: dict[str, Any], reason: str) -> None:
        verdict = decision.phases[Phase.CONSENSUS].detail["tally"]["verdict"]
        human = decision.row["mode"] == "human"
        if verdict in ("approved", "rejected") and not human:
            decision.set(status=verdict, outcome=outcome)
            await decision.move(phase, "completed", reason=reason)
            channel = "decisions:completed"
        else:
            why = "a person decides in this mode" if human else verdict
            if verdict in ("approved", "rejected"):
                outcome = {
                    **outcome,
                    "summary": f"What the organisation advises, for a person decides: {outcome['summary']}",
                }
            decision.set(status="escalated", outcome=outcome)
            await decision.move(phase, "waiting", waiting_for="approval", reason=reason or why)
            channel = "decisions:escalated"
            subject = f"Decide: {decision.question['subject']}"[:500]
            await decision.send("operator", "escalation", subject, {"body": outcome["summary"], "why": why})
        payload = {"decision_id": decision.id, "status": decision.row["status"], "score": decision.row["consensus_score"]}
        decision.announcements.append((channel, payload))
        await decision.event("decision", {"what": decision.row["status"], "score": decision.row["consensus_score"]})

    # -- common to all -------------------------------------------------------------------------------------------------

    async def _active(self, decision: DecisionState) -> list[str]:
        return [row["role"] for row in await decision.fetch("active_roles")]

    async def _ask(self, decision: DecisionState, phase: PhaseState, roles: Sequence[str], ask: str, **content: Any) -> None:
        sent: dict[str, int | None] = {}
        for role in roles:
            question = {"ask": ask, "question": decision.question, **content, "body": decision.question["body"]}
            sent[role] = (await decision.send(role, "request", decision.question["subject"], question)).id
        decision.note(phase, asked=list(roles), messages=sent)

    def _over(self, decision: DecisionState, phase: PhaseState, limit_seconds: float) -> bool:
        """Time is up, or the operator went on without waiting."""
        if phase.detail.get("advance"):
            phase.detail["ended_by"] = "operator"
            return True
        if decision.now - float(phase.detail.get("since", decision.now)) > limit_seconds:
            phase.detail["ended_by"] = f"time was up after {limit_seconds:g} s"
            return True
        return False

    def _answered(self, decision: DecisionState, phase: PhaseState, answered: set[str], limit_seconds: float) -> bool:
        waiting = [role for role in phase.asked if role not in answered and self._company.live(role)]
        return not waiting or self._over(decision, phase, limit_seconds)

    def _unanswered(self, decision: DecisionState, phase: PhaseState, answered: set[str]) -> str:
        absent = [role for role in phase.asked if role not in answered]
        for role in absent:
            decision.degrade(phase, f"{role} did not answer in phase {int(phase.phase)}")
        return self._short(phase, f"no answer from {', '.join(absent)}" if absent else "")

    @staticmethod
    def _short(phase: PhaseState, what: str) -> str:
        """Why a phase ended short, "" when it did not."""
        by = phase.detail.pop("ended_by", "")
        by = "the operator went on" if by == "operator" else by
        return f"{by}: {what}" if by and what else what or by
