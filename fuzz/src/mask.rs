//! Masks: what is found in a field.

use std::sync::LazyLock;

use policy::mask::detect::{
    DetectorSet, Format, HELD_BYTES, Kind, Scanner, StreamScanner, Wanted, fill, redact_into,
};

/// Every kind, and what a policy may bring.
static EVERYTHING: LazyLock<DetectorSet> = LazyLock::new(|| compile(&[r"\bEMP-\d{4}\b"]));

/// The same without expressions, which may match at the beginning of a field only.
static FORMS: LazyLock<DetectorSet> = LazyLock::new(|| compile(&[]));

fn compile(patterns: &[&str]) -> DetectorSet {
    let names = Kind::names().collect::<Vec<_>>();
    DetectorSet::compile(&[Wanted {
        detect: &names,
        patterns,
        words: &["bluebird"],
    }])
    .expect("a good set")
}

/// A byte that says where to cut and what the text is, and a field: what is found lies in it, in
/// order; a stream gives what the whole gives; nothing lies in what is passed as clean.
pub fn detect(input: &[u8]) {
    let Some((head, field)) = input.split_first() else {
        return;
    };
    let format = if head & 1 == 0 {
        Format::Text
    } else {
        Format::Json
    };
    let mut scanner = Scanner::default();
    let mut filled = field.to_vec();
    let mut end = 0;
    for found in scanner.find(&EVERYTHING, field, format) {
        assert!(found.span.start >= end && found.span.start < found.span.end);
        assert!(!found.kinds.is_empty() && !found.masks.is_empty());
        end = found.span.end;
        fill(&mut filled[found.span.clone()], found.place);
    }

    let cut = usize::from(head >> 1) * field.len() / 127;
    let (first, second) = field.split_at(cut.min(field.len()));
    let mut stream = StreamScanner::new(format);
    let mut streamed = Vec::new();
    for piece in [first, second] {
        stream.feed(&EVERYTHING, piece, &mut streamed);
        assert!(stream.held_bytes() <= HELD_BYTES + piece.len());
    }
    stream.finish(&EVERYTHING, &mut streamed);
    assert_eq!(streamed, filled);

    let clean = FORMS.clean_prefix(field);
    for found in scanner.find(&FORMS, field, Format::Text) {
        assert!(found.span.end > clean);
    }

    if format == Format::Json && serde_json::from_slice::<serde_json::Value>(field).is_ok() {
        assert!(serde_json::from_slice::<serde_json::Value>(&filled).is_ok());
        let mut redacted = Vec::new();
        redact_into(&mut scanner, &FORMS, field, format, &mut redacted);
        assert!(serde_json::from_slice::<serde_json::Value>(&redacted).is_ok());
    }
}
