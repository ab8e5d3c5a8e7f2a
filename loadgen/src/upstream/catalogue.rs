//! What the database holds, in the columns in which Sallyport asks for it.
//!
//! The one table and nothing else; PostgreSQL's own tables are left out, so that a policy that is
//! about them finds nothing here.

use super::sql::Catalogue;
use super::table::{Field, TABLE_NAME, TABLE_OID};

/// Rows as text, and how many columns they have.
pub(super) struct Rows {
    pub(super) columns: usize,
    pub(super) rows: Vec<Vec<Option<String>>>,
}

/// Version, and fifteen sums that never change.
const FINGERPRINT: &str = "150000,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15";

pub(super) fn rows(asked: Catalogue) -> Rows {
    let some = |text: &str| Some(text.to_owned());
    let table = TABLE_OID.to_string();
    match asked {
        Catalogue::Nothing => Rows {
            columns: 1,
            rows: Vec::new(),
        },
        Catalogue::Fingerprint => Rows {
            columns: 1,
            rows: vec![vec![some(FINGERPRINT)]],
        },
        // OID, schema, name, kind, definition of a view.
        Catalogue::Relations => Rows {
            columns: 5,
            rows: vec![vec![
                Some(table),
                some("public"),
                some(TABLE_NAME),
                some("r"),
                None,
            ]],
        },
        // OID of the table, number, name, type.
        Catalogue::Columns => Rows {
            columns: 4,
            rows: Field::ALL
                .into_iter()
                .map(|field| {
                    vec![
                        Some(table.clone()),
                        Some(field.number().to_string()),
                        some(field.name()),
                        Some(field.type_oid().to_string()),
                    ]
                })
                .collect(),
        },
        // OID of the table, numbers of the columns of one unique index.
        Catalogue::UniqueColumns => Rows {
            columns: 2,
            rows: vec![vec![Some(table), Some(Field::Id.number().to_string())]],
        },
    }
}
