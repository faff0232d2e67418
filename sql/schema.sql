-- The whole current truth. Applied to an empty database under an advisory lock; migrations/ brings an older one here.

CREATE TABLE schema_version (
    version    integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- The organisation ---------------------------------------------------------------------------------------------------

CREATE TABLE roles (
    role                text PRIMARY KEY CHECK (role ~ '^[a-z][a-z0-9_]{0,62}$' AND role NOT IN ('all', 'leadership')),
    title               text NOT NULL,
    leadership          boolean NOT NULL DEFAULT false,
    reports_to          text REFERENCES roles DEFERRABLE INITIALLY DEFERRED,
    authority_limit_usd numeric CHECK (authority_limit_usd >= 0),
    active              boolean NOT NULL DEFAULT true,   -- part of the roster: owed what is sent to all
    system              boolean NOT NULL DEFAULT false   -- operator and conductor: never part of all or leadership
);

INSERT INTO roles (role, title, active, system)
VALUES ('operator', 'Operator', true, true), ('conductor', 'Conductor', true, true);

-- Decisions ----------------------------------------------------------------------------------------------------------

CREATE TABLE decisions (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    message_id      bigint UNIQUE,                       -- the broadcast that asked
    decision_type   text NOT NULL DEFAULT 'general',
    initiator_role  text NOT NULL REFERENCES roles,
    mode            text NOT NULL DEFAULT 'collaborative'
                    CONSTRAINT decision_mode CHECK (mode IN ('autonomous', 'collaborative', 'hierarchical', 'human')),
    pace            text NOT NULL DEFAULT 'auto'
                    CONSTRAINT decision_pace CHECK (pace IN ('step', 'auto')),
    paused          boolean NOT NULL DEFAULT false,
    context         jsonb NOT NULL DEFAULT '{}',         -- subject, body
    participants    text[] NOT NULL DEFAULT '{}',
    status          text NOT NULL DEFAULT 'pending'
                    CHECK (status IN ('pending', 'approved', 'rejected', 'escalated', 'cancelled')),
    phase           smallint NOT NULL DEFAULT 1 CHECK (phase BETWEEN 1 AND 6),
    consensus_score double precision CHECK (consensus_score BETWEEN 0 AND 1),
    outcome         jsonb,
    inserted_at     timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    completed_at    timestamptz
);
CREATE INDEX decisions_open ON decisions (inserted_at) WHERE completed_at IS NULL;

CREATE FUNCTION guard_decision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IN ('approved', 'rejected', 'cancelled') AND NEW.status <> OLD.status THEN
        RAISE EXCEPTION 'decision % is already %', OLD.id, OLD.status USING ERRCODE = 'EC003';
    END IF;
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER guard_decision BEFORE UPDATE ON decisions FOR EACH ROW EXECUTE FUNCTION guard_decision();

CREATE TABLE phases (
    decision_id uuid NOT NULL REFERENCES decisions,
    phase       smallint NOT NULL CHECK (phase BETWEEN 1 AND 6),
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'waiting', 'completed', 'failed')),
    started_at  timestamptz,
    finished_at timestamptz,
    detail      jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (decision_id, phase)
);

CREATE TABLE participations (
    decision_id uuid NOT NULL REFERENCES decisions,
    role        text NOT NULL REFERENCES roles,
    stance      text NOT NULL CHECK (stance IN ('lead', 'assist', 'observe', 'none')),
    confidence  double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    reasoning   text NOT NULL DEFAULT '',
    source      text NOT NULL CHECK (source IN ('llm', 'keywords', 'rules', 'operator')),
    model       text,
    latency_ms  double precision,
    PRIMARY KEY (decision_id, role)
);

CREATE TABLE decision_votes (
    decision_id uuid NOT NULL REFERENCES decisions,
    voter_role  text NOT NULL REFERENCES roles,
    round       smallint NOT NULL DEFAULT 1,
    vote        text NOT NULL CHECK (vote IN ('approve', 'reject', 'abstain')),
    confidence  double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    rationale   text NOT NULL DEFAULT '',
    source      text NOT NULL CHECK (source IN ('llm', 'keywords', 'rules', 'operator')),
    voted_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (decision_id, voter_role, round)
);

-- Messages and who is owed them --------------------------------------------------------------------------------------

CREATE TABLE messages (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid         uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    from_role   text NOT NULL,
    to_role     text NOT NULL,
    type        text NOT NULL CONSTRAINT message_type CHECK (type IN ('request', 'response', 'notification', 'escalation')),
    subject     text NOT NULL CONSTRAINT message_subject CHECK (btrim(subject) <> '' AND length(subject) <= 500),
    content     jsonb NOT NULL DEFAULT '{}' CONSTRAINT message_size CHECK (octet_length(content::text) <= 524288),
    metadata    jsonb NOT NULL DEFAULT '{}',
    decision_id uuid REFERENCES decisions DEFERRABLE INITIALLY DEFERRED,
    in_reply_to bigint REFERENCES messages,
    inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX messages_of_decision ON messages (decision_id, id) WHERE decision_id IS NOT NULL;

-- Rows come from fan_out alone, and neither messages nor roles are ever deleted: a foreign key would only make each send
-- lock and look up what it has just seen.
CREATE TABLE deliveries (
    message_id      bigint NOT NULL,
    role            text NOT NULL,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'claimed', 'handled', 'dead')),
    attempts        integer NOT NULL DEFAULT 0,
    claimed_by      text,
    lease_until     timestamptz,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    handled_at      timestamptz,
    error           text,
    PRIMARY KEY (message_id, role)
);
CREATE INDEX deliveries_open ON deliveries (role, message_id) WHERE state IN ('pending', 'claimed');
CREATE INDEX deliveries_dead ON deliveries (message_id) WHERE state = 'dead';

