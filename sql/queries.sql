-- Named queries. `-- name: x` starts one; echo_core/storage/queries.py loads them. Parameters are psycopg's %(name)s.

-- The bus ------------------------------------------------------------------------------------------------------------

-- name: insert_message
INSERT INTO messages (uid, from_role, to_role, type, subject, content, metadata, decision_id, in_reply_to)
VALUES (%(uid)s, %(from_role)s, %(to_role)s, %(type)s, %(subject)s, %(content)s, %(metadata)s, %(decision_id)s, %(in_reply_to)s)
ON CONFLICT (uid) DO NOTHING
RETURNING id, inserted_at, decision_id;

-- The same where nothing else is in the transaction: a uid that is there already is an error there, which is dearer once
-- and cheaper always.
-- name: send_message
INSERT INTO messages (uid, from_role, to_role, type, subject, content, metadata, decision_id, in_reply_to)
VALUES (%(uid)s, %(from_role)s, %(to_role)s, %(type)s, %(subject)s, %(content)s, %(metadata)s, %(decision_id)s, %(in_reply_to)s)
RETURNING id, inserted_at, decision_id;

-- name: message_by_uid
SELECT * FROM messages WHERE uid = %(uid)s;

-- name: message_by_id
SELECT * FROM messages WHERE id = %(id)s;

-- Deliveries: claim, acknowledge, retry ---------------------------------------------------------------------------------

-- A delivery that was tried before is claimed alone: if its message kills the process, no other pays with an attempt.
-- The caller holds nothing: a delivery still in its name is one whose claim it never heard the answer to.
-- name: claim_deliveries
WITH due AS MATERIALIZED (
    SELECT message_id, attempts FROM deliveries
    WHERE role = %(role)s AND state IN ('pending', 'claimed')
      AND (state = 'pending' AND next_attempt_at <= now()
           OR state = 'claimed' AND (lease_until < now() OR claimed_by = %(owner)s))
    ORDER BY message_id LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), head AS (
    SELECT message_id, attempts FROM due ORDER BY message_id LIMIT 1
), claimed AS (
    UPDATE deliveries d
    SET state = 'claimed', attempts = d.attempts + 1, claimed_by = %(owner)s,
        lease_until = now() + make_interval(secs => %(lease_seconds)s)
    FROM due, head
    WHERE d.role = %(role)s AND d.message_id = due.message_id
      AND (due.message_id = head.message_id OR due.attempts = 0 AND head.attempts = 0)
    RETURNING d.message_id, d.attempts, d.error
)
SELECT m.*, claimed.attempts, claimed.error FROM claimed JOIN messages m ON m.id = claimed.message_id ORDER BY m.id;

-- `attempts` fences: the same owner's earlier claim of the same delivery can't acknowledge this one.
-- name: ack_deliveries
UPDATE deliveries d SET state = 'handled', handled_at = now(), lease_until = NULL, error = NULL
FROM unnest(%(message_ids)s::bigint[], %(attempts)s::integer[]) AS mine (message_id, attempts)
WHERE d.role = %(role)s AND d.message_id = mine.message_id AND d.attempts = mine.attempts
  AND d.state = 'claimed' AND d.claimed_by = %(owner)s
RETURNING d.message_id;

-- name: renew_leases
UPDATE deliveries SET lease_until = now() + make_interval(secs => %(lease_seconds)s)
WHERE role = %(role)s AND state = 'claimed' AND claimed_by = %(owner)s AND message_id = ANY(%(message_ids)s);

-- name: fail_delivery
UPDATE deliveries SET state = CASE WHEN %(dead)s THEN 'dead' ELSE 'pending' END, error = %(error)s, lease_until = NULL,
    next_attempt_at = now() + make_interval(secs => %(wait_seconds)s)
WHERE role = %(role)s AND message_id = %(message_id)s AND attempts = %(attempts)s
  AND state = 'claimed' AND claimed_by = %(owner)s;

