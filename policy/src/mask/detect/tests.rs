//! Whole fields and streams: what is found, and what it becomes.

use proptest::prelude::*;

use super::*;

fn set(detect: &[&str]) -> DetectorSet {
    DetectorSet::compile(&[Wanted {
        detect,
        ..Wanted::default()
    }])
    .expect("a good set")
}

const EVERY: &[&str] = &[
    "payment-card",
    "us-ssn",
    "email",
    "iban",
    "phone",
    "ip",
    "secret",
];

fn redacted(set: &DetectorSet, text: &str, format: Format) -> String {
    let mut out = Vec::new();
    redact_into(
        &mut Scanner::default(),
        set,
        text.as_bytes(),
        format,
        &mut out,
    );
    String::from_utf8(out).expect("text stays text")
}

fn check(text: &str, expected: &str) {
    assert_eq!(redacted(&set(EVERY), text, Format::Text), expected);
}

#[test]
fn values_of_every_kind_are_redacted_in_text() {
    check("pay 4111 1111 1111 1111 now", "pay [redacted] now");
    check("ssn 123-45-6789.", "ssn [redacted].");
    check("SSN: 123456789", "SSN: [redacted]");
    check("to <alice@example.com>", "to <[redacted]>");
    check("DE89370400440532013000", "[redacted]");
    check(
        "call +14155552671 or 415-555-2671",
        "call [redacted] or [redacted]",
    );
    check(
        "from 10.0.0.1 to fe80::1ff:fe23",
        "from [redacted] to [redacted]",
    );
    check("06 12 34 56 78", "[redacted]");
    check(
        "x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln y",
        "x [redacted] y",
    );
    check("key AKIAIOSFODNN7EXAMPLE", "key [redacted]");
    check("password=hunter2hunter2 x", "password=[redacted] x");
    check(
        "postgres://app:hunter2@db/orders",
        "postgres://app:[redacted]@db/orders",
    );
    check(
        "a\n-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----\nb",
        "a\n[redacted]\nb",
    );
}

#[test]
fn what_only_looks_so_is_left_alone() {
    for text in [
        "order 4111111111111112",
        "550e8400-e29b-41d4-a716-446655440000",
        "2026-11-26 10:26:19.123456+00",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "1700000000000000",
        "version 1.2.3.4",
        "flat 12, no signature",
        "",
        "a",
    ] {
        check(text, text);
    }
}

#[test]
fn a_set_looks_for_what_it_names_only() {
    let text = "alice@example.com 4111111111111111 password=hunter2hunter2";
    let only = |detect: &[&str]| redacted(&set(detect), text, Format::Text);
    assert_eq!(only(&[]), text);
    assert_eq!(
        only(&["email"]),
        "[redacted] 4111111111111111 password=hunter2hunter2"
    );
    assert_eq!(
        only(&["payment-card"]),
        "alice@example.com [redacted] password=hunter2hunter2"
    );
    assert_eq!(
        only(&["credential"]),
        "alice@example.com 4111111111111111 password=[redacted]"
    );
}

#[test]
fn a_match_names_the_masks_that_look_for_it() {
    let set = DetectorSet::compile(&[
        Wanted {
            detect: &["email"],
            ..Wanted::default()
        },
        Wanted {
            detect: &["email", "iban"],
            words: &["bluebird"],
            ..Wanted::default()
        },
        Wanted {
            patterns: &[r"EMP-\d{6}"],
            ..Wanted::default()
        },
    ])
    .expect("a good set");
    let text = b"alice@example.com DE89370400440532013000 Bluebird EMP-123456";
    let mut scanner = Scanner::default();
    let found = scanner.find(&set, text, Format::Text);
    let masks = found
        .iter()
        .map(|found| found.masks.iter().collect::<Vec<_>>());
    assert_eq!(
        masks.collect::<Vec<_>>(),
        [vec![0, 1], vec![1], vec![1], vec![2]]
    );
    let ends = found.iter().map(|found| found.span.end);
    assert_eq!(ends.collect::<Vec<_>>(), [17, 40, 49, 60]);
}

#[test]
fn overlapping_values_become_one() {
    let set = set(EVERY);
    let mut scanner = Scanner::default();
    let text = b"https://alice:hunter2@example.com/x";
    let found = scanner.find(&set, text, Format::Text);
    assert_eq!(found.len(), 1);
    assert!(found[0].kinds.is_mixed());
    assert_eq!(found[0].span, 14..33);
}