-- A request to everybody is a question for the organisation: it opens a decision (made by fan_out, once it is sure).
CREATE FUNCTION name_decision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.decision_id := gen_random_uuid();
    RETURN NEW;
END $$;
CREATE TRIGGER name_decision BEFORE INSERT ON messages FOR EACH ROW
    WHEN (NEW.to_role = 'all' AND NEW.type = 'request' AND NEW.decision_id IS NULL) EXECUTE FUNCTION name_decision();

CREATE FUNCTION refuse_unknown(sender text, recipient text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF recipient NOT IN ('all', 'leadership') AND NOT EXISTS (SELECT FROM roles WHERE role = recipient) THEN
        RAISE EXCEPTION 'unknown recipient "%"', recipient USING ERRCODE = 'EC001',
            HINT = 'Send to all, leadership or one of: '
                || (SELECT string_agg(role, ', ' ORDER BY role) FROM roles WHERE NOT system);
    END IF;
    IF NOT EXISTS (SELECT FROM roles WHERE role = sender) THEN
        RAISE EXCEPTION 'unknown sender "%"', sender USING ERRCODE = 'EC002',
            HINT = 'Send as operator or one of: '
                || (SELECT string_agg(role, ', ' ORDER BY role) FROM roles WHERE NOT system);
    END IF;
END $$;

CREATE FUNCTION body_of(content jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE jsonb_typeof(content)
        WHEN 'string' THEN content #>> '{}'
        WHEN 'object' THEN coalesce(content ->> 'body', content ->> 'text', content ->> 'message', '')
        ELSE content::text END
$$;

CREATE FUNCTION fan_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- One statement makes the deliveries and looks at both roles; which of them is unknown is asked only when none was made.
    IF NEW.to_role IN ('all', 'leadership') THEN
        INSERT INTO deliveries (message_id, role)
        SELECT NEW.id, recipient.role FROM roles sender JOIN roles recipient ON recipient.role <> sender.role
        WHERE sender.role = NEW.from_role AND recipient.active AND NOT recipient.system
          AND (NEW.to_role = 'all' OR recipient.leadership);
    ELSE
        INSERT INTO deliveries (message_id, role)
        SELECT NEW.id, recipient.role FROM roles sender JOIN roles recipient ON recipient.role <> sender.role
        WHERE sender.role = NEW.from_role AND recipient.role = NEW.to_role;
    END IF;
    IF NOT FOUND THEN
        PERFORM refuse_unknown(NEW.from_role, NEW.to_role);
    END IF;
    IF NEW.to_role = 'all' AND NEW.type = 'request'
       AND NOT EXISTS (SELECT FROM decisions WHERE id = NEW.decision_id) THEN
        INSERT INTO decisions (id, message_id, decision_type, initiator_role, mode, pace, context)
        VALUES (NEW.decision_id, NEW.id,
                coalesce(NEW.content ->> 'decision_type', 'general'), NEW.from_role,
                coalesce(NEW.content ->> 'mode', 'collaborative'), coalesce(NEW.content ->> 'pace', 'auto'),
                jsonb_build_object('subject', NEW.subject, 'body', body_of(NEW.content)));
        INSERT INTO phases (decision_id, phase) SELECT NEW.decision_id, generate_series(1, 6);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fan_out AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fan_out();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% cannot be changed or deleted: it is the audit trail', TG_TABLE_NAME USING ERRCODE = 'EC004';
END $$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON messages FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON messages FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Health, memory, models, timeline -----------------------------------------------------------------------------------

CREATE TABLE agent_status (
    role           text NOT NULL REFERENCES roles,
    instance       integer NOT NULL DEFAULT 1,
    status         text NOT NULL,
    last_heartbeat timestamptz NOT NULL DEFAULT now(),
    version        text,
    capabilities   jsonb NOT NULL DEFAULT '[]',
    metadata       jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (role, instance)
);

CREATE TABLE memories (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key             text NOT NULL UNIQUE,
    content         text NOT NULL,
    tags            text[] NOT NULL DEFAULT '{}',
    metadata        jsonb NOT NULL DEFAULT '{}',
    created_by_role text REFERENCES roles,
    inserted_at     timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX memories_tags ON memories USING gin (tags);

CREATE TABLE llm_calls (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    role           text NOT NULL,
    model          text NOT NULL,
    purpose        text NOT NULL,
    decision_id    uuid REFERENCES decisions,
    outcome        text NOT NULL,
    load_ms        double precision,
    first_token_ms double precision,
    total_ms       double precision,
    prompt_tokens  integer,
    output_tokens  integer,
    started_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind        text NOT NULL,
    decision_id uuid REFERENCES decisions,
    role        text,
    payload     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX events_of_decision ON events (decision_id, id) WHERE decision_id IS NOT NULL;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

INSERT INTO schema_version (version) VALUES (1);