-- name: give_back_deliveries
UPDATE deliveries SET state = 'pending', attempts = attempts - 1, claimed_by = NULL, lease_until = NULL
WHERE role = %(role)s AND state = 'claimed' AND claimed_by = %(owner)s AND message_id = ANY(%(message_ids)s);

-- name: release_predecessors
UPDATE deliveries SET lease_until = '-infinity'
WHERE role = %(role)s AND state = 'claimed' AND claimed_by <> %(owner)s AND starts_with(claimed_by, %(prefix)s);

-- name: delivery_state
SELECT state, claimed_by, attempts FROM deliveries WHERE role = %(role)s AND message_id = %(message_id)s;

-- Which of the announced ids are messages, and which of those are owed to the role.
-- name: announced_messages
SELECT m.id, m.from_role, d.role IS NOT NULL AS owed
FROM messages m LEFT JOIN deliveries d ON d.message_id = m.id AND d.role = %(role)s
WHERE m.id = ANY(%(ids)s);

-- name: waiting_deliveries
SELECT count(*) AS waiting FROM (
    SELECT FROM deliveries WHERE role = %(role)s AND state IN ('pending', 'claimed') LIMIT 100000) AS open;

-- What is owed to agents; the operator and the conductor are not agents.
-- name: delivery_counts
SELECT count(*) FILTER (WHERE d.state IN ('pending', 'claimed')) AS pending, count(*) FILTER (WHERE d.state = 'dead') AS dead
FROM deliveries d JOIN roles r USING (role)
WHERE d.state IN ('pending', 'claimed', 'dead') AND NOT r.system;

-- name: messages_dead
SELECT m.*, d.role, d.attempts, d.error, d.next_attempt_at FROM deliveries d JOIN messages m ON m.id = d.message_id
WHERE d.state = 'dead' ORDER BY m.id, d.role;

-- name: retry_dead
UPDATE deliveries SET state = 'pending', attempts = 0, claimed_by = NULL, lease_until = NULL, next_attempt_at = now()
WHERE state = 'dead' AND message_id = %(message_id)s AND (%(role)s::text IS NULL OR role = %(role)s)
RETURNING message_id, role;

-- What an agent says and remembers --------------------------------------------------------------------------------------

-- name: contributions_of_decision
SELECT from_role, content FROM messages
WHERE decision_id = %(decision_id)s AND to_role = 'conductor' AND content ->> 'answer' = 'contribution'
ORDER BY id;

-- name: votes_of_decision
SELECT voter_role, round, vote, confidence, rationale, source FROM decision_votes
WHERE decision_id = %(decision_id)s
  AND round = (SELECT max(round) FROM decision_votes WHERE decision_id = %(decision_id)s)
ORDER BY voted_at, voter_role;

-- name: record_participation
INSERT INTO participations (decision_id, role, stance, confidence, reasoning, source, model, latency_ms)
VALUES (%(decision_id)s, %(role)s, %(stance)s, %(confidence)s, %(reasoning)s, %(source)s, %(model)s, %(latency_ms)s)
ON CONFLICT DO NOTHING;

-- name: record_vote
INSERT INTO decision_votes (decision_id, voter_role, round, vote, confidence, rationale, source)
VALUES (%(decision_id)s, %(role)s, %(round)s, %(vote)s, %(confidence)s, %(rationale)s, %(source)s)
ON CONFLICT DO NOTHING;

-- name: record_llm_call
INSERT INTO llm_calls (role, model, purpose, decision_id, outcome, load_ms, first_token_ms, total_ms, prompt_tokens, output_tokens)
VALUES (%(role)s, %(model)s, %(purpose)s, %(decision_id)s, %(outcome)s, %(load_ms)s, %(first_token_ms)s, %(total_ms)s,
        %(prompt_tokens)s, %(output_tokens)s);

-- name: agent_reports
INSERT INTO agent_status (role, instance, status, version, capabilities, metadata)
VALUES (%(role)s, %(instance)s, %(status)s, %(version)s, %(capabilities)s, %(metadata)s)
ON CONFLICT (role, instance) DO UPDATE
SET status = excluded.status, last_heartbeat = now(), version = excluded.version,
    capabilities = excluded.capabilities, metadata = excluded.metadata;

