//! Refusals in PostgreSQL's own words, and the probes that stand in for refused commands.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use codecs::postgres::EncodeError;
use codecs::postgres::backend::{Report, SqlState};
use codecs::postgres::frontend::{encode_parse, encode_query};
use policy::{Refusal, RefusalKind};

use super::classify::Judged;
use super::exchange::Fault;
use super::masking::Unmaskable;
use super::names::NAME_BYTES_MAX;
use super::settings::WishRefused;
use crate::budgets::Spent;
use crate::identity::{CertificateFailure, ProofFailure};
use crate::recorder::{DecisionNote, EndReason, Note, OpenError, Verdict};
use crate::relay::End;
use crate::revocation::Revocation;
use crate::upstream::{AttributionError, Phase, SettingsError, UpstreamError};

/// A text that no grammar of PostgreSQL accepts: no statement begins with an operator.
///
/// It is what the target's log shows in place of a refused command.
const PROBE: &[u8] = b"!refused by sallyport";

/// Whether an error of this SQLSTATE can be the answer to a probe: a syntax error, or a cancel or
/// time-out that came first.
pub(super) fn answers_probe(sqlstate: &[u8]) -> bool {
    matches!(sqlstate, b"42601" | b"57014")
}

/// Puts a probe in the place of a `Query` or `FunctionCall`: answered by an error and `ReadyForQuery`.
pub(super) fn encode_simple_probe(out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_query(out, PROBE)
}

/// Puts a probe in the place of a `Parse` or `Execute`: answered by an error, and skipping to `Sync`.
///
/// Raw parsing fails before the name is looked at, so no statement of the agent is replaced.
/// `name` is that of the refused `Parse`, since a failing `Parse` of the unnamed statement drops
/// the earlier one; else one that nobody uses.
pub(super) fn encode_extended_probe(out: &mut Vec<u8>, name: &[u8]) -> Result<(), EncodeError> {
    encode_parse(out, name, PROBE, &[])
}

/// Why what a rule holds does not run.
#[derive(Clone, Debug)]
pub(super) struct HeldRefusal {
    pub(super) sqlstate: &'static [u8; 5],
    pub(super) message: String,
    pub(super) detail: String,
    pub(super) hint: Option<String>,
}

/// A refused command on its way to the agent.
pub(super) struct Refused {
    sqlstate: &'static [u8; 5],
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    /// `None`: refused by a bound of ours, not by policy.
    judged: Option<Rc<Judged>>,
}

impl Refused {
    /// What policy refused: SQLSTATE 42501, the rule in DETAIL, what to do in HINT.
    pub(super) fn by_policy(refusal: &Refusal, judged: Rc<Judged>) -> Self {
        Self {
            sqlstate: match refusal.kind {
                RefusalKind::Unparsed => b"42601",
                RefusalKind::OverBudget => b"53400",
                RefusalKind::NotAdmitted
                | RefusalKind::Denied
                | RefusalKind::NotAllowed
                | RefusalKind::Held
                | RefusalKind::Guard
                | RefusalKind::Masked
                | RefusalKind::Unclassified => b"42501",
            },
            message: refusal.message.clone(),
            detail: refusal
                .rule
                .as_ref()
                .map(|rule| format!("Refused by Sallyport, rule \"{rule}\".")),
            hint: Some(refusal.hint.clone()).filter(|hint| !hint.is_empty()),
            judged: Some(judged),
        }
    }

    /// What a rule holds, and nobody approved.
    pub(super) fn held(refusal: HeldRefusal, judged: Rc<Judged>) -> Self {
        Self {
            sqlstate: refusal.sqlstate,
            message: refusal.message,
            detail: Some(refusal.detail),
            hint: refusal.hint,
            judged: Some(judged),
        }
    }

    /// What ran longer than a budget lets it, or the configuration.
    pub(super) fn too_slow(budget: Option<&str>, limit: Duration) -> Self {
        let whose = budget.map_or_else(
            || "session.statement_timeout".to_owned(),
            |budget| format!("budget \"{budget}\""),
        );
        Self {
            detail: Some(format!("Cancelled by Sallyport, {whose}.")),
            ..Self::plain(
                b"57014",
                format!(
                    "the statement ran longer than {}, which is the limit",
                    policy::quantity::show_duration(limit)
                ),
            )
        }
    }

    /// What cannot be looked up is not judged by its name alone.
    pub(super) fn no_catalogue(error: &UpstreamError) -> Self {
        Self {
            hint: Some(
                "What the statement touches can not be established; try again later.".to_owned(),
            ),
            ..Self::plain(
                b"58000",
                format!("the catalogue of the target can not be read: {error}"),
            )
        }
    }

    pub(super) fn not_utf8() -> Self {
        Self::plain(b"22021", "the statement is not valid UTF-8".to_owned())
    }

