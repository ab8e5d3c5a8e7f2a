//! What a record is: the bytes inside one frame of a ring or a journal file.
//!
//! It does not know where records are kept, and it does not read the wire bytes inside them.
//!
//! ```text
//! offset  bytes  field
//! 0       1      format version, 1
//! 1       1      kind, see `RecordKind`
//! 2       2      length of this header, 44: a later version may lengthen it
//! 4       16     session id
//! 20      8      sequence: counts the records of a session from 0, so that a missing one shows
//! 28      8      number: the command that this belongs to, as the session counts them from 1
//! 36      8      microseconds since 1970, wall clock
//! 44      ...    fields of the kind (see `fields`)
//! ```
//!
//! Integers are little-endian. A reader steps over kinds and fields that it does not know.
//! The position of the frame orders the records of a shard, the sequence those of a session; the
//! chain and the seal of evidence can be laid over both.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use thiserror::Error;

use super::fields::{
    Field, FieldError, Fields, put_bytes, put_number, put_optional, put_text, varint,
};
use super::session_id::SessionId;

/// Version that this program writes. Readers refuse a higher one.
pub const FORMAT_VERSION: u8 = 1;

/// Bytes before the fields of a record.
pub const RECORD_HEADER_BYTES: usize = RECORD_HEADER_LENGTH as usize;

const RECORD_HEADER_LENGTH: u16 = 44;

/// Longest text field, in bytes. Longer labels of a peer are cut; a token's claims are bounded
/// before they get here.
pub const TEXT_BYTES_MAX: usize = 4096;

/// Longest encoded decision note, in bytes. Effects that do not fit are left out, and the note
/// says how many.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;

/// Room that one session end takes in a ring at most, frame included. Sessions keep it reserved.
pub const SESSION_END_FRAME_BYTES: usize =
    runtime::mapped::frame_bytes(RECORD_HEADER_BYTES + PREFIX_BYTES_MAX);

/// Gives an enum its wire codes and names from one table.
macro_rules! coded {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The byte that stands for this in a record. Never reused.
            #[must_use]
            pub fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)+ }
            }

            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.code() == code)
            }

            /// The word for this in the catalogue and in output.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

coded! {
    /// What a record tells.
    RecordKind {
        SessionStart = 1, "session-start";
        RefusedLogin = 2, "refused-login";
        /// One message of the agent, or the first piece of a long one.
        Command = 3, "command";
        /// A further piece of the command before it.
        CommandRest = 4, "command-rest";
        /// Bytes as the agent received them, cut anywhere.
        Response = 5, "response";
        SessionEnd = 6, "session-end";
        /// A held command was put to people, or what came of that.
        Approval = 7, "approval";
    }
}

coded! {
    /// The part that a message plays, in words that fit every protocol.
    CommandKind {
        /// Runs at once: PostgreSQL Query.
        Query = 1, "query";
        /// Text for later: Parse.
        Prepare = 2, "prepare";
        /// Values for a prepared text: Bind.
        Bind = 3, "bind";
        /// Runs what was bound: Execute.
        Execute = 4, "execute";
        FunctionCall = 5, "function-call";
        /// What streams in during COPY.
        CopyData = 6, "copy-data";
        /// Describe, Close, Sync, Flush, CopyDone, CopyFail, Terminate.
        Control = 7, "control";
        /// A request to cancel, which came on a connection of its own.
        Cancel = 8, "cancel";
    }
}

impl CommandKind {
    /// Whether this makes the target do something, so that it counts as a command.
    #[must_use]
    pub fn runs(self) -> bool {
        matches!(self, Self::Query | Self::Execute | Self::FunctionCall)
    }

    /// Whether the wire bytes hold a text in which a cut may change the length.
    pub(super) fn holds_text(self) -> bool {
        matches!(self, Self::Query | Self::Prepare)
    }
}

coded! {
    /// What policy said.
    Verdict {
        Permitted = 1, "permitted";
        Refused = 2, "refused";
        /// A message that policy has nothing to say about, such as Sync.
        NotJudged = 3, "not-judged";
        /// It needed a person's approval and had it; without one it is `Refused`.
        Held = 4, "held";
    }
}

coded! {
    /// Where a request for approval stands.
    ApprovalStep {
        /// People can decide about it.
        Asked = 1, "asked";
        /// The command runs.
        Approved = 2, "approved";
        Denied = 3, "denied";
        Expired = 4, "expired";
        NobodyMayApprove = 5, "nobody-may-approve";
        Withdrawn = 6, "withdrawn";
        /// Another policy came into force: the command is judged by that.
        PolicyChanged = 7, "policy-changed";
        /// Nobody could be asked.
        NotAsked = 8, "not-asked";
        /// It was approved, and is not any more what would run.
        Outdated = 9, "outdated";
        /// The session left it open: the principal may come back for it.
        Left = 10, "left";
    }
}

