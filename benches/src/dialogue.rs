//! What pgbench and its server say to each other, as bytes.

use codecs::postgres::backend::{self, Column};
use codecs::postgres::frontend::{self, Format, Target};
use codecs::postgres::{EncodeError, TransactionStatus};

/// A request and its answers.
pub(crate) type Dialogue = (Vec<u8>, Vec<u8>);

/// Texts as `pgbench -S -M simple` sends them: the literal changes, also in length.
pub(crate) fn texts() -> Vec<String> {
    let numbers = (0..1000_u32).map(|index| index * 7919 % 1_000_000);
    numbers
        .map(|aid| format!("SELECT abalance FROM pgbench_accounts WHERE aid = {aid};"))
        .collect()
}

/// Prepares the statement that [`prepared`] runs.
pub(crate) fn prepare() -> Option<Dialogue> {
    build(|asked, answered| {
        let text = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;";
        frontend::encode_parse(asked, b"P0_1", text, &[])?;
        frontend::encode_sync(asked)?;
        backend::encode_parse_complete(answered)?;
        backend::encode_ready_for_query(answered, TransactionStatus::Idle)
    })
}

/// `PQsendQueryPrepared` and its answer of one row.
pub(crate) fn prepared() -> Option<Dialogue> {
    build(|asked, answered| {
        frontend::encode_bind(asked, b"", b"P0_1", &[], &[Some(b"4711")], &[Format::Text])?;
        frontend::encode_describe(asked, Target::Portal, b"")?;
        frontend::encode_execute(asked, b"", 0)?;
        frontend::encode_sync(asked)?;
        backend::encode_bind_complete(answered)?;
        encode_rows(answered, 1)
    })
}

/// A query and its answer of one row.
pub(crate) fn simple(text: &str) -> Option<Dialogue> {
    rows(text, 1)
}

pub(crate) fn rows(text: &str, count: usize) -> Option<Dialogue> {
    build(|asked, answered| {
        frontend::encode_query(asked, text.as_bytes())?;
        encode_rows(answered, count)
    })
}

fn encode_rows(out: &mut Vec<u8>, count: usize) -> Result<(), EncodeError> {
    let column = Column {
        name: b"abalance",
        table: 16_396,
        attribute: 3,
        type_oid: 23,
        type_size: 4,
        type_modifier: -1,
        format: Format::Text,
    };
    backend::encode_row_description(out, &[column])?;
    for _ in 0..count {
        backend::encode_data_row(out, &[Some(b"-12345")])?;
    }
    backend::encode_command_complete(out, format!("SELECT {count}").as_bytes())?;
    backend::encode_ready_for_query(out, TransactionStatus::Idle)
}

fn build(
    encode: impl Fn(&mut Vec<u8>, &mut Vec<u8>) -> Result<(), EncodeError>,
) -> Option<Dialogue> {
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    encode(&mut asked, &mut answered).ok()?;
    Some((asked, answered))
}
