//! `sallyport policy replay`: what a candidate policy would have decided of what was recorded.
//!
//! Reads the catalogue and the journal's files; what is not on disk yet is not seen.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use policy::sql::Batch;
use policy::sql::postgres::{ProfileLimits, function_call, profile, write_shape};
use policy::{
    Actor, Client, Decision, Occasion, Operation, Policy, Principal, Proof, SearchPath,
    SessionContext, Target,
};
use serde_json::{Value, json};

use super::table::table;
use super::{Failure, print, warn};
use crate::config::{self, Environment, Writing};
use crate::recorder::replay::{Fact, Replay, ReplayError, Said, ShownValue, Transcript};
use crate::recorder::{
    Catalogue, CatalogueError, ROWS_MAX, SessionEntry, SessionFilter, SessionStart, Verdict,
};

/// Commands of one kind of change that are named one by one.
const EXAMPLES_MAX: usize = 3;

/// Characters of a statement that a line of the table shows.
const STATEMENT_CHARS: usize = 60;

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Judge recorded commands by a candidate policy, and say what would change
    Replay(PolicyReplay),
}

#[derive(Debug, Args)]
pub(super) struct PolicyReplay {
    /// Directory of the candidate policy's files
    #[arg(long, value_name = "DIR")]
    policy: PathBuf,
    /// Sessions that began so long ago or later
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    since: Duration,
    /// Only those of this agent (subject or name)
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only those at this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Why nothing was judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum PolicyReplayError {
    #[error("the recordings cannot be listed")]
    Catalogue(#[from] CatalogueError),
    #[error("a recording cannot be read")]
    Recording(#[from] ReplayError),
}

impl PolicyCommand {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Replay(replay) => replay.run(environment),
        }
    }
}

impl PolicyReplay {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let recordings = config::recordings(environment)?;
        let mut environment = environment.clone();
        environment.policy_directory = Some(self.policy);
        let loaded = config::load(&environment, Writing::Never, 0)?;
        for warning in &loaded.warnings {
            warn(&warning.to_string());
        }
        let candidate = loaded.snapshot.policy;
        let now = runtime::unix_time();
        let filter = SessionFilter {
            agent: self.agent,
            target: self.target,
            since: Some(micros(now.saturating_sub(self.since))),
            limit: Some(ROWS_MAX),
            ..SessionFilter::default()
        };
        let open = || Catalogue::open(&recordings.catalogue);
        let catalogue = open().map_err(PolicyReplayError::from)?;
        let sessions = catalogue
            .sessions(&filter)
            .map_err(PolicyReplayError::from)?;
        if sessions.len() >= ROWS_MAX as usize {
            warn(&format!("only the latest {ROWS_MAX} sessions are judged"));
        }
        let mut comparison = Comparison::new(candidate);
        for session in &sessions {
            let replay = Replay::open(&catalogue, &recordings, session.session)
                .map_err(PolicyReplayError::from)?;
            comparison
                .compare(session, replay)
                .map_err(PolicyReplayError::from)?;
        }
        let text = if self.json {
            comparison.json(sessions.len())
        } else {
            comparison.text(sessions.len())
        };
        print(&text)?;
        Ok(())
    }
}

/// What changes for whom, where: the commands of one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    was: &'static str,
    would: &'static str,
    /// The rule that would refuse or hold, or that did.
    rule: String,
    agent: String,
    target: String,
    /// Texts that differ in literals alone are of one shape.
    shape: Vec<u8>,
}

#[derive(Debug)]
struct Change {
    count: u64,
    statement: String,
    /// Session and number of the command.
    examples: Vec<(String, u64)>,
}

struct Comparison {
    candidate: Arc<Policy>,
    judged: u64,
    not_judged: u64,
    changes: HashMap<Kind, Change>,
}

/// What is known of a session, from its recording.
struct Session {
    id: String,
    agent: String,
    principal: Principal,
    target: Target,
    client: Option<Client>,
    /// Texts by the name of the prepared statement, and names of those by portal.
    statements: HashMap<ShownName, String>,
    portals: HashMap<ShownName, ShownName>,
}

type ShownName = Vec<u8>;

/// What a command asked for.
enum Asked {
    Text(String),
    Function(u32),
    /// Nothing that is judged.
    Nothing,
    /// Something that the recording does not show whole.
    Unknown,
}

impl Comparison {
    fn new(candidate: Arc<Policy>) -> Self {
        Self {
            candidate,
            judged: 0,
            not_judged: 0,
            changes: HashMap::new(),
        }
    }

