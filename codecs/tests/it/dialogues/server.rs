//! A model of `PostgresMain`: what PostgreSQL answers to a sequence of messages, and to which of them.
//!
//! It knows a handful of statements, each with one way to succeed or fail, and no data. What it says
//! of them is compared with the real server in the appliance's test `postgres_model`.
//!
//! Spec: `PostgresMain` and the `exec_*` functions in `tcop/postgres.c`, `CopyGetData` in
//! `commands/copyfromparse.c`, both of PostgreSQL 15.

#![allow(
    dead_code,
    clippy::wildcard_enum_match_arm,
    reason = "three tests ask it different questions; what it does not know it need not name"
)]

use std::collections::BTreeMap;

use codecs::postgres::backend::BackendEvent;
use codecs::postgres::frontend::{self, Target};
use codecs::postgres::{BackendTag, Request, TransactionStatus};

/// What the statements need; run once before any dialogue.
pub(crate) const SETUP: &str = "
    CREATE TABLE lines (line int);
    CREATE TABLE early (line int);
    CREATE TABLE late (line int);
    CREATE TABLE empty (id int PRIMARY KEY);
    CREATE TABLE deferred (id int REFERENCES empty DEFERRABLE INITIALLY DEFERRED);
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON early EXECUTE FUNCTION refuse();
    CREATE TRIGGER refuse AFTER INSERT ON late EXECUTE FUNCTION refuse();
";

/// A statement, by what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sql {
    /// No statement at all.
    Empty,
    Select,
    /// Three rows, which Execute may fetch in parts.
    Rows,
    Begin,
    Commit,
    Rollback,
    /// Its transaction cannot commit.
    Violate,
    SyntaxError,
    /// Fails when it is planned: in Bind, or in Query before its columns are announced.
    FailsInPlanning,
    /// Fails when it runs: in Query its columns are announced by then.
    FailsInRun,
    CopyOut,
    CopyIn,
    /// Fails before CopyInResponse.
    CopyInNowhere,
    /// Fails behind CopyInResponse, before it reads anything.
    CopyInEarly,
    /// Fails when all data have been read.
    CopyInLate,
}

impl Sql {
    pub(crate) const ALL: [Self; 15] = [
        Self::Empty,
        Self::Select,
        Self::Rows,
        Self::Begin,
        Self::Commit,
        Self::Rollback,
        Self::Violate,
        Self::SyntaxError,
        Self::FailsInPlanning,
        Self::FailsInRun,
        Self::CopyOut,
        Self::CopyIn,
        Self::CopyInNowhere,
        Self::CopyInEarly,
        Self::CopyInLate,
    ];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::Select => "SELECT 1",
            Self::Rows => "SELECT generate_series(1, 3)",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
            Self::Violate => "INSERT INTO deferred VALUES (1)",
            Self::SyntaxError => "SELEC",
            Self::FailsInPlanning => "SELECT 1/0",
            Self::FailsInRun => "SELECT 1/(random() * 0)::int",
            Self::CopyOut => "COPY (SELECT 1) TO STDOUT",
            Self::CopyIn => "COPY lines FROM STDIN",
            Self::CopyInNowhere => "COPY nowhere FROM STDIN",
            Self::CopyInEarly => "COPY early FROM STDIN",
            Self::CopyInLate => "COPY late FROM STDIN",
        }
    }

    fn has_columns(self) -> bool {
        matches!(
            self,
            Self::Select | Self::Rows | Self::FailsInPlanning | Self::FailsInRun
        )
    }

    /// What a failed transaction still runs.
    fn leaves_transaction(self) -> bool {
        matches!(self, Self::Commit | Self::Rollback)
    }
}

