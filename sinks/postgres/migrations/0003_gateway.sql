-- Who may sign in at the gateway. No token stands here in clear: a session's cookie and a link's token are
-- kept as SHA-256, a password as an argon2id hash (NULL: only one-time links let this user in).
CREATE TABLE gateway_users (
    name          text COLLATE "C" PRIMARY KEY,
    password_hash text,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- Removing a user, or giving it another password, deletes its sessions; the gateway looks twice a second.
CREATE TABLE gateway_sessions (
    token_hash bytea PRIMARY KEY,
    user_name  text COLLATE "C" NOT NULL REFERENCES gateway_users (name) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX gateway_sessions_user ON gateway_sessions (user_name);
CREATE INDEX gateway_sessions_expiry ON gateway_sessions (expires_at);

-- One-time sign-ins: the row is deleted by the statement that uses it, so a link works once.
CREATE TABLE gateway_links (
    token_hash bytea PRIMARY KEY,
    user_name  text COLLATE "C" NOT NULL REFERENCES gateway_users (name) ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
CREATE INDEX gateway_links_user ON gateway_links (user_name);
