//! The one table: rows that are computed from their number, so that they can be checked.

use std::io::Write as _;
use std::sync::Arc;

use codecs::postgres::backend::{BackendTag, Column};
use codecs::postgres::frontend::Format;
use codecs::wire::{EncodeError, Writer};

/// Stands in `email` of every row: what a mask on that column must hide.
pub const CANARY: &str = "@canary.example";

/// A payment card by its form (prefix, length, check digit); of nobody.
const CARD: &str = "4111111111111111";

/// OIDs of PostgreSQL's own types.
pub(super) mod oid {
    pub(in crate::upstream) const INT8: u32 = 20;
    pub(in crate::upstream) const INT4: u32 = 23;
    pub(in crate::upstream) const TEXT: u32 = 25;
    pub(in crate::upstream) const VOID: u32 = 2278;
}

/// The table's own OID: the first that PostgreSQL would give to a user's table.
pub(super) const TABLE_OID: u32 = 16384;

pub(super) const TABLE_NAME: &str = "accounts";

/// Letters that fillers begin with in turn.
const LETTERS: u32 = 26;

/// How large the table is. Shared by all shards.
#[derive(Debug, Clone)]
pub struct Table {
    rows: u32,
    /// Of the column `filler`.
    filler_bytes: usize,
    /// All fillers: each begins at one of the first letters.
    letters: Arc<[u8]>,
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Name,
    Email,
    Card,
    Balance,
    Filler,
}

impl Field {
    pub(super) const ALL: [Self; 6] = [
        Self::Id,
        Self::Name,
        Self::Email,
        Self::Card,
        Self::Balance,
        Self::Filler,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Name => "name",
            Self::Email => "email",
            Self::Card => "card",
            Self::Balance => "balance",
            Self::Filler => "filler",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    pub(super) const fn number(self) -> i16 {
        match self {
            Self::Id => 1,
            Self::Name => 2,
            Self::Email => 3,
            Self::Card => 4,
            Self::Balance => 5,
            Self::Filler => 6,
        }
    }

    pub(super) const fn type_oid(self) -> u32 {
        match self {
            Self::Id => oid::INT4,
            Self::Balance => oid::INT8,
            Self::Name | Self::Email | Self::Card | Self::Filler => oid::TEXT,
        }
    }

    pub(super) fn column(self, format: Format) -> Column<'static> {
        Column {
            name: self.name().as_bytes(),
            table: TABLE_OID,
            attribute: self.number(),
            type_oid: self.type_oid(),
            type_size: type_size(self.type_oid()),
            type_modifier: -1,
            format,
        }
    }
}

/// As `pg_type.typlen` has it.
pub(super) const fn type_size(type_oid: u32) -> i16 {
    match type_oid {
        oid::INT8 => 8,
        oid::INT4 | oid::VOID => 4,
        _ => -1,
    }
}

fn balance(key: u32) -> i64 {
    i64::from(key) * 37 % 1_000_000
}

impl Table {
    /// `rows` rows, numbered from 1, with a filler of `filler_bytes` each.
    #[must_use]
    pub fn new(rows: u32, filler_bytes: u32) -> Self {
        let filler_bytes = usize::try_from(filler_bytes).unwrap_or(usize::MAX);
        let letters = (b'a'..=b'z').cycle();
        let most = usize::try_from(LETTERS).unwrap_or(0);
        Self {
            rows,
            filler_bytes,
            letters: letters.take(filler_bytes.saturating_add(most)).collect(),
        }
    }

    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    fn filler(&self, key: u32) -> &[u8] {
        let begin = usize::try_from(key % LETTERS).unwrap_or(0);
        let end = begin.saturating_add(self.filler_bytes);
        self.letters.get(begin..end).unwrap_or_default()
    }

    /// Writes one value as text.
    fn text(&self, out: &mut Vec<u8>, field: Field, key: u32) {
        // Writing to a Vec cannot fail.
        let _ = match field {
            Field::Id => write!(out, "{key}"),
            Field::Name => write!(out, "account {key}"),
            Field::Email => write!(out, "holder.{key}{CANARY}"),
            Field::Card => out.write_all(CARD.as_bytes()),
            Field::Balance => write!(out, "{}", balance(key)),
            Field::Filler => out.write_all(self.filler(key)),
        };
    }

    /// Writes a DataRow of row `key`; `scratch` is for its values.
    pub(super) fn row(
        &self,
        out: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
        fields: &[(Field, Format)],
        key: u32,
    ) -> Result<(), EncodeError> {
        let mut writer = Writer::tagged(out, BackendTag::DataRow.byte());
        writer.count16(fields.len());
        for (field, format) in fields {
            match (field, format) {
                (Field::Id, Format::Binary) => writer.nullable(Some(&key.to_be_bytes())),
                (Field::Balance, Format::Binary) => {
                    writer.nullable(Some(&balance(key).to_be_bytes()))
                }
                _ => {
                    scratch.clear();
                    self.text(scratch, *field, key);
                    writer.nullable(Some(scratch))
                }
            };
        }
        writer.finish()
    }

    /// Writes row `key` as a line of COPY in text; none of its values needs an escape.
    pub(super) fn line(&self, out: &mut Vec<u8>, fields: &[Field], key: u32) {
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                out.push(b'\t');
            }
            self.text(out, *field, key);
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_depends_on_its_number_alone() {
        let table = Table::new(10, 5);
        let line = |key| {
            let mut out = Vec::new();
            table.line(&mut out, &Field::ALL, key);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            line(2),
            "2\taccount 2\tholder.2@canary.example\t4111111111111111\t74\tcdefg\n"
        );
        assert_ne!(line(3), line(2));
        assert_eq!(line(2), line(2));
    }

    #[test]
    fn columns_are_numbered_in_their_order() {
        for (field, number) in Field::ALL.into_iter().zip(1..) {
            assert_eq!(field.number(), number);
        }
    }
}