#[test]
fn documents_stay_documents() {
    let check = |text: &str, expected: &str| {
        assert_eq!(redacted(&set(EVERY), text, Format::Json), expected);
        serde_json_like(expected);
    };
    check(
        r#"{"card": 4111111111111111, "x": 1}"#,
        r#"{"card": null, "x": 1}"#,
    );
    check(
        r#"{"card": "4111111111111111"}"#,
        r#"{"card": "[redacted]"}"#,
    );
    check(
        r#"{"card": "\u00341111\u00311111111111"}"#,
        r#"{"card": "[redacted]"}"#,
    );
    check(r#"["x\u00e94111111111111111"]"#, r#"["x\u00e9[redacted]"]"#);
    check(
        r#"["line\n4111 1111 1111 1111\tx"]"#,
        r#"["line\n[redacted]\tx"]"#,
    );
    check(r#"["\u0061lice@example.com"]"#, r#"["[redacted]"]"#);
    check(r#"["alice@example\u002ecom"]"#, r#"["[redacted]"]"#);
    check(
        r#"{"password": "hunter2hunter2", "n": "ok"}"#,
        r#"{"password": "[redacted]", "n": "ok"}"#,
    );
    check(
        r#"{"doc": "{\"password\": \"hunter2hunter2\"}"}"#,
        r#"{"doc": "{\"password\": \"[redacted]\"}"}"#,
    );
    check(
        r#"{"k": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n", "n": 1}"#,
        r#"{"k": "[redacted]", "n": 1}"#,
    );
    check("4111111111111111", "null");
    check("[-4111111111111111.0]", "[null]");
}

/// Quotes, brackets and escapes pair up; enough of a check that needs no parser here.
fn serde_json_like(text: &str) {
    let mut depth = 0;
    let mut in_string = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' => {
                let escape = bytes.next().expect("an escape has a letter");
                assert!(in_string && b"\"\\/bfnrtu".contains(&escape), "{text}");
            }
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            b'*' => assert!(in_string, "{text}"),
            _ => {}
        }
    }
    assert!(!in_string && depth == 0, "{text}");
}

#[test]
fn text_inside_of_bytea_is_found_and_stays_hexadecimal() {
    check(
        r"\x746f20616c696365406578616d706c652e636f6d2e",
        r"\x746f202a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2e",
    );
}

#[test]
fn what_is_not_accepted_is_named() {
    let errors = DetectorSet::compile(&[
        Wanted {
            detect: &["email", "emial"],
            ..Wanted::default()
        },
        Wanted {
            patterns: &["ok", "("],
            words: &["", "fine"],
            ..Wanted::default()
        },
    ])
    .expect_err("three mistakes");
    assert_eq!(errors.len(), 3);
    assert_eq!(errors[0], DetectError::UnknownName { mask: 0, entry: 1 });
    assert!(matches!(
        errors[1],
        DetectError::Pattern {
            mask: 1,
            entry: 1,
            problem: PatternProblem::Syntax(_)
        }
    ));
    assert_eq!(errors[2], DetectError::WordLength { mask: 1, entry: 0 });
}

fn full() -> DetectorSet {
    DetectorSet::compile(&[Wanted {
        detect: EVERY,
        patterns: &[r"\bEMP-\d{6}\b"],
        words: &["bluebird"],
    }])
    .expect("a good set")
}

/// The whole field, filled.
fn filled(set: &DetectorSet, field: &[u8], format: Format) -> Vec<u8> {
    let mut out = field.to_vec();
    let mut scanner = Scanner::default();
    for found in scanner.find(set, field, format) {
        fill(&mut out[found.span.clone()], found.place);
    }
    out
}

fn streamed(set: &DetectorSet, pieces: &[&[u8]], format: Format) -> Vec<u8> {
    let mut stream = StreamScanner::new(format);
    let mut out = Vec::new();
    for piece in pieces {
        stream.feed(set, piece, &mut out);
        assert!(stream.held_bytes() <= HELD_BYTES + 16 * 1024);
    }
    stream.finish(set, &mut out);
    out
}

/// Whether the same bytes are hidden. With what differs where a value is longer than what a stream
/// holds: the stream has filled its beginning before it sees that its end is hexadecimal.
fn hides_the_same(one: &[u8], other: &[u8]) -> bool {
    // `*`, and in hexadecimal `2a` from wherever the filling began.
    let is_filled = |byte: u8| matches!(byte, b'*' | b'2' | b'a');
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(&a, &b)| a == b || is_filled(a) && is_filled(b))
}

/// What fields consist of, in any order: values, what looks like them, and what is between.
fn shard() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z ,.]{0,40}",
        1 => "[ -~]{0,30}",
        1 => "[0-9 .:-]{0,30}",
        1 => "\\PC{0,10}",
        4 => prop::sample::select(vec![
            "4111 1111 1111 1111", "4111111111111111", "123-45-6789", "ssn=123456789",
            "alice@example.com", "GB29 NWBK 6016 1331 9268 19", "DE89370400440532013000",
            "+1 (415) 555-2671", "06 12 34 56 78", "192.168.1.254", "2001:db8::8a2e:370:7334",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "AKIAIOSFODNN7EXAMPLE",
            "{\"password\": \"hunter2hunter2\"}", "postgres://a:hunter2@h/", "EMP-123456", "bluebird",
            "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n", "-----END PRIVATE KEY-----",
            "\\u0034111111111111111", "\\n", "\\\\", "\"", "\\x616c696365406578616d706c652e636f6d",
            "\n", "{\"a\": 4111111111111111}", "eyJ", "-----BEGIN ", "@", "password=",
        ]).prop_map(str::to_owned),
        1 => (1usize..3000, prop::sample::select(vec!["a", "4", "@", "eyJ", " ", "\\", "pwd=", "1 ", "::", "\\u0034"]))
            .prop_map(|(count, text)| text.repeat(count)),
    ]
}

