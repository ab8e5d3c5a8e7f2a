//! Every configuration key, in one table.
//!
//! The check for unknown keys, defaults and ranges, `docs/configuration.md` and the commented
//! default file come from here; tests fail when one of them differs.

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Shape: names joined by dots. `name[]` is an array of tables, `*` any name.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Absent,
    /// In force after a reload, or only after a restart.
    pub(super) effect: Effect,
    /// The release that brought it.
    pub(super) since: &'static str,
    pub(super) help: &'static str,
    /// A value for the default file where there is no default, as TOML.
    pub(super) example: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    TextList,
    /// A text, or a list of texts.
    TextOrList,
    /// Table with free names and texts as values.
    TextMap,
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    Count {
        min: u64,
        max: u64,
    },
    /// Written `90s`, `10m`, `8h`. Bounds in milliseconds.
    Duration {
        min_ms: u64,
        max_ms: u64,
    },
    /// Written `64KiB`, `16MiB`. Bounds in bytes.
    Bytes {
        min: u64,
        max: u64,
    },
    /// A path; relative ones start at the directory of the file that names them.
    Path,
    /// `credential:NAME`, `file:PATH` or `env:NAME`.
    Secret,
    /// Texts or tables with the keys below it.
    Listeners,
}

/// What holds when a key is absent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent {
    /// It must be given.
    Required,
    /// Nothing, or what these words say.
    Described(&'static str),
    /// This value, as it would be written without quotes.
    Value(&'static str),
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Reload,
    Restart,
}

const SECOND: u64 = 1000;
const DAY: u64 = 24 * 3600 * SECOND;
const MIB: u64 = 1024 * 1024;

macro_rules! keys {
    ($($name:ident: $path:literal, $kind:expr, $default:expr, $effect:ident, $example:literal,
        $help:literal;)*) => {
        $(pub(super) const $name: Key = Key {
            path: $path,
            kind: $kind,
            default: $default,
            effect: Effect::$effect,
            since: "0.1.0",
            help: $help,
            example: $example,
        };)*

        /// All keys, in the order of the documentation.
        pub(super) static ALL: &[Key] = &[$($name),*];
    };
}

use Absent::{Described, Required, Value};

keys! {
    LISTEN_POSTGRES: "listen.postgres", Kind::Listeners, Value("127.0.0.1:6432"), Restart,
        "[\"[::]:6432\"]",
        "Where PostgreSQL clients connect: a list of `ADDRESS:PORT`, `unix:PATH`, or tables with \
         the keys below. `[::]` accepts IPv4 as well. Port 0 takes a free port. psql finds \
         `unix:/run/sallyport/.s.PGSQL.6432` by `PGHOST=/run/sallyport` and `PGPORT=6432`.";
    LISTEN_POSTGRES_ADDRESS: "listen.postgres[].address", Kind::Text, Required, Restart,
        "\"[::]:6432\"",
        "Address of a listener that is written as a table.";
    LISTEN_POSTGRES_PROOF: "listen.postgres[].proof", Kind::Choice(&["password", "oauthbearer", "certificate"]),
        Value("password"), Restart, "\"password\"",
        "How clients of this listener prove who they are: the token as password, SASL OAUTHBEARER, \
         or a client certificate (`tls.client_roots`).";
    LISTEN_POSTGRES_PROXY_PROTOCOL: "listen.postgres[].proxy_protocol", Kind::TextList,
        Described("nobody"), Restart, "[\"10.0.0.0/8\"]",
        "Load balancers that send a PROXY header (version 2) and must: networks, addresses, or \
         `unix` for whoever may open the listener's Unix socket. The client that they name is \
         recorded as the peer. A header from anybody else ends the connection.";
    LISTEN_POSTGRES_MODE: "listen.postgres[].mode", Kind::Text, Value("0777"), Restart, "\"0660\"",
        "Permissions of a Unix socket's file, in octal. Connecting takes the right to write. It is \
         the token that lets an agent in, so by default every local user may ask.";
    LISTEN_POSTGRES_GROUP: "listen.postgres[].group", Kind::Text,
        Described("the group of the process or of the directory"), Restart, "\"agents\"",
        "Group of a Unix socket's file, by name or number. The appliance must be in it.";
    LISTEN_ADMIN: "listen.admin", Kind::Path, Described("`admin.sock` in the runtime directory"),
        Restart, "\"/run/sallyport/admin.sock\"",
        "The admin socket. Only root and the user that runs the appliance are answered.";

    LISTEN_CONSOLE: "listen.console", Kind::Text, Value("127.0.0.1:7070"), Restart,
        "\"127.0.0.1:7070\"",
        "Where the console, the API and the built-in issuer's endpoints are served: one \
         `ADDRESS:PORT`, or `off`: no console, and no API but at the admin socket. Plain HTTP on a \
         loopback address, elsewhere HTTPS with `tls.certificate`. Port 0 takes a free port. An \
         address that is written and taken by something else keeps the appliance from starting; \
         where only the default is taken, it starts without a console and says so.";

    LISTEN_METRICS: "listen.metrics", Kind::Text, Described("metrics at the admin API alone"),
        Restart, "\"127.0.0.1:9460\"",
        "Where `/metrics`, `/healthz` and `/readyz` are served, in plain HTTP and without a login: \
         one `ADDRESS:PORT`. Not for agents: it says which rules refuse. Port 0 takes a free port.";

    RUNTIME_SHARDS: "runtime.shards", Kind::Count { min: 1, max: 512 },
        Described("one for each CPU that the process may use"), Restart, "2",
        "How many shards to run.";
    RUNTIME_DIRECTORY: "runtime.directory", Kind::Path,
        Described("`--runtime-directory`, `$RUNTIME_DIRECTORY` or `/run/sallyport`"), Restart,
        "\"/run/sallyport\"",
        "Holds the admin socket and the journal rings. It must be on tmpfs to be fast, and must \
         survive a restart of the process.";

    STATE_DIRECTORY: "state.directory", Kind::Path,
        Described("`--state-directory`, `$STATE_DIRECTORY` or `/var/lib/sallyport`"), Restart,
        "\"/var/lib/sallyport\"",
        "Holds what the appliance makes for itself: certificate, issuer key, key of masks, recordings.";

    TLS_CERTIFICATE: "tls.certificate", Kind::Path,
        Described("a certificate of its own, made on first start in the state directory"), Reload,
        "\"/etc/sallyport/tls/fullchain.pem\"",
        "Certificate chain in PEM, leaf first, that clients see. Needs `tls.key`.";
    TLS_KEY: "tls.key", Kind::Secret, Described("the key of its own certificate"), Reload,
        "\"credential:tls-key\"",
        "Private key of `tls.certificate` in PEM.";
    TLS_NAMES: "tls.names", Kind::TextList,
        Described("`localhost`, `127.0.0.1`, `::1` and the machine's name"), Reload,
        "[\"db.example.com\", \"10.0.0.7\"]",
        "Names and addresses in the certificate that the appliance makes for itself. They count \
         when it is made; remove `tls-own.pem` from the state directory for a new one.";
    TLS_CLIENT_ROOTS: "tls.client_roots", Kind::Path, Described("none"), Reload,
        "\"/etc/sallyport/tls/agents-ca.pem\"",
        "Authorities, in PEM, whose client certificates are taken where a listener has \
         `proof = \"certificate\"`.";
    TLS_CLIENT_CRL: "tls.client_crl", Kind::Path, Described("none"), Reload,
        "\"/etc/sallyport/tls/agents-crl.pem\"",
        "Revocation lists of these authorities, in PEM. With it, a client certificate of an \
         authority that has no list there is refused, and so is one whose list is out of date.";

    CLIENT_CERTIFICATES_SUBJECT: "client_certificates.subject",
        Kind::Choice(&["spiffe", "common-name", "dns"]), Value("spiffe"), Reload, "\"spiffe\"",
        "What of a client certificate is the agent: its SPIFFE id (the only URI of the alternative \
         names), its only common name, or its only DNS name.";
    CLIENT_CERTIFICATES_TRUST_DOMAIN: "client_certificates.trust_domain", Kind::Text,
        Described("none; needed for SPIFFE ids"), Reload, "\"example.org\"",
        "The trust domain of SPIFFE ids. The issuer of the principals is `spiffe://` and this.";
    CLIENT_CERTIFICATES_ISSUER: "client_certificates.issuer", Kind::Text,
        Described("none; needed for common and DNS names"), Reload, "\"agents-ca\"",
        "The issuer of principals that are named by a common or DNS name.";
    CLIENT_CERTIFICATES_GROUPS: "client_certificates.groups", Kind::TextMap, Described("none"),
        Reload, "{ \"spiffe://example.org/agents/*\" = \"analysts\" }",
        "The groups of agents with certificates: by the subject, in which a `*` at the end stands for \
         any rest. An agent that fits several has the groups of all.";
    CLIENT_CERTIFICATES_GROUPS_ENTRY: "client_certificates.groups.*", Kind::Text,
        Described("none"), Reload, "\"analysts,readers\"",
        "Groups, with commas between them.";

    LIMITS_UNAUTHENTICATED: "limits.unauthenticated", Kind::Count { min: 1, max: 1_000_000 },
        Value("1024"), Reload, "1024",
        "Connections of one shard that have not proven who they are. One more is closed at once.";
    LIMITS_UNAUTHENTICATED_PER_ADDRESS: "limits.unauthenticated_per_address",
        Kind::Count { min: 1, max: 1_000_000 }, Value("128"), Reload, "128",
        "The same, for one IPv4 address, for one IPv6 network of 64 bits, and for all peers of Unix \
         sockets together. A load balancer's connections count for the client that it names.";
    LIMITS_SESSIONS: "limits.sessions", Kind::Count { min: 1, max: 1_000_000 }, Value("8192"),
        Reload, "8192",
        "Sessions of one shard. One more is refused after login.";
    LIMITS_LOGIN_DEADLINE: "limits.login_deadline",
        Kind::Duration { min_ms: 100, max_ms: 600 * SECOND }, Value("15s"), Reload, "\"15s\"",
        "From accept until the client has proven who it is, TLS handshake included.";
    LIMITS_WRITE_DEADLINE: "limits.write_deadline",
        Kind::Duration { min_ms: 100, max_ms: DAY }, Value("1m"), Reload, "\"1m\"",
        "How long a peer may leave bytes waiting for it without reading any.";
    LIMITS_MESSAGE_BYTES: "limits.message_bytes",
        Kind::Bytes { min: 64 * 1024, max: 1023 * MIB }, Value("16MiB"), Reload, "\"16MiB\"",
        "Longest statement that a client may send: it is held whole to be judged. A longer one is \
         refused with SQLSTATE 54000. Longer bound values, COPY data and rows pass in pieces.";
    LIMITS_BIND_BYTES: "limits.bind_bytes",
        Kind::Bytes { min: 64 * 1024, max: 1024 * MIB }, Value("1GiB"), Reload, "\"1GiB\"",
        "Most bytes of bound values in one message. More are refused with SQLSTATE 54000.";
    LIMITS_KEEPALIVE_IDLE: "limits.keepalive_idle",
        Kind::Duration { min_ms: SECOND, max_ms: 9 * 3600 * SECOND }, Value("1m"), Reload, "\"1m\"",
        "How long an agent's TCP connection is silent before it is probed. Whole seconds count. It \
         holds for connections made afterwards, as the two below.";
    LIMITS_KEEPALIVE_INTERVAL: "limits.keepalive_interval",
        Kind::Duration { min_ms: SECOND, max_ms: 9 * 3600 * SECOND }, Value("15s"), Reload,
        "\"15s\"",
        "Between two probes that get no answer.";
    LIMITS_KEEPALIVE_PROBES: "limits.keepalive_probes", Kind::Count { min: 1, max: 127 },
        Value("4"), Reload, "4",
        "Unanswered probes after which the agent is gone and its session ends.";

    SESSION_LIFETIME: "session.lifetime", Kind::Duration { min_ms: 0, max_ms: 366 * DAY },
        Value("8h"), Reload, "\"8h\"",
        "A session ends this long after login. `0s`: when its token expires.";
    SESSION_IDLE: "session.idle", Kind::Duration { min_ms: 0, max_ms: 366 * DAY }, Value("0s"),
        Reload, "\"30m\"",
        "A session that sends nothing for this long is ended. `0s`: never. A session that has sent \
         `LISTEN` has a limit of its own, below.";
    SESSION_IDLE_LISTENING: "session.idle_listening",
        Kind::Duration { min_ms: 0, max_ms: 366 * DAY }, Value("0s"), Reload, "\"24h\"",
        "The same for a session that has sent `LISTEN`: waiting for notifications is its work. \
         `0s`: never.";
    SESSION_IDLE_IN_TRANSACTION: "session.idle_in_transaction",
        Kind::Duration { min_ms: 0, max_ms: 366 * DAY }, Value("0s"), Reload, "\"5m\"",
        "A session that sends nothing for this long while a transaction is open is ended, and the \
         transaction rolled back. `0s`: never.";
    SESSION_STATEMENT_TIMEOUT: "session.statement_timeout",
        Kind::Duration { min_ms: 0, max_ms: 366 * DAY }, Value("0s"), Reload, "\"10m\"",
        "A statement that runs for this long is cancelled at the target, and refused with 57014; the \
         session goes on. Budgets may set shorter times. `0s`: never.";

    APPROVALS_IN_TRANSACTION: "approvals.in_transaction",
        Kind::Duration { min_ms: SECOND, max_ms: 3600 * SECOND }, Value("30s"), Reload, "\"30s\"",
        "How long a command that a rule holds may wait for approval inside an open transaction, if \
         the rule's own `expires` is not shorter: the transaction keeps its locks meanwhile.";
    APPROVALS_NOTICE_INTERVAL: "approvals.notice_interval",
        Kind::Duration { min_ms: SECOND, max_ms: 3600 * SECOND }, Value("15s"), Reload, "\"15s\"",
        "How often a client is told that its command still waits for approval. It keeps connections \
         alive that are closed when they are silent.";
    APPROVALS_OPEN: "approvals.open", Kind::Count { min: 1, max: 1000 }, Value("256"), Reload,
        "256",
        "Requests for approval that may be open at once. What a rule holds beyond that is refused.";
    APPROVALS_OPEN_PER_PRINCIPAL: "approvals.open_per_principal",
        Kind::Count { min: 1, max: 1000 }, Value("8"), Reload, "8",
        "The same for one principal.";
    APPROVALS_KEPT: "approvals.kept",
        Kind::Duration { min_ms: 3600 * SECOND, max_ms: 3660 * DAY }, Value("90d"), Reload,
        "\"90d\"",
        "How long requests that are over are kept, with who decided about them.";

    DRAIN_DEADLINE: "drain.deadline", Kind::Duration { min_ms: 0, max_ms: DAY }, Value("30s"),
        Reload, "\"30s\"",
        "How long statements may go on after the appliance was told to stop.";

    RECORDING_DIRECTORY: "recording.directory", Kind::Path,
        Described("`recordings` in the state directory"), Restart,
        "\"/var/lib/sallyport/recordings\"",
        "Where recordings are kept.";
    RECORDING_RING_BYTES: "recording.ring_bytes", Kind::Bytes { min: MIB, max: 1024 * MIB },
        Value("16MiB"), Restart, "\"16MiB\"",
        "Size of each shard's journal ring in the runtime directory, a multiple of 4KiB. A full ring \
         holds the traffic.";
    RECORDING_DURABILITY: "recording.durability", Kind::Text, Value("bounded:50ms"), Restart,
        "\"bounded:50ms\"",
        "What a power failure can take. `process`: whatever the system had not written. \
         `bounded:TIME`: at most the last TIME. `strict`: nothing that was forwarded.";

    CONSOLE_URL: "console.url", Kind::Text, Described("the address of `listen.console`"), Reload,
        "\"https://sallyport.example.com\"",
        "Where people reach the console, if that is another name or a reverse proxy: links begin \
         with it. `https://HOST` or `https://HOST:PORT`; `http://` for loopback names only. Requests \
         for any other host than this, loopback names and the address that they came to are \
         refused.";
    CONSOLE_ISSUER: "console.issuer", Kind::Text,
        Described("nobody: `sallyport console` prints links that sign in"), Reload, "\"corp\"",
        "The name of the issuer at which people sign in to the console. Its discovery document has \
         to be found, so it is one without `jwks`.";
    CONSOLE_CLIENT_ID: "console.client_id", Kind::Text, Described("with `console.issuer` required"),
        Reload, "\"sallyport-console\"",
        "As what the console is registered there, with the redirect URI `URL/login/callback`.";
    CONSOLE_CLIENT_SECRET: "console.client_secret", Kind::Secret, Described("none: a public client"),
        Reload, "\"credential:console-client\"",
        "The client's secret, if the issuer gave it one. PKCE is used in any case.";
    CONSOLE_SCOPES: "console.scopes", Kind::TextList, Described("`openid`, `profile`"), Reload,
        "[\"openid\", \"profile\", \"groups\"]",
        "What is asked for, so that the ID token has the groups. `openid` is always among it.";

    ROLES_VIEWER: "roles.viewer", Kind::TextList, Described("nobody"), Reload, "[\"engineering\"]",
        "Groups whose members see sessions, recordings, requests for approval, targets and rules, \
         by the API and in the console.";
    ROLES_APPROVER: "roles.approver", Kind::TextList,
        Described("the groups in `approvers` of rules that hold"), Reload, "[\"oncall\"]",
        "Groups whose members see that too and are shown what waits for an approval. Those in \
         `approvers` of a rule that holds need no mention here; which requests somebody may answer, \
         the rules alone say.";
    ROLES_ADMIN: "roles.admin", Kind::TextList, Described("nobody"), Reload, "[\"security\"]",
        "Groups whose members see that too, and may revoke, end sessions and reload. They do not \
         approve. Tokens of the built-in issuer give no role, whatever groups they carry.";

    ARCHIVE_HEAD_INTERVAL: "archive.head_interval",
        Kind::Duration { min_ms: 100, max_ms: DAY }, Value("1m"), Restart, "\"1m\"",
        "How long what was recorded may wait until it is sealed and a signed head says so. While \
         nothing is recorded there is no head.";
    ARCHIVE_SIGNING_KEY: "archive.signing_key", Kind::Secret,
        Described("a key of its own, made on first start in the state directory"), Restart,
        "\"credential:archive-key\"",
        "Ed25519 private key in PKCS#8 PEM that signs heads (`openssl genpkey -algorithm ed25519`). \
         A key on the disk that holds the recordings proves less than one that is not.";
    ARCHIVE_PREVIOUS_SIGNING_KEY: "archive.previous_signing_key", Kind::Secret,
        Described("none"), Restart, "\"credential:archive-key-2025\"",
        "The signing key before this one. It signs one more head, which introduces the new one; then \
         it can go. The appliance's own key needs no mention.";
    ARCHIVE_KEEP: "archive.keep", Kind::Duration { min_ms: 0, max_ms: 36600 * DAY },
        Value("0s"), Restart, "\"90d\"",
        "Sealed sessions whose last record is older are removed, unless they are held. `0s`: never.";
    ARCHIVE_KEEP_BYTES: "archive.keep_bytes", Kind::Bytes { min: 0, max: 1 << 60 },
        Value("0B"), Restart, "\"100GiB\"",
        "When sealed sessions are longer than this together, the oldest are removed, unless they \
         are held. `0B`: never.";

    EXPORT_TO: "export.to", Kind::Text, Described("nowhere"), Restart,
        "\"s3://evidence/sallyport\"",
        "Where `sallyport export` and the appliance itself copy recordings to: a directory, or \
         `s3://BUCKET/PREFIX`.";
    EXPORT_FORMAT: "export.format", Kind::Choice(&["ocsf", "jsonl"]), Value("ocsf"), Restart,
        "\"ocsf\"",
        "In the shape of OCSF, without rows; or every event as `sallyport replay --json` prints it.";
    EXPORT_INTERVAL: "export.interval", Kind::Duration { min_ms: 0, max_ms: DAY }, Value("0s"),
        Restart, "\"5m\"",
        "How often the appliance exports by itself what ended since. `0s`: only `sallyport export` \
         does.";
    EXPORT_S3_ENDPOINT: "export.s3.endpoint", Kind::Text, Described("Amazon's, for the region"),
        Restart, "\"https://s3.example.com\"",
        "The storage, where it is not Amazon's. `http` only on this machine.";
    EXPORT_S3_REGION: "export.s3.region", Kind::Text, Value("us-east-1"), Restart,
        "\"eu-central-1\"",
        "The region of the bucket. Most other storage takes any.";
    EXPORT_S3_ACCESS_KEY: "export.s3.access_key", Kind::Secret, Described("none"), Restart,
        "\"credential:export-access-key\"",
        "The id of the access key.";
    EXPORT_S3_SECRET_KEY: "export.s3.secret_key", Kind::Secret, Described("none"), Restart,
        "\"credential:export-secret-key\"",
        "The access key's secret.";

    BUILTIN_ENABLED: "builtin_issuer.enabled", Kind::Switch, Value("true"), Reload, "true",
        "Whether tokens of `sallyport token issue` are made and accepted.";
    BUILTIN_TOKEN_LIFETIME_MAX: "builtin_issuer.token_lifetime_max",
        Kind::Duration { min_ms: SECOND, max_ms: 3660 * DAY }, Value("24h"), Reload, "\"24h\"",
        "Longest `--ttl` of a token.";
    BUILTIN_GROUP_PREFIX: "builtin_issuer.group_prefix", Kind::Text, Value(""), Reload,
        "\"local:\"",
        "Put before each group of its tokens. With several issuers each needs its own prefix.";

    ISSUER_NAME: "issuer[].name", Kind::Text, Required, Reload, "\"corp\"",
        "The operator's name for an issuer of tokens.";
    ISSUER_ISSUER: "issuer[].issuer", Kind::Text, Required, Reload,
        "\"https://login.example.com/\"",
        "The exact `iss` of its tokens.";
    ISSUER_AUDIENCE: "issuer[].audience", Kind::TextList, Required, Reload, "[\"sallyport\"]",
        "A token is accepted when its `aud` is or contains one of these.";
    ISSUER_JWKS: "issuer[].jwks", Kind::Text,
        Described("found by discovery: `issuer` followed by `/.well-known/openid-configuration`"),
        Reload, "\"file:/etc/sallyport/corp.jwks\"",
        "Where its public keys stand: `https://...`, or `file:PATH` of a JWK set, which is read \
         again on reload. Plain `http://` is for addresses of this machine alone.";
    ISSUER_CA: "issuer[].ca", Kind::Path, Described("the system's root certificates"), Reload,
        "\"/etc/sallyport/tls/corp-ca.pem\"",
        "Certificates in PEM that the issuer's own may chain to, besides the system's roots.";
    ISSUER_REFRESH_MIN: "issuer[].refresh_min",
        Kind::Duration { min_ms: SECOND, max_ms: DAY }, Value("30s"), Reload, "\"30s\"",
        "Keys are fetched no more often than this, whatever the issuer says of caching. A token \
         signed with a key that was not there yet has them fetched at once, as often as this allows.";
    ISSUER_REFRESH_MAX: "issuer[].refresh_max",
        Kind::Duration { min_ms: SECOND, max_ms: 30 * DAY }, Value("1h"), Reload, "\"1h\"",
        "Keys are fetched at least as often as this, and so a key that the issuer takes back \
         verifies no longer than this.";
    ISSUER_STALE_MAX: "issuer[].stale_max",
        Kind::Duration { min_ms: SECOND, max_ms: 366 * DAY }, Value("24h"), Reload, "\"24h\"",
        "How long keys serve while the issuer cannot be reached, counted from when they were last \
         fetched, over restarts. Then its tokens are refused.";
    ISSUER_ALGORITHMS: "issuer[].algorithms", Kind::TextList,
        Described("`RS256`, `PS256`, `ES256`, `ES384`, `EdDSA`"), Reload, "[\"RS256\"]",
        "Algorithms its tokens may be signed with, of RS256 RS384 RS512 PS256 PS384 PS512 ES256 \
         ES384 EdDSA.";
    ISSUER_GROUPS: "issuer[].groups", Kind::Text, Value("groups"), Reload,
        "\"realm_access.roles\"",
        "Path of the claim that lists the groups. A name that holds a dot stands in double quotes.";
    ISSUER_GROUP_PREFIX: "issuer[].group_prefix", Kind::Text, Value(""), Reload, "\"corp:\"",
        "Put before each group of its tokens. With several issuers each needs its own prefix.";
    ISSUER_GROUP_MAP: "issuer[].group_map", Kind::TextMap, Described("none"), Reload,
        "{ \"0f3a61d2\" = \"analysts\" }",
        "Other names for groups, for issuers that send identifiers. They get no prefix.";
    ISSUER_GROUP_MAP_ENTRY: "issuer[].group_map.*", Kind::Text, Described("none"), Reload,
        "\"analysts\"",
        "The name of one group.";
    ISSUER_DISPLAY_NAME: "issuer[].display_name", Kind::Text, Value("name"), Reload,
        "\"preferred_username\"",
        "Path of the claim that holds a name for people to read. Without it the subject serves.";

    TARGET_NAME: "target[].name", Kind::Text, Required, Reload, "\"orders\"",
        "The database name that agents ask for.";
    TARGET_PROTOCOL: "target[].protocol", Kind::Choice(&["postgres"]), Required, Reload,
        "\"postgres\"",
        "What the target speaks.";
    TARGET_ADDRESS: "target[].address", Kind::TextOrList, Required, Reload, "\"10.0.0.5:5432\"",
        "`HOST:PORT` or `unix:PATH` of its socket, or a list of them: servers with the same \
         databases, of which the first that serves is taken.";
    TARGET_SESSION_ATTRS: "target[].target_session_attrs",
        Kind::Choice(&["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]),
        Value("any"), Reload, "\"read-write\"",
        "Which of its servers get sessions, as in libpq. All but `any` need PostgreSQL 14 or newer.";
    TARGET_LOAD_BALANCE_HOSTS: "target[].load_balance_hosts",
        Kind::Choice(&["disable", "random"]), Value("disable"), Reload, "\"random\"",
        "Whether new connections try the servers in the order of `address`, or by chance.";
    TARGET_DNS_MAX_AGE: "target[].dns_max_age",
        Kind::Duration { min_ms: SECOND, max_ms: DAY }, Value("10s"), Reload, "\"10s\"",
        "How long an answer of the name server is used. Connections to an address that a name no \
         longer has are closed when their sessions end.";
    TARGET_CATALOGUE_REFRESH: "target[].catalogue_refresh",
        Kind::Duration { min_ms: SECOND, max_ms: DAY }, Value("5s"), Reload, "\"5s\"",
        "How often each shard asks the target whether one of its databases holds other tables, \
         views, functions or triggers than before, while sessions use it. What somebody else \
         changes there may go unnoticed for as long.";
    TARGET_DATABASE: "target[].database", Kind::Text,
        Described("the target's name; none with `databases`"), Reload, "\"orders\"",
        "The database there that the target's name stands for.";
    TARGET_DATABASES: "target[].databases", Kind::TextList, Described("none"), Reload,
        "[\"app_*\"]",
        "Databases there that agents may ask for by their own names, `*` for any run of characters. \
         Names of targets go before; of several targets that match, the one that is written first.";
    TARGET_USER: "target[].user", Kind::Text, Required, Reload, "\"svc_orders\"",
        "The account that the appliance uses there.";
    TARGET_PASSWORD: "target[].password", Kind::Secret, Described("none"), Reload,
        "\"credential:orders-password\"",
        "Its password.";
    TARGET_READONLY_USER: "target[].readonly_user", Kind::Text, Described("none"), Reload,
        "\"svc_orders_ro\"",
        "The account for principals whose rules only allow reads.";
    TARGET_READONLY_PASSWORD: "target[].readonly_password", Kind::Secret, Described("none"),
        Reload, "\"credential:orders-ro-password\"",
        "Its password.";
    TARGET_GROUPS: "target[].groups", Kind::TextMap, Described("none"), Reload,
        "{ dba = { user = \"svc_dba\", password = \"credential:dba\" } }",
        "Other accounts by group; of several that fit, the first that is written.";
    TARGET_GROUPS_USER: "target[].groups.*.user", Kind::Text, Required, Reload, "\"svc_dba\"",
        "The account for principals of that group.";
    TARGET_GROUPS_PASSWORD: "target[].groups.*.password", Kind::Secret, Described("none"), Reload,
        "\"credential:dba\"",
        "Its password.";
    TARGET_TLS: "target[].tls",
        Kind::Choice(&["disable", "require", "verify-ca", "verify-full"]),
        Described("`verify-full`; `disable` on a Unix socket"), Reload, "\"verify-full\"",
        "What TLS must prove about the target. `require` encrypts and verifies nobody.";
    TARGET_TLS_ROOTS: "target[].tls_roots", Kind::Path, Described("the system's root certificates"),
        Reload, "\"/etc/sallyport/tls/orders-ca.pem\"",
        "Certificates in PEM that the target's certificate must chain to.";
    TARGET_CLIENT_CERTIFICATE: "target[].client_certificate", Kind::Path, Described("none"), Reload,
        "\"/etc/sallyport/tls/svc_orders.pem\"",
        "Certificate chain in PEM that the appliance shows to the target, for all accounts there. \
         Needs `client_key`.";
    TARGET_CLIENT_KEY: "target[].client_key", Kind::Secret, Described("none"), Reload,
        "\"credential:svc_orders-key\"",
        "Its private key in PEM.";
    TARGET_CHANNEL_BINDING: "target[].channel_binding", Kind::Choice(&["prefer", "require"]),
        Value("prefer"), Reload, "\"require\"",
        "Whether SCRAM must be bound to the TLS channel.";
    TARGET_POOL_CONNECTIONS: "target[].pool.connections", Kind::Count { min: 1, max: 10_000 },
        Value("16"), Reload, "16",
        "Connections to the target that one shard may have.";
    TARGET_POOL_CONNECTIONS_TOTAL: "target[].pool.connections_total",
        Kind::Count { min: 1, max: 1_000_000 }, Described("only `connections` counts"), Reload, "64",
        "Connections to the target that all shards together may have. Each has an equal part, and \
         at least one.";
    TARGET_POOL_WARM: "target[].pool.warm", Kind::Count { min: 0, max: 10_000 }, Value("2"),
        Reload, "2",
        "Connections kept ready for each account and database of the target, per shard.";
    TARGET_POOL_QUEUE: "target[].pool.queue", Kind::Count { min: 0, max: 100_000 }, Value("256"),
        Reload, "256",
        "Logins of one shard that may wait for a connection.";
    TARGET_POOL_QUEUE_DEADLINE: "target[].pool.queue_deadline",
        Kind::Duration { min_ms: 1, max_ms: 3600 * SECOND }, Value("10s"), Reload, "\"10s\"",
        "How long a login waits for a connection while all are taken.";
    TARGET_POOL_CONNECT_DEADLINE: "target[].pool.connect_deadline",
        Kind::Duration { min_ms: 1, max_ms: 600 * SECOND }, Value("5s"), Reload, "\"5s\"",
        "From the first packet to the target until it has accepted our login.";
    TARGET_POOL_LIFETIME: "target[].pool.lifetime",
        Kind::Duration { min_ms: SECOND, max_ms: 366 * DAY }, Value("1h"), Reload, "\"1h\"",
        "Age at which a connection is not used again.";
    TARGET_POOL_IDLE: "target[].pool.idle",
        Kind::Duration { min_ms: SECOND, max_ms: 366 * DAY }, Value("10m"), Reload, "\"10m\"",
        "Time unused after which a connection beyond `warm` is closed.";

    WEBHOOK_URL: "webhook[].url", Kind::Text, Required, Reload,
        "\"credential:slack-webhook\"",
        "Where it is: a URL, or `credential:NAME`, `file:PATH` or `env:NAME` where the URL is a \
         secret, as those of chats are. `https://`, or `http://` on this machine.";
    WEBHOOK_SECRET: "webhook[].secret", Kind::Secret, Required, Reload,
        "\"credential:webhook-secret\"",
        "Signs what it is sent (docs/approvals.md), so that the receiver knows that it is \
         from here.";
    WEBHOOK_FORM: "webhook[].form", Kind::Choice(&["slack", "json"]), Value("slack"), Reload,
        "\"json\"",
        "`slack`: a text for people, as Slack and compatible chats take it. `json`: the event and \
         the request as well.";

    LOG_FORMAT: "log.format", Kind::Choice(&["text", "json"]), Value("text"), Restart, "\"json\"",
        "How log lines look on standard error.";
    LOG_LEVEL: "log.level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        Value("info"), Restart, "\"info\"",
        "The least severe lines that are logged.";
}
