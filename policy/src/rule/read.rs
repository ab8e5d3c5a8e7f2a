//! From TOML to tables whose keys are known and whose values are of the right kind.
//!
//! Driven by the table of keys; what the words mean is found out in `compile`.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::keys::{Key, Value, Within, keys_of};
use super::{At, Reporter, Source};

/// A list of words, with where it and each of them stands.
pub(crate) type Words = At<Vec<At<String>>>;

/// One table of a policy file. What is wrong or missing in it has been reported.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) within: Within,
    pub(crate) span: Range<usize>,
    fields: Vec<Field>,
}

/// A key that has a value of its kind.
#[derive(Debug)]
struct Field {
    name: &'static str,
    key_span: Range<usize>,
    value: Read,
}

#[derive(Debug)]
enum Read {
    Text(At<String>),
    Words(Words),
    Flag(bool),
    Number(At<u64>),
    Table(Table),
    /// Of another kind than it should be, which has been reported.
    Wrong,
}

impl Table {
    fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Where the key stands, if it is there.
    pub(crate) fn key_span(&self, name: &str) -> Option<Range<usize>> {
        self.field(name).map(|field| field.key_span.clone())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&At<String>> {
        match self.field(name).map(|field| &field.value) {
            Some(Read::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn words(&self, name: &str) -> Option<&Words> {
        match self.field(name).map(|field| &field.value) {
            Some(Read::Words(words)) => Some(words),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(
            self.field(name).map(|field| &field.value),
            Some(Read::Flag(true))
        )
    }

    pub(crate) fn number(&self, name: &str) -> Option<&At<u64>> {
        match self.field(name).map(|field| &field.value) {
            Some(Read::Number(number)) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn table(&self, name: &str) -> Option<&Self> {
        match self.field(name).map(|field| &field.value) {
            Some(Read::Table(table)) => Some(table),
            _ => None,
        }
    }
}

/// Reads one file; what is wrong with its shape is in `reporter` afterwards.
pub(crate) fn read(source: &Source, reporter: &mut Reporter<'_>) -> Vec<Table> {
    let (file, errors) = DeTable::parse_recoverable(&source.text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        reporter.report(&span, error.message().trim().replace('\n', "; "));
    }
    if !errors.is_empty() {
        return Vec::new();
    }
    let mut tables = Vec::new();
    for (name, value) in file.get_ref() {
        let Some(key) = known(Within::File, name.get_ref(), name.span(), reporter) else {
            continue;
        };
        let (DeValue::Array(array), Value::Tables(within)) = (value.get_ref(), key.value) else {
            reporter.report(&value.span(), format!("write `[[{}]]`", key.name));
            continue;
        };
        for item in array {
            if let DeValue::Table(table) = item.get_ref() {
                tables.push(read_table(within, table, item.span(), reporter));
            } else {
                reporter.report(&item.span(), format!("{} is a table", within.title()));
            }
        }
    }
    tables
}

fn read_table(
    within: Within,
    table: &DeTable<'_>,
    span: Range<usize>,
    reporter: &mut Reporter<'_>,
) -> Table {
    let mut fields = Vec::new();
    for (name, value) in table {
        let Some(key) = known(within, name.get_ref(), name.span(), reporter) else {
            continue;
        };
        let read = read_value(key, value.get_ref(), value.span(), reporter);
        fields.push(Field {
            name: key.name,
            key_span: name.span(),
            value: read.unwrap_or(Read::Wrong),
        });
    }
    let missing = keys_of(within)
        .filter(|key| key.required)
        .filter(|key| !fields.iter().any(|field| field.name == key.name));
    for key in missing {
        reporter.report(&span, format!("the key `{}` is missing", key.name));
    }
    Table {
        within,
        span,
        fields,
    }
}

fn read_value(
    key: &Key,
    value: &DeValue<'_>,
    span: Range<usize>,
    reporter: &mut Reporter<'_>,
) -> Option<Read> {
    let name = key.name;
    let expected = match (key.value, value) {
        (Value::Text, DeValue::String(text)) => {
            return Some(Read::Text(At {
                value: text.to_string(),
                span,
            }));
        }
        (Value::Duration | Value::Size, DeValue::String(text)) => {
            return Some(Read::Text(At {
                value: text.to_string(),
                span,
            }));
        }
        (Value::OneOf(words), DeValue::String(text)) => {
            return read_one_of(key, words, text, span, reporter);
        }
        (Value::Flag, DeValue::Boolean(flag)) => return Some(Read::Flag(*flag)),
        (Value::Number, DeValue::Integer(number)) => {
            let value = u64::from_str_radix(number.as_str(), number.radix()).ok();
            if let Some(value) = value {
                return Some(Read::Number(At { value, span }));
            }
            format!("`{name}` is a number from 0")
        }
        (Value::Table(within), DeValue::Table(table)) => {
            return Some(Read::Table(read_table(within, table, span, reporter)));
        }
        (Value::Texts | Value::Patterns | Value::ColumnPatterns, DeValue::Array(items)) => {
            let mut words = Vec::new();
            for item in items {
                if let DeValue::String(word) = item.get_ref() {
                    words.push(At {
                        value: word.to_string(),
                        span: item.span(),
                    });
                } else {
                    reporter.report(&item.span(), format!("`{name}` is a list of strings"));
                }
            }
            if words.is_empty() && !items.is_empty() {
                return None;
            }
            return Some(Read::Words(At { value: words, span }));
        }
        (Value::Table(Within::Match), _) => "expected `{ statements = [...] }`".to_owned(),
        (Value::Table(within), _) => format!("`{name}` is a table: {}", within.title()),
        (Value::Tables(_), _) => format!("write `[[{name}]]`"),
        (Value::Text, _) => format!("`{name}` is a string"),
        (Value::Flag, _) => format!("`{name}` is `true` or `false`"),
        (Value::Number, _) => format!("`{name}` is a number from 0"),
        (Value::Duration, _) => format!("`{name}` is a duration such as \"10m\""),
        (Value::Size, _) => format!("`{name}` is a size such as \"256MiB\""),
        (Value::OneOf(_), _) => format!("`{name}` is {}", key.value),
        (Value::Texts | Value::Patterns | Value::ColumnPatterns, _) => {
            format!("`{name}` is a list of strings")
        }
    };
    reporter.report(&span, expected);
    None
}

fn read_one_of(
    key: &Key,
    words: &[&str],
    text: &str,
    span: Range<usize>,
    reporter: &mut Reporter<'_>,
) -> Option<Read> {
    if words.contains(&text) {
        return Some(Read::Text(At {
            value: text.to_owned(),
            span,
        }));
    }
    let message = format!("`{}` is {}", key.name, key.value);
    reporter.report_word(&span, message, text, words.iter().copied());
    None
}

/// The key of that name in that table; reports it otherwise.
fn known(
    within: Within,
    word: &str,
    span: Range<usize>,
    reporter: &mut Reporter<'_>,
) -> Option<&'static Key> {
    let key = keys_of(within).find(|key| key.name == word);
    if key.is_none() {
        let valid = keys_of(within).map(|key| key.name);
        reporter.report_word(&span, format!("unknown key `{word}`"), word, valid);
    }
    key
}