-- name: activate_role
UPDATE roles SET active = true WHERE role = %(role)s AND NOT active;

-- name: role_exists
SELECT EXISTS (SELECT FROM roles WHERE role = %(role)s) AS known;

-- name: schema_present
SELECT to_regclass('schema_version') IS NOT NULL AS present;

-- The organisation ---------------------------------------------------------------------------------------------------

-- name: upsert_role
INSERT INTO roles (role, title, leadership, reports_to, authority_limit_usd, active)
VALUES (%(role)s, %(title)s, %(leadership)s, %(reports_to)s, %(authority_limit_usd)s, coalesce(%(active)s, false))
ON CONFLICT (role) DO UPDATE SET title = excluded.title, leadership = excluded.leadership,
    reports_to = excluded.reports_to, authority_limit_usd = excluded.authority_limit_usd,
    active = coalesce(%(active)s, roles.active);

-- Agents report every ten seconds, and say when they stop.
-- name: reporting_roles
SELECT DISTINCT role FROM agent_status WHERE status <> 'stopped' AND last_heartbeat > now() - interval '25 seconds';

-- name: retire_roles
UPDATE roles SET active = false WHERE NOT system AND active AND NOT (role = ANY (%(roles)s));

-- The timeline -------------------------------------------------------------------------------------------------------

-- name: insert_event
INSERT INTO events (kind, decision_id, role, payload) VALUES (%(kind)s, %(decision_id)s, %(role)s, %(payload)s);

-- Only when it tells something new: a conductor that has just begun sees each agent for the first time again.
-- name: insert_transition
INSERT INTO events (kind, role, payload)
SELECT %(kind)s::text, %(role)s::text, %(payload)s::jsonb
WHERE (SELECT payload ->> 'to' FROM events
       WHERE kind = %(kind)s AND role = %(role)s AND payload -> 'instance' = %(payload)s::jsonb -> 'instance'
         AND payload ->> 'of' IS NOT DISTINCT FROM %(payload)s::jsonb ->> 'of'
         AND payload -> 'pid' IS NOT DISTINCT FROM %(payload)s::jsonb -> 'pid'
       ORDER BY id DESC LIMIT 1) IS DISTINCT FROM %(payload)s::jsonb ->> 'to';

-- name: agent_statuses
SELECT role, instance, status, last_heartbeat, metadata FROM agent_status;

-- Decisions ----------------------------------------------------------------------------------------------------------

-- Also one that has ended while the operator said something: that is answered.
-- name: open_decisions
SELECT id FROM decisions
WHERE completed_at IS NULL AND status = 'pending' OR jsonb_array_length(coalesce(context -> 'queue', '[]')) > 0
ORDER BY inserted_at;

-- name: lock_decision
SELECT *, extract(epoch FROM clock_timestamp())::float8 AS now FROM decisions WHERE id = %(id)s FOR UPDATE;

-- name: decision_phases
SELECT *, extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at)::float8 AS seconds
FROM phases WHERE decision_id = %(id)s ORDER BY phase;

-- name: save_phase
UPDATE phases SET state = %(state)s, detail = %(detail)s,
    started_at = CASE WHEN %(state)s = 'pending' THEN NULL
                      WHEN %(state)s IN ('running', 'completed') OR jsonb_exists(%(detail)s, 'since')
                      THEN coalesce(started_at, clock_timestamp())
                      ELSE started_at END,
    finished_at = CASE WHEN %(state)s IN ('completed', 'failed') THEN clock_timestamp() END
WHERE decision_id = %(id)s AND phase = %(phase)s;

-- name: save_decision
UPDATE decisions SET phase = %(phase)s, status = %(status)s, pace = %(pace)s, paused = %(paused)s,
    participants = %(participants)s, consensus_score = %(consensus_score)s, outcome = %(outcome)s, context = %(context)s,
    completed_at = CASE WHEN %(status)s IN ('approved', 'rejected', 'cancelled') THEN coalesce(completed_at, clock_timestamp()) END
