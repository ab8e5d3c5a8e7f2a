//! What one session has prepared and set, and how each of its messages is answered.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use codecs::postgres::backend::{
    Column, CopyDirection, Report, SqlState, encode_bind_complete, encode_close_complete,
    encode_command_complete, encode_copy_data, encode_copy_done, encode_copy_response,
    encode_data_row, encode_empty_query_response, encode_no_data, encode_parameter_description,
    encode_parameter_status, encode_parse_complete, encode_portal_suspended,
    encode_ready_for_query, encode_row_description,
};
use codecs::postgres::frontend::{Bind, Execute, Format, Parse, Target};
use codecs::postgres::{Frontend, TransactionStatus};

use super::Shard;
use super::cancel::Key;
use super::catalogue;
use super::outgoing::{Gone, Outgoing, Waited};
use super::settings::{SettingRefused, Settings};
use super::sql::{self, Command, Item, Keys, Operand, Refused, Select, Value};
use super::table::{Field, oid, type_size};

/// Prepared statements, and portals, of one session.
const NAMES_MAX: usize = 10_000;

/// Longest sleep.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

const QUERY_CANCELED: SqlState = SqlState::new(b"57014");
const SYNTAX_ERROR: SqlState = SqlState::new(b"42601");
const UNDEFINED_TABLE: SqlState = SqlState::new(b"42P01");
const UNDEFINED_COLUMN: SqlState = SqlState::new(b"42703");
const UNDEFINED_OBJECT: SqlState = SqlState::new(b"42704");
const NOT_SUPPORTED: SqlState = SqlState::new(b"0A000");
const NOT_IN_REPERTOIRE: SqlState = SqlState::new(b"22021");
const INVALID_TEXT: SqlState = SqlState::new(b"22P02");
const NO_SUCH_STATEMENT: SqlState = SqlState::new(b"26000");
const DUPLICATE_STATEMENT: SqlState = SqlState::new(b"42P05");
const NO_SUCH_PORTAL: SqlState = SqlState::new(b"34000");
const PROTOCOL_VIOLATION: SqlState = SqlState::new(b"08P01");
const FAILED_TRANSACTION: SqlState = SqlState::new(b"25P02");
const TOO_MUCH: SqlState = SqlState::new(b"54000");

/// Whether the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Leave,
}

