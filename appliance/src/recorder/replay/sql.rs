//! A replay as SQL: each statement with the values bound to it and what policy said, then what came
//! back, rows as a table.
//!
//! It does not show what only programs say to each other (Sync, ParseComplete, ...). Everything
//! recorded is escaped; further lines of a statement are indented, so that none of them passes for
//! a line of ours. The exact bytes are in the JSON form.

use std::collections::VecDeque;
use std::fmt::Write;
use std::rc::Rc;

use codecs::postgres::frontend::Format;
use codecs::postgres::value::{Kind, Shape, ValueType};

use super::escape::{LineFeeds, escape, hex};
use super::json::rfc3339;
use super::prepared::{Portal, Prepared, Remembered, format_of};
use super::text::{ended, error, one_line, started};
use super::transcript::{Fact, Reply, Said, ShownColumn, ShownValue, Told};
use super::values::text_of;
use crate::marking::is_unseen;
use crate::recorder::format::{RecordedDecision, Verdict};

/// Stands in front of further lines of a recorded text.
const INDENT: &str = "    ";

/// Rows, and bytes of rows, that are aligned together. The widths of one table only grow.
const TABLE_ROWS_MAX: usize = 200;
const TABLE_BYTES_MAX: usize = 256 * 1024;

/// Widest column that is padded, in characters; a longer value pushes the rest of its line.
const COLUMN_MAX: usize = 60;

/// Longest value that is shown whole, in bytes.
pub(super) const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Requests whose columns have not come. An agent may send as many ahead as it likes.
const AWAITED_MAX: usize = 1024;

/// Writes one session down. Per replay.
#[derive(Default)]
pub(super) struct SqlSheet {
    prepared: Prepared,
    /// Descriptions that were asked for, and by which message.
    described: VecDeque<(u64, Described)>,
    /// What was sent to run and is not complete.
    running: VecDeque<(u64, Columns)>,
    /// Columns of prepared statements, by their names.
    columns: Remembered<Columns>,
    /// Those of portals.
    portal_columns: Remembered<Columns>,
    table: Option<Table>,
    /// The message whose statement or answer was shown last.
    shown: u64,
}

type Columns = Option<Rc<[ShownColumn]>>;

enum Described {
    Statement(Vec<u8>),
    Portal(Vec<u8>),
}

impl SqlSheet {
    pub(super) fn tell(&mut self, told: &Told, out: &mut String) {
        match &told.fact {
            Fact::Started(start) => {
                out.push_str("-- ");
                started(out, start);
                out.push('\n');
            }
            Fact::Command {
                decision,
                cuts,
                said,
                ..
            } => self.said(told, decision, *cuts, said, out),
            Fact::Reply(reply) => self.reply(told, reply, out),
            Fact::Ended(end) => {
                self.flush(out);
                let _ = write!(out, "-- {} ", rfc3339(told.at));
                ended(out, end);
                out.push('\n');
            }
            Fact::Approval(note) => {
                self.flush(out);
                let _ = write!(out, "-- {} ", rfc3339(told.at));
                super::approval::write_line(out, note);
                let _ = writeln!(out, " for #{}", told.number);
            }
            Fact::Interrupted => {
                self.note(
                    out,
                    "interrupted: the record ends here, and the session never ended",
                );
            }
            Fact::Missing { records } => {
                self.note(out, &format!("{records} records are missing here"));
            }
            Fact::Unreadable { kind, reason } => {
                let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                self.note(
                    out,
                    &format!("a record of kind {kind} cannot be read{reason}"),
                );
            }
        }
    }

    /// Appends what waits for further rows.
    pub(super) fn finish(&mut self, out: &mut String) {
        self.flush(out);
    }