coded! {
    /// Why a session ended.
    EndReason {
        /// The agent said goodbye.
        Finished = 1, "finished";
        DownstreamLost = 2, "downstream-lost";
        UpstreamLost = 3, "upstream-lost";
        UpstreamEnded = 4, "upstream-ended";
        DownstreamProtocol = 5, "downstream-protocol";
        UpstreamProtocol = 6, "upstream-protocol";
        LifetimeReached = 7, "lifetime-reached";
        IdleTooLong = 8, "idle-too-long";
        Revoked = 9, "revoked";
        PolicyWithdrawn = 10, "policy-withdrawn";
        Drained = 11, "drained";
        NotRecordable = 12, "not-recordable";
        /// The login was recorded, then the target could not be reached or refused us.
        UpstreamUnavailable = 13, "upstream-unavailable";
        /// The connection's task was dropped or panicked.
        Aborted = 14, "aborted";
        /// An operator ended it.
        Killed = 15, "killed";
        /// Told to stop, the appliance did not wait for it any longer.
        CutAtDrain = 16, "cut-at-drain";
        IdleInTransaction = 17, "idle-in-transaction";
    }
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    #[error("record of {bytes} bytes is shorter than its header")]
    Short { bytes: usize },
    #[error("record has format version {found}, newer than {FORMAT_VERSION}")]
    Version { found: u8 },
    #[error("record has bad fields")]
    Fields(#[from] FieldError),
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The code of a [`RecordKind`], or of one that a later version knows.
    pub kind: u8,
    pub session: SessionId,
    pub sequence: u64,
    pub number: u64,
    pub unix_micros: u64,
}

impl RecordHeader {
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        const {
            assert!(RECORD_HEADER_BYTES == 4 + 16 + 3 * 8);
        }
        let mut bytes = [0; RECORD_HEADER_BYTES];
        let start = u32::from(FORMAT_VERSION)
            | u32::from(self.kind) << 8
            | u32::from(RECORD_HEADER_LENGTH) << 16;
        let (start_place, rest) = bytes.split_at_mut(4);
        start_place.copy_from_slice(&start.to_le_bytes());
        let (session_place, numbers) = rest.split_at_mut(16);
        session_place.copy_from_slice(&self.session.to_bytes());
        let fields = [self.sequence, self.number, self.unix_micros];
        for (place, field) in numbers.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Reads the header; returns it with the fields behind it, still encoded.
    ///
    /// # Errors
    /// `Short` and `Version`; a later version of the header that is longer reads as this one.
    pub fn decode(body: &[u8]) -> Result<(Self, &[u8]), RecordError> {
        let short = RecordError::Short { bytes: body.len() };
        let [version, kind, ..] = *body.first_chunk::<4>().ok_or(short)?;
        if version > FORMAT_VERSION {
            return Err(RecordError::Version { found: version });
        }
        let header_bytes = read_array(body, 2).map(u16::from_le_bytes).ok_or(short)?;
        let header_bytes = usize::from(header_bytes).max(RECORD_HEADER_BYTES);
        let (header, fields) = body.split_at_checked(header_bytes).ok_or(short)?;
        let number = |offset| {
            read_array(header, offset)
                .map(u64::from_le_bytes)
                .ok_or(short)
        };
        let decoded = Self {
            kind,
            session: SessionId::from_bytes(read_array(header, 4).ok_or(short)?),
            sequence: number(20)?,
            number: number(28)?,
            unix_micros: number(36)?,
        };
        Ok((decoded, fields))
    }
}

fn read_array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// Microseconds since 1970, as records have them.
#[must_use]
pub fn unix_micros(unix_time: Duration) -> u64 {
    u64::try_from(unix_time.as_micros()).unwrap_or(u64::MAX)
}

/// Who was let in, or was not: the principal's attributes as they were at login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrincipalNote {
    pub issuer: String,
    pub subject: String,
    pub name: String,
    pub groups: Vec<String>,
    /// The delegation chain, nearest actor first.
    pub actors: Vec<ActorNote>,
    pub token_id: Option<String>,
    /// When the proof expires, in seconds since 1970.
    pub expires: u64,
}

/// One link of a delegation chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActorNote {
    pub issuer: String,
    pub subject: String,
}

/// The first record of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionStart {
    pub principal: PrincipalNote,
    pub target: String,
    /// The protocol by its configuration name, such as `postgres`.
    pub protocol: String,
    /// The account that the client asked for: a label, proves nothing.
    pub user: Option<String>,
    /// What the client calls itself.
    pub application: Option<String>,
    /// Where the connection came from.
    pub peer: String,
    pub shard: u16,
    /// Whether the second lock is on.
    pub read_only: bool,
    /// Version of the policy that admitted the principal.
    pub policy: u64,
}