    fn compare(&mut self, entry: &SessionEntry, replay: Replay) -> Result<(), ReplayError> {
        let mut transcript = Transcript::new();
        let mut session = None;
        for event in replay {
            for told in transcript.tell(event?) {
                match told.fact {
                    Fact::Started(start) => session = Some(Session::of(entry, &start)),
                    Fact::Command {
                        decision,
                        cuts,
                        said,
                        ..
                    } => {
                        let Some(session) = &mut session else {
                            continue;
                        };
                        let asked = session.asks(&said);
                        let was = decision.verdict;
                        if was == Verdict::NotJudged || matches!(asked, Asked::Nothing) {
                            continue;
                        }
                        let rule = decision.rule.as_deref().unwrap_or_default();
                        // Values and usage are not in a recording; nor is what was cut out of it.
                        if cuts > 0
                            || matches!(asked, Asked::Unknown)
                            || self.candidate.names_mask_or_budget(rule)
                        {
                            self.not_judged += 1;
                            continue;
                        }
                        self.judged += 1;
                        let path = decision.search_path.as_deref();
                        let would = self.judge(session, &asked, path, told.at / 1_000_000);
                        self.note(session, &asked, (was, rule), &would, told.number);
                    }
                    Fact::Reply(_)
                    | Fact::Ended(_)
                    | Fact::Approval(_)
                    | Fact::Interrupted
                    | Fact::Missing { .. }
                    | Fact::Unreadable { .. } => {}
                }
            }
        }
        Ok(())
    }

    fn judge(
        &self,
        session: &Session,
        asked: &Asked,
        search_path: Option<&[String]>,
        unix_time: u64,
    ) -> Decision {
        let occasion = Occasion {
            client: session.client,
            unix_time,
        };
        let admitted = self
            .candidate
            .admit(&session.principal, &session.target, occasion);
        let permit = match admitted {
            Ok(permit) => permit,
            Err(refusal) => return Decision::Deny(refusal),
        };
        let statements = match asked {
            Asked::Text(text) => profile(text, &ProfileLimits::default()),
            Asked::Function(oid) => Batch {
                statements: vec![function_call(*oid)],
                ..Batch::default()
            },
            Asked::Nothing | Asked::Unknown => Batch::default(),
        };
        let operation = Operation::Sql {
            statements: &statements.statements,
            session: SessionContext {
                search_path: search_path.map_or(SearchPath::Unknown, SearchPath::Known),
                read_only: permit.read_only(),
                // What the database held then is not in a recording.
                catalogue: None,
                unsettled: false,
            },
        };
        self.candidate.judge(&permit, &operation)
    }

    fn note(
        &mut self,
        session: &Session,
        asked: &Asked,
        (was, rule): (Verdict, &str),
        would: &Decision,
        number: u64,
    ) {
        let (would, rule) = match would {
            Decision::Allow => ("permitted", rule.to_owned()),
            Decision::Hold(held) => {
                let rules: Vec<&str> = held.rules.iter().map(|rule| rule.name.as_str()).collect();
                ("held", rules.join(", "))
            }
            Decision::Deny(refusal) => {
                let rule = refusal.rule.clone();
                let rule = rule.unwrap_or_else(|| refusal.kind.name().to_owned());
                ("refused", rule)
            }
        };
        let was = was.name();
        if was == would {
            return;
        }
        let statement = match asked {
            Asked::Text(text) => text.clone(),
            Asked::Function(oid) => format!("function {oid}"),
            Asked::Nothing | Asked::Unknown => String::new(),
        };
        let mut shape = Vec::new();
        if write_shape(&statement, &mut shape).is_none() {
            shape = statement.clone().into_bytes();
        }
        let kind = Kind {
            was,
            would,
            rule,
            agent: session.agent.clone(),
            target: session.target.to_string(),
            shape,
        };
        let change = self.changes.entry(kind).or_insert_with(|| Change {
            count: 0,
            statement,
            examples: Vec::new(),
        });
        change.count += 1;
        if change.examples.len() < EXAMPLES_MAX {
            change.examples.push((session.id.clone(), number));
        }
    }

    /// The most frequent first.
    fn sorted(&self) -> Vec<(&Kind, &Change)> {
        let mut changes: Vec<_> = self.changes.iter().collect();
        changes.sort_by(|(one_kind, one), (other_kind, other)| {
            other
                .count
                .cmp(&one.count)
                .then_with(|| one_kind.agent.cmp(&other_kind.agent))
                .then_with(|| one.statement.cmp(&other.statement))
        });
        changes
    }