    fn said(
        &mut self,
        told: &Told,
        decision: &RecordedDecision,
        cuts: u64,
        said: &Said,
        out: &mut String,
    ) {
        let is_refused = decision.verdict == Verdict::Refused;
        self.prepared.note(decision, said);
        match said {
            Said::Query { text } => {
                self.header(told, decision, cuts, out);
                statement(out, text);
                self.await_rows(told.number, None);
            }
            Said::Parse {
                statement: name,
                text,
                ..
            } => {
                if is_refused {
                    self.header(told, decision, cuts, out);
                    statement(out, text);
                }
                self.columns.remove(name.as_bytes());
            }
            Said::Bind {
                portal, statement, ..
            } => {
                let columns = self.columns.get(statement.as_bytes()).cloned().flatten();
                self.portal_columns.insert(portal.as_bytes(), columns, 0);
                if let Some(bound) = self.prepared.portal(portal).filter(|_| is_refused) {
                    let bound = bound.clone();
                    self.header(told, decision, cuts, out);
                    bound_statement(out, &bound);
                }
            }
            Said::Describe {
                statement: is_statement,
                name,
            } => {
                let name = name.as_bytes().to_owned();
                let described = if *is_statement {
                    Described::Statement(name)
                } else {
                    Described::Portal(name)
                };
                keep_last(&mut self.described, (told.number, described));
            }
            Said::Execute { portal, row_limit } => {
                self.execute(told, decision, cuts, portal, *row_limit, out);
            }
            Said::Close {
                statement: is_statement,
                name,
            } => {
                if *is_statement {
                    self.columns.remove(name.as_bytes());
                } else {
                    self.portal_columns.remove(name.as_bytes());
                }
            }
            Said::FunctionCall {
                function,
                arguments,
            } => {
                self.header(told, decision, cuts, out);
                let _ = write!(out, "-- call of function {function} with ");
                let shown = arguments.iter().map(|it| literal(it, 0, Format::Text));
                out.push_str(&shown.collect::<Vec<_>>().join(", "));
                out.push('\n');
                self.await_rows(told.number, None);
            }
            Said::CopyData(data) => {
                self.flush(out);
                copied(out, "->", data);
            }
            Said::CopyFail { reason } => {
                self.flush(out);
                out.push_str("-- the agent breaks COPY off: ");
                one_line(out, &reason.shown());
                out.push('\n');
            }
            Said::Incomplete { bytes, total_bytes } => {
                self.header(told, decision, cuts, out);
                let shown = bytes.len();
                let _ = writeln!(
                    out,
                    "-- incomplete message, {shown} of {total_bytes} bytes; it was not forwarded"
                );
            }
            Said::Raw(bytes) => {
                self.header(told, decision, cuts, out);
                let _ = writeln!(out, "-- {} bytes that are no statement", bytes.len());
            }
            Said::Plain(_) => {}
        }
    }

    fn execute(
        &mut self,
        told: &Told,
        decision: &RecordedDecision,
        cuts: u64,
        name: &ShownValue,
        row_limit: u32,
        out: &mut String,
    ) {
        let columns = match self.prepared.portal(name).cloned() {
            Some(portal) => {
                self.header(told, portal.decision(decision), cuts, out);
                if portal.runs > 1 {
                    out.push_str("-- further rows of the same\n");
                } else {
                    bound_statement(out, &portal);
                }
                let columns = self.portal_columns.get(name.as_bytes()).cloned().flatten();
                with_formats(&columns, &portal.result_formats)
            }
            None => {
                self.header(told, decision, cuts, out);
                out.push_str("-- execute portal ");
                named(out, name);
                out.push('\n');
                None
            }
        };
        if row_limit > 0 {
            let _ = writeln!(out, "-- up to {row_limit} rows");
        }
        self.await_rows(told.number, columns);
    }

    fn await_rows(&mut self, number: u64, columns: Columns) {
        keep_last(&mut self.running, (number, columns));
    }

    fn reply(&mut self, told: &Told, reply: &Reply, out: &mut String) {
        match reply {
            Reply::Columns(columns) => self.described(told.number, columns, out),
            Reply::Row(values) => self.row(told.number, values, out),
            Reply::RowPart { bytes, total_bytes } => {
                self.at_answer(told.number, out);
                let _ = writeln!(
                    out,
                    "-- part of a row: {} of {total_bytes} bytes",
                    bytes.len()
                );
            }
            Reply::Complete { tag } => {
                self.at_answer(told.number, out);
                out.push_str("-- ");
                one_line(out, &tag.shown());
                out.push('\n');
                // Of several statements in one message the next has columns of its own.
                if let Some((_, columns)) = self.running_mut(told.number) {
                    *columns = None;
                }
            }
            Reply::Error(fields) | Reply::Notice(fields) => {
                self.at_answer(told.number, out);
                out.push_str("-- ");
                error(out, fields);
                out.push('\n');
            }
            Reply::Notification { channel, payload } => {
                self.flush(out);
                out.push_str("-- notification ");
                one_line(out, &channel.shown());
                out.push_str(": ");
                one_line(out, &payload.shown());
                out.push('\n');
            }
            Reply::CopyData(data) => {
                self.at_answer(told.number, out);
                copied(out, "<-", data);
            }
            Reply::FunctionResult(result) => {
                self.at_answer(told.number, out);
                out.push_str("-- result ");
                out.push_str(&literal(result, 0, Format::Text));
                out.push('\n');
            }
            Reply::Raw(bytes) => {
                self.flush(out);
                let _ = writeln!(out, "-- {} bytes that are no reply", bytes.len());
            }
            Reply::Plain("PortalSuspended") => {
                self.at_answer(told.number, out);
                out.push_str("-- more rows are left\n");
            }
            Reply::Plain("NoData") => self.take_described(told.number, None),
            Reply::Plain(_)
            | Reply::Parameter { .. }
            | Reply::ParameterTypes(_)
            | Reply::Ready { .. } => {}
        }
    }

