//! A replay in the shape of the Open Cybersecurity Schema Framework, one event a line.
//!
//! A session becomes Authentication events (3002: logon, logoff) and a Datastore Activity event
//! (6005) for each command, told when its answer is over, and for each step of an approval. Rows are
//! counted, not shown: they are in the JSON form. What the schema has no place for is in `unmapped`.
//!
//! Spec: OCSF 1.9.0, classes Authentication, API Activity and Datastore Activity, profile Security
//! Control.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::json;
use super::prepared::{Prepared, format_of};
use super::sql::literal;
use super::transcript::{Fact, Reply, Said, Told};
use crate::archive::{Actor, Entry};
use crate::recorder::catalogue::RefusedEntry;
use crate::recorder::format::{PrincipalNote, RecordedDecision, SessionStart, Verdict};
use crate::recorder::session_id::SessionId;

/// Version of the schema.
const OCSF_VERSION: &str = "1.9.0";

/// Commands that wait for the end of their answer; beyond, the oldest are told without it. An agent
/// may send as many ahead as it likes.
const PENDING_MAX: usize = 1024;

const AUTHENTICATION: u64 = 3002;
const API_ACTIVITY: u64 = 6003;
const DATASTORE: u64 = 6005;

/// `activity_id` of Authentication.
mod logon {
    pub(super) const ON: u64 = 1;
    pub(super) const OFF: u64 = 2;
}

/// `activity_id` of API Activity.
mod api {
    pub(super) const CREATE: u64 = 1;
    pub(super) const READ: u64 = 2;
    pub(super) const UPDATE: u64 = 3;
    pub(super) const DELETE: u64 = 4;
    pub(super) const OTHER: u64 = 99;
}

/// `activity_id` of Datastore Activity.
mod datastore {
    pub(super) const UPDATE: u64 = 2;
    pub(super) const QUERY: u64 = 4;
    pub(super) const WRITE: u64 = 5;
    pub(super) const CREATE: u64 = 6;
    pub(super) const DELETE: u64 = 7;
    pub(super) const OTHER: u64 = 99;
}

/// `status_id`.
mod status {
    pub(super) const UNKNOWN: u64 = 0;
    pub(super) const SUCCESS: u64 = 1;
    pub(super) const FAILURE: u64 = 2;
}

/// `severity_id`.
mod severity {
    pub(super) const INFORMATIONAL: u64 = 1;
    pub(super) const MEDIUM: u64 = 3;
}

/// What a statement of a class counts as; the gravest first, since an event has one.
const ACTIVITIES: [(u64, &[&str]); 5] = [
    (datastore::DELETE, &["delete", "truncate", "drop"]),
    (datastore::UPDATE, &["update", "alter", "grant", "role"]),
    (datastore::WRITE, &["insert", "merge", "copy-from"]),
    (datastore::CREATE, &["create"]),
    (datastore::QUERY, &["select", "copy-to", "show", "explain"]),
];

/// What an action of the trail counts as; what is not here keeps its name alone.
const ACTIONS: [(u64, &[&str]); 4] = [
    (
        api::CREATE,
        &[
            "token-issued",
            "token-client-added",
            "revoked",
            "hold-placed",
            "console-link",
        ],
    ),
    (api::READ, &["exported", "replayed"]),
    (
        api::UPDATE,
        &[
            "configuration-reloaded",
            "request-approved",
            "request-denied",
            "request-withdrawn",
            "key-rotated",
        ],
    ),
    (
        api::DELETE,
        &[
            "token-client-removed",
            "revocation-lifted",
            "hold-released",
            "session-killed",
        ],
    ),
];

/// Writes one session's events. Per replay.
pub(super) struct OcsfLines {
    session: String,
    start: SessionStart,
    prepared: Prepared,
    pending: VecDeque<Pending>,
}

/// A command that was sent.
struct Pending {
    number: u64,
    event: Map<String, Value>,
    rows: u64,
    /// SQLSTATE of the error that answered it.
    error: Option<String>,
    /// Ends with its own completion, not with that of the batch.
    is_execute: bool,
}

impl OcsfLines {
    pub(super) fn new(session: SessionId) -> Self {
        Self {
            session: session.to_string(),
            start: SessionStart::default(),
            prepared: Prepared::default(),
            pending: VecDeque::new(),
        }
    }