/// A message of a client. Names of statements and portals are few, so that they meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Query(Vec<Sql>),
    Parse(&'static str, Sql),
    /// Portal, statement.
    Bind(&'static str, &'static str),
    Describe(Target, &'static str),
    /// Portal, limit of rows.
    Execute(&'static str, u32),
    Close(Target, &'static str),
    Sync,
    Flush,
    FunctionCall {
        exists: bool,
    },
    CopyData {
        good: bool,
    },
    CopyDone,
    CopyFail,
}

impl Message {
    pub(crate) fn request(&self) -> Request {
        match self {
            Self::Query(_) => Request::Query,
            Self::Parse(..) => Request::Parse,
            Self::Bind(..) => Request::Bind,
            Self::Describe(target, _) => Request::Describe(*target),
            Self::Execute(..) => Request::Execute,
            Self::Close(..) => Request::Close,
            Self::Sync => Request::Sync,
            Self::Flush => Request::Flush,
            Self::FunctionCall { .. } => Request::FunctionCall,
            Self::CopyData { .. } => Request::CopyData,
            Self::CopyDone => Request::CopyDone,
            Self::CopyFail => Request::CopyFail,
        }
    }

    /// Whether an answer to it could come.
    pub(crate) fn has_reply(&self) -> bool {
        !matches!(
            self,
            Self::Flush | Self::CopyData { .. } | Self::CopyDone | Self::CopyFail
        )
    }

    pub(crate) fn is_copy(&self) -> bool {
        matches!(
            self,
            Self::CopyData { .. } | Self::CopyDone | Self::CopyFail
        )
    }

    fn is_extended(&self) -> bool {
        matches!(
            self,
            Self::Parse(..)
                | Self::Bind(..)
                | Self::Describe(..)
                | Self::Execute(..)
                | Self::Close(..)
                | Self::Flush
        )
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Query(list) => {
                let texts: Vec<_> = list.iter().map(|sql| sql.text()).collect();
                frontend::encode_query(out, texts.join("; ").as_bytes())
            }
            Self::Parse(statement, sql) => {
                frontend::encode_parse(out, statement.as_bytes(), sql.text().as_bytes(), &[])
            }
            Self::Bind(portal, statement) => {
                let (portal, statement) = (portal.as_bytes(), statement.as_bytes());
                frontend::encode_bind(out, portal, statement, &[], &[], &[])
            }
            Self::Describe(target, name) => {
                frontend::encode_describe(out, *target, name.as_bytes())
            }
            Self::Execute(portal, limit) => {
                frontend::encode_execute(out, portal.as_bytes(), *limit)
            }
            Self::Close(target, name) => frontend::encode_close(out, *target, name.as_bytes()),
            Self::Sync => frontend::encode_sync(out),
            Self::Flush => frontend::encode_flush(out),
            Self::FunctionCall { exists } => {
                // int4pl, or no function.
                let function = if *exists { 177 } else { 1 };
                let arguments: [Option<&[u8]>; 2] = [Some(b"1"), Some(b"2")];
                let text = frontend::Format::Text;
                frontend::encode_function_call(out, function, &[], &arguments, text)
            }
            Self::CopyData { good } => {
                frontend::encode_copy_data(out, if *good { b"1\n" } else { b"x\n" })
            }
            Self::CopyDone => frontend::encode_copy_done(out),
            Self::CopyFail => frontend::encode_copy_fail(out, b"no more"),
        }
        .unwrap();
    }
}

/// A message of the server, and what it has to do with those of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) event: BackendEvent,
    /// The message that it answers, and how many statements of that were complete before.
    pub(crate) answers: usize,
    pub(crate) statement: u32,
    pub(crate) completes_statement: bool,
    pub(crate) completes_request: bool,
    pub(crate) fails: bool,
}

/// What stands behind a portal's name.
#[derive(Clone, Copy, Debug)]
struct Portal {
    /// `None`: planning failed, and the name is left with nothing behind it.
    sql: Option<Sql>,
    rows_left: u32,
    /// It ran, and can not run again.
    is_done: bool,
    /// Its transaction failed.
    is_failed: bool,
}

/// A COPY FROM STDIN that reads.
#[derive(Clone, Debug)]
struct CopyIn {
    id: usize,
    sql: Sql,
    by: CopyBy,
}

#[derive(Clone, Debug)]
enum CopyBy {
    /// The statements behind it, and how many were before it.
    Query(Vec<Sql>, u32),
    Execute(&'static str),
}

/// One backend.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// An extended request failed: everything is discarded until Sync.
    skips: bool,
    /// Of a transaction block; without one every sequence up to Sync is a transaction of its own.
    status: TransactionStatus,
    is_violated: bool,
    statements: BTreeMap<&'static str, Sql>,
    portals: BTreeMap<&'static str, Portal>,
    copy: Option<CopyIn>,
    is_dead: bool,
    said: Vec<Said>,
    discarded: Vec<usize>,
}

/// A statement failed; what it says of it has been said by then, or is about to be.
struct Failed;

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            skips: false,
            status: TransactionStatus::Idle,
            is_violated: false,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            copy: None,
            is_dead: false,
            said: Vec::new(),
            discarded: Vec::new(),
        }
    }

    pub(crate) fn status(&self) -> TransactionStatus {
        self.status
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead
    }

    pub(crate) fn in_copy_in(&self) -> bool {
        self.copy.is_some()
    }

    /// Messages that were skipped, and Syncs that a COPY swallowed, since this was last asked.
    pub(crate) fn take_discarded(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.discarded)
    }

    /// Whether `message` would change nothing and be answered by nothing.
    pub(crate) fn would_ignore(&self, message: &Message) -> bool {
        if self.is_dead {
            return true;
        }
        match message {
            Message::Sync => self.copy.is_some(),
            Message::Flush => true,
            _ if self.copy.is_some() => false,
            message => self.skips || message.is_copy(),
        }
    }

    /// Reads one message.
    pub(crate) fn handle(&mut self, id: usize, message: &Message) -> Vec<Said> {
        if !self.is_dead {
            if self.copy.is_some() {
                self.copy_message(id, message);
            } else {
                self.message(id, message);
            }
        }
        std::mem::take(&mut self.said)
    }

    /// Reads one message, and is stopped by `statement_timeout` as soon as it has; `None` where that
    /// cannot be. An error takes the time limit with it, so nothing is stopped before Sync then.
    pub(crate) fn handle_interrupted(&mut self, id: usize, message: &Message) -> Option<Vec<Said>> {
        if self.is_dead || self.copy.is_some() || self.skips || message.is_copy() {
            return None;
        }
        let event = BackendEvent::InterruptErrorResponse;
        self.fail(id, 0, message.is_extended(), event);
        Some(std::mem::take(&mut self.said))
    }

    fn message(&mut self, id: usize, message: &Message) {
        if *message == Message::Sync {
            self.skips = false;
            if self.finish().is_err() {
                self.fail(id, 0, false, ERROR);
            } else {
                self.ready(id, 0);
            }
            return;
        }
        if self.skips {
            if message.has_reply() {
                self.discarded.push(id);
            }
            return;
        }
        let outcome = match message {
            Message::Query(list) => return self.query(id, list),
            Message::Parse(name, sql) => self.parse(id, name, *sql),
            Message::Bind(portal, statement) => self.bind(id, portal, statement),
            Message::Describe(Target::Statement, name) => self.describe_statement(id, name),
            Message::Describe(Target::Portal, name) => self.describe_portal(id, name),
            Message::Execute(portal, limit) => self.execute(id, portal, *limit),
            Message::Close(target, name) => {
                match target {
                    Target::Statement => drop(self.statements.remove(name)),
                    Target::Portal => drop(self.portals.remove(name)),
                }
                self.complete(id, BackendTag::CloseComplete);
                Ok(())
            }
            Message::FunctionCall { exists } => return self.function_call(id, *exists),
            Message::Sync
            | Message::Flush
            | Message::CopyData { .. }
            | Message::CopyDone
            | Message::CopyFail => Ok(()),
        };
        if outcome.is_err() {
            self.fail(id, 0, true, ERROR);
        }
    }

    fn say(&mut self, id: usize, statement: u32, tag: BackendTag) -> &mut Said {
        self.said.push(Said {
            event: BackendEvent::Tagged(tag),
            answers: id,
            statement,
            completes_statement: false,
            completes_request: false,
            fails: false,
        });
        self.said.last_mut().unwrap()
    }

    fn complete(&mut self, id: usize, tag: BackendTag) {
        self.say(id, 0, tag).completes_request = true;
    }

    fn ready(&mut self, id: usize, statement: u32) {
        let event = BackendEvent::ReadyForQuery(self.status);
        let said = self.say(id, statement, BackendTag::ReadyForQuery);
        said.event = event;
        said.completes_request = true;
    }

    fn fail(&mut self, id: usize, statement: u32, is_extended: bool, event: BackendEvent) {
        let said = self.say(id, statement, BackendTag::ErrorResponse);
        said.event = event;
        said.fails = true;
        said.completes_request = is_extended;
        self.abort();
        if is_extended {
            self.skips = true;
        } else {
            self.ready(id, statement);
        }
    }

    /// `AbortCurrentTransaction`.
    fn abort(&mut self) {
        self.is_violated = false;
        match self.status {
            TransactionStatus::Idle => self.portals.clear(),
            TransactionStatus::InTransaction => {
                self.status = TransactionStatus::Failed;
                for portal in self.portals.values_mut() {
                    portal.is_failed = true;
                }
            }
            TransactionStatus::Failed => {}
        }
    }

    /// `finish_xact_command`.
    fn finish(&mut self) -> Result<(), Failed> {
        if self.status != TransactionStatus::Idle {
            return Ok(());
        }
        self.portals.clear();
        if std::mem::take(&mut self.is_violated) {
            return Err(Failed);
        }
        Ok(())
    }

    fn leave_transaction(&mut self, sql: Sql) -> Result<(), Failed> {
        let commits = sql == Sql::Commit && self.status != TransactionStatus::Failed;
        self.status = TransactionStatus::Idle;
        if !commits {
            self.is_violated = false;
        }
        self.finish()
    }

    fn is_aborted(&self) -> bool {
        self.status == TransactionStatus::Failed
    }
}