/// A login that came to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedLogin {
    pub peer: String,
    pub protocol: String,
    pub target: Option<String>,
    pub user: Option<String>,
    pub application: Option<String>,
    /// The operator's word for it, such as `token-expired`. Never wire content.
    pub reason: String,
    /// Whose proof held, when one did and admission failed.
    pub principal: Option<PrincipalNote>,
    pub shard: u16,
}

/// What a session did, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that ran or would have run something.
    pub commands: u64,
    /// Messages of any kind that policy refused.
    pub denials: u64,
    /// Messages that rules in shadow would have decided otherwise.
    pub foreshadowed: u64,
    pub rows: u64,
    /// Recorded bytes from the agent.
    pub bytes_received: u64,
    /// Recorded bytes to the agent.
    pub bytes_sent: u64,
}

/// The last record of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    pub reason: EndReason,
    pub counters: Counters,
}

/// One step of a request for approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalNote {
    pub step: ApprovalStep,
    /// The id of the request; `None` where nobody could be asked.
    pub request: Option<String>,
    /// What an approval is bound to, in hexadecimal digits.
    pub digest: Option<String>,
    /// The rules that hold the command.
    pub rules: Vec<String>,
    /// Who decided.
    pub by: Vec<DeciderNote>,
    /// Why not: the words of whoever denied it, or ours.
    pub reason: Option<String>,
    /// When the request expires, in seconds since 1970; 0 where it never was open.
    pub expires: u64,
}

/// A person who decided about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeciderNote {
    pub issuer: String,
    pub subject: String,
    pub name: String,
}

/// Longest name or identifier in the record of an approval, in bytes.
const APPROVAL_TEXT_BYTES_MAX: usize = 400;

/// Most rules, and most people, that the record of an approval names.
const APPROVAL_NAMES_MAX: usize = 8;

/// Why the record of an approval is not longer than a note.
const _: () =
    assert!((4 * APPROVAL_NAMES_MAX + 5) * (APPROVAL_TEXT_BYTES_MAX + 11) < NOTE_BYTES_MAX);

/// What policy said about a command, in full, before it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionNote<'a> {
    pub verdict: Verdict,
    /// Name of the rule or guard that decided.
    pub rule: Option<&'a str>,
    /// Version of the policy that judged.
    pub policy: u64,
    /// What the command does.
    pub effects: &'a [EffectNote<'a>],
    /// The schemas that names were resolved against; `None` when they are not known.
    pub search_path: Option<&'a [String]>,
    /// What rules in shadow would have decided, where that is something else.
    pub foreshadowed: Option<ForeshadowNote<'a>>,
}

/// What would be decided if the rules in shadow were in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeshadowNote<'a> {
    pub verdict: Verdict,
    pub rule: Option<&'a str>,
}

/// One thing that a command does to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectNote<'a> {
    pub class: &'a str,
    pub object: Option<&'a str>,
}

/// A decision note, encoded once and recorded with every command that it holds for.
///
/// Keep it beside the cached decision: recording it is then a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    verdict: Verdict,
    is_foreshadowed: bool,
    encoded: Box<[u8]>,
}

impl Note {
    #[must_use]
    pub fn new(decision: &DecisionNote<'_>) -> Self {
        let mut out = Vec::new();
        put_bytes(&mut out, note_tag::VERDICT, &[decision.verdict.code()]);
        put_number(&mut out, note_tag::POLICY, decision.policy);
        put_optional(&mut out, note_tag::RULE, decision.rule, TEXT_BYTES_MAX);
        if let Some(foreshadowed) = decision.foreshadowed {
            let verdict = [foreshadowed.verdict.code()];
            put_bytes(&mut out, note_tag::FORESHADOWED, &verdict);
            put_optional(
                &mut out,
                note_tag::FORESHADOWED_RULE,
                foreshadowed.rule,
                NAME_BYTES_MAX,
            );
        }
        if let Some(search_path) = decision.search_path {
            put_number(&mut out, note_tag::SEARCH_PATH_KNOWN, 1);
            let schemas = search_path.iter().take(SEARCH_PATH_ENTRIES_MAX);
            schemas.for_each(|schema| put_text(&mut out, note_tag::SCHEMA, schema, NAME_BYTES_MAX));
        }
        let mut left_out = 0;
        for effect in decision.effects {
            let mut encoded = Vec::new();
            put_text(&mut encoded, note_tag::CLASS, effect.class, NAME_BYTES_MAX);
            put_optional(
                &mut encoded,
                note_tag::OBJECT,
                effect.object,
                NAME_BYTES_MAX,
            );
            if out.len().saturating_add(encoded.len()) < NOTE_BYTES_MAX {
                put_bytes(&mut out, note_tag::EFFECT, &encoded);
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            put_number(&mut out, note_tag::EFFECTS_LEFT_OUT, left_out);
        }
        Self {
            verdict: decision.verdict,
            is_foreshadowed: decision.foreshadowed.is_some(),
            encoded: out.into_boxed_slice(),
        }
    }

    /// The note of a message that policy does not judge.
    #[must_use]
    pub fn not_judged() -> Self {
        Self {
            verdict: Verdict::NotJudged,
            is_foreshadowed: false,
            encoded: Box::default(),
        }
    }

    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Rules in shadow would have decided otherwise.
    pub(super) fn is_foreshadowed(&self) -> bool {
        self.is_foreshadowed
    }

    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

/// Longest name in a note, in bytes: two quoted PostgreSQL identifiers of 63 characters and more.
const NAME_BYTES_MAX: usize = 1024;

/// Schemas of a search path that a note keeps.
const SEARCH_PATH_ENTRIES_MAX: usize = 4;

/// Why a note stays below [`NOTE_BYTES_MAX`] plus one more number: everything but the effects is
/// bounded by the limits above, and effects stop before it.
const _: () = assert!(
    TEXT_BYTES_MAX + (SEARCH_PATH_ENTRIES_MAX + 1) * (NAME_BYTES_MAX + 11) < NOTE_BYTES_MAX
);

/// A decision as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedDecision {
    pub verdict: Verdict,
    pub rule: Option<String>,
    pub policy: u64,
    pub effects: Vec<RecordedEffect>,
    /// Effects that were too many to keep.
    pub effects_left_out: u64,
    pub search_path: Option<Vec<String>>,
    /// What rules in shadow would have decided, where that was something else.
    pub foreshadowed: Option<RecordedForeshadow>,
}

/// What would have been decided if the rules in shadow had been in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedForeshadow {
    pub verdict: Verdict,
    pub rule: Option<String>,
}