    pub(super) fn no_statement(name: &str) -> Self {
        Self::plain(
            b"26000",
            format!("prepared statement \"{name}\" does not exist"),
        )
    }

    pub(super) fn no_portal(name: &[u8]) -> Self {
        // The server's own words. It could not hold a name that is not UTF-8.
        let name = std::str::from_utf8(name).unwrap_or_default();
        Self {
            hint: Some("A cursor made by DECLARE is read with FETCH.".to_owned()),
            ..Self::plain(b"34000", format!("portal \"{name}\" does not exist"))
        }
    }

    /// The server cuts longer names, so that two of the agent's would be one of the server's.
    pub(super) fn name_too_long() -> Self {
        Self {
            hint: Some(format!(
                "Names of statements and portals have at most {NAME_BYTES_MAX} bytes."
            )),
            ..Self::plain(b"42622", "the name is too long".to_owned())
        }
    }

    pub(super) fn too_many(what: &str, limit: usize) -> Self {
        Self::plain(
            b"54000",
            format!("the session holds {limit} {what}, which is the limit"),
        )
    }

    /// What is judged is held whole. The connection stays usable.
    pub(super) fn too_long(limit: u32) -> Self {
        let hint = "Large values belong into parameters or COPY, not into the text.";
        Self {
            hint: Some(hint.to_owned()),
            ..Self::plain(
                b"54000",
                format!("the message is longer than {limit} bytes, which is the limit"),
            )
        }
    }

    fn plain(sqlstate: &'static [u8; 5], message: String) -> Self {
        Self {
            sqlstate,
            message,
            detail: None,
            hint: None,
            judged: None,
        }
    }

    /// What metrics count it as: a word for the reason, and the rule.
    pub(super) fn cause(&self) -> (&'static str, Option<&str>) {
        match self
            .judged
            .as_deref()
            .and_then(|judged| judged.decision.refusal())
        {
            Some(refusal) => (refusal.kind.name(), refusal.rule.as_deref()),
            None => ("bound", None),
        }
    }

    /// What the recording says of it.
    pub(super) fn note(&self) -> Note {
        self.judged
            .as_ref()
            .map_or_else(by_bound, |judged| judged.note.clone())
    }

    /// Writes the `ErrorResponse` that the agent gets.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut report = Report::error(SqlState::new(self.sqlstate), &self.message);
        if let Some(detail) = &self.detail {
            report = report.detail(detail);
        }
        if let Some(hint) = &self.hint {
            report = report.hint(hint);
        }
        report.encode_error(out)
    }
}

/// The note of a command that a bound of ours refused, not policy.
fn by_bound() -> Note {
    Note::new(&DecisionNote {
        verdict: Verdict::Refused,
        rule: None,
        policy: 0,
        effects: &[],
        search_path: None,
        foreshadowed: None,
    })
}