const ERROR: BackendEvent = BackendEvent::Tagged(BackendTag::ErrorResponse);

/// The simple protocol.
impl Server {
    fn query(&mut self, id: usize, list: &[Sql]) {
        self.statements.remove("");
        if list.contains(&Sql::SyntaxError) {
            return self.fail(id, 0, false, ERROR);
        }
        let list: Vec<Sql> = list
            .iter()
            .copied()
            .filter(|sql| *sql != Sql::Empty)
            .collect();
        if list.is_empty() {
            if self.finish().is_err() {
                return self.fail(id, 0, false, ERROR);
            }
            self.say(id, 0, BackendTag::EmptyQueryResponse)
                .completes_statement = true;
            return self.ready(id, 1);
        }
        self.run(id, &list, 0);
    }

    /// Runs the statements of a Query, of which `done` are complete.
    fn run(&mut self, id: usize, list: &[Sql], mut done: u32) {
        let mut rest = list;
        while let Some((sql, behind)) = rest.split_first() {
            rest = behind;
            match self.run_one(id, *sql, done) {
                Err(Failed) => return self.fail(id, done, false, ERROR),
                Ok(Ran::Reads) => {
                    self.copy = Some(CopyIn {
                        id,
                        sql: *sql,
                        by: CopyBy::Query(rest.to_vec(), done),
                    });
                    return self.begin_copy_in();
                }
                Ok(Ran::Through) => {}
            }
            if self.end_statement(id, *sql, rest.is_empty(), done).is_err() {
                return self.fail(id, done, false, ERROR);
            }
            done += 1;
        }
        self.ready(id, done);
    }