/// One thing that a recorded command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEffect {
    pub class: String,
    pub object: Option<String>,
}

/// A record, its fields read and its wire bytes borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'b> {
    SessionStart(SessionStart),
    RefusedLogin(RefusedLogin),
    Command(CommandRecord<'b>),
    CommandRest {
        wire: &'b [u8],
    },
    Response {
        rows: u64,
        wire: &'b [u8],
    },
    SessionEnd(SessionEnd),
    Approval(ApprovalNote),
    /// Of a kind that a later version knows.
    Unknown {
        kind: u8,
    },
}

/// One message of the agent, or its first piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRecord<'b> {
    pub kind: CommandKind,
    pub verdict: Verdict,
    /// Bytes of the whole message as recorded; more than `wire` when further pieces follow.
    pub total_bytes: u64,
    /// How many secrets were cut out of it.
    pub cuts: u64,
    pub wire: &'b [u8],
    note: &'b [u8],
}

impl CommandRecord<'_> {
    /// The same for all commands of which policy said the same. In this process only.
    pub(super) fn note_digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.note.hash(&mut hasher);
        hasher.finish()
    }

    /// The whole of what policy said.
    ///
    /// # Errors
    /// When the note's fields are damaged.
    pub fn decision(&self) -> Result<RecordedDecision, FieldError> {
        let mut decision = RecordedDecision {
            verdict: self.verdict,
            rule: None,
            policy: 0,
            effects: Vec::new(),
            effects_left_out: 0,
            search_path: None,
            foreshadowed: None,
        };
        for field in Fields::new(self.note) {
            let field = field?;
            match field.tag {
                note_tag::POLICY => decision.policy = field.number()?,
                note_tag::RULE => decision.rule = Some(field.string()?),
                note_tag::SEARCH_PATH_KNOWN => decision.search_path = Some(Vec::new()),
                note_tag::SCHEMA => {
                    decision
                        .search_path
                        .get_or_insert_default()
                        .push(field.string()?);
                }
                note_tag::FORESHADOWED => {
                    decision.foreshadowed = Some(RecordedForeshadow {
                        verdict: verdict_of(field.value)?,
                        rule: None,
                    });
                }
                note_tag::FORESHADOWED_RULE => {
                    let rule = field.string()?;
                    if let Some(foreshadowed) = &mut decision.foreshadowed {
                        foreshadowed.rule = Some(rule);
                    }
                }
                note_tag::EFFECT => decision.effects.push(decode_effect(field.value)?),
                note_tag::EFFECTS_LEFT_OUT => decision.effects_left_out = field.number()?,
                _ => {}
            }
        }
        Ok(decision)
    }
}

fn decode_effect(bytes: &[u8]) -> Result<RecordedEffect, FieldError> {
    let mut effect = RecordedEffect {
        class: String::new(),
        object: None,
    };
    for field in Fields::new(bytes) {
        let field = field?;
        match field.tag {
            note_tag::CLASS => effect.class = field.string()?,
            note_tag::OBJECT => effect.object = Some(field.string()?),
            _ => {}
        }
    }
    Ok(effect)
}