/// Why a statement was not carried out.
enum Stop {
    Gone,
    /// In our own words.
    Error(SqlState, &'static str),
}

type Carried = Result<(), Stop>;

/// Per connection.
pub(super) struct Session {
    shard: Rc<Shard>,
    key: Key,
    settings: Settings,
    user: String,
    database: String,
    transaction: TransactionStatus,
    /// After an error, extended messages up to the next Sync are not looked at.
    skips: bool,
    copy: Option<CopyIn>,
    statements: HashMap<Vec<u8>, Rc<Prepared>>,
    portals: HashMap<Vec<u8>, Portal>,
    scratch: Vec<u8>,
}

/// A COPY FROM STDIN under way.
struct CopyIn {
    lines: u64,
    /// Of a Query: ReadyForQuery follows without a Sync.
    is_simple: bool,
    /// Of a Query: what was asked for behind it.
    rest: Vec<Command>,
}

struct Prepared {
    /// `None` is the empty text.
    command: Option<Command>,
    parameters: Vec<u32>,
    /// The columns of a table's rows, all as text: what most portals want.
    fields: Rc<[(Field, Format)]>,
}

struct Portal {
    prepared: Rc<Prepared>,
    fields: Rc<[(Field, Format)]>,
    /// Of [`Command::Values`].
    formats: Vec<Format>,
    values: Vec<Option<Vec<u8>>>,
    /// Rows that are left, by their number.
    left: Left,
}

/// Numbers of rows that are to come; none when `next` is past `last`.
#[derive(Debug, Clone, Copy)]
struct Left {
    next: u32,
    last: u32,
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<codecs::wire::EncodeError> for Stop {
    fn from(_: codecs::wire::EncodeError) -> Self {
        Self::Gone
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Syntax => Self::Error(SYNTAX_ERROR, "syntax error"),
            Refused::NoSuchTable => Self::Error(UNDEFINED_TABLE, "there is one table: accounts"),
            Refused::NoSuchColumn => Self::Error(
                UNDEFINED_COLUMN,
                "the columns are id, name, email, card, balance and filler",
            ),
            Refused::Unsupported => Self::Error(
                NOT_SUPPORTED,
                "the built-in upstream of sallyport-loadgen does not know this",
            ),
            Refused::NotUtf8 => Self::Error(NOT_IN_REPERTOIRE, "the text is not UTF-8"),
        }
    }
}

impl From<SettingRefused> for Stop {
    fn from(refused: SettingRefused) -> Self {
        match refused {
            SettingRefused::Encoding => Self::Error(NOT_SUPPORTED, "texts are UTF-8 here"),
            SettingRefused::TooMuch => Self::Error(TOO_MUCH, "too many settings, or too long"),
        }
    }
}

impl Prepared {
    fn new(command: Option<Command>) -> Self {
        let fields = match &command {
            Some(Command::Rows(select)) => {
                let text = |field: &Field| (*field, Format::Text);
                select.fields.iter().map(text).collect()
            }
            _ => Rc::default(),
        };
        Self {
            parameters: command.as_ref().map(sql::parameters).unwrap_or_default(),
            command,
            fields,
        }
    }
}

impl Session {
    pub(super) fn new(
        shard: Rc<Shard>,
        key: Key,
        settings: Settings,
        user: String,
        database: String,
    ) -> Self {
        Self {
            shard,
            key,
            settings,
            user,
            database,
            transaction: TransactionStatus::Idle,
            skips: false,
            copy: None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            scratch: Vec::new(),
        }
    }

    pub(super) async fn handle(
        &mut self,
        message: &Frontend<'_>,
        out: &mut Outgoing,
    ) -> Result<Next, Gone> {
        if self.copy.is_some() {
            return self.handle_during_copy(message, out).await;
        }
        if self.skips && !matches!(message, Frontend::Sync | Frontend::Terminate) {
            return Ok(Next::Continue);
        }
        let carried = match message {
            Frontend::Terminate => return Ok(Next::Leave),
            Frontend::Sync => {
                self.skips = false;
                encode_ready_for_query(&mut out.bytes, self.transaction)?;
                Ok(())
            }
            Frontend::Flush => Ok(out.flush().await?),
            Frontend::Query(query) => {
                self.simple(query.text, out).await?;
                return Ok(Next::Continue);
            }
            Frontend::Parse(parse) => self.parse(parse, out),
            Frontend::Bind(bind) => self.bind(bind, out),
            Frontend::Describe(describe) => self.describe(describe.target, describe.name, out),
            Frontend::Execute(execute) => self.execute(execute, out).await,
            Frontend::Close(close) => {
                match close.target {
                    Target::Statement => drop(self.statements.remove(close.name)),
                    Target::Portal => drop(self.portals.remove(close.name)),
                }
                encode_close_complete(&mut out.bytes)?;
                Ok(())
            }
            // Left over from a COPY that has failed.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => Ok(()),
            Frontend::FunctionCall(_) => {
                self.fail(Stop::from(Refused::Unsupported), out)?;
                encode_ready_for_query(&mut out.bytes, self.transaction)?;
                return Ok(Next::Continue);
            }
            // The decoder lets none through.
            Frontend::Password(_) => return Err(Gone),
        };
        if let Err(stop) = carried {
            self.fail(stop, out)?;
            self.skips = true;
        }
        Ok(Next::Continue)
    }