/// Why a peer got no session. `Display` is for the operator's log; [`Self::encode`] is for the peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginRefusal {
    #[error("a token may not cross this connection in clear")]
    NotPrivate,
    #[error("the claim has not the form that was asked for")]
    MalformedClaim,
    #[error("the claim is not proven: {0}")]
    NotProven(ProofFailure),
    #[error("no client certificate was shown")]
    NoCertificate,
    #[error("the certificate proves nothing: {0}")]
    BadCertificate(CertificateFailure),
    #[error("revoked (revocation {})", .0.id)]
    Revoked(Arc<Revocation>),
    #[error("no such target")]
    NoTarget,
    /// A pattern stands for it, but the target's server has none of that name.
    #[error("no such database at the target")]
    NoDatabase,
    #[error("policy admits the principal to nothing here")]
    NotAdmitted(Refusal),
    #[error("{0}")]
    Wish(#[from] WishRefused),
    #[error("{0}")]
    Settings(#[from] SettingsError),
    #[error("policy refuses a start-up setting")]
    Setting(Refusal),
    #[error("the principal can not be named in the target's log: {0}")]
    NotAttributable(AttributionError),
    #[error("the session can not be recorded: {0}")]
    NotRecorded(OpenError),
    #[error("no upstream: {0}")]
    NoUpstream(UpstreamError),
    #[error("every session slot of the shard is taken")]
    ShardFull,
    #[error("{0}")]
    OverBudget(Spent),
}

/// The same words for an unknown target and for one that the principal may not enter.
const NOT_ADMITTED: &str = "the target does not exist or you may not enter it";

/// The same at login and for a session that is cut off. Whatever the operator wants to add is in
/// the hint; which revocation it was is in the log.
const REVOKED: &str = "access is revoked";

impl LoginRefusal {
    /// What metrics count it as.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::NotPrivate => "not-private",
            Self::MalformedClaim => "malformed-claim",
            Self::NotProven(_) => "not-proven",
            Self::NoCertificate => "no-certificate",
            Self::BadCertificate(_) => "bad-certificate",
            Self::Revoked(_) => "revoked",
            Self::NoTarget => "no-target",
            Self::NoDatabase => "no-database",
            Self::NotAdmitted(_) => "not-admitted",
            Self::Wish(_) | Self::Settings(_) | Self::Setting(_) => "setting",
            Self::NotAttributable(_) => "not-attributable",
            Self::NotRecorded(_) => "not-recorded",
            Self::NoUpstream(_) => "no-upstream",
            Self::ShardFull => "shard-full",
            Self::OverBudget(_) => "over-budget",
        }
    }

    /// Whether it is the proof that failed, which an open SASL exchange has to say in its own way.
    pub(crate) fn is_failed_proof(&self) -> bool {
        matches!(self, Self::MalformedClaim | Self::NotProven(_))
    }

    /// Writes the FATAL `ErrorResponse` for the peer. It never says more than the peer may know.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let said;
        let (sqlstate, message, hint): (&[u8; 5], &str, Option<&str>) = match self {
            Self::NotPrivate => (
                b"28000",
                "this connection is not encrypted",
                Some(
                    "Connect with sslmode=verify-full: the token would cross the network in clear.",
                ),
            ),
            Self::MalformedClaim | Self::NotProven(_) => (
                b"28P01",
                "the token is not accepted",
                Some(
                    "The password is the agent's token; it may have expired or be meant for another service.",
                ),
            ),
            Self::NoCertificate => (
                b"28000",
                "a client certificate is needed",
                Some("Connect with sslcert and sslkey."),
            ),
            Self::BadCertificate(_) => (b"28P01", "the certificate is not accepted", None),
            Self::Revoked(revocation) => (b"28000", REVOKED, revocation.message.as_deref()),
            Self::NoTarget | Self::NoDatabase | Self::NotAdmitted(_) => (
                b"28000",
                NOT_ADMITTED,
                Some("The database name names the target."),
            ),
            Self::Wish(wish) => {
                said = wish.to_string();
                (wish.sqlstate(), &said, None)
            }
            Self::Settings(settings) => {
                said = settings.to_string();
                (b"22023", &said, None)
            }
            Self::Setting(refusal) => (b"42501", &refusal.message, Some(&refusal.hint)),
            Self::NotAttributable(_) => (b"28000", "the token's subject can not be used", None),
            Self::NotRecorded(_) => (
                b"53100",
                "the session can not be recorded",
                Some("Nothing runs unrecorded. The operator's log says what is wrong."),
            ),
            Self::NoUpstream(error) => {
                let (sqlstate, message) = upstream_words(error);
                (sqlstate, message, None)
            }
            Self::ShardFull => (b"53300", "too many sessions", None),
            Self::OverBudget(spent) => {
                said = spent.to_string();
                (b"53300", &said, Some("End another session first."))
            }
        };
        let mut report = Report::fatal(SqlState::new(sqlstate), message);
        if let Some(hint) = hint {
            report = report.hint(hint);
        }
        report.encode_error(out)
    }
}

/// What an agent is told of a target that could not be reached.
///
/// The target's own SQLSTATE stays ours where it is about our account (class 28, 3D): it would
/// tell the agent nothing that it can act on, and an attacker something.
fn upstream_words(error: &UpstreamError) -> (&'static [u8; 5], &'static str) {
    match error {
        UpstreamError::Unreachable { .. } | UpstreamError::Unresolved => {
            (b"08001", "the target can not be reached")
        }
        UpstreamError::WrongRole => (b"08001", "no server of the target has the needed role"),
        UpstreamError::TimedOut { .. } => (b"08001", "the target did not answer in time"),
        UpstreamError::Refused { sqlstate, .. } if sqlstate.is_class("53") => {
            (b"53300", "the target has no free connections")
        }
        UpstreamError::Refused { sqlstate, .. } if sqlstate.is_class("57") => {
            (b"57P03", "the target is starting up or stopping")
        }
        UpstreamError::Refused {
            phase: Phase::Startup | Phase::Attribution,
            sqlstate,
        } if !sqlstate.is_class("28") && !sqlstate.is_class("3D") => (
            b"22023",
            "the target does not accept the session's settings",
        ),
        UpstreamError::Refused { .. } | UpstreamError::AuthenticationFailed(_) => {
            (b"08004", "the target refused the appliance's login")
        }
        UpstreamError::Tls(_) => (b"08001", "no trusted connection to the target"),
        UpstreamError::Lost { .. } => (b"08006", "the target closed the connection"),
        UpstreamError::Protocol { .. } => (b"08P01", "the target broke the protocol"),
        UpstreamError::QueueTimedOut | UpstreamError::QueueFull => {
            (b"53300", "no connection to the target became free in time")
        }
        UpstreamError::Draining => (b"57P01", "the appliance is stopping"),
    }
}