impl<'b> Record<'b> {
    /// Reads the fields that follow `header`.
    ///
    /// # Errors
    /// When a field is damaged, or one that the kind needs is missing.
    pub fn decode(header: &RecordHeader, fields: &'b [u8]) -> Result<Self, RecordError> {
        let Some(kind) = RecordKind::from_code(header.kind) else {
            return Ok(Self::Unknown { kind: header.kind });
        };
        Ok(match kind {
            RecordKind::SessionStart => Self::SessionStart(SessionStart::decode(fields)?),
            RecordKind::RefusedLogin => Self::RefusedLogin(RefusedLogin::decode(fields)?),
            RecordKind::Command => Self::Command(CommandRecord::decode(fields)?),
            RecordKind::CommandRest => Self::CommandRest {
                wire: Wire::decode(fields)?.bytes,
            },
            RecordKind::Response => {
                let wire = Wire::decode(fields)?;
                Self::Response {
                    rows: wire.rows,
                    wire: wire.bytes,
                }
            }
            RecordKind::SessionEnd => Self::SessionEnd(SessionEnd::decode(fields)?),
            RecordKind::Approval => Self::Approval(ApprovalNote::decode(fields)?),
        })
    }
}

// Tags are never reused; a new field takes a new one. Each kind has its own set.

mod principal_tag {
    pub(super) const ISSUER: u8 = 1;
    pub(super) const SUBJECT: u8 = 2;
    pub(super) const NAME: u8 = 3;
    pub(super) const GROUP: u8 = 4;
    pub(super) const ACTOR: u8 = 5;
    pub(super) const TOKEN_ID: u8 = 6;
    pub(super) const EXPIRES: u8 = 7;
}

/// Session starts and refused logins share one set.
mod login_tag {
    pub(super) const PRINCIPAL: u8 = 1;
    pub(super) const TARGET: u8 = 2;
    pub(super) const PROTOCOL: u8 = 3;
    pub(super) const USER: u8 = 4;
    pub(super) const APPLICATION: u8 = 5;
    pub(super) const PEER: u8 = 6;
    pub(super) const SHARD: u8 = 7;
    pub(super) const READ_ONLY: u8 = 8;
    pub(super) const POLICY: u8 = 9;
    pub(super) const REASON: u8 = 10;
}

mod wire_tag {
    pub(super) const KIND: u8 = 1;
    pub(super) const NOTE: u8 = 2;
    pub(super) const TOTAL_BYTES: u8 = 3;
    pub(super) const CUTS: u8 = 4;
    pub(super) const ROWS: u8 = 5;
    pub(super) const WIRE: u8 = 6;
}

mod note_tag {
    pub(super) const VERDICT: u8 = 1;
    pub(super) const POLICY: u8 = 2;
    pub(super) const RULE: u8 = 3;
    pub(super) const SEARCH_PATH_KNOWN: u8 = 4;
    pub(super) const SCHEMA: u8 = 5;
    pub(super) const EFFECT: u8 = 6;
    pub(super) const EFFECTS_LEFT_OUT: u8 = 7;
    pub(super) const CLASS: u8 = 8;
    pub(super) const OBJECT: u8 = 9;
    pub(super) const FORESHADOWED: u8 = 10;
    pub(super) const FORESHADOWED_RULE: u8 = 11;
}

mod end_tag {
    pub(super) const REASON: u8 = 1;
    pub(super) const COMMANDS: u8 = 2;
    pub(super) const DENIALS: u8 = 3;
    pub(super) const ROWS: u8 = 4;
    pub(super) const BYTES_RECEIVED: u8 = 5;
    pub(super) const BYTES_SENT: u8 = 6;
    pub(super) const FORESHADOWED: u8 = 7;
}

mod approval_tag {
    pub(super) const STEP: u8 = 1;
    pub(super) const REQUEST: u8 = 2;
    pub(super) const DIGEST: u8 = 3;
    pub(super) const RULE: u8 = 4;
    pub(super) const BY: u8 = 5;
    pub(super) const REASON: u8 = 6;
    pub(super) const EXPIRES: u8 = 7;
}

mod decider_tag {
    pub(super) const ISSUER: u8 = 1;
    pub(super) const SUBJECT: u8 = 2;
    pub(super) const NAME: u8 = 3;
}