    /// Data of a COPY, or a part of it.
    pub(super) fn handle_data(&mut self, data: &[u8]) {
        if let Some(copy) = &mut self.copy {
            let lines = memchr::memchr_iter(b'\n', data).count();
            copy.lines += u64::try_from(lines).unwrap_or(0);
        }
    }

    async fn handle_during_copy(
        &mut self,
        message: &Frontend<'_>,
        out: &mut Outgoing,
    ) -> Result<Next, Gone> {
        match message {
            Frontend::CopyData(data) => self.handle_data(data),
            // As PostgreSQL, so that a driver may send them blindly.
            Frontend::Sync | Frontend::Flush => {}
            Frontend::Terminate => return Ok(Next::Leave),
            Frontend::CopyDone => {
                let Some(copy) = self.copy.take() else {
                    return Ok(Next::Continue);
                };
                encode_command_complete(&mut out.bytes, format!("COPY {}", copy.lines).as_bytes())?;
                if copy.is_simple {
                    self.statements_in_turn(copy.rest, out).await?;
                }
            }
            Frontend::CopyFail(_) => {
                self.end_copy(Stop::Error(QUERY_CANCELED, "COPY from stdin failed"), out)?
            }
            Frontend::Query(_)
            | Frontend::Parse(_)
            | Frontend::Bind(_)
            | Frontend::Describe(_)
            | Frontend::Execute(_)
            | Frontend::Close(_)
            | Frontend::FunctionCall(_)
            | Frontend::Password(_) => self.end_copy(
                Stop::Error(
                    PROTOCOL_VIOLATION,
                    "unexpected message during COPY from stdin",
                ),
                out,
            )?,
        }
        Ok(Next::Continue)
    }

    fn end_copy(&mut self, stop: Stop, out: &mut Outgoing) -> Result<(), Gone> {
        let is_simple = self.copy.take().is_some_and(|copy| copy.is_simple);
        self.fail(stop, out)?;
        if is_simple {
            encode_ready_for_query(&mut out.bytes, self.transaction)?;
        } else {
            self.skips = true;
        }
        Ok(())
    }

    async fn simple(&mut self, text: &[u8], out: &mut Outgoing) -> Result<(), Gone> {
        match sql::read(text) {
            Ok(commands) if commands.is_empty() => {
                encode_empty_query_response(&mut out.bytes)?;
                encode_ready_for_query(&mut out.bytes, self.transaction)?;
                Ok(())
            }
            Ok(commands) => self.statements_in_turn(commands, out).await,
            Err(refused) => {
                self.fail(refused.into(), out)?;
                encode_ready_for_query(&mut out.bytes, self.transaction)?;
                Ok(())
            }
        }
    }

    /// Carries out the statements of a Query, up to the first that fails, or asks for data.
    async fn statements_in_turn(
        &mut self,
        commands: Vec<Command>,
        out: &mut Outgoing,
    ) -> Result<(), Gone> {
        let mut commands = commands.into_iter();
        while let Some(command) = commands.next() {
            let begins_copy = command == Command::CopyIn;
            if let Err(stop) = self.one_of_query(command, out).await {
                self.fail(stop, out)?;
                break;
            }
            if begins_copy {
                self.copy = Some(CopyIn {
                    lines: 0,
                    is_simple: true,
                    rest: commands.collect(),
                });
                return Ok(());
            }
        }
        encode_ready_for_query(&mut out.bytes, self.transaction)?;
        Ok(())
    }

    async fn one_of_query(&mut self, command: Command, out: &mut Outgoing) -> Carried {
        let prepared = Rc::new(Prepared::new(Some(command)));
        if !prepared.parameters.is_empty() {
            return Err(Stop::Error(UNDEFINED_OBJECT, "there is no parameter"));
        }
        let mut portal = self.portal(&prepared, Vec::new(), Vec::new())?;
        self.check_transaction(&portal)?;
        self.describe_rows(&prepared, &portal.fields, &portal.formats, false, out)?;
        self.run(&mut portal, 0, out).await
    }

