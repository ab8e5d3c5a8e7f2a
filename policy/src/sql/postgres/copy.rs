//! How the data of a COPY is written, by its options.

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum};

use crate::sql::profile::CopyLayout;

/// `None` where the options are not all known, or would not be accepted by the server.
pub(super) fn layout(options: &[Node]) -> Option<CopyLayout> {
    let mut written = Written::default();
    for option in options {
        let Some(NodeEnum::DefElem(option)) = &option.node else {
            return None;
        };
        written.take(option)?;
    }
    written.layout()
}

/// Options as they stand in the statement.
#[derive(Default)]
struct Written {
    format: Option<String>,
    delimiter: Option<u8>,
    null: Option<String>,
    quote: Option<u8>,
    escape: Option<u8>,
    header: bool,
}

impl Written {
    fn take(&mut self, option: &p::DefElem) -> Option<()> {
        let argument = option.arg.as_deref().and_then(|node| node.node.as_ref());
        match option.defname.as_str() {
            "format" => self.format = Some(text(argument)?),
            "delimiter" => self.delimiter = Some(byte(argument)?),
            "null" => self.null = Some(text(argument)?),
            "quote" => self.quote = Some(byte(argument)?),
            "escape" => self.escape = Some(byte(argument)?),
            "header" => self.header = flag(argument)?,
            // Which values are quoted says nothing of where they end.
            "force_quote" => {}
            // Bytes of other encodings may look like delimiters.
            "encoding" => {
                let encoding = text(argument)?.to_ascii_lowercase();
                if !matches!(encoding.as_str(), "utf8" | "utf-8" | "unicode") {
                    return None;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn layout(self) -> Option<CopyLayout> {
        let header = self.header;
        Some(match self.format.as_deref() {
            None | Some("text") => CopyLayout::Text {
                delimiter: self.delimiter.unwrap_or(b'\t'),
                null: self.null.unwrap_or_else(|| "\\N".to_owned()),
                header,
            },
            Some("csv") => {
                let quote = self.quote.unwrap_or(b'"');
                CopyLayout::Csv {
                    delimiter: self.delimiter.unwrap_or(b','),
                    quote,
                    escape: self.escape.unwrap_or(quote),
                    null: self.null.unwrap_or_default(),
                    header,
                }
            }
            Some("binary") => CopyLayout::Binary,
            Some(_) => return None,
        })
    }
}

fn text(argument: Option<&NodeEnum>) -> Option<String> {
    match argument {
        Some(NodeEnum::String(string)) => Some(string.sval.clone()),
        _ => None,
    }
}

fn byte(argument: Option<&NodeEnum>) -> Option<u8> {
    match text(argument)?.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    }
}

fn flag(argument: Option<&NodeEnum>) -> Option<bool> {
    match argument {
        None => Some(true),
        Some(NodeEnum::Boolean(boolean)) => Some(boolean.boolval),
        Some(NodeEnum::Integer(integer)) => match integer.ival {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        Some(NodeEnum::String(word)) => match word.sval.to_ascii_lowercase().as_str() {
            "true" | "on" => Some(true),
            "false" | "off" => Some(false),
            _ => None,
        },
        Some(_) => None,
    }
}