#[test]
fn a_value_longer_than_what_is_held_is_hidden_to_its_hexadecimal_end() {
    let set = full();
    let secret = "pwd=".repeat(HELD_BYTES);
    let field = format!("password={secret}\\x616c696365406578616d706c652e636f6d");
    let whole = filled(&set, field.as_bytes(), Format::Text);
    let pieces: Vec<&[u8]> = field.as_bytes().chunks(1000).collect();
    let in_parts = streamed(&set, &pieces, Format::Text);
    for hidden in [&whole, &in_parts] {
        let shown = String::from_utf8_lossy(hidden);
        let shown = shown.strip_prefix("password=").expect("the key is shown");
        assert!(
            shown
                .bytes()
                .all(|byte| matches!(byte, b'*' | b'2' | b'a' | b'\\' | b'x'))
        );
    }
    assert!(hides_the_same(&whole, &in_parts));
    assert!(!hides_the_same(&whole, field.as_bytes()));
}

#[test]
fn a_length_that_reads_as_text_hides_no_value_behind_it() {
    let set = DetectorSet::compile(&[Wanted {
        detect: EVERY,
        ..Wanted::default()
    }])
    .expect("a good set");
    for value in [
        "4111111111111111",
        "4111 1111 1111 1111",
        "123-45-6789",
        "06 12 34 56 78",
        "AKIAIOSFODNN7EXAMPLE",
        "alice@example.com",
        "DE89370400440532013000",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    ] {
        // Lengths whose last byte, or last two, are digits or letters of ASCII, among others.
        for length in (42..130)
            .chain(300..320)
            .chain(0x3130..0x313a)
            .chain(0x4141..0x4145)
        {
            let field = format!("{value}{}", " ".repeat(length - value.len()));
            let mut row = vec![0, 0, 0, 1, b'x'];
            row.extend_from_slice(&u32::try_from(length).expect("short").to_be_bytes());
            let end = row.len() + value.len();
            row.extend_from_slice(field.as_bytes());
            assert!(set.clean_prefix(&row) < end, "{value} in {length} bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_stream_gives_what_the_whole_gives(
        shards in prop::collection::vec(shard(), 0..40),
        cuts in prop::collection::vec(0usize..1 << 20, 0..6),
        json in any::<bool>(),
    ) {
        let set = full();
        let field = shards.concat().into_bytes();
        let format = if json { Format::Json } else { Format::Text };
        let mut cuts = cuts.iter().map(|cut| cut % (field.len() + 1)).collect::<Vec<_>>();
        cuts.extend([0, field.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &field[cut[0]..cut[1]]).collect::<Vec<_>>();
        let streamed = streamed(&set, &pieces, format);
        let filled = filled(&set, &field, format);
        prop_assert_eq!(streamed.len(), field.len());
        if !hides_the_same(&streamed, &filled) {
            let at = (0..field.len()).find(|&at| !hides_the_same(&streamed[..=at], &filled[..=at])).unwrap_or(0);
            let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 60)]).into_owned();
            prop_assert!(false, "at {} of {}:\n{:?}\n{:?}\n{:?}", at, field.len(), show(&field), show(&filled), show(&streamed));
        }
    }

    #[test]
    fn what_is_passed_as_clean_has_no_value(
        fields in prop::collection::vec(shard(), 0..12),
        headers in prop::collection::vec(any::<[u8; 4]>(), 12),
    ) {
        let set = DetectorSet::compile(&[Wanted { detect: EVERY, words: &["bluebird"], ..Wanted::default() }])
            .expect("a good set");
        let mut row = Vec::new();
        let mut ends = Vec::new();
        for (field, header) in fields.iter().zip(headers) {
            // A length has its high byte clear unless the field has 16 MiB.
            row.extend_from_slice(&[0, header[1], header[2], header[3]]);
            row.extend_from_slice(field.as_bytes());
            ends.push(row.len());
        }
        let clean = set.clean_prefix(&row);
        let mut scanner = Scanner::default();
        for (field, end) in fields.iter().zip(ends) {
            if let Some(first) = scanner.find(&set, field.as_bytes(), Format::Text).first() {
                let at = end - field.len() + first.span.end;
                prop_assert!(at > clean, "{:?} ends at {}, clean up to {}", &field[first.span.clone()], at, clean);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let set = full();
        let filled = filled(&set, &bytes, Format::Json);
        prop_assert_eq!(filled.len(), bytes.len());
        prop_assert_eq!(streamed(&set, &[&bytes], Format::Json), filled);
    }
}