    fn fail(&mut self, stop: Stop, out: &mut Outgoing) -> Result<(), Gone> {
        match stop {
            Stop::Gone => Err(Gone),
            Stop::Error(sqlstate, message) => {
                if self.transaction == TransactionStatus::InTransaction {
                    self.transaction = TransactionStatus::Failed;
                }
                Ok(Report::error(sqlstate, message).encode_error(&mut out.bytes)?)
            }
        }
    }

    fn parse(&mut self, parse: &Parse<'_>, out: &mut Outgoing) -> Carried {
        let mut commands = sql::read(parse.text)?;
        if commands.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(Stop::Error(SYNTAX_ERROR, message));
        }
        let is_named = !parse.statement.is_empty();
        if is_named && self.statements.contains_key(parse.statement) {
            return Err(Stop::Error(DUPLICATE_STATEMENT, "the statement exists"));
        }
        if self.statements.len() >= NAMES_MAX {
            return Err(Stop::Error(TOO_MUCH, "too many prepared statements"));
        }
        let prepared = Rc::new(Prepared::new(commands.pop()));
        self.statements.insert(parse.statement.to_vec(), prepared);
        Ok(encode_parse_complete(&mut out.bytes)?)
    }

    fn bind(&mut self, bind: &Bind<'_>, out: &mut Outgoing) -> Carried {
        let Some(prepared) = self.statements.get(bind.statement) else {
            return Err(Stop::Error(NO_SUCH_STATEMENT, "there is no such statement"));
        };
        let prepared = Rc::clone(prepared);
        if bind.values.len() != prepared.parameters.len() {
            return Err(Stop::Error(
                PROTOCOL_VIOLATION,
                "another number of parameters",
            ));
        }
        let values = bind
            .parameters()
            .zip(&prepared.parameters)
            .map(|((format, value), type_oid)| match (format, value) {
                (_, None) => Ok(None),
                (Format::Text, Some(value)) => Ok(Some(value.to_vec())),
                (Format::Binary, Some(value)) => binary_to_text(value, *type_oid).map(Some),
            })
            .collect::<Result<Vec<_>, Stop>>()?;
        let formats: Vec<Format> = match bind.result_formats.iter().all(|it| it == Format::Text) {
            true => Vec::new(),
            false => (0..)
                .map_while(|index| bind.result_formats.of(index))
                .take(columns(&prepared))
                .collect(),
        };
        let portal = self.portal(&prepared, values, formats)?;
        if self.portals.len() >= NAMES_MAX && !self.portals.contains_key(bind.portal) {
            return Err(Stop::Error(TOO_MUCH, "too many portals"));
        }
        match self.portals.get_mut(bind.portal) {
            Some(known) => *known = portal,
            None => drop(self.portals.insert(bind.portal.to_vec(), portal)),
        }
        Ok(encode_bind_complete(&mut out.bytes)?)
    }

    fn portal(
        &self,
        prepared: &Rc<Prepared>,
        values: Vec<Option<Vec<u8>>>,
        formats: Vec<Format>,
    ) -> Result<Portal, Stop> {
        let left = match &prepared.command {
            Some(Command::Rows(select) | Command::CopyOut(select)) => self.left(select, &values)?,
            Some(Command::Values { first, last, .. }) => Left {
                next: *first,
                last: *last,
            },
            _ => Left { next: 1, last: 1 },
        };
        let fields = match formats.is_empty() {
            true => Rc::clone(&prepared.fields),
            false => {
                let fields = prepared.fields.iter().zip(&formats);
                fields
                    .map(|((field, _), format)| (*field, *format))
                    .collect()
            }
        };
        Ok(Portal {
            prepared: Rc::clone(prepared),
            fields,
            formats,
            values,
            left,
        })
    }

