-- Named queries. `-- name: x` starts one; echo_core/storage/queries.py loads them. Parameters are psycopg's %(name)s.

-- The bus ------------------------------------------------------------------------------------------------------------

-- name: insert_message
INSERT INTO messages (uid, from_role, to_role, type, subject, content, metadata, decision_id, in_reply_to)
VALUES (%(uid)s, %(from_role)s, %(to_role)s, %(type)s, %(subject)s, %(content)s, %(metadata)s, %(decision_id)s, %(in_reply_to)s)
ON CONFLICT (uid) DO NOTHING
RETURNING id, inserted_at;

-- name: message_by_uid
SELECT * FROM messages WHERE uid = %(uid)s;

-- name: message_by_id
SELECT * FROM messages WHERE id = %(id)s;