impl ApprovalNote {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let most = APPROVAL_TEXT_BYTES_MAX;
        put_number(&mut out, approval_tag::STEP, u64::from(self.step.code()));
        let request = self.request.as_deref();
        put_optional(&mut out, approval_tag::REQUEST, request, most);
        put_optional(&mut out, approval_tag::DIGEST, self.digest.as_deref(), most);
        for rule in self.rules.iter().take(APPROVAL_NAMES_MAX) {
            put_text(&mut out, approval_tag::RULE, rule, most);
        }
        for by in self.by.iter().take(APPROVAL_NAMES_MAX) {
            put_bytes(&mut out, approval_tag::BY, &by.encode());
        }
        put_optional(&mut out, approval_tag::REASON, self.reason.as_deref(), most);
        put_number(&mut out, approval_tag::EXPIRES, self.expires);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut step = None;
        let mut note = Self {
            step: ApprovalStep::Asked,
            request: None,
            digest: None,
            rules: Vec::new(),
            by: Vec::new(),
            reason: None,
            expires: 0,
        };
        for field in Fields::new(bytes) {
            let field = field?;
            match field.tag {
                approval_tag::STEP => {
                    let unknown = FieldError::UnknownValue { tag: field.tag };
                    let code = u8::try_from(field.number()?).map_err(|_| unknown)?;
                    step = Some(ApprovalStep::from_code(code).ok_or(unknown)?);
                }
                approval_tag::REQUEST => note.request = Some(field.string()?),
                approval_tag::DIGEST => note.digest = Some(field.string()?),
                approval_tag::RULE => note.rules.push(field.string()?),
                approval_tag::BY => note.by.push(DeciderNote::decode(field.value)?),
                approval_tag::REASON => note.reason = Some(field.string()?),
                approval_tag::EXPIRES => note.expires = field.number()?,
                _ => {}
            }
        }
        note.step = step.ok_or(FieldError::Missing {
            tag: approval_tag::STEP,
        })?;
        Ok(note)
    }
}

impl DeciderNote {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let most = APPROVAL_TEXT_BYTES_MAX;
        put_text(&mut out, decider_tag::ISSUER, &self.issuer, most);
        put_text(&mut out, decider_tag::SUBJECT, &self.subject, most);
        put_text(&mut out, decider_tag::NAME, &self.name, most);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut note = Self::default();
        for field in Fields::new(bytes) {
            let field = field?;
            match field.tag {
                decider_tag::ISSUER => note.issuer = field.string()?,
                decider_tag::SUBJECT => note.subject = field.string()?,
                decider_tag::NAME => note.name = field.string()?,
                _ => {}
            }
        }
        Ok(note)
    }
}

impl PrincipalNote {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_text(
            &mut out,
            principal_tag::ISSUER,
            &self.issuer,
            TEXT_BYTES_MAX,
        );
        put_text(
            &mut out,
            principal_tag::SUBJECT,
            &self.subject,
            TEXT_BYTES_MAX,
        );
        put_text(&mut out, principal_tag::NAME, &self.name, TEXT_BYTES_MAX);
        for group in &self.groups {
            put_text(&mut out, principal_tag::GROUP, group, TEXT_BYTES_MAX);
        }
        for actor in &self.actors {
            let mut encoded = Vec::new();
            put_text(
                &mut encoded,
                principal_tag::ISSUER,
                &actor.issuer,
                TEXT_BYTES_MAX,
            );
            put_text(
                &mut encoded,
                principal_tag::SUBJECT,
                &actor.subject,
                TEXT_BYTES_MAX,
            );
            put_bytes(&mut out, principal_tag::ACTOR, &encoded);
        }
        let token_id = self.token_id.as_deref();
        put_optional(&mut out, principal_tag::TOKEN_ID, token_id, TEXT_BYTES_MAX);
        put_number(&mut out, principal_tag::EXPIRES, self.expires);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut note = Self::default();
        for field in Fields::new(bytes) {
            let field = field?;
            match field.tag {
                principal_tag::ISSUER => note.issuer = field.string()?,
                principal_tag::SUBJECT => note.subject = field.string()?,
                principal_tag::NAME => note.name = field.string()?,
                principal_tag::GROUP => note.groups.push(field.string()?),
                principal_tag::ACTOR => note.actors.push(ActorNote::decode(field.value)?),
                principal_tag::TOKEN_ID => note.token_id = Some(field.string()?),
                principal_tag::EXPIRES => note.expires = field.number()?,
                _ => {}
            }
        }
        Ok(note)
    }
}

impl ActorNote {
    fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut note = Self::default();
        for field in Fields::new(bytes) {
            let field = field?;
            match field.tag {
                principal_tag::ISSUER => note.issuer = field.string()?,
                principal_tag::SUBJECT => note.subject = field.string()?,
                _ => {}
            }
        }
        Ok(note)
    }
}