    /// The rows that a SELECT finds.
    fn left(&self, select: &Select, values: &[Option<Vec<u8>>]) -> Result<Left, Stop> {
        let rows = self.shard.settings.table.rows();
        let key = |operand: Operand| match operand {
            Operand::Number(number) => Ok(Some(number)),
            Operand::Parameter(number) => {
                let index = usize::from(number).saturating_sub(1);
                let Some(text) = values.get(index).and_then(Option::as_deref) else {
                    return Ok(None);
                };
                let number = std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.parse().ok());
                let invalid = Stop::Error(INVALID_TEXT, "the parameter is not a row's number");
                number.map(Some).ok_or(invalid)
            }
        };
        // NULL finds nothing.
        let nothing = Left { next: 1, last: 0 };
        let mut left = match select.keys {
            Keys::All => Left {
                next: 1,
                last: rows,
            },
            Keys::One(operand) => match key(operand)? {
                Some(key) if (1..=rows).contains(&key) => Left {
                    next: key,
                    last: key,
                },
                _ => nothing,
            },
            Keys::UpTo(operand) => key(operand)?.map_or(nothing, |key| Left {
                next: 1,
                last: key.min(rows),
            }),
            Keys::Between(first, last) => match (key(first)?, key(last)?) {
                (Some(first), Some(last)) => Left {
                    next: first.max(1),
                    last: last.min(rows),
                },
                _ => nothing,
            },
        };
        if let Some(limit) = select.limit {
            match limit.checked_sub(1) {
                Some(more) => left.last = left.last.min(left.next.saturating_add(more)),
                None => left = nothing,
            }
        }
        Ok(left)
    }

    fn describe(&mut self, target: Target, name: &[u8], out: &mut Outgoing) -> Carried {
        match target {
            Target::Statement => {
                let Some(prepared) = self.statements.get(name) else {
                    return Err(Stop::Error(NO_SUCH_STATEMENT, "there is no such statement"));
                };
                let prepared = Rc::clone(prepared);
                encode_parameter_description(&mut out.bytes, &prepared.parameters)?;
                self.describe_rows(&prepared, &prepared.fields, &[], true, out)
            }
            Target::Portal => {
                let Some(portal) = self.portals.get(name) else {
                    return Err(Stop::Error(NO_SUCH_PORTAL, "there is no such portal"));
                };
                self.describe_rows(&portal.prepared, &portal.fields, &portal.formats, true, out)
            }
        }
    }

    /// Writes a RowDescription; for what has no rows NoData, if `says_no_data`.
    fn describe_rows(
        &self,
        prepared: &Prepared,
        fields: &[(Field, Format)],
        formats: &[Format],
        says_no_data: bool,
        out: &mut Outgoing,
    ) -> Carried {
        let bytes = &mut out.bytes;
        let format = |index: usize| formats.get(index).copied().unwrap_or(Format::Text);
        match &prepared.command {
            Some(Command::Rows(_)) => {
                let columns: Vec<_> = fields
                    .iter()
                    .map(|(field, format)| field.column(*format))
                    .collect();
                encode_row_description(bytes, &columns)?;
            }
            Some(Command::Values { items, .. }) => {
                let columns: Vec<_> = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| plain_column(&item.name, item.type_oid, format(index)))
                    .collect();
                encode_row_description(bytes, &columns)?;
            }
            Some(Command::Catalogue(asked)) => {
                let columns = catalogue::rows(*asked).columns;
                let column = |index| plain_column("column", oid::TEXT, format(index));
                let columns: Vec<_> = (0..columns).map(column).collect();
                encode_row_description(bytes, &columns)?;
            }
            Some(Command::Show(name)) => {
                encode_row_description(bytes, &[plain_column(name, oid::TEXT, format(0))])?;
            }
            _ if says_no_data => encode_no_data(bytes)?,
            _ => {}
        }
        Ok(())
    }

    async fn execute(&mut self, execute: &Execute<'_>, out: &mut Outgoing) -> Carried {
        // Taken out meanwhile: carrying it out may drop all portals.
        let Some((name, mut portal)) = self.portals.remove_entry(execute.portal) else {
            return Err(Stop::Error(NO_SUCH_PORTAL, "there is no such portal"));
        };
        self.check_transaction(&portal)?;
        self.run(&mut portal, execute.row_limit, out).await?;
        match &portal.prepared.command {
            Some(Command::CopyIn) => {
                self.copy = Some(CopyIn {
                    lines: 0,
                    is_simple: false,
                    rest: Vec::new(),
                });
            }
            Some(Command::DiscardAll) => return Ok(()),
            _ => {}
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    /// In a failed transaction nothing is carried out but its end.
    fn check_transaction(&self, portal: &Portal) -> Carried {
        let ends = matches!(
            portal.prepared.command,
            Some(Command::Commit | Command::Rollback)
        );
        if self.transaction == TransactionStatus::Failed && !ends {
            let message =
                "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Stop::Error(FAILED_TRANSACTION, message));
        }
        Ok(())
    }

    async fn run(&mut self, portal: &mut Portal, row_limit: u32, out: &mut Outgoing) -> Carried {
        self.key.flag.clear();
        let prepared = Rc::clone(&portal.prepared);
        let Some(command) = &prepared.command else {
            return Ok(encode_empty_query_response(&mut out.bytes)?);
        };
        if is_delayed(command) && !self.shard.settings.delay.is_zero() {
            let delay = self.shard.settings.delay;
            over(out.pause(delay, &self.key.flag).await)?;
        }
        match command {
            Command::Rows(_) => return self.rows(portal, row_limit, out).await,
            Command::CopyOut(select) => return self.copy_out(select, portal.left, out).await,
            Command::Values { items, .. } => {
                return self.values(items, portal, row_limit, out).await;
            }
            Command::CopyIn => {
                let formats = [Format::Text; Field::ALL.len()];
                encode_copy_response(&mut out.bytes, CopyDirection::In, Format::Text, &formats)?;
                return Ok(());
            }
            Command::Catalogue(asked) => {
                let rows = catalogue::rows(*asked).rows;
                for row in &rows {
                    let values: Vec<_> = row
                        .iter()
                        .map(|value| value.as_deref().map(str::as_bytes))
                        .collect();
                    encode_data_row(&mut out.bytes, &values)?;
                }
                return complete(out, "SELECT", rows.len());
            }
            Command::Show(name) => {
                let Some(value) = self.settings.get(name) else {
                    return Err(Stop::Error(UNDEFINED_OBJECT, "there is no such setting"));
                };
                encode_data_row(&mut out.bytes, &[Some(value.as_bytes())])?;
                return done(out, "SHOW");
            }
            Command::Insert(rows) => {
                let tag = format!("INSERT 0 {rows}");
                return done(out, &tag);
            }
            Command::Done(tag) => return done(out, tag),
            Command::Set { name, value } => {
                self.settings.set(name, value.as_deref())?;
                self.report(name, out)?;
                return done(out, "SET");
            }
            Command::ResetAll => {
                self.reset(out)?;
                return done(out, "RESET");
            }
            Command::DiscardAll => {
                if self.transaction != TransactionStatus::Idle {
                    let message = "DISCARD ALL cannot run inside a transaction block";
                    return Err(Stop::Error(SqlState::new(b"25001"), message));
                }
                self.reset(out)?;
                self.statements.clear();
                self.portals.clear();
                return done(out, "DISCARD ALL");
            }
            Command::Begin => {
                self.transaction = TransactionStatus::InTransaction;
                return done(out, "BEGIN");
            }
            Command::Commit | Command::Rollback => {
                let commits =
                    *command == Command::Commit && self.transaction != TransactionStatus::Failed;
                self.transaction = TransactionStatus::Idle;
                return done(out, if commits { "COMMIT" } else { "ROLLBACK" });
            }
            Command::Deallocate(name) => match name {
                None => self.statements.clear(),
                Some(name) => {
                    if self.statements.remove(name.as_bytes()).is_none() {
                        let message = "there is no such statement";
                        return Err(Stop::Error(NO_SUCH_STATEMENT, message));
                    }
                }
            },
        }
        done(out, "DEALLOCATE")
    }

    async fn rows(&mut self, portal: &mut Portal, row_limit: u32, out: &mut Outgoing) -> Carried {
        let table = &self.shard.settings.table;
        let mut sent = 0_u32;
        while portal.left.next <= portal.left.last {
            if row_limit > 0 && sent == row_limit {
                return Ok(encode_portal_suspended(&mut out.bytes)?);
            }
            table.row(
                &mut out.bytes,
                &mut self.scratch,
                &portal.fields,
                portal.left.next,
            )?;
            portal.left.advance();
            sent += 1;
            over(out.relieve(&self.key.flag).await?)?;
        }
        complete(out, "SELECT", usize::try_from(sent).unwrap_or(usize::MAX))
    }

    async fn copy_out(&mut self, select: &Select, mut left: Left, out: &mut Outgoing) -> Carried {
        let formats = vec![Format::Text; select.fields.len()];
        encode_copy_response(&mut out.bytes, CopyDirection::Out, Format::Text, &formats)?;
        let table = &self.shard.settings.table;
        let mut sent = 0_usize;
        while left.next <= left.last {
            self.scratch.clear();
            table.line(&mut self.scratch, &select.fields, left.next);
            encode_copy_data(&mut out.bytes, &self.scratch)?;
            left.advance();
            sent += 1;
            over(out.relieve(&self.key.flag).await?)?;
        }
        encode_copy_done(&mut out.bytes)?;
        complete(out, "COPY", sent)
    }

    async fn values(
        &mut self,
        items: &[Item],
        portal: &mut Portal,
        row_limit: u32,
        out: &mut Outgoing,
    ) -> Carried {
        let mut row: Vec<Option<Vec<u8>>> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let text = self.value(&item.value, portal, out).await?;
            row.push(in_format(text, item.type_oid, portal.formats.get(index))?);
        }
        let mut sent = 0_u32;
        while portal.left.next <= portal.left.last {
            if row_limit > 0 && sent == row_limit {
                return Ok(encode_portal_suspended(&mut out.bytes)?);
            }
            for (index, item) in items.iter().enumerate() {
                if let (Value::Number, Some(value)) = (&item.value, row.get_mut(index)) {
                    let text = portal.left.next.to_string().into_bytes();
                    *value = in_format(Some(text), item.type_oid, portal.formats.get(index))?;
                }
            }
            let values: Vec<_> = row.iter().map(Option::as_deref).collect();
            encode_data_row(&mut out.bytes, &values)?;
            portal.left.advance();
            sent += 1;
            over(out.relieve(&self.key.flag).await?)?;
        }
        complete(out, "SELECT", usize::try_from(sent).unwrap_or(usize::MAX))
    }

    /// One value as text; `None` is NULL, and a number that the row decides.
    async fn value(
        &mut self,
        value: &Value,
        portal: &Portal,
        out: &mut Outgoing,
    ) -> Result<Option<Vec<u8>>, Stop> {
        Ok(match value {
            Value::Null | Value::Number => None,
            Value::Text(text) => Some(text.clone().into_bytes()),
            Value::Parameter(number) => {
                let index = usize::from(*number).saturating_sub(1);
                portal.values.get(index).cloned().flatten()
            }
            Value::User => Some(self.user.clone().into_bytes()),
            Value::Database => Some(self.database.clone().into_bytes()),
            Value::ProcessId => Some(self.key.process_id.to_string().into_bytes()),
            Value::SetConfig { name, value } => {
                self.settings.set(name, Some(value))?;
                self.report(name, out)?;
                Some(value.clone().into_bytes())
            }
            Value::Sleep { seconds } => {
                let time = Duration::try_from_secs_f64(*seconds).unwrap_or(SLEEP_MAX);
                over(out.pause(time.min(SLEEP_MAX), &self.key.flag).await)?;
                Some(Vec::new())
            }
        })
    }

    fn reset(&mut self, out: &mut Outgoing) -> Carried {
        for name in self.settings.reset() {
            self.report(&name, out)?;
        }
        Ok(())
    }

    fn report(&self, name: &str, out: &mut Outgoing) -> Carried {
        if let Some(name) = Settings::reported(name) {
            let value = self.settings.get(name).unwrap_or_default();
            encode_parameter_status(&mut out.bytes, name.as_bytes(), value.as_bytes())?;
        }
        Ok(())
    }
}