/// What an agent is told when its session ends, if there is something to say.
pub(super) fn farewell(end: &End) -> Option<(&'static [u8; 5], &'static str)> {
    Some(match end {
        // It said goodbye, cannot hear us, or has heard the target's own last words.
        End::AgentLeft | End::AgentUnreachable(_) | End::AgentStalled | End::TargetEnded => {
            return None;
        }
        End::TargetClosed | End::TargetLost(_) => (b"08006", "the target closed the connection"),
        End::Lifetime => (b"57P01", "the session reached its lifetime"),
        End::Idle => (b"57P05", "the session was idle for too long"),
        End::IdleInTransaction => (
            b"25P03",
            "the session was idle for too long in an open transaction",
        ),
        End::Drained => (b"57P01", "the appliance is stopping"),
        End::Cut => (
            b"57P01",
            "the appliance is stopping and does not wait any longer",
        ),
        End::Killed => (b"57P01", "the session was ended by an operator"),
        End::Revoked(_) => (b"57P01", REVOKED),
        End::Withdrawn => (b"57P01", "you may no longer enter this target"),
        End::Fault(fault) => match fault {
            Fault::Agent(error) if error.is_limit() => {
                (b"54000", "a message is longer than the gateway carries")
            }
            Fault::Agent(_) => (b"08P01", "a message is malformed"),
            Fault::AgentSequence(_) => (b"08P01", "a message came out of sequence"),
            Fault::Target(_)
            | Fault::TargetSequence(_)
            | Fault::TargetReplicates
            | Fault::TargetParameters(_)
            | Fault::ProbeMisanswered => (b"08P01", "the target broke the protocol"),
            Fault::Restore => (b"08006", "the session's attribution was lost"),
            Fault::Unmaskable(unmaskable) => unmaskable_words(unmaskable),
            Fault::Journal(_) => (b"53100", "the session can not be recorded any longer"),
            Fault::Unreadable(_) => (b"XX000", "the statement could not be read"),
            Fault::Encode(_) => (b"XX000", "a message could not be written"),
        },
    })
}

/// What else an agent is told: what the operator wants it to know.
pub(super) fn farewell_hint(end: &End) -> Option<&str> {
    let End::Revoked(revocation) = end else {
        return None;
    };
    revocation.message.as_deref()
}

fn unmaskable_words(unmaskable: &Unmaskable) -> (&'static [u8; 5], &'static str) {
    match unmaskable {
        Unmaskable::Malformed(_) | Unmaskable::Undescribed | Unmaskable::Miscounted => {
            (b"08P01", "the target broke the protocol")
        }
        Unmaskable::Encode(_) => (b"XX000", "a message could not be written"),
        Unmaskable::TooLong => (b"54000", "a masked value is too long to be replaced"),
        Unmaskable::Copy => (b"0A000", "what is masked can not be copied"),
    }
}

/// The same for the recording.
pub(super) fn end_reason(end: &End) -> EndReason {
    match end {
        End::AgentLeft => EndReason::Finished,
        End::AgentUnreachable(_) | End::AgentStalled => EndReason::DownstreamLost,
        End::TargetEnded => EndReason::UpstreamEnded,
        End::TargetClosed | End::TargetLost(_) => EndReason::UpstreamLost,
        End::Lifetime => EndReason::LifetimeReached,
        End::Idle => EndReason::IdleTooLong,
        End::IdleInTransaction => EndReason::IdleInTransaction,
        End::Drained => EndReason::Drained,
        End::Cut => EndReason::CutAtDrain,
        End::Killed => EndReason::Killed,
        End::Revoked(_) => EndReason::Revoked,
        End::Withdrawn => EndReason::PolicyWithdrawn,
        End::Fault(fault) => match fault {
            Fault::Agent(_) | Fault::AgentSequence(_) => EndReason::DownstreamProtocol,
            Fault::Target(_)
            | Fault::TargetSequence(_)
            | Fault::TargetReplicates
            | Fault::TargetParameters(_)
            | Fault::ProbeMisanswered
            | Fault::Restore => EndReason::UpstreamProtocol,
            Fault::Unmaskable(
                Unmaskable::Malformed(_) | Unmaskable::Undescribed | Unmaskable::Miscounted,
            ) => EndReason::UpstreamProtocol,
            Fault::Unmaskable(Unmaskable::Encode(_) | Unmaskable::TooLong | Unmaskable::Copy) => {
                EndReason::Aborted
            }
            Fault::Journal(_) | Fault::Encode(_) => EndReason::NotRecordable,
            Fault::Unreadable(_) => EndReason::Aborted,
        },
    }
}