impl SessionStart {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, login_tag::PRINCIPAL, &self.principal.encode());
        put_text(&mut out, login_tag::TARGET, &self.target, TEXT_BYTES_MAX);
        put_text(
            &mut out,
            login_tag::PROTOCOL,
            &self.protocol,
            TEXT_BYTES_MAX,
        );
        put_optional(
            &mut out,
            login_tag::USER,
            self.user.as_deref(),
            TEXT_BYTES_MAX,
        );
        let application = self.application.as_deref();
        put_optional(
            &mut out,
            login_tag::APPLICATION,
            application,
            TEXT_BYTES_MAX,
        );
        put_text(&mut out, login_tag::PEER, &self.peer, TEXT_BYTES_MAX);
        put_number(&mut out, login_tag::SHARD, u64::from(self.shard));
        put_number(&mut out, login_tag::READ_ONLY, u64::from(self.read_only));
        put_number(&mut out, login_tag::POLICY, self.policy);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut start = Self::default();
        for field in Fields::new(bytes) {
            let field = field?;
            match field.tag {
                login_tag::PRINCIPAL => start.principal = PrincipalNote::decode(field.value)?,
                login_tag::TARGET => start.target = field.string()?,
                login_tag::PROTOCOL => start.protocol = field.string()?,
                login_tag::USER => start.user = Some(field.string()?),
                login_tag::APPLICATION => start.application = Some(field.string()?),
                login_tag::PEER => start.peer = field.string()?,
                login_tag::SHARD => start.shard = shard(&field)?,
                login_tag::READ_ONLY => start.read_only = field.number()? != 0,
                login_tag::POLICY => start.policy = field.number()?,
                _ => {}
            }
        }
        Ok(start)
    }
}

fn shard(field: &Field<'_>) -> Result<u16, FieldError> {
    u16::try_from(field.number()?).map_err(|_| FieldError::UnknownValue { tag: field.tag })
}

impl RefusedLogin {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(principal) = &self.principal {
            put_bytes(&mut out, login_tag::PRINCIPAL, &principal.encode());
        }
        put_optional(
            &mut out,
            login_tag::TARGET,
            self.target.as_deref(),
            TEXT_BYTES_MAX,
        );
        put_text(
            &mut out,
            login_tag::PROTOCOL,
            &self.protocol,
            TEXT_BYTES_MAX,
        );
        put_optional(
            &mut out,
            login_tag::USER,
            self.user.as_deref(),
            TEXT_BYTES_MAX,
        );
        let application = self.application.as_deref();
        put_optional(
            &mut out,
            login_tag::APPLICATION,
            application,
            TEXT_BYTES_MAX,
        );
        put_text(&mut out, login_tag::PEER, &self.peer, TEXT_BYTES_MAX);
        put_number(&mut out, login_tag::SHARD, u64::from(self.shard));
        put_text(&mut out, login_tag::REASON, &self.reason, TEXT_BYTES_MAX);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut refused = Self::default();
        for field in Fields::new(bytes) {
            let field = field?;
            match field.tag {
                login_tag::PRINCIPAL => {
                    refused.principal = Some(PrincipalNote::decode(field.value)?);
                }
                login_tag::TARGET => refused.target = Some(field.string()?),
                login_tag::PROTOCOL => refused.protocol = field.string()?,
                login_tag::USER => refused.user = Some(field.string()?),
                login_tag::APPLICATION => refused.application = Some(field.string()?),
                login_tag::PEER => refused.peer = field.string()?,
                login_tag::SHARD => refused.shard = shard(&field)?,
                login_tag::REASON => refused.reason = field.string()?,
                _ => {}
            }
        }
        Ok(refused)
    }
}

impl SessionEnd {
    pub(super) fn encode(&self) -> Prefix {
        let mut out = Prefix::new();
        out.put_number(end_tag::REASON, u64::from(self.reason.code()));
        out.put_number(end_tag::COMMANDS, self.counters.commands);
        out.put_number(end_tag::DENIALS, self.counters.denials);
        out.put_number(end_tag::FORESHADOWED, self.counters.foreshadowed);
        out.put_number(end_tag::ROWS, self.counters.rows);
        out.put_number(end_tag::BYTES_RECEIVED, self.counters.bytes_received);
        out.put_number(end_tag::BYTES_SENT, self.counters.bytes_sent);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut reason = None;
        let mut counters = Counters::default();
        for field in Fields::new(bytes) {
            let field = field?;
            let value = field.number();
            match field.tag {
                end_tag::REASON => {
                    let unknown = FieldError::UnknownValue { tag: field.tag };
                    let code = u8::try_from(value?).map_err(|_| unknown)?;
                    reason = Some(EndReason::from_code(code).ok_or(unknown)?);
                }
                end_tag::COMMANDS => counters.commands = value?,
                end_tag::DENIALS => counters.denials = value?,
                end_tag::FORESHADOWED => counters.foreshadowed = value?,
                end_tag::ROWS => counters.rows = value?,
                end_tag::BYTES_RECEIVED => counters.bytes_received = value?,
                end_tag::BYTES_SENT => counters.bytes_sent = value?,
                _ => {}
            }
        }
        let reason = reason.ok_or(FieldError::Missing {
            tag: end_tag::REASON,
        })?;
        Ok(Self { reason, counters })
    }
}