    fn end_statement(
        &mut self,
        id: usize,
        sql: Sql,
        is_last: bool,
        done: u32,
    ) -> Result<(), Failed> {
        if sql.leaves_transaction() {
            self.leave_transaction(sql)?;
        } else if is_last {
            self.finish()?;
        }
        self.say(id, done, BackendTag::CommandComplete)
            .completes_statement = true;
        Ok(())
    }

    fn run_one(&mut self, id: usize, sql: Sql, done: u32) -> Result<Ran, Failed> {
        if self.is_aborted() && !sql.leaves_transaction() {
            return Err(Failed);
        }
        if sql == Sql::FailsInPlanning {
            return Err(Failed);
        }
        self.portals.remove("");
        if sql.has_columns() {
            self.say(id, done, BackendTag::RowDescription);
        }
        let ran = self.carry_out(id, sql, done, 3);
        if ran.is_err() {
            self.leave_portal(sql);
        }
        ran
    }

    /// A simple query runs in the unnamed portal. One that fails in a transaction leaves it there
    /// until the transaction ends.
    fn leave_portal(&mut self, sql: Sql) {
        self.portals.insert(
            "",
            Portal {
                sql: Some(sql),
                rows_left: 0,
                is_done: true,
                is_failed: true,
            },
        );
    }

