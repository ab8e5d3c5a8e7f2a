//! One session's conversation: what was asked, what it was judged, and which answer belongs to it.
//!
//! ```text
//! agent  -> decode -> classify -> judge -> record -> forward | probe in its place
//! target -> decode -> pair with its request -> record -> forward | swallow | put our words
//! ```
//!
//! A refused command does not reach the target; a *probe* that PostgreSQL must
//! refuse goes in its place, and the probe's `ErrorResponse` is replaced by the
//! refusal. Order, transaction state and skipping up to `Sync` are then the
//! server's own, not an imitation (docs/decisions/0002).
//!
//! It holds no socket and no clock.

mod agent;
mod aside;
mod catalogue;
mod held;
mod masked;
mod metered;
mod target;
mod unit;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use codecs::postgres::backend::{Report, SqlState};
use codecs::postgres::frontend::{self, FrontendDecoder, Target};
use codecs::postgres::pipeline::Fate;
use codecs::postgres::{
    BackendDecoder, DecodeError, EncodeError, Origin, Pipeline, Request, SequenceError,
    TransactionStatus,
};
use policy::{Occasion, Permit};
use runtime::mapped::Position;

use super::classify::{Circumstances, Classifier, Situation, Statement};
use super::masking::{Described, Masking, Stretch, Unmaskable};
use super::names::Names;
use super::refuse::{self, Refused};
use super::rewrite;
use runtime::Panicked;

use crate::budgets::Budgets;
use crate::config::Snapshot;
use crate::identity::Proven;
use crate::recorder::{JournalUnavailable, Recorder};
use crate::relay::End;
use crate::relay::link::Outbound;
use crate::telemetry::metrics::ShardMetrics;
use crate::upstream::{Attribution, UpstreamError, Watch};
use aside::Aside;
use catalogue::Known;
use held::Holding;
use metered::Cuts;
use target::Held;
use unit::{Arrival, Bound, Source};

pub(crate) use held::Ending;
pub(crate) use unit::UNIT_BYTES_MAX;

/// Most requests of one session that may wait for their answers.
///
/// Count. Deep pipelining (psycopg's batches, pgbench) stays far below; past it the
/// agent is simply not read until answers arrive.
const PIPELINE_MAX: usize = 4096;

/// Longest row of a session with masks that is held whole.
///
/// Bytes. In a longer one what is masked must keep its length, which not every type can; and it is
/// what such a session may have in memory besides.
const MASKED_ROW_BYTES: u32 = 1 << 20;

/// Most prepared statements, and most portals, of one session.
///
/// Count. Each holds its text and profile on the shard. A driver's statement cache
/// holds hundreds; one more than this is refused with SQLSTATE 54000.
const NAMES_MAX: usize = 16 * 1024;

/// Both sides of a session, lent for one call.
pub(crate) struct Sides<'s, A, T> {
    pub(crate) agent: &'s mut A,
    pub(crate) target: &'s mut T,
}

/// How far a call got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Bytes that need not be shown again.
    pub(crate) bytes: usize,
    /// Why the rest was not taken; `None` when it holds no whole message.
    pub(crate) pause: Option<Pause>,
}

/// What must happen before a direction can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Room in the journal for so many bytes.
    Room(usize),
    /// The answers that settle what earlier names mean.
    Answers,
    /// The answers to everything sent so far.
    Quiescence,
    /// Fewer requests waiting for answers.
    ShorterPipeline,
    /// The answer that says whether the server wants the data of a COPY.
    CopyAnswer,
    /// People to have decided about what a rule holds.
    Approval,
    /// A worker to have read the text of the message.
    Reading,
    /// The target to have said what the database holds.
    Catalogue,
    /// The other direction's record to be finished.
    OtherSide,
    /// The agent ended the session.
    Goodbye,
}

