//! Values and COPY data: what is written can be read again, and does not hold what was hidden.

use codecs::postgres::copy::{CopyError, CopyFields, CopyFormat, CopyRewriter};
use codecs::postgres::frontend::Format;
use codecs::postgres::value::{
    Action, Edited, Kind, Rewritten, Scratch, Shape, TextEditor, Unit, ValueError, ValueType,
    rewrite,
};

const KINDS: [Kind; 33] = [
    Kind::Text,
    Kind::VarChar,
    Kind::BpChar,
    Kind::Name,
    Kind::Char,
    Kind::Json,
    Kind::Jsonb,
    Kind::JsonPath,
    Kind::Xml,
    Kind::Bytea,
    Kind::Int2,
    Kind::Int4,
    Kind::Int8,
    Kind::Oid,
    Kind::Numeric,
    Kind::Float4,
    Kind::Float8,
    Kind::Money,
    Kind::Bool,
    Kind::Uuid,
    Kind::Date,
    Kind::Time,
    Kind::Timestamp,
    Kind::TimestampTz,
    Kind::Interval,
    Kind::Inet,
    Kind::Cidr,
    Kind::MacAddr,
    Kind::Bit,
    Kind::TsVector,
    Kind::Enum,
    Kind::Record,
    Kind::Opaque,
];

const SHAPES: [Shape; 4] = [Shape::Scalar, Shape::Array, Shape::Range, Shape::Multirange];

/// What is hidden, in letters and in digits.
const HIDDEN: [&[u8]; 2] = [b"ss", b"77"];

struct Finder;

impl TextEditor for Finder {
    fn edit(&mut self, text: &[u8], out: &mut Vec<u8>) -> Edited {
        let start = out.len();
        let mut edited = Edited::Unchanged;
        let mut rest = text;
        while let [first, behind @ ..] = rest {
            let found = HIDDEN.iter().find_map(|hidden| rest.strip_prefix(*hidden));
            if found.is_some() {
                edited = Edited::Changed;
            }
            out.push(found.map_or(*first, |_| b'x'));
            rest = found.unwrap_or(behind);
        }
        if edited == Edited::Unchanged {
            out.truncate(start);
        }
        edited
    }
}

type Outcome = Result<Option<Option<Vec<u8>>>, ValueError>;

/// `None`: as it was; `Some(None)`: NULL.
fn outcome(value: &[u8], type_: ValueType, format: Format, action: &mut Action<'_>) -> Outcome {
    let mut scratch = Scratch::default();
    let mut out = b"before".to_vec();
    let rewritten = rewrite(value, type_, format, action, &mut scratch, &mut out);
    let appended = out.strip_prefix(b"before").expect("it only appends");
    assert!(matches!(rewritten, Ok(Rewritten::Value)) || appended.is_empty());
    rewritten.map(|rewritten| match rewritten {
        Rewritten::Unchanged => None,
        Rewritten::Null => Some(None),
        Rewritten::Value => Some(Some(appended.to_vec())),
    })
}

/// One value: a type, a format, an action, the bytes.
pub fn value(input: &[u8]) {
    let [kind, shape, format, action, modifier, value @ ..] = input else {
        return;
    };
    let type_ = ValueType {
        kind: KINDS[usize::from(*kind) % KINDS.len()],
        shape: SHAPES[usize::from(*shape) % SHAPES.len()],
        modifier: i32::from(*modifier) - 1,
    };
    let format = [Format::Text, Format::Binary][usize::from(*format) % 2];
    match action % 5 {
        // What is written is read again, and what was found is not in it.
        0 => {
            let edited = outcome(value, type_, format, &mut Action::Edit(&mut Finder));
            if let Ok(Some(Some(edited))) = edited {
                let again = outcome(&edited, type_, format, &mut Action::Edit(&mut Finder));
                assert_eq!(again, Ok(None), "{type_:?}");
            }
        }
        // Nothing of the value is in it.
        1 => {
            let redacted = outcome(value, type_, format, &mut Action::Redact);
            assert_eq!(redacted, outcome(b"", type_, format, &mut Action::Redact));
            assert_ne!(redacted, Ok(None));
        }
        2 => {
            let fixed = outcome(value, type_, format, &mut Action::Fixed("77"));
            assert_eq!(fixed, outcome(b"", type_, format, &mut Action::Fixed("77")));
            assert_ne!(fixed, Ok(None));
        }
        // What was rounded is round. A float is as good as its division.
        3 => {
            let exponent = modifier % 19;
            let rounded = outcome(value, type_, format, &mut Action::Round { exponent });
            let is_float = matches!(type_.kind, Kind::Float4 | Kind::Float8);
            if let Ok(Some(Some(rounded))) = rounded
                && !is_float
            {
                let again = outcome(&rounded, type_, format, &mut Action::Round { exponent });
                assert_eq!(again, Ok(Some(Some(rounded))), "{type_:?}");
            }
        }
        _ => {
            let unit = [Unit::Hour, Unit::Day, Unit::Month, Unit::Year];
            let unit = unit[usize::from(*modifier) % 4];
            let cut = outcome(value, type_, format, &mut Action::Truncate(unit));
            if let Ok(Some(Some(cut))) = cut {
                let again = outcome(&cut, type_, format, &mut Action::Truncate(unit));
                assert_eq!(again, Ok(Some(Some(cut))), "{type_:?}");
            }
        }
    }
}

struct Fields;

impl CopyFields for Fields {
    fn looks_at(&self, column: usize) -> bool {
        column != 1
    }

    fn field(&mut self, _column: usize, value: &[u8], out: &mut Vec<u8>) -> Rewritten {
        match Finder.edit(value, out) {
            Edited::Unchanged => Rewritten::Unchanged,
            Edited::Changed if value.len() == 2 => Rewritten::Null,
            Edited::Changed => Rewritten::Value,
        }
    }
}

/// Most bytes of a field.
const FIELD_BYTES_MAX: usize = 64;

fn copied(format: &CopyFormat, columns: usize, parts: &[&[u8]]) -> Result<Vec<u8>, CopyError> {
    let mut rewriter = CopyRewriter::new(format.clone(), columns, FIELD_BYTES_MAX);
    let mut out = Vec::new();
    for part in parts {
        rewriter.rewrite(part, &mut Fields, &mut out)?;
    }
    rewriter.finish()?;
    Ok(out)
}

/// Data of COPY: a format, a number of columns, a cut, the bytes.
pub fn copy(input: &[u8]) {
    let [format, columns, cut, data @ ..] = input else {
        return;
    };
    let columns = usize::from(columns % 4);
    let format = match format % 5 {
        0 => CopyFormat::text(),
        1 => CopyFormat::csv(),
        2 => CopyFormat::Binary,
        3 => CopyFormat::Text {
            delimiter: b'|',
            null: (*b"nil").into(),
            header: true,
        },
        _ => CopyFormat::Csv {
            delimiter: b';',
            quote: b'\'',
            escape: b'\\',
            null: (*b"-").into(),
            header: true,
        },
    };
    let whole = copied(&format, columns, &[data]);
    let (before, behind) = data.split_at(usize::from(*cut).min(data.len()));
    let cut = copied(&format, columns, &[before, behind]);
    assert_eq!(whole.as_ref().ok(), cut.as_ref().ok());
    if let Ok(once) = whole {
        assert_eq!(copied(&format, columns, &[&once]).as_ref(), Ok(&once));
    }
}