    pub(super) fn tell(&mut self, told: &Told, out: &mut String) {
        match &told.fact {
            Fact::Started(start) => {
                self.start = start.clone();
                let mut event = self.authentication(told, logon::ON, status::SUCCESS);
                event.insert("is_remote".to_owned(), json!(true));
                put(out, event);
            }
            Fact::Command { decision, said, .. } => self.command(told, decision, said, out),
            Fact::Reply(reply) => self.reply(told.number, reply, out),
            Fact::Approval(note) => {
                let step = note.step.name();
                let mut event = self.datastore(told, datastore::OTHER, "Approval");
                event.insert("status_id".to_owned(), json!(status::UNKNOWN));
                event.insert("status_detail".to_owned(), json!(step));
                unmapped(&mut event, "approval", super::approval::object(note));
                put(out, event);
            }
            Fact::Ended(end) => {
                self.flush(out);
                let mut event = self.authentication(told, logon::OFF, status::SUCCESS);
                event.insert("status_detail".to_owned(), json!(end.reason.name()));
                unmapped(&mut event, "totals", json::ended(end));
                put(out, event);
            }
            Fact::Interrupted => {
                self.flush(out);
                let mut event = self.authentication(told, logon::OFF, status::UNKNOWN);
                event.insert("status_detail".to_owned(), json!("interrupted"));
                put(out, event);
            }
            Fact::Missing { records } => {
                self.flush(out);
                let mut event = self.datastore(told, datastore::OTHER, "Records missing");
                event.insert("severity_id".to_owned(), json!(severity::MEDIUM));
                unmapped(&mut event, "records", json!(records));
                put(out, event);
            }
            Fact::Unreadable { .. } => {}
        }
    }

    /// Appends commands whose answer never ended.
    pub(super) fn finish(&mut self, out: &mut String) {
        self.flush(out);
    }

    fn command(&mut self, told: &Told, decision: &RecordedDecision, said: &Said, out: &mut String) {
        self.prepared.note(decision, said);
        let is_refused = decision.verdict == Verdict::Refused;
        let (text, values, decision) = match said {
            Said::Query { text } => (Some(text.shown().into_owned()), Vec::new(), decision),
            Said::Execute { portal, .. } => match self.prepared.portal(portal) {
                Some(portal) => {
                    let text = portal.statement.as_ref();
                    let values = portal.values.iter().enumerate().map(|(index, value)| {
                        literal(
                            value,
                            portal.type_of(index),
                            format_of(&portal.formats, index),
                        )
                    });
                    (
                        text.map(|it| it.text.shown().into_owned()),
                        values.collect(),
                        portal.decision(decision),
                    )
                }
                None => (None, Vec::new(), decision),
            },
            Said::FunctionCall { function, .. } => (
                Some(format!("function call {function}")),
                Vec::new(),
                decision,
            ),
            Said::Parse { text, .. } if is_refused => {
                (Some(text.shown().into_owned()), Vec::new(), decision)
            }
            Said::Incomplete { .. } | Said::Raw(_) => (None, Vec::new(), decision),
            Said::Parse { .. }
            | Said::Bind { .. }
            | Said::Describe { .. }
            | Said::Close { .. }
            | Said::CopyData(_)
            | Said::CopyFail { .. }
            | Said::Plain(_) => return,
        };
        let event = self.judged(told, decision, text, values);
        if self.pending.len() >= PENDING_MAX
            && let Some(oldest) = self.pending.pop_front()
        {
            put(out, oldest.told(status::UNKNOWN));
        }
        self.pending.push_back(Pending {
            number: told.number,
            event,
            rows: 0,
            error: None,
            is_execute: !matches!(said, Said::Query { .. } | Said::FunctionCall { .. }),
        });
    }

    fn judged(
        &self,
        told: &Told,
        decision: &RecordedDecision,
        text: Option<String>,
        values: Vec<String>,
    ) -> Map<String, Value> {
        let classes = || decision.effects.iter().map(|effect| effect.class.as_str());
        let activity = ACTIVITIES
            .iter()
            .find(|(_, names)| classes().any(|class| names.contains(&class)));
        let mut event = match (activity, classes().next()) {
            (Some((activity, _)), _) => self.datastore(told, *activity, ""),
            (None, class) => self.datastore(told, datastore::OTHER, class.unwrap_or("other")),
        };
        if let Some(text) = text {
            let query = json!({ "query_string": text, "uid": told.number.to_string() });
            event.insert("query_info".to_owned(), query);
        }
        let table = decision.effects.iter().find_map(|effect| {
            let object = effect.object.as_deref()?;
            // Functions and settings have no place in `table`.
            (!object.ends_with("()") && !object.contains(' ')).then_some(object)
        });
        if let Some(table) = table.filter(|table| *table != "nothing") {
            event.insert("table".to_owned(), json!({ "name": table }));
        }
        let (action, disposition) = match decision.verdict {
            Verdict::Refused => ((2, "Denied"), (2, "Blocked")),
            Verdict::Permitted | Verdict::Held | Verdict::NotJudged => {
                ((1, "Allowed"), (1, "Allowed"))
            }
        };
        event.insert("action_id".to_owned(), json!(action.0));
        event.insert("action".to_owned(), json!(action.1));
        event.insert("disposition_id".to_owned(), json!(disposition.0));
        event.insert("disposition".to_owned(), json!(disposition.1));
        if decision.verdict == Verdict::Refused {
            event.insert("severity_id".to_owned(), json!(severity::MEDIUM));
        }
        if let Some(rule) = &decision.rule {
            let policy = json!({ "name": rule, "version": decision.policy.to_string() });
            event.insert("policy".to_owned(), policy);
        }
        unmapped(&mut event, "verdict", json!(decision.verdict.name()));
        unmapped(&mut event, "effects", json::effects(decision));
        if !values.is_empty() {
            unmapped(&mut event, "values", json!(values));
        }
        event
    }