WHERE id = %(id)s;

-- name: enqueue_command
UPDATE decisions SET context = jsonb_set(context, '{queue}', coalesce(context -> 'queue', '[]') || %(command)s)
WHERE id = %(decision_id)s;

-- name: active_roles
SELECT role FROM roles WHERE active AND NOT system ORDER BY role;

-- name: receipts
SELECT d.role, d.state, d.attempts FROM deliveries d WHERE d.message_id = %(message_id)s ORDER BY d.role;

-- name: participations_of
SELECT * FROM participations WHERE decision_id = %(id)s ORDER BY confidence DESC, role;

-- name: votes_of
SELECT * FROM decision_votes WHERE decision_id = %(id)s ORDER BY round, voted_at, voter_role;

-- name: answers_of
SELECT id, from_role, content, inserted_at FROM messages
WHERE decision_id = %(id)s AND to_role = 'conductor' AND content ->> 'answer' = %(answer)s ORDER BY id;

-- name: decision_by_id
SELECT * FROM decisions WHERE id = %(id)s;

-- name: find_decisions
SELECT id FROM decisions
WHERE id::text = %(text)s OR message_id::text = %(text)s OR (length(%(text)s) >= 6 AND id::text LIKE %(text)s || '%%') LIMIT 2;

-- name: list_decisions
SELECT id, message_id AS number, context ->> 'subject' AS subject, mode, status, phase, pace, consensus_score AS score,
       inserted_at, completed_at
FROM decisions ORDER BY inserted_at DESC LIMIT %(limit)s;

-- name: try_conduct
SELECT pg_try_advisory_lock(4993, 1) AS taken;

-- name: outcomes_of
SELECT from_role, in_reply_to, content FROM messages
WHERE decision_id = %(id)s AND to_role = 'conductor' AND content ->> 'answer' = 'outcome' ORDER BY id;

-- What the command line lists ------------------------------------------------------------------------------------------

-- name: messages_listed
SELECT * FROM messages m
WHERE (%(to)s::text IS NULL OR to_role = %(to)s) AND (%(sender)s::text IS NULL OR from_role = %(sender)s)
  AND (%(decision_id)s::uuid IS NULL OR decision_id = %(decision_id)s)
  AND (NOT %(dead)s OR EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id AND d.state = 'dead'))
ORDER BY id DESC LIMIT %(limit)s;

-- name: deliveries_of
SELECT message_id, role, state, attempts, error FROM deliveries WHERE message_id = ANY(%(ids)s) ORDER BY message_id, role;

-- What the control room shows -----------------------------------------------------------------------------------------

-- name: current_decisions
SELECT (SELECT id FROM decisions ORDER BY inserted_at DESC, message_id DESC LIMIT 1) AS newest,
       (SELECT id FROM decisions WHERE completed_at IS NULL ORDER BY inserted_at DESC, message_id DESC LIMIT 1) AS newest_open,
       (SELECT count(*) FROM decisions WHERE completed_at IS NULL) AS open_decisions;

-- name: operator_mail
SELECT m.* FROM messages m JOIN deliveries d ON d.message_id = m.id
WHERE d.role = 'operator' AND (d.state = 'pending' OR m.id > %(after)s) ORDER BY m.id LIMIT 100;

-- name: newest_message
SELECT coalesce(max(id), 0) AS id FROM messages;

-- name: operator_has_seen
UPDATE deliveries SET state = 'handled', handled_at = now(), attempts = attempts + 1, claimed_by = 'operator'
WHERE role = 'operator' AND state = 'pending' AND message_id = ANY(%(ids)s);

-- name: model_calls
SELECT role, model, count(*) AS calls, count(*) FILTER (WHERE outcome <> 'ok') AS failed,
       avg(load_ms) AS load_ms, avg(first_token_ms) AS first_token_ms, avg(total_ms) AS total_ms,
       sum(prompt_tokens) AS prompt_tokens, sum(output_tokens) AS output_tokens
FROM llm_calls GROUP BY role, model ORDER BY role, model;