impl Left {
    fn advance(&mut self) {
        match self.next.checked_add(1) {
            Some(next) => self.next = next,
            None => *self = Self { next: 1, last: 0 },
        }
    }
}

fn is_delayed(command: &Command) -> bool {
    matches!(
        command,
        Command::Rows(_)
            | Command::Values { .. }
            | Command::CopyOut(_)
            | Command::CopyIn
            | Command::Insert(_)
            | Command::Done(_)
    )
}

fn over(waited: Waited) -> Carried {
    match waited {
        Waited::Over => Ok(()),
        Waited::Cancelled => {
            let message = "canceling statement due to user request";
            Err(Stop::Error(QUERY_CANCELED, message))
        }
    }
}

fn done(out: &mut Outgoing, tag: &str) -> Carried {
    Ok(encode_command_complete(&mut out.bytes, tag.as_bytes())?)
}

fn complete(out: &mut Outgoing, verb: &str, rows: usize) -> Carried {
    done(out, &format!("{verb} {rows}"))
}

/// Columns of what a statement returns.
fn columns(prepared: &Prepared) -> usize {
    match &prepared.command {
        Some(Command::Values { items, .. }) => items.len(),
        _ => prepared.fields.len().max(1),
    }
}

fn plain_column(name: &str, type_oid: u32, format: Format) -> Column<'_> {
    Column {
        name: name.as_bytes(),
        table: 0,
        attribute: 0,
        type_oid,
        type_size: type_size(type_oid),
        type_modifier: -1,
        format,
    }
}