    fn reply(&mut self, number: u64, reply: &Reply, out: &mut String) {
        // What was sent before the message that is answered now was answered, or never will be.
        while let Some(before) = self.pending.pop_front_if(|it| it.number < number) {
            put(out, before.told(status::UNKNOWN));
        }
        let Some(front) = self.pending.front_mut().filter(|it| it.number == number) else {
            return;
        };
        let is_over = match reply {
            Reply::Row(_) => {
                front.rows = front.rows.saturating_add(1);
                false
            }
            Reply::Error(fields) => {
                let state = fields.iter().find(|(name, _)| *name == "sqlstate");
                front.error = state.map(|(_, value)| value.shown().into_owned());
                front.is_execute
            }
            Reply::Complete { .. } | Reply::Plain("PortalSuspended" | "EmptyQueryResponse") => {
                front.is_execute
            }
            Reply::Ready { .. } => true,
            Reply::Columns(_)
            | Reply::RowPart { .. }
            | Reply::Notice(_)
            | Reply::Notification { .. }
            | Reply::Parameter { .. }
            | Reply::ParameterTypes(_)
            | Reply::CopyData(_)
            | Reply::FunctionResult(_)
            | Reply::Plain(_)
            | Reply::Raw(_) => false,
        };
        if is_over && let Some(over) = self.pending.pop_front() {
            put(out, over.told(status::SUCCESS));
        }
    }

    fn flush(&mut self, out: &mut String) {
        for left in std::mem::take(&mut self.pending) {
            put(out, left.told(status::UNKNOWN));
        }
    }

    fn base(&self, told: &Told, class: u64, activity: u64) -> Map<String, Value> {
        let id = format!("{}:{}:{}", self.session, told.sequence, told.number);
        let mut event = base(told.at, class, activity, &id);
        if let Some(Value::Object(metadata)) = event.get_mut("metadata") {
            metadata.insert("correlation_uid".to_owned(), json!(self.session));
        }
        event
    }

    fn authentication(&self, told: &Told, activity: u64, status: u64) -> Map<String, Value> {
        let mut event = self.base(told, AUTHENTICATION, activity);
        event.insert("status_id".to_owned(), json!(status));
        event.insert("user".to_owned(), user(&self.start.principal));
        event.insert("session".to_owned(), self.session());
        event.insert("src_endpoint".to_owned(), endpoint(&self.start.peer));
        event.insert("service".to_owned(), json!({ "name": self.start.target }));
        self.delegation(&mut event);
        event
    }

    fn datastore(&self, told: &Told, activity: u64, name: &str) -> Map<String, Value> {
        let mut event = self.base(told, DATASTORE, activity);
        if !name.is_empty() {
            event.insert("activity_name".to_owned(), json!(name));
        }
        let mut actor = json!({
            "user": user(&self.start.principal),
            "session": self.session(),
        });
        if let (Some(application), Value::Object(actor)) = (&self.start.application, &mut actor) {
            actor.insert("app_name".to_owned(), json!(application));
        }
        event.insert("actor".to_owned(), actor);
        event.insert("src_endpoint".to_owned(), endpoint(&self.start.peer));
        let target = &self.start.target;
        event.insert("dst_endpoint".to_owned(), json!({ "name": target }));
        let database = json!({ "name": target, "type": "Relational", "type_id": 1 });
        event.insert("database".to_owned(), database);
        self.delegation(&mut event);
        event
    }

    fn session(&self) -> Value {
        let start = &self.start;
        json!({
            "uid": self.session,
            "issuer": start.principal.issuer,
            "credential_uid": start.principal.token_id,
        })
    }

    /// On whose behalf: the chain has no place in the schema's `actor`.
    fn delegation(&self, event: &mut Map<String, Value>) {
        let actors = &self.start.principal.actors;
        if !actors.is_empty() {
            let chain = actors
                .iter()
                .map(|actor| json!({ "issuer": actor.issuer, "subject": actor.subject }));
            unmapped(event, "delegation", Value::Array(chain.collect()));
        }
    }
}