    /// Columns answer a Describe, or begin the rows of a Query.
    fn described(&mut self, number: u64, columns: &[ShownColumn], out: &mut String) {
        let columns: Rc<[ShownColumn]> = columns.into();
        if self.described.iter().any(|(known, _)| *known == number) {
            self.take_described(number, Some(columns));
            return;
        }
        self.at_answer(number, out);
        self.table = Some(Table::new(number, Some(Rc::clone(&columns))));
        if let Some((_, known)) = self.running_mut(number) {
            *known = Some(columns);
        }
    }

    fn take_described(&mut self, number: u64, columns: Columns) {
        let Some(place) = self
            .described
            .iter()
            .position(|(known, _)| *known == number)
        else {
            return;
        };
        // What was asked for before it will not come any more: an error took it.
        let Some((_, described)) = self.described.drain(..=place).next_back() else {
            return;
        };
        match described {
            Described::Statement(name) => {
                let bytes = columns.as_ref().map_or(0, |it| it.len() * 64);
                self.columns.insert(&name, columns, bytes);
            }
            Described::Portal(name) => {
                self.portal_columns.insert(&name, columns.clone(), 0);
                // Bind, Describe, Execute go out together: the rows are awaited already.
                if let Some((_, awaited)) = self.running.iter_mut().find(|(it, _)| *it > number) {
                    *awaited = columns;
                }
            }
        }
    }

    fn row(&mut self, number: u64, values: &[ShownValue], out: &mut String) {
        if self.table.as_ref().is_none_or(|it| it.number != number) {
            self.at_answer(number, out);
            let columns = self.running_mut(number).and_then(|(_, it)| it.clone());
            self.table = Some(Table::new(number, columns));
        }
        if let Some(table) = &mut self.table {
            table.push(values);
            if table.is_full() {
                table.write(out);
            }
        }
    }

    fn running_mut(&mut self, number: u64) -> Option<&mut (u64, Columns)> {
        // Answers come in order: what was sent before it is complete.
        while self.running.front().is_some_and(|(it, _)| *it < number) {
            self.running.pop_front();
        }
        self.running.front_mut().filter(|(it, _)| *it == number)
    }

    /// Ends what was being written, and says whose answer follows unless that is plain.
    fn at_answer(&mut self, number: u64, out: &mut String) {
        self.flush(out);
        if self.shown != number {
            self.shown = number;
            let _ = writeln!(out, "-- answer to #{number}");
        }
    }

    fn flush(&mut self, out: &mut String) {
        if let Some(mut table) = self.table.take() {
            table.write(out);
            table.end(out);
        }
    }

    fn note(&mut self, out: &mut String, text: &str) {
        self.flush(out);
        let _ = writeln!(out, "-- {text}");
    }

    /// When, which, and what policy said.
    fn header(&mut self, told: &Told, decision: &RecordedDecision, cuts: u64, out: &mut String) {
        self.flush(out);
        self.shown = told.number;
        let _ = write!(
            out,
            "\n-- {} #{} {}",
            rfc3339(told.at),
            told.number,
            decision.verdict.name()
        );
        if let Some(rule) = &decision.rule {
            out.push_str(" by ");
            one_line(out, rule);
        } else if decision.verdict == Verdict::Refused {
            out.push_str(" by default: no rule allows it");
        }
        if let Some(foreshadowed) = &decision.foreshadowed {
            let _ = write!(out, ", in shadow {}", foreshadowed.verdict.name());
            if let Some(rule) = &foreshadowed.rule {
                out.push_str(" by ");
                one_line(out, rule);
            }
        }
        if cuts > 0 {
            let _ = write!(out, ", {cuts} secrets cut");
        }
        out.push('\n');
    }
}

fn keep_last<T>(queue: &mut VecDeque<T>, entry: T) {
    if queue.len() >= AWAITED_MAX {
        queue.pop_front();
    }
    queue.push_back(entry);
}