impl<'b> CommandRecord<'b> {
    fn decode(fields: &'b [u8]) -> Result<Self, FieldError> {
        let wire = Wire::decode(fields)?;
        let kind = wire.kind.ok_or(FieldError::Missing {
            tag: wire_tag::KIND,
        })?;
        let unknown_kind = FieldError::UnknownValue {
            tag: wire_tag::KIND,
        };
        Ok(Self {
            kind: CommandKind::from_code(kind).ok_or(unknown_kind)?,
            verdict: noted_verdict(wire.note)?,
            total_bytes: wire.total_bytes,
            cuts: wire.cuts,
            wire: wire.bytes,
            note: wire.note,
        })
    }
}

/// The verdict of an encoded note; no note is a message that was not judged.
fn noted_verdict(note: &[u8]) -> Result<Verdict, FieldError> {
    let Some(first) = Fields::new(note).next() else {
        return Ok(Verdict::NotJudged);
    };
    match first? {
        Field {
            tag: note_tag::VERDICT,
            value: [code],
        } => Verdict::from_code(*code).ok_or(FieldError::UnknownValue {
            tag: note_tag::VERDICT,
        }),
        _ => Err(FieldError::Missing {
            tag: note_tag::VERDICT,
        }),
    }
}

fn verdict_of(value: &[u8]) -> Result<Verdict, FieldError> {
    let unknown = FieldError::UnknownValue {
        tag: note_tag::FORESHADOWED,
    };
    let [code] = value else {
        return Err(unknown);
    };
    Verdict::from_code(*code).ok_or(unknown)
}

/// The fields of the kinds that carry wire bytes.
#[derive(Default)]
struct Wire<'b> {
    kind: Option<u8>,
    note: &'b [u8],
    total_bytes: u64,
    cuts: u64,
    rows: u64,
    bytes: &'b [u8],
}

impl<'b> Wire<'b> {
    fn decode(fields: &'b [u8]) -> Result<Self, FieldError> {
        let mut wire = Self::default();
        for field in Fields::new(fields) {
            let field = field?;
            match field.tag {
                wire_tag::KIND => wire.kind = field.value.first().copied(),
                wire_tag::NOTE => wire.note = field.value,
                wire_tag::TOTAL_BYTES => wire.total_bytes = field.number()?,
                wire_tag::CUTS => wire.cuts = field.number()?,
                wire_tag::ROWS => wire.rows = field.number()?,
                wire_tag::WIRE => wire.bytes = field.value,
                _ => {}
            }
        }
        Ok(wire)
    }
}

/// Longest run of fields before a note or wire bytes: four numbers, a byte and two lengths.
const PREFIX_BYTES_MAX: usize = 96;

/// Bytes that a command or response record has beside its note and wire bytes, at most.
pub(super) const OVERHEAD_BYTES_MAX: usize = RECORD_HEADER_BYTES + 2 * PREFIX_BYTES_MAX;

/// Small fields on the stack, since recording a command allocates nothing.
#[derive(Clone)]
pub(super) struct Prefix {
    bytes: [u8; PREFIX_BYTES_MAX],
    length: usize,
}

impl Prefix {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; PREFIX_BYTES_MAX],
            length: 0,
        }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        debug_assert!(self.length < PREFIX_BYTES_MAX);
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn put_number(&mut self, tag: u8, value: u64) {
        self.put_head(tag, varint(value).count());
        varint(value).for_each(|byte| self.push(byte));
    }

    /// The tag and length of a field whose value follows elsewhere.
    #[inline]
    fn put_head(&mut self, tag: u8, value_bytes: usize) {
        let length = u64::try_from(value_bytes).unwrap_or(u64::MAX);
        self.push(tag);
        varint(length).for_each(|byte| self.push(byte));
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// What stands before the note of a command.
    pub(super) fn before_note(kind: CommandKind, note_bytes: usize) -> Self {
        let mut out = Self::new();
        out.put_head(wire_tag::KIND, 1);
        out.push(kind.code());
        out.put_head(wire_tag::NOTE, note_bytes);
        out
    }

    /// What stands before the wire bytes of a command.
    pub(super) fn before_command_wire(total_bytes: usize, cuts: usize, wire_bytes: usize) -> Self {
        let mut out = Self::new();
        out.put_number(
            wire_tag::TOTAL_BYTES,
            u64::try_from(total_bytes).unwrap_or(u64::MAX),
        );
        if cuts > 0 {
            out.put_number(wire_tag::CUTS, u64::try_from(cuts).unwrap_or(u64::MAX));
        }
        out.put_head(wire_tag::WIRE, wire_bytes);
        out
    }

    /// What stands before the wire bytes of a response, or of a further piece of a command.
    pub(super) fn before_wire(rows: u64, wire_bytes: usize) -> Self {
        let mut out = Self::new();
        if rows > 0 {
            out.put_number(wire_tag::ROWS, rows);
        }
        out.put_head(wire_tag::WIRE, wire_bytes);
        out
    }
}