/// Why a session can not go on: a peer broke the protocol, or recording became impossible.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the agent sent what is not PostgreSQL")]
    Agent(#[source] DecodeError),
    #[error("the agent sent a message that has no place here")]
    AgentSequence(#[source] SequenceError),
    #[error("the target sent what is not PostgreSQL")]
    Target(#[source] DecodeError),
    #[error("the target answered what nobody asked")]
    TargetSequence(#[source] SequenceError),
    #[error("the target answered a probe with an error of another kind")]
    ProbeMisanswered,
    #[error("the target began to replicate, which nobody can ask for here")]
    TargetReplicates,
    #[error("the target reports settings that a session can not have")]
    TargetParameters(#[source] UpstreamError),
    #[error("the attribution of the session could not be set again")]
    Restore,
    #[error("an answer can not be masked")]
    Unmaskable(#[from] Unmaskable),
    #[error("a text could not be read")]
    Unreadable(#[source] Panicked),
    #[error("a message could not be written")]
    Encode(#[from] EncodeError),
    #[error("the session can not be recorded")]
    Journal(#[source] JournalUnavailable),
}

/// Asks the server for the schemas that unqualified names are looked up in, existing ones only, and
/// for the role that the session has.
const READ_PATH: &str =
    "SELECT pg_catalog.array_to_json(pg_catalog.current_schemas(false)), current_user";

/// Per connection.
pub(crate) struct Exchange {
    snapshot: Arc<Snapshot>,
    proven: Proven,
    permit: Permit,
    budgets: Budgets,
    cuts: Cuts,
    sought: policy::Target,
    /// From where and when it was admitted last.
    occasion: Occasion,
    classifier: Rc<Classifier>,

    frontend: FrontendDecoder,
    backend: BackendDecoder,
    pipeline: Pipeline<u64>,
    last_request: u64,
    statements: Names<Named>,
    portals: Names<Named>,
    notes: VecDeque<Note>,

    attribution: Attribution,
    /// The reports on settings of the attribution that the agent had last.
    reported: Vec<Reported>,
    path: Path,
    /// The role of the session, where it was said with the path.
    role: Option<Rc<str>>,
    /// All that a verdict depends on, of which the path is a part.
    situation: Rc<Situation>,
    /// What the database holds, as far as this session judges by it.
    catalogue: Known,
    /// Some rule for this session holds, so that what people may be asked about is kept.
    may_hold: bool,
    holding: Holding,
    arrival: Arrival,
    /// Counts the portals whose values are kept.
    bound_portals: Rc<()>,
    /// A change of the path was made inside a transaction, whose end may undo it.
    path_is_transactional: bool,
    /// No sequence of extended requests is open that a query of ours would cut into.
    at_boundary: bool,
    /// A Close was sent since, which the server may answer with the next Sync only.
    awaits_close: bool,
    /// A statement and portal name of ours that no agent can guess.
    reserved: String,

    /// Since the first configuration with masks that are about the principal.
    masking: Option<Box<Masking>>,
    metrics: Rc<ShardMetrics>,
    recorder: Recorder,
    recording: Recording,
    /// Where in the journal the last forwarded command stands.
    last_recorded: Option<Position>,
    /// The text of the agent's next message, when it is a long one.
    aside: Option<Aside>,
    /// A stretch of a long message that was decoded and waits for the journal.
    agent_fragment: Option<Stretch>,
    /// What becomes of the message whose stretches are arriving.
    long: LongMessage,
    held: Held,
    /// State may be left behind that no reset clears.
    tainted: bool,
    /// It has asked for notifications, and may be waiting for one.
    listens: bool,
    target_said_goodbye: bool,
    agent_is_mid_message: bool,
    swallows_fragment: bool,
    scratch: Vec<u8>,
    scratch_for_agent: Vec<u8>,
}

/// Which direction has begun a record that the journal had no room to finish.
///
/// A long message is recorded in pieces; nothing may come between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recording {
    Neither,
    Agent,
    Target,
}

/// A message of the agent that is too long to be held.
#[derive(Clone, Copy)]
struct LongMessage {
    part_of: PartOf,
    fate: Fate,
}

/// As what the stretches of a long message are recorded.
#[derive(Clone, Copy)]
enum PartOf {
    CopyData,
    /// The command of this number.
    Command(u64),
}

/// A request that the pipeline knows of.
#[must_use]
struct Expected {
    number: u64,
    /// Whether it goes to the server: what the server would ignore is not sent.
    fate: Fate,
}

/// What has to be done when the answers to one request arrive. In request order.
struct Note {
    request: u64,
    kind: NoteKind,
}

enum NoteKind {
    /// Our words for the probe's `ErrorResponse`.
    Refused(Box<Refused>),
    /// Statements of a batch that are ours, by their index on the server.
    Spliced(Vec<u32>),
    /// A hidden request that reads the search path back.
    ReadPath,
}

/// What a name of a prepared statement or portal stands for.
#[derive(Clone)]
struct Named {
    statement: Rc<Statement>,
    /// Which part of the text it is: more than zero only for a PREPARE among others.
    index: usize,
    /// Where something is masked for the principal: what is known of its rows.
    described: Option<Rc<Described>>,
    /// Where a rule may hold it: its text, and of a portal the values.
    source: Option<Rc<Source>>,
    bound: Option<Rc<Bound>>,
}

/// A setting and its value, as `ParameterStatus` says them.
struct Reported {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Reported {
    fn new(name: &[u8], value: &[u8]) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }

    /// What the agent is told at its start.
    fn all(attribution: &Attribution) -> Vec<Self> {
        let settings = attribution.settings();
        settings
            .map(|(name, value)| Self::new(name.as_bytes(), value.as_bytes()))
            .collect()
    }
}

/// The schemas that unqualified names are looked up in.
enum Path {
    Known(Rc<[String]>),
    /// Something may have changed it; asked again at the next moment that allows it.
    Unknown,
    /// Asked for, and the server did not say.
    Unreadable,
}

/// What an exchange is opened with.
pub(crate) struct Opened {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) proven: Proven,
    pub(crate) permit: Permit,
    pub(crate) budgets: Budgets,
    pub(crate) sought: policy::Target,
    /// From where and when it was admitted.
    pub(crate) occasion: Occasion,
    pub(crate) classifier: Rc<Classifier>,
    pub(crate) frontend: FrontendDecoder,
    pub(crate) attribution: Attribution,
    pub(crate) reserved: String,
    pub(crate) metrics: Rc<ShardMetrics>,
    pub(crate) recorder: Recorder,
    /// `None`: names are judged as they are written.
    pub(crate) catalogue: Option<Watch>,
}

impl Exchange {
    pub(crate) fn new(opened: Opened) -> Self {
        let limits = opened.snapshot.limits.wire;
        let mut frontend = opened.frontend;
        frontend.announce_long();
        let path = Path::Unknown;
        let masks = Self::masks_of(
            &opened.classifier,
            &opened.snapshot,
            &opened.permit,
            &opened.sought,
        );
        let tools = &opened.classifier.tools;
        let masking = masks.map(|masks| Masking::new(masks, Rc::clone(tools)));
        let catalogue = Known::new(opened.catalogue);
        let situation = situation(
            &opened.classifier,
            &opened.snapshot,
            &opened.permit,
            &path,
            &catalogue,
        );
        let may_hold = opened.snapshot.policy.may_hold(&opened.permit);
        Self {
            snapshot: opened.snapshot,
            proven: opened.proven,
            permit: opened.permit,
            budgets: opened.budgets,
            cuts: Cuts::default(),
            sought: opened.sought,
            occasion: opened.occasion,
            classifier: opened.classifier,
            frontend,
            backend: BackendDecoder::new(codecs::Limits {
                stream_above_bytes: if masking.is_some() {
                    limits.stream_above_bytes.max(MASKED_ROW_BYTES)
                } else {
                    limits.stream_above_bytes
                },
                ..limits
            }),
            pipeline: Pipeline::new(TransactionStatus::Idle),
            last_request: 0,
            statements: Names::default(),
            portals: Names::default(),
            notes: VecDeque::new(),
            reported: Reported::all(&opened.attribution),
            attribution: opened.attribution,
            path,
            role: None,
            situation,
            catalogue,
            may_hold,
            holding: Holding::Nothing,
            arrival: Arrival::default(),
            bound_portals: Rc::default(),
            path_is_transactional: false,
            at_boundary: true,
            awaits_close: false,
            reserved: opened.reserved,
            masking,
            metrics: opened.metrics,
            recorder: opened.recorder,
            recording: Recording::Neither,
            last_recorded: None,
            aside: None,
            agent_fragment: None,
            long: LongMessage {
                part_of: PartOf::CopyData,
                fate: Fate::Drop,
            },
            held: Held::default(),
            tainted: false,
            listens: false,
            target_said_goodbye: false,
            agent_is_mid_message: false,
            swallows_fragment: false,
            scratch: Vec::new(),
            scratch_for_agent: Vec::new(),
        }
    }

    /// Nothing is running and no transaction is open.
    pub(crate) fn at_rest(&self) -> bool {
        self.pipeline.is_at_rest() && self.pipeline.transaction_status() == TransactionStatus::Idle
    }

    /// As the last answer said.
    pub(crate) fn has_open_transaction(&self) -> bool {
        self.pipeline.transaction_status() != TransactionStatus::Idle
    }

    /// How many commands the session has sent, refused ones among them.
    pub(crate) fn commands(&self) -> u64 {
        self.recorder.counters().commands
    }

    /// Every request has its answer.
    pub(crate) fn is_quiescent(&self) -> bool {
        self.pipeline.is_quiescent()
    }

    /// Whether a reset clears everything that the session left on its upstream.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.tainted && !self.target_said_goodbye
    }

    /// Whether the agent may be waiting for notifications.
    pub(crate) fn listens(&self) -> bool {
        self.listens
    }

    pub(crate) fn target_said_goodbye(&self) -> bool {
        self.target_said_goodbye
    }

    /// The agent has had the beginning of a message whose end has not come.
    pub(crate) fn agent_is_mid_message(&self) -> bool {
        self.agent_is_mid_message
    }

    /// Takes a new configuration as the basis of what is judged from here on.
    ///
    /// Returns whether it withdraws the admission.
    pub(crate) fn adopt(&mut self, snapshot: Arc<Snapshot>, unix_time: u64) -> bool {
        let exists = snapshot.targets.contains(&self.sought);
        self.occasion.unix_time = unix_time;
        let admitted = snapshot
            .policy
            .admit(self.proven.principal(), &self.sought, self.occasion);
        match admitted {
            // The second lock is set at login: a session that has to change sides starts anew.
            Ok(permit) if exists && permit.read_only() == self.permit.read_only() => {
                self.budgets
                    .renew(&snapshot.policy, &permit, self.proven.principal());
                self.may_hold = snapshot.policy.may_hold(&permit);
                self.permit = permit;
                self.snapshot = snapshot;
                self.resituate();
                self.adopt_masks();
                false
            }
            Ok(_) | Err(_) => true,
        }
    }

    /// Admits by the same configuration at another time. Returns whether that withdraws it.
    pub(crate) fn admit_anew(&mut self, unix_time: u64) -> bool {
        self.adopt(Arc::clone(&self.snapshot), unix_time)
    }

    /// When the admission may change without a new configuration.
    pub(crate) fn policy_changes(&self) -> Option<u64> {
        self.snapshot.policy.next_change(self.occasion.unix_time)
    }

    fn adopt_masks(&mut self) {
        let masks = Self::masks_of(&self.classifier, &self.snapshot, &self.permit, &self.sought);
        match (&mut self.masking, masks) {
            (None, None) => {}
            (Some(masking), masks) => masking.adopt(masks.unwrap_or_default()),
            (masking @ None, Some(masks)) => {
                *masking = Some(Masking::new(masks, Rc::clone(&self.classifier.tools)));
            }
        }
    }

    /// Whether what a direction waited for has come about.
    pub(crate) fn poll_pause_over(
        &mut self,
        pause: Pause,
        context: &mut Context<'_>,
    ) -> Result<bool, Fault> {
        Ok(match pause {
            Pause::OtherSide => self.recording == Recording::Neither,
            Pause::Room(bytes) => match self.recorder.journal().poll_room(context, bytes) {
                // A ring that drains holds the session for a moment; one that cannot would hold it
                // for good. The journal wakes us when its health changes.
                Poll::Pending => {
                    self.recorder.journal().health().map_err(Fault::Journal)?;
                    false
                }
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(unavailable)) => return Err(Fault::Journal(unavailable)),
            },
            Pause::Answers => !self.statements.is_unsettled() && !self.portals.is_unsettled(),
            Pause::Quiescence => self.is_quiescent(),
            Pause::Approval => !self.is_held(),
            Pause::Reading => match &mut self.aside {
                Some(aside) => match aside.poll_read(&self.classifier, context) {
                    Poll::Pending => false,
                    Poll::Ready(Ok(())) => true,
                    Poll::Ready(Err(panicked)) => return Err(Fault::Unreadable(panicked)),
                },
                None => true,
            },
            Pause::Catalogue => self.catalogue.poll_known(context).is_ready(),
            Pause::CopyAnswer => !self.pipeline.awaits_copy(),
            Pause::ShorterPipeline => self.pipeline.len() <= PIPELINE_MAX / 2,
            Pause::Goodbye => true,
        })
    }

    /// Ready when what waits to be sent to the target is recorded as durably as was asked for.
    pub(crate) fn poll_committed(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(position) = self.last_recorded else {
            return Poll::Ready(Ok(()));
        };
        let committed = self.recorder.journal().poll_committed(context, position);
        if committed.is_ready() {
            self.last_recorded = None;
        }
        committed.map_err(Fault::Journal)
    }

    /// Queues the last words of a session, if there is anything to say.
    pub(crate) fn say_farewell(&mut self, end: &End, agent: &mut impl Outbound) {
        let Some((sqlstate, message)) = refuse::farewell(end) else {
            return;
        };
        self.scratch.clear();
        let mut report = Report::fatal(SqlState::new(sqlstate), message);
        if let Some(hint) = refuse::farewell_hint(end) {
            report = report.hint(hint);
        }
        if report.encode_error(&mut self.scratch).is_err() {
            return;
        }
        // If its last words do not fit the journal, the end record with its reason still does.
        let _ = self.recorder.response(self.last_request, &self.scratch);
        agent.append(&self.scratch);
    }

    /// Closes the recording.
    pub(crate) fn record_end(self, end: &End) {
        let reason = refuse::end_reason(end);
        self.metrics
            .session_ended(reason, self.recorder.counters().rows);
        self.recorder.end(reason);
    }

    /// Numbers a request and tells the pipeline of it, which says whether the server would heed it.
    fn expect(&mut self, request: Request, origin: Origin) -> Result<Expected, Fault> {
        let number = self.last_request + 1;
        let told = self.pipeline.handle_frontend(request, origin, number);
        let fate = told.map_err(Fault::AgentSequence)?;
        self.last_request = number;
        // A query of ours behind one of these would cut into what belongs together: it commits,
        // and it drops the unnamed statement.
        if matches!(
            request,
            Request::Parse | Request::Bind | Request::Describe(_) | Request::Execute
        ) {
            self.at_boundary = false;
        }
        self.awaits_close |= request == Request::Close;
        Ok(Expected { number, fate })
    }

    fn end_epoch(&mut self) {
        self.refused_unit_ends();
        self.statements.end_epoch();
        self.portals.end_epoch();
        self.at_boundary = true;
        self.awaits_close = false;
    }

    /// Takes what is known of the search path as a part of what is judged by from here on.
    fn set_path(&mut self, path: Path) {
        if !matches!(path, Path::Known(_)) {
            self.role = None;
        }
        self.path = path;
        self.resituate();
    }

    /// Takes what is known now as what is judged by from here on.
    fn resituate(&mut self) {
        self.situation = situation(
            &self.classifier,
            &self.snapshot,
            &self.permit,
            &self.path,
            &self.catalogue,
        );
    }

    /// Asks the server for its search path, unseen by the agent.
    fn read_path(&mut self, target: &mut impl Outbound) -> Result<(), Fault> {
        let expected = self.expect(Request::Query, Origin::Hidden)?;
        self.notes.push_back(Note {
            request: expected.number,
            kind: NoteKind::ReadPath,
        });
        self.set_path(Path::Unreadable);
        self.say_query(READ_PATH, &expected, target)?;
        self.end_epoch();
        Ok(())
    }

    /// Sets the attribution again by a query of its own, unseen by the agent.
    fn restore_simple(&mut self, target: &mut impl Outbound) -> Result<(), Fault> {
        let expected = self.expect(Request::Query, Origin::Hidden)?;
        self.say_query(&rewrite::restore(&self.attribution), &expected, target)?;
        self.end_epoch();
        Ok(())
    }

    /// Sets the attribution again inside a sequence of extended requests, unseen by the agent.
    ///
    /// If the agent's own request failed, the server discards these as well.
    fn restore_extended(&mut self, target: &mut impl Outbound) -> Result<(), Fault> {
        let name = self.reserved.as_bytes();
        let text = rewrite::restore(&self.attribution);
        let out = &mut self.scratch;
        out.clear();
        frontend::encode_parse(out, name, text.as_bytes(), &[])?;
        frontend::encode_bind(out, name, name, &[], &[], &[])?;
        frontend::encode_execute(out, name, 0)?;
        frontend::encode_close(out, Target::Portal, name)?;
        frontend::encode_close(out, Target::Statement, name)?;
        let all = [
            Request::Parse,
            Request::Bind,
            Request::Execute,
            Request::Close,
            Request::Close,
        ];
        let mut is_heeded = true;
        for request in all {
            is_heeded &= self.expect(request, Origin::Hidden)?.fate == Fate::Forward;
        }
        if is_heeded {
            target.append(&self.scratch);
        }
        Ok(())
    }

    fn say_query(
        &mut self,
        text: &str,
        expected: &Expected,
        target: &mut impl Outbound,
    ) -> Result<(), Fault> {
        if expected.fate == Fate::Forward {
            self.scratch.clear();
            frontend::encode_query(&mut self.scratch, text.as_bytes())?;
            target.append(&self.scratch);
        }
        Ok(())
    }

    /// Forgets what was kept for requests that the server discards.
    fn dismiss_discarded(&mut self) {
        let Self {
            pipeline,
            statements,
            portals,
            notes,
            ..
        } = self;
        for discarded in pipeline.drain_discarded() {
            statements.dismiss(discarded.tag);
            portals.dismiss(discarded.tag);
            if let Ok(index) = notes.binary_search_by_key(&discarded.tag, |note| note.request) {
                notes.remove(index);
            }
        }
    }
}

/// What a session with this policy, permit and path is judged by.
fn situation(
    classifier: &Classifier,
    snapshot: &Snapshot,
    permit: &Permit,
    path: &Path,
    catalogue: &Known,
) -> Rc<Situation> {
    classifier.situation(Circumstances {
        policy: snapshot.policy.version(),
        rules: permit.rules_key().clone(),
        read_only: permit.read_only(),
        path: match path {
            Path::Known(schemas) => Some(Rc::clone(schemas)),
            Path::Unknown | Path::Unreadable => None,
        },
        catalogue: catalogue.in_force(),
        unsettled: catalogue.is_unsettled(),
    })
}