/// The columns in the formats that the agent asked for when it bound the portal. A description of a
/// portal has them already.
fn with_formats(columns: &Columns, formats: &[Format]) -> Columns {
    let columns = columns.as_ref()?;
    let in_formats = columns
        .iter()
        .enumerate()
        .map(|(index, column)| ShownColumn {
            format: format_of(formats, index),
            ..column.clone()
        });
    Some(in_formats.collect())
}

fn bound_statement(out: &mut String, portal: &Portal) {
    let types = portal.statement.as_ref().map(|it| it.types.as_slice());
    for (index, value) in portal.values.iter().enumerate() {
        let type_oid = types.and_then(|it| it.get(index)).copied().unwrap_or(0);
        let format = format_of(&portal.formats, index);
        let _ = writeln!(
            out,
            "-- ${} = {}",
            index + 1,
            literal(value, type_oid, format)
        );
    }
    match &portal.statement {
        Some(kept) => statement(out, &kept.text),
        None => {
            out.push_str("-- prepared statement ");
            named(out, &portal.name);
            out.push_str(", whose text is further up\n");
        }
    }
}

fn statement(out: &mut String, text: &ShownValue) {
    match text {
        ShownValue::Text(text) => {
            let text = text.trim_end();
            escape(out, text, LineFeeds::Indented(INDENT));
            // A comment at the end must not swallow it.
            let last = text.rsplit('\n').next().unwrap_or_default();
            if last.contains("--") {
                out.push('\n');
                out.push_str(INDENT);
            }
            if !text.ends_with(';') {
                out.push(';');
            }
        }
        ShownValue::Null | ShownValue::Bytes(_) => {
            out.push_str("-- ");
            out.push_str(&literal(text, 0, Format::Text));
        }
    }
    out.push('\n');
}

fn named(out: &mut String, name: &ShownValue) {
    match name {
        ShownValue::Text(name) if name.is_empty() => out.push_str("(unnamed)"),
        ShownValue::Text(_) | ShownValue::Null | ShownValue::Bytes(_) => {
            one_line(out, &name.shown());
        }
    }
}

fn copied(out: &mut String, arrow: &str, data: &ShownValue) {
    let _ = write!(out, "-- {arrow} ");
    let text = data.shown();
    let shown = beginning(&text, VALUE_BYTES_MAX);
    one_line(out, shown.trim_end_matches('\n'));
    if shown.len() < text.len() {
        let _ = write!(out, "... ({} bytes)", text.len());
    }
    out.push('\n');
}