    fn text(&self, sessions: usize) -> String {
        let changes = self.sorted();
        let commands: u64 = changes.iter().map(|(_, change)| change.count).sum();
        let mut text = format!(
            "{} commands of {sessions} sessions were judged, {} could not be; {commands} would be decided otherwise\n",
            self.judged, self.not_judged
        );
        if changes.is_empty() {
            return text;
        }
        let rows: Vec<Vec<String>> = changes
            .iter()
            .map(|(kind, change)| {
                let example = change.examples.first();
                vec![
                    kind.was.to_owned(),
                    kind.would.to_owned(),
                    change.count.to_string(),
                    kind.agent.clone(),
                    kind.target.clone(),
                    kind.rule.clone(),
                    example.map_or_else(String::new, |(id, number)| format!("{id} {number}")),
                    shortened(&change.statement),
                ]
            })
            .collect();
        let header = [
            "was",
            "would be",
            "commands",
            "agent",
            "target",
            "rule",
            "first",
            "statement",
        ];
        text.push_str(&table(&header, &rows));
        text
    }

    fn json(&self, sessions: usize) -> String {
        let summary = json!({
            "sessions": sessions,
            "judged": self.judged,
            "not_judged": self.not_judged,
        });
        let changes = self.sorted().into_iter().map(|(kind, change)| {
            let examples = change.examples.iter();
            json!({
                "was": kind.was,
                "would_be": kind.would,
                "rule": kind.rule,
                "agent": kind.agent,
                "target": kind.target,
                "commands": change.count,
                "statement": change.statement,
                "examples": examples
                    .map(|(session, command)| json!({ "session": session, "command": command }))
                    .collect::<Vec<Value>>(),
            })
        });
        std::iter::once(summary)
            .chain(changes)
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

impl Session {
    fn of(entry: &SessionEntry, start: &SessionStart) -> Self {
        let note = &start.principal;
        let principal = Principal {
            issuer: note.issuer.clone(),
            subject: note.subject.clone(),
            name: note.name.clone(),
            groups: note.groups.clone(),
            delegation: note
                .actors
                .iter()
                .map(|actor| Actor {
                    issuer: actor.issuer.clone(),
                    subject: actor.subject.clone(),
                })
                .collect(),
            token_id: note.token_id.clone(),
            expires: note.expires,
            proof: Proof::Password,
        };
        let target = match start.target.split_once(policy::DATABASE_SEPARATOR) {
            Some((target, database)) => Target::named(target).database(database),
            None => Target::named(start.target.clone()),
        };
        Self {
            id: entry.session.to_string(),
            agent: note.name.clone(),
            principal,
            target,
            client: client(&start.peer),
            statements: HashMap::new(),
            portals: HashMap::new(),
        }
    }

    /// What the message asks for; it is remembered under the names that it gives.
    fn asks(&mut self, said: &Said) -> Asked {
        let text_of = |text: &ShownValue| match text {
            ShownValue::Text(text) => Asked::Text(text.clone()),
            ShownValue::Null | ShownValue::Bytes(_) => Asked::Unknown,
        };
        match said {
            Said::Query { text } => text_of(text),
            Said::Parse {
                statement, text, ..
            } => {
                if let ShownValue::Text(text) = text {
                    self.statements.insert(name(statement), text.clone());
                }
                text_of(text)
            }
            Said::Bind {
                portal, statement, ..
            } => {
                self.portals.insert(name(portal), name(statement));
                Asked::Nothing
            }
            Said::Execute { portal, .. } => {
                let statement = self.portals.get(&name(portal));
                let text = statement.and_then(|statement| self.statements.get(statement));
                text.map_or(Asked::Unknown, |text| Asked::Text(text.clone()))
            }
            Said::FunctionCall { function, .. } => Asked::Function(*function),
            Said::Describe { .. }
            | Said::Close { .. }
            | Said::CopyData(_)
            | Said::CopyFail { .. }
            | Said::Plain(_) => Asked::Nothing,
            Said::Incomplete { .. } | Said::Raw(_) => Asked::Unknown,
        }
    }
}

fn name(shown: &ShownValue) -> ShownName {
    match shown {
        ShownValue::Null => Vec::new(),
        ShownValue::Text(text) => text.clone().into_bytes(),
        ShownValue::Bytes(bytes) => bytes.clone(),
    }
}

/// As the recording names a peer: `ADDRESS:PORT` or `unix`.
fn client(peer: &str) -> Option<Client> {
    if let Ok(address) = peer.parse::<std::net::SocketAddr>() {
        return Some(Client::Address(address.ip()));
    }
    (peer == "unix").then_some(Client::Unix)
}

fn shortened(statement: &str) -> String {
    let one_line: Vec<&str> = statement.split_whitespace().collect();
    let one_line = one_line.join(" ");
    match one_line.char_indices().nth(STATEMENT_CHARS) {
        Some((end, _)) => format!("{}...", one_line.get(..end).unwrap_or_default()),
        None => one_line,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    policy::quantity::duration(text).ok_or("expected a duration such as `24h`")
}