impl Pending {
    /// With the status that it has unless an error answered it.
    fn told(mut self, status: u64) -> Map<String, Value> {
        let status = if self.error.is_some() {
            status::FAILURE
        } else {
            status
        };
        self.event.insert("status_id".to_owned(), json!(status));
        if let Some(state) = self.error {
            self.event.insert("status_code".to_owned(), json!(state));
        }
        unmapped(&mut self.event, "rows", json!(self.rows));
        self.event
    }
}

/// A login that came to nothing, as an event; with its line end.
pub(crate) fn refused_login(entry: &RefusedEntry) -> String {
    let mut event = base(entry.at, AUTHENTICATION, logon::ON, &entry.id.to_string());
    event.insert("severity_id".to_owned(), json!(severity::MEDIUM));
    event.insert("status_id".to_owned(), json!(status::FAILURE));
    event.insert("status_detail".to_owned(), json!(entry.reason));
    let subject = entry.subject.as_ref().or(entry.user.as_ref());
    let user = json!({
        "uid": subject.map_or("unknown", String::as_str),
        "name": entry.name.as_ref().or(entry.user.as_ref()),
        "domain": entry.issuer,
    });
    event.insert("user".to_owned(), user);
    event.insert("src_endpoint".to_owned(), endpoint(&entry.peer));
    let target = entry.target.as_deref().unwrap_or("unknown");
    event.insert("service".to_owned(), json!({ "name": target }));
    // Only a proof makes it the name of somebody.
    unmapped(&mut event, "is_proven", json!(entry.subject.is_some()));
    let mut out = String::new();
    put(&mut out, event);
    out
}

/// An action of the trail, as an API Activity event; with its line end.
pub(crate) fn admin_action(entry: &Entry) -> String {
    let name = entry.action.name();
    let activity = ACTIONS
        .iter()
        .find(|(_, names)| names.contains(&name))
        .map_or(api::OTHER, |(activity, _)| *activity);
    let id = format!("action:{}", entry.number);
    let mut event = base(entry.at, API_ACTIVITY, activity, &id);
    if activity == api::OTHER {
        event.insert("activity_name".to_owned(), json!(name));
    }
    let actor = match &entry.by {
        Actor::Operator { uid } => json!({ "user": { "uid": uid.to_string(), "type_id": 2 } }),
        Actor::Person {
            issuer,
            subject,
            name,
        } => json!({ "user": { "uid": subject, "name": name, "domain": issuer, "type_id": 1 } }),
        Actor::Appliance => json!({ "app_name": "Sallyport" }),
        Actor::Nobody => json!({ "user": { "name": "unknown", "type_id": 0 } }),
    };
    event.insert("actor".to_owned(), actor);
    let operation = json!({ "operation": name });
    event.insert("api".to_owned(), operation);
    event.insert("src_endpoint".to_owned(), json!({ "name": "sallyport" }));
    event.insert("status_id".to_owned(), json!(status::SUCCESS));
    if !entry.object.is_empty() {
        let resources = json!([{ "uid": entry.object }]);
        event.insert("resources".to_owned(), resources);
    }
    if !entry.details.is_empty() {
        unmapped(&mut event, "details", Value::Object(entry.details.clone()));
    }
    let mut out = String::new();
    put(&mut out, event);
    out
}

fn base(at: u64, class: u64, activity: u64, id: &str) -> Map<String, Value> {
    let event = json!({
        "time": at / 1000,
        "category_uid": class / 1000,
        "class_uid": class,
        "activity_id": activity,
        "type_uid": class * 100 + activity,
        "severity_id": severity::INFORMATIONAL,
        "metadata": {
            "version": OCSF_VERSION,
            "uid": id,
            "profiles": ["security_control"],
            "product": {
                "name": "Sallyport",
                "vendor_name": "Sallyport",
                "version": env!("CARGO_PKG_VERSION"),
            },
        },
    });
    // It is one: an object is written above.
    event.as_object().cloned().unwrap_or_default()
}

fn user(principal: &PrincipalNote) -> Value {
    let groups = principal
        .groups
        .iter()
        .map(|group| json!({ "name": group }));
    json!({
        "uid": principal.subject,
        "name": principal.name,
        "domain": principal.issuer,
        "groups": groups.collect::<Vec<_>>(),
        "type_id": 99,
        "type": "Agent",
    })
}

fn endpoint(peer: &str) -> Value {
    match peer.parse::<SocketAddr>() {
        Ok(address) => json!({ "ip": address.ip().to_string(), "port": address.port() }),
        Err(_) => json!({ "name": peer }),
    }
}

fn unmapped(event: &mut Map<String, Value>, name: &str, value: Value) {
    let place = event
        .entry("unmapped")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(place) = place {
        place.insert(name.to_owned(), value);
    }
}

fn put(out: &mut String, event: Map<String, Value>) {
    out.push_str(&Value::Object(event).to_string());
    out.push('\n');
}
