//! How fast values are found in rows and taken out of them, in gigabytes a second of one core.
//!
//! It decides nothing: `benches::timing` says how time is taken.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::hint::black_box;
use std::process::ExitCode;

use benches::timing::gigabytes_per_second;
use policy::mask::detect::{DetectorSet, Format, Scanner, StreamScanner, Wanted, redact_into};

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of each input: more than the second-level cache.
const INPUT: usize = 8 << 20;

/// What one read from a socket brings.
const CHUNK: usize = 64 << 10;

/// What a policy of design looks for, and all there is.
const SETS: &[(&str, &[&str])] = &[
    (
        "pii",
        &["payment-card", "us-ssn", "email", "iban", "secret"],
    ),
    (
        "all",
        &[
            "payment-card",
            "us-ssn",
            "email",
            "iban",
            "phone",
            "ip",
            "secret",
        ],
    ),
];

fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    match run(only.as_deref()) {
        Some(()) => ExitCode::SUCCESS,
        None => {
            eprintln!("something was not found that is there, or found that is not");
            ExitCode::FAILURE
        }
    }
}

fn run(only: Option<&str>) -> Option<()> {
    let inputs = inputs();
    let clean = inputs.first().map(|(_, bytes)| bytes.as_slice())?;
    println!("| input | measure | GB/s | of memcpy |");
    println!("|---|---|---|---|");
    let mut copy = vec![0; clean.len()];
    let memcpy = gigabytes_per_second(clean.len(), || {
        copy.get_mut(..clean.len())?
            .copy_from_slice(black_box(clean));
        black_box(&mut copy);
        Some(())
    })?;
    println!("| rows, clean | memcpy | {memcpy:.1} | 1 |");
    let memchr = gigabytes_per_second(clean.len(), || {
        black_box(memchr::memchr(0xfe, black_box(clean)));
        Some(())
    })?;
    println!(
        "| rows, clean | memchr | {memchr:.1} | {:.2} |",
        memchr / memcpy
    );
    for (set_name, detect) in SETS {
        let set = DetectorSet::compile(&[Wanted {
            detect,
            ..Wanted::default()
        }])
        .ok()?;
        let mut scanner = Scanner::default();
        let mut out = Vec::with_capacity(2 * INPUT);
        for (name, bytes) in &inputs {
            if only.is_some_and(|only| !name.contains(only)) {
                continue;
            }
            let print = |measure: &str, gigabytes: f64| {
                let ratio = gigabytes / memcpy;
                println!("| {name} | {measure}, {set_name} | {gigabytes:.2} | {ratio:.2} |");
            };
            if name.starts_with("rows") {
                let mut hits = 0;
                let scan = gigabytes_per_second(bytes.len(), || {
                    hits = scan_rows(&set, &mut scanner, black_box(bytes))?;
                    Some(())
                })?;
                if (hits == 0) != (*name == "rows, clean") {
                    return None;
                }
                print("scan", scan);
                let rewrite = gigabytes_per_second(bytes.len(), || {
                    out.clear();
                    rewrite_rows(&set, &mut scanner, black_box(bytes), &mut out)?;
                    black_box(&mut out);
                    Some(())
                })?;
                print("scan and rewrite", rewrite);
            } else {
                let field = gigabytes_per_second(bytes.len(), || {
                    black_box(scanner.find(&set, black_box(bytes), Format::Text));
                    Some(())
                })?;
                print("one field", field);
                let skip = gigabytes_per_second(bytes.len(), || {
                    let mut rest = black_box(bytes.as_slice());
                    while !rest.is_empty() {
                        // A suspect is passed by as little as a row.
                        let step = (set.clean_prefix(rest) + 128).min(rest.len());
                        rest = rest.get(step..)?;
                    }
                    Some(())
                })?;
                print("search for suspects", skip);
                let stream = gigabytes_per_second(bytes.len(), || {
                    out.clear();
                    let mut stream = StreamScanner::new(Format::Text);
                    for chunk in bytes.chunks(CHUNK) {
                        stream.feed(&set, chunk, &mut out);
                    }
                    stream.finish(&set, &mut out);
                    (out.len() == bytes.len()).then_some(())
                })?;
                print("stream", stream);
            }
        }
    }
    Some(())
}

/// Rows off the wire, as the appliance reads them: what is clean is passed at once, of other rows
/// every field is looked at.
fn scan_rows(set: &DetectorSet, scanner: &mut Scanner, bytes: &[u8]) -> Option<usize> {
    let mut hits = 0;
    for_suspect_rows(set, bytes, |row| {
        let Row::Suspect(mut fields) = row else {
            return Some(());
        };
        while let Some(field) = next_field(&mut fields) {
            hits += scanner.find(set, field, Format::Text).len();
        }
        Some(())
    })?;
    Some(hits)
}

fn rewrite_rows(
    set: &DetectorSet,
    scanner: &mut Scanner,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    for_suspect_rows(set, bytes, |row| {
        let mut fields = match row {
            Row::Clean(rows) => {
                out.extend_from_slice(rows);
                return Some(());
            }
            Row::Suspect(fields) => fields,
        };
        let row_start = out.len();
        out.extend_from_slice(&[0; 4]);
        while let Some(field) = next_field(&mut fields) {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            redact_into(scanner, set, field, Format::Text, out);
            patch(out, start)?;
        }
        patch(out, row_start)
    })
}

/// Writes the length of what follows at `start`.
fn patch(out: &mut [u8], start: usize) -> Option<()> {
    let length = u32::try_from(out.len() - start - 4).ok()?.to_be_bytes();
    out.get_mut(start..start + 4)?.copy_from_slice(&length);
    Some(())
}