    /// What a statement does when it runs, by either protocol.
    fn carry_out(&mut self, id: usize, sql: Sql, done: u32, rows: u32) -> Result<Ran, Failed> {
        match sql {
            Sql::Select => drop(self.say(id, done, BackendTag::DataRow)),
            Sql::Rows => {
                for _ in 0..rows {
                    self.say(id, done, BackendTag::DataRow);
                }
            }
            Sql::Begin => self.status = TransactionStatus::InTransaction,
            Sql::Violate => self.is_violated = true,
            Sql::CopyOut => {
                self.say(id, done, BackendTag::CopyOutResponse);
                self.say(id, done, BackendTag::CopyData);
                self.say(id, done, BackendTag::CopyDone);
            }
            Sql::CopyIn | Sql::CopyInEarly | Sql::CopyInLate => {
                self.say(id, done, BackendTag::CopyInResponse);
                return Ok(Ran::Reads);
            }
            Sql::FailsInRun | Sql::CopyInNowhere | Sql::SyntaxError | Sql::FailsInPlanning => {
                return Err(Failed);
            }
            Sql::Empty | Sql::Commit | Sql::Rollback => {}
        }
        Ok(Ran::Through)
    }

    fn function_call(&mut self, id: usize, exists: bool) {
        if self.is_aborted() || !exists {
            return self.fail(id, 0, false, ERROR);
        }
        self.say(id, 0, BackendTag::FunctionCallResponse);
        if self.finish().is_err() {
            return self.fail(id, 0, false, ERROR);
        }
        self.ready(id, 0);
    }
}

/// How far a statement got.
enum Ran {
    Through,
    /// It reads CopyData.
    Reads,
}

/// The extended protocol.
impl Server {
    fn parse(&mut self, id: usize, name: &'static str, sql: Sql) -> Result<(), Failed> {
        if name.is_empty() {
            self.statements.remove("");
        }
        let is_refused = self.is_aborted() && !sql.leaves_transaction() && sql != Sql::Empty;
        if sql == Sql::SyntaxError || is_refused || self.statements.contains_key(name) {
            return Err(Failed);
        }
        self.statements.insert(name, sql);
        self.complete(id, BackendTag::ParseComplete);
        Ok(())
    }