pub(super) fn beginning(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// A value as PostgreSQL would read it: a number, a string with every character written out that
/// a terminal would obey, or bytes.
pub(super) fn literal(value: &ShownValue, type_oid: u32, format: Format) -> String {
    let text = match (value, format) {
        (ShownValue::Null, _) => return "NULL".to_owned(),
        (_, Format::Binary) => text_of(type_oid, value.as_bytes()),
        (ShownValue::Text(text), Format::Text) => Some(text.clone()),
        (ShownValue::Bytes(_), Format::Text) => None,
    };
    let Some(text) = text else {
        let bytes = value.as_bytes();
        let shown = bytes.get(..bytes.len().min(VALUE_BYTES_MAX));
        let shown = shown.unwrap_or_default();
        let rest = if shown.len() < bytes.len() {
            format!(" /* the beginning of {} bytes */", bytes.len())
        } else {
            String::new()
        };
        return format!("'\\x{}'{rest}", hex(shown));
    };
    let shown = beginning(&text, VALUE_BYTES_MAX);
    let mut literal = if is_number(type_oid, shown) {
        shown.to_owned()
    } else {
        quoted(shown)
    };
    if shown.len() < text.len() {
        let _ = write!(literal, " /* the beginning of {} bytes */", text.len());
    }
    literal
}

fn is_number(type_oid: u32, text: &str) -> bool {
    let ValueType { kind, shape, .. } = ValueType::of(type_oid);
    let is_numeric = matches!(
        kind,
        Kind::Int2
            | Kind::Int4
            | Kind::Int8
            | Kind::Oid
            | Kind::Numeric
            | Kind::Float4
            | Kind::Float8
    );
    let mut characters = text.strip_prefix('-').unwrap_or(text).chars();
    is_numeric
        && shape == Shape::Scalar
        && characters
            .next()
            .is_some_and(|first| first.is_ascii_digit())
        && characters.all(|it| it.is_ascii_digit() || it == '.')
}

fn quoted(text: &str) -> String {
    let mut body = String::with_capacity(text.len() + 2);
    let mut is_escaped = false;
    for character in text.chars() {
        match character {
            '\'' => body.push_str("''"),
            '\\' | '\n' | '\r' | '\t' => {
                is_escaped = true;
                body.push('\\');
                body.push(match character {
                    '\n' => 'n',
                    '\r' => 'r',
                    '\t' => 't',
                    other => other,
                });
            }
            other if is_unseen(other) => {
                is_escaped = true;
                let _ = write!(body, "\\U{:08x}", u32::from(other));
            }
            other => body.push(other),
        }
    }
    format!("{}'{body}'", if is_escaped { "E" } else { "" })
}

/// Rows that are aligned together.
struct Table {
    number: u64,
    columns: Columns,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
    bytes: usize,
    /// Rows that were written.
    count: u64,
    has_header: bool,
}

impl Table {
    fn new(number: u64, columns: Columns) -> Self {
        Self {
            number,
            columns,
            widths: Vec::new(),
            rows: Vec::new(),
            bytes: 0,
            count: 0,
            has_header: false,
        }
    }

    fn push(&mut self, values: &[ShownValue]) {
        let cells: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let column = self.columns.as_ref().and_then(|it| it.get(index));
                cell(value, column)
            })
            .collect();
        self.bytes += cells.iter().map(String::len).sum::<usize>();
        self.rows.push(cells);
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= TABLE_ROWS_MAX || self.bytes >= TABLE_BYTES_MAX
    }

    /// Writes the rows that have gathered, under a header if there was none.
    fn write(&mut self, out: &mut String) {
        let header: Option<Vec<String>> = match &self.columns {
            Some(columns) if !self.has_header => Some(
                columns
                    .iter()
                    .map(|column| {
                        let mut name = String::new();
                        one_line(&mut name, &column.name.shown());
                        name
                    })
                    .collect(),
            ),
            Some(_) | None => None,
        };
        for row in header.iter().chain(&self.rows) {
            for (index, cell) in row.iter().enumerate() {
                let width = cell.chars().count().min(COLUMN_MAX);
                match self.widths.get_mut(index) {
                    Some(known) => *known = width.max(*known),
                    None => self.widths.push(width),
                }
            }
        }
        if let Some(header) = header {
            self.has_header = true;
            self.line(&header, out);
            let rules: Vec<String> = self.widths.iter().map(|it| "-".repeat(it + 2)).collect();
            out.push_str(&rules.join("+"));
            out.push('\n');
        }
        for row in std::mem::take(&mut self.rows) {
            self.line(&row, out);
            self.count += 1;
        }
        self.bytes = 0;
    }

    fn line(&self, cells: &[String], out: &mut String) {
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate() {
            let width = self.widths.get(index).copied().unwrap_or(0);
            let separator = if index == 0 { " " } else { "| " };
            let _ = write!(line, "{separator}{cell:width$} ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }

    fn end(&self, out: &mut String) {
        let rows = if self.count == 1 { "row" } else { "rows" };
        let _ = writeln!(out, "({} {rows})", self.count);
    }
}

/// NULL is bare; a text that would be taken for it, or for a quoted one, is quoted.
fn cell(value: &ShownValue, column: Option<&ShownColumn>) -> String {
    let format = column.map_or(Format::Text, |it| it.format);
    let text = match (value, format) {
        (ShownValue::Null, _) => return "NULL".to_owned(),
        (_, Format::Binary) => column.and_then(|column| text_of(column.type_oid, value.as_bytes())),
        (ShownValue::Text(text), Format::Text) => Some(text.clone()),
        (ShownValue::Bytes(_), Format::Text) => None,
    };
    let Some(text) = text else {
        // A text of these characters has its backslash doubled.
        let bytes = value.as_bytes();
        let shown = bytes.get(..bytes.len().min(VALUE_BYTES_MAX));
        return format!("\\x{}", hex(shown.unwrap_or_default()));
    };
    let shown = beginning(&text, VALUE_BYTES_MAX);
    let mut cell = String::new();
    if shown == "NULL" || shown.starts_with('\'') {
        cell.push('\'');
        one_line(&mut cell, &shown.replace('\'', "''"));
        cell.push('\'');
    } else {
        one_line(&mut cell, shown);
    }
    if shown.len() < text.len() {
        let _ = write!(cell, "... ({} bytes)", text.len());
    }
    cell
}