enum Row<'b> {
    /// One or more of them, with their headers.
    Clean(&'b [u8]),
    /// The fields of one.
    Suspect(&'b [u8]),
}

fn for_suspect_rows<'b>(
    set: &DetectorSet,
    bytes: &'b [u8],
    mut on: impl FnMut(Row<'b>) -> Option<()>,
) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let clean = set.clean_prefix(rest.get(..rest.len().min(CHUNK))?);
        let mut end = 0;
        let mut next = row_end(rest, 0)?;
        while next <= clean {
            end = next;
            if end == rest.len() {
                break;
            }
            next = row_end(rest, end)?;
        }
        if end > 0 {
            on(Row::Clean(rest.get(..end)?))?;
        }
        if end < rest.len() && clean < rest.len().min(CHUNK) {
            on(Row::Suspect(rest.get(end + 4..next)?))?;
            end = next;
        } else if end == 0 {
            return None;
        }
        rest = rest.get(end..)?;
    }
    Some(())
}

fn row_end(bytes: &[u8], start: usize) -> Option<usize> {
    let header = bytes.get(start..)?.first_chunk::<4>()?;
    Some(start + 4 + usize::try_from(u32::from_be_bytes(*header)).ok()?)
}

fn next_field<'b>(fields: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (header, rest) = fields.split_first_chunk::<4>()?;
    let (field, rest) =
        rest.split_at_checked(usize::try_from(u32::from_be_bytes(*header)).ok()?)?;
    *fields = rest;
    Some(field)
}

fn inputs() -> Vec<(&'static str, Vec<u8>)> {
    let mut random = Random(0x5eed);
    let mut inputs = vec![
        ("rows, clean", rows(&mut random, 0)),
        ("rows, 1 % with a value", rows(&mut random, 100)),
        ("rows, all with a value", rows(&mut random, 1)),
    ];
    for (name, unit) in [
        ("digits", "7"),
        ("at signs", "@"),
        ("eyJ", "eyJ"),
        ("private key heads", "-----BEGIN PRIVATE KEY-----\n"),
        ("passwords", "password="),
        ("backslashes", "\\"),
        ("escapes", "\\u0034"),
        ("groups of digits", "4111 "),
        ("dots", "1.1."),
        ("colons", "::1:"),
        ("hexadecimal", "deadbeef00112233445566778899aabbccddeeff "),
        (
            "prose",
            "The parcel was left with a neighbour, who was asked to sign for it; she did so at noon. ",
        ),
        (
            "documents",
            "{\"id\": 48213, \"state\": \"shipped\", \"note\": \"left at \\\"the door\\\"\", \"items\": [1, 2, 3]} ",
        ),
    ] {
        inputs.push((
            name,
            unit.as_bytes()
                .iter()
                .copied()
                .cycle()
                .take(INPUT)
                .collect(),
        ));
    }
    let base64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let base64 = (0..INPUT).filter_map(|_| base64.get(random.below(64)).copied());
    inputs.push(("base64", base64.collect()));
    inputs
}

/// Orders: numbers, times, a UUID, an amount, words. One row in `every` (none for 0) has a value in
/// one of its texts.
fn rows(random: &mut Random, every: usize) -> Vec<u8> {
    let mut rows = Vec::with_capacity(INPUT + 1024);
    let mut row = Vec::new();
    let mut number = 0;
    while rows.len() < INPUT {
        number += 1;
        row.clear();
        field(&mut row, &format!("{}", 48_213 + number));
        let [hour, minute, micros] = [random.below(24), random.below(60), random.below(1_000_000)];
        field(
            &mut row,
            &format!("2026-11-26 {hour:02}:{minute:02}:19.{micros:06}+00"),
        );
        let [a, b, c, d] = [0; 4].map(|_| random.below(1 << 30));
        field(
            &mut row,
            &format!(
                "{a:08x}-{:04x}-4{:03x}-a{:03x}-{:06x}{d:06x}",
                b & 0xffff,
                c & 0xfff,
                d & 0xfff,
                b & 0xff_ffff,
                d = d & 0xff_ffff
            ),
        );
        field(&mut row, random.pick(&["pending", "shipped", "returned"]));
        field(
            &mut row,
            &format!("{}.{:02}", random.below(5000), random.below(100)),
        );
        let mut note = String::new();
        for _ in 0..4 + random.below(12) {
            note.push_str(random.pick(WORDS));
            note.push(' ');
        }
        if every > 0 && number % every == 0 {
            note.push_str(random.pick(VALUES));
        }
        field(&mut row, &note);
        field(
            &mut row,
            random.pick(&["DE", "FR", "Springfield", "New Amsterdam"]),
        );
        field(&mut row, random.pick(&["t", "f"]));
        field(&mut rows, "");
        let start = rows.len() - 4;
        rows.extend_from_slice(&row);
        if patch(&mut rows, start).is_none() {
            break;
        }
    }
    rows
}

fn field(row: &mut Vec<u8>, text: &str) {
    row.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
    row.extend_from_slice(text.as_bytes());
}

const WORDS: &[&str] = &[
    "parcel",
    "left",
    "with",
    "a",
    "neighbour",
    "no",
    "signature",
    "flat",
    "12",
    "access",
    "priority",
    "customer",
    "called",
    "about",
    "the",
    "delivery",
    "of",
    "2",
    "boxes",
    "tomorrow",
];

const VALUES: &[&str] = &[
    "4111 1111 1111 1111",
    "5555555555554444",
    "alice@example.com",
    "123-45-6789",
    "DE89370400440532013000",
    "password=hunter2hunter2",
    "AKIAIOSFODNN7EXAMPLE",
];

/// Xorshift: the same input on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(0) % bound
    }

    fn pick<'p>(&mut self, from: &[&'p str]) -> &'p str {
        from.get(self.below(from.len()))
            .copied()
            .unwrap_or_default()
    }
}