fn binary_to_text(value: &[u8], type_oid: u32) -> Result<Vec<u8>, Stop> {
    let text = match type_oid {
        oid::INT4 => value
            .try_into()
            .ok()
            .map(|it| i32::from_be_bytes(it).to_string()),
        oid::INT8 => value
            .try_into()
            .ok()
            .map(|it| i64::from_be_bytes(it).to_string()),
        _ => return Ok(value.to_vec()),
    };
    let malformed = Stop::Error(SqlState::new(b"22P03"), "incorrect binary data format");
    text.map(String::into_bytes).ok_or(malformed)
}

fn in_format(
    text: Option<Vec<u8>>,
    type_oid: u32,
    format: Option<&Format>,
) -> Result<Option<Vec<u8>>, Stop> {
    match (text, format) {
        (Some(text), Some(Format::Binary)) => text_to_binary(text, type_oid).map(Some),
        (text, _) => Ok(text),
    }
}

fn text_to_binary(text: Vec<u8>, type_oid: u32) -> Result<Vec<u8>, Stop> {
    let number = || std::str::from_utf8(&text).ok()?.parse::<i64>().ok();
    let invalid = Stop::Error(INVALID_TEXT, "the value is not a number");
    match type_oid {
        oid::INT4 => {
            let number = number().and_then(|number| i32::try_from(number).ok());
            number
                .map(|number| number.to_be_bytes().to_vec())
                .ok_or(invalid)
        }
        oid::INT8 => number()
            .map(|number| number.to_be_bytes().to_vec())
            .ok_or(invalid),
        _ => Ok(text),
    }
}