    fn bind(
        &mut self,
        id: usize,
        portal: &'static str,
        statement: &'static str,
    ) -> Result<(), Failed> {
        let sql = *self.statements.get(statement).ok_or(Failed)?;
        if self.is_aborted() && !sql.leaves_transaction() {
            return Err(Failed);
        }
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return Err(Failed);
        }
        let is_planned = sql != Sql::FailsInPlanning;
        self.portals.insert(
            portal,
            Portal {
                sql: is_planned.then_some(sql),
                rows_left: if sql == Sql::Rows { 3 } else { 1 },
                is_done: false,
                is_failed: false,
            },
        );
        if !is_planned {
            return Err(Failed);
        }
        self.complete(id, BackendTag::BindComplete);
        Ok(())
    }

    fn describe_statement(&mut self, id: usize, name: &str) -> Result<(), Failed> {
        let sql = *self.statements.get(name).ok_or(Failed)?;
        if self.is_aborted() && sql.has_columns() {
            return Err(Failed);
        }
        self.say(id, 0, BackendTag::ParameterDescription);
        self.columns(id, sql.has_columns());
        Ok(())
    }

    fn describe_portal(&mut self, id: usize, name: &str) -> Result<(), Failed> {
        let portal = *self.portals.get(name).ok_or(Failed)?;
        let has_columns = portal.sql.is_some_and(Sql::has_columns);
        if self.is_aborted() && has_columns {
            return Err(Failed);
        }
        self.columns(id, has_columns);
        Ok(())
    }

    fn columns(&mut self, id: usize, has_columns: bool) {
        let tag = if has_columns {
            BackendTag::RowDescription
        } else {
            BackendTag::NoData
        };
        self.complete(id, tag);
    }

    fn execute(&mut self, id: usize, name: &'static str, limit: u32) -> Result<(), Failed> {
        let portal = *self.portals.get(name).ok_or(Failed)?;
        let Some(sql) = portal.sql.filter(|sql| *sql != Sql::Empty) else {
            self.say(id, 0, BackendTag::EmptyQueryResponse)
                .completes_statement = true;
            self.end_execute();
            return Ok(());
        };
        if self.is_aborted() && !sql.leaves_transaction() || portal.is_failed || portal.is_done {
            return Err(Failed);
        }
        if matches!(sql, Sql::Select | Sql::Rows) {
            self.fetch(id, name, limit);
            return Ok(());
        }
        match self.carry_out(id, sql, 0, 0)? {
            Ran::Reads => {
                self.copy = Some(CopyIn {
                    id,
                    sql,
                    by: CopyBy::Execute(name),
                });
                self.begin_copy_in();
            }
            Ran::Through => self.executed(id, name, sql)?,
        }
        Ok(())
    }

    fn executed(&mut self, id: usize, name: &str, sql: Sql) -> Result<(), Failed> {
        if let Some(portal) = self.portals.get_mut(name) {
            portal.is_done = true;
        }
        if sql.leaves_transaction() {
            self.leave_transaction(sql)?;
        }
        self.say(id, 0, BackendTag::CommandComplete)
            .completes_statement = true;
        self.end_execute();
        Ok(())
    }

    fn end_execute(&mut self) {
        if let Some(said) = self.said.last_mut() {
            said.completes_request = true;
        }
    }

    fn fetch(&mut self, id: usize, name: &str, limit: u32) {
        let Some(portal) = self.portals.get_mut(name) else {
            return;
        };
        let is_whole = limit == 0 || portal.rows_left < limit;
        let rows = if is_whole { portal.rows_left } else { limit };
        portal.rows_left -= rows;
        for _ in 0..rows {
            self.say(id, 0, BackendTag::DataRow);
        }
        if is_whole {
            self.say(id, 0, BackendTag::CommandComplete)
                .completes_statement = true;
        } else {
            self.say(id, 0, BackendTag::PortalSuspended);
        }
        self.end_execute();
    }
}

/// COPY FROM STDIN.
impl Server {
    fn begin_copy_in(&mut self) {
        if self
            .copy
            .as_ref()
            .is_some_and(|copy| copy.sql == Sql::CopyInEarly)
        {
            self.fail_copy();
        }
    }

    fn fail_copy(&mut self) {
        if let Some(copy) = self.copy.take() {
            match copy.by {
                CopyBy::Query(_, done) => {
                    self.leave_portal(copy.sql);
                    self.fail(copy.id, done, false, ERROR);
                }
                CopyBy::Execute(_) => self.fail(copy.id, 0, true, ERROR),
            }
        }
    }

    fn copy_message(&mut self, id: usize, message: &Message) {
        match message {
            Message::CopyData { good: true } | Message::Flush => {}
            Message::Sync => self.discarded.push(id),
            Message::CopyData { good: false } | Message::CopyFail => self.fail_copy(),
            Message::CopyDone => self.end_copy(),
            Message::Query(_)
            | Message::Parse(..)
            | Message::Bind(..)
            | Message::Describe(..)
            | Message::Execute(..)
            | Message::Close(..)
            | Message::FunctionCall { .. } => {
                self.fail_copy();
                // Whatever the end of the COPY said behind its error never leaves.
                self.said.truncate(1);
                self.say(id, 0, BackendTag::ErrorResponse).event = BackendEvent::FatalErrorResponse;
                self.is_dead = true;
            }
        }
    }

    fn end_copy(&mut self) {
        let is_late = self
            .copy
            .as_ref()
            .is_some_and(|copy| copy.sql == Sql::CopyInLate);
        if is_late {
            return self.fail_copy();
        }
        let Some(copy) = self.copy.take() else {
            return;
        };
        match copy.by {
            CopyBy::Query(rest, done) => {
                if self
                    .end_statement(copy.id, copy.sql, rest.is_empty(), done)
                    .is_err()
                {
                    return self.fail(copy.id, done, false, ERROR);
                }
                self.run(copy.id, &rest, done + 1);
            }
            CopyBy::Execute(portal) => {
                if self.executed(copy.id, portal, copy.sql).is_err() {
                    self.fail(copy.id, 0, true, ERROR);
                }
            }
        }
    }
}
