//! What is done to a masked value, as a value itself: its words, its order, what it shows of a text.
//!
//! How a value of some type is written on the wire, and what suits a type, is not said here.

use std::fmt;

use strsim::damerau_levenshtein;
use thiserror::Error;

/// Longest text of `fixed:TEXT`.
///
/// Bytes. It is written once for each masked value of an answer; 256 hold any placeholder that a
/// person reads.
pub const FIXED_BYTES_MAX: usize = 256;

/// Largest exponent of `round:N`: ten to the 18th is the last power of ten in an `int8`.
const ROUND_EXPONENT_MAX: u8 = 18;

/// What is done to a masked value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Nothing of it is shown: a constant of its type, or NULL where a constant would pass for a
    /// value.
    Redact,
    /// NULL in its place.
    Null,
    /// This text in its place, read as a value of its type; what is none becomes as `Redact`.
    Fixed(Box<str>),
    /// Its last four characters are shown, fewer of a short value.
    Last4,
    /// Its first characters are shown, fewer of a short value.
    First(u16),
    /// A keyed digest of it is shown, so that equal values stay equal.
    Hash,
    /// The multiple of this step that is nearest is shown.
    Round(Step),
    /// The begin of the unit of time in which it lies is shown.
    Truncate(Unit),
}

/// The power of ten to which `round:N` rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(u8);

impl Step {
    /// The zeroes behind its one. Shape: 0 to 18.
    #[must_use]
    pub fn exponent(self) -> u8 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let zeroes = text.strip_prefix('1')?;
        let exponent = u8::try_from(zeroes.len()).ok()?;
        let is_power = zeroes.bytes().all(|digit| digit == b'0');
        (is_power && exponent <= ROUND_EXPONENT_MAX).then_some(Self(exponent))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "1{:0<1$}", "", usize::from(self.0))
    }
}

/// A unit of time, finest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    Hour,
    Day,
    Month,
    Year,
}

impl Unit {
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Month, Self::Year];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

/// How transforms are written, for whoever mistypes one.
const WORDS: [&str; 8] = [
    "redact",
    "null",
    "fixed:TEXT",
    "last4",
    "first:N",
    "hash",
    "round:N",
    "truncate:UNIT",
];

/// Why a word is not a transform.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransformProblem {
    #[error(
        "unknown transform; one of redact, null, fixed:TEXT, last4, first:N, hash, round:N, truncate:UNIT"
    )]
    Unknown {
        /// The word that was meant, where one is close.
        closest: Option<&'static str>,
    },
    #[error("`{word}` takes nothing behind it")]
    Surplus { word: &'static str },
    #[error("the text has more than {FIXED_BYTES_MAX} bytes, or a control character")]
    FixedText,
    #[error("`first:N` takes a number of characters from 1 to 65535")]
    Characters,
    #[error(
        "`round:N` rounds to a power of ten: 1, 10, 100, up to 1{:0<1$}",
        "",
        usize::from(ROUND_EXPONENT_MAX)
    )]
    Step,
    #[error("`truncate:UNIT` knows year, month, day and hour")]
    Unit { closest: Option<&'static str> },
}

impl TransformProblem {
    /// The closest valid word, where one is close enough to be meant.
    #[must_use]
    pub fn closest(&self) -> Option<&'static str> {
        match self {
            Self::Unknown { closest } | Self::Unit { closest } => *closest,
            Self::Surplus { word } => Some(word),
            Self::FixedText | Self::Characters | Self::Step => None,
        }
    }
}

impl Transform {
    /// Reads the value of `with`.
    ///
    /// # Errors
    /// What is wrong with it, in an operator's words.
    pub fn parse(word: &str) -> Result<Self, TransformProblem> {
        let (name, argument) = match word.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (word, None),
        };
        let alone = |transform, word| match argument {
            None => Ok(transform),
            Some(_) => Err(TransformProblem::Surplus { word }),
        };
        match (name, argument) {
            ("redact", _) => alone(Self::Redact, "redact"),
            ("null", _) => alone(Self::Null, "null"),
            ("last4", _) => alone(Self::Last4, "last4"),
            ("hash", _) => alone(Self::Hash, "hash"),
            ("fixed", Some(text)) => {
                if text.len() > FIXED_BYTES_MAX || text.chars().any(char::is_control) {
                    return Err(TransformProblem::FixedText);
                }
                Ok(Self::Fixed(text.into()))
            }
            ("first", number) => number
                .filter(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
                .and_then(|number| number.parse().ok())
                .filter(|number| *number > 0)
                .map(Self::First)
                .ok_or(TransformProblem::Characters),
            ("round", number) => number
                .and_then(Step::parse)
                .map(Self::Round)
                .ok_or(TransformProblem::Step),
            ("truncate", unit) => {
                let unit = unit.unwrap_or_default();
                Unit::ALL
                    .into_iter()
                    .find(|known| known.name() == unit)
                    .map(Self::Truncate)
                    .ok_or_else(|| TransformProblem::Unit {
                        closest: closest(unit, Unit::ALL.map(Unit::name), str::len),
                    })
            }
            _ => Err(TransformProblem::Unknown {
                closest: closest(name, WORDS, |word| word.find(':').unwrap_or(word.len())),
            }),
        }
    }

    /// It shows something of the value, so that it suits only an untouched reference.
    #[must_use]
    pub fn is_revealing(&self) -> bool {
        match self {
            Self::Redact | Self::Null | Self::Fixed(_) => false,
            Self::Last4 | Self::First(_) | Self::Hash | Self::Round(_) | Self::Truncate(_) => true,
        }
    }

    /// What is done to a value that came out of this mask's column.
    ///
    /// Security: what shows a part of a value shows another part of each value derived from it
    /// (`last4` of `left(card, 12)` walks the number out, `hash` over a UNION with guesses is a
    /// dictionary), so that anything but an untouched reference is redacted.
    #[must_use]
    pub fn on(self, is_untouched: bool) -> Self {
        if self.is_revealing() && !is_untouched {
            return Self::Redact;
        }
        self
    }

    /// The transform that shows no more than either of two.
    ///
    /// Shape: the join of a semilattice, so that the order of rules does not matter. Above all is
    /// `null`, below it `redact`. Below that lie the others side by side: each `fixed:TEXT`,
    /// `last4`, `hash`, and the chains of `first:N` (a smaller N is stricter), `round:N` (a larger
    /// N) and `truncate:UNIT` (a coarser unit). Two of different kinds meet in `redact`: what each
    /// alone hides, both together could tell.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Null, _) | (_, Self::Null) => Self::Null,
            (Self::First(one), Self::First(two)) => Self::First(one.min(two)),
            (Self::Round(one), Self::Round(two)) => Self::Round(one.max(two)),
            (Self::Truncate(one), Self::Truncate(two)) => Self::Truncate(one.max(two)),
            (one, two) if one == two => one,
            _ => Self::Redact,
        }
    }
}

/// As it is written in a policy file.
impl fmt::Display for Transform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redact => formatter.write_str("redact"),
            Self::Null => formatter.write_str("null"),
            Self::Fixed(text) => write!(formatter, "fixed:{text}"),
            Self::Last4 => formatter.write_str("last4"),
            Self::First(characters) => write!(formatter, "first:{characters}"),
            Self::Hash => formatter.write_str("hash"),
            Self::Round(step) => write!(formatter, "round:{step}"),
            Self::Truncate(unit) => write!(formatter, "truncate:{}", unit.name()),
        }
    }
}

/// Appends `text` with its last four characters shown; [`write_first`] says how.
pub fn write_last4(text: &[u8], out: &mut Vec<u8>) {
    let counting = Characters::of(text).filter(|it| !is_separator(it)).count();
    let hidden = counting - shown_of(counting, 4);
    write_shown(text, out, |position| position >= hidden);
}

/// Appends `text` with its first characters shown.
///
/// Shape: each other character becomes `*`, but spaces and hyphens, which group numbers, stay.
/// They do not count, and of those that count no more than half are shown. A text that is not
/// UTF-8 is counted by bytes.
pub fn write_first(text: &[u8], characters: u16, out: &mut Vec<u8>) {
    let counting = Characters::of(text).filter(|it| !is_separator(it)).count();
    let shown = shown_of(counting, usize::from(characters));
    write_shown(text, out, |position| position < shown);
}

fn shown_of(counting: usize, wanted: usize) -> usize {
    wanted.min(counting / 2)
}

fn write_shown(text: &[u8], out: &mut Vec<u8>, is_shown: impl Fn(usize) -> bool) {
    let mut position = 0;
    for character in Characters::of(text) {
        if is_separator(character) {
            out.extend_from_slice(character);
            continue;
        }
        if is_shown(position) {
            out.extend_from_slice(character);
        } else {
            out.push(b'*');
        }
        position += 1;
    }
}

fn is_separator(character: &[u8]) -> bool {
    matches!(character, b" " | b"-")
}

/// The characters of a text that may not be UTF-8.
struct Characters<'t> {
    rest: &'t [u8],
    is_utf8: bool,
}

impl<'t> Characters<'t> {
    fn of(text: &'t [u8]) -> Self {
        Self {
            rest: text,
            is_utf8: std::str::from_utf8(text).is_ok(),
        }
    }
}

impl<'t> Iterator for Characters<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        let first = *self.rest.first()?;
        let length = match first {
            0xc0..=0xdf if self.is_utf8 => 2,
            0xe0..=0xef if self.is_utf8 => 3,
            0xf0..=0xff if self.is_utf8 => 4,
            _ => 1,
        };
        let (character, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(character)
    }
}

/// The word of `valid` whose begin, as `length` says, is closest to what was written.
fn closest<const N: usize>(
    written: &str,
    valid: [&'static str; N],
    length: impl Fn(&str) -> usize,
) -> Option<&'static str> {
    let begin = |word: &'static str| word.get(..length(word)).unwrap_or(word);
    valid
        .into_iter()
        .map(|word| (damerau_levenshtein(written, begin(word)), word))
        .filter(|(distance, word)| {
            *distance <= 1 + begin(word).len().min(written.chars().count()) / 3
        })
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(text: &str, characters: u16) -> String {
        let mut out = Vec::new();
        write_first(text.as_bytes(), characters, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn last4(text: &str) -> String {
        let mut out = Vec::new();
        write_last4(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_word_is_read_and_written_back() {
        let words = [
            "redact",
            "null",
            "fixed:",
            "fixed:x:y",
            "last4",
            "first:1",
            "first:65535",
            "hash",
            "round:1",
            "round:1000",
            "round:1000000000000000000",
            "truncate:year",
            "truncate:month",
            "truncate:day",
            "truncate:hour",
        ];
        for word in words {
            assert_eq!(Transform::parse(word).unwrap().to_string(), word);
        }
    }

    #[test]
    fn a_mistaken_word_is_answered_with_the_closest() {
        let cases = [
            ("redactt", Some("redact")),
            ("nul", Some("null")),
            ("last", Some("last4")),
            ("frist:3", Some("first:N")),
            ("truncat:year", Some("truncate:UNIT")),
            ("truncate:yaer", Some("year")),
            ("truncate:minute", None),
            ("rounds:10", Some("round:N")),
            ("fixed", Some("fixed:TEXT")),
            ("null:", Some("null")),
            ("last4:4", Some("last4")),
            ("first:0", None),
            ("first:65536", None),
            ("first:+1", None),
            ("first", None),
            ("round:0", None),
            ("round:2", None),
            ("round:11", None),
            ("round:1x", None),
            ("round:10000000000000000000", None),
            ("round", None),
            ("encrypt", None),
            ("", None),
            ("fixed:a\nb", None),
        ];
        for (word, expected) in cases {
            let problem = Transform::parse(word).unwrap_err();
            assert_eq!(problem.closest(), expected, "{word}: {problem}");
        }
        let longest = format!("fixed:{}", "x".repeat(FIXED_BYTES_MAX));
        assert!(Transform::parse(&longest).is_ok());
        let longer = longest + "x";
        assert_eq!(Transform::parse(&longer), Err(TransformProblem::FixedText));
    }

    #[test]
    fn the_last_four_characters_are_shown_and_never_more_than_half() {
        let cases = [
            ("4111 1111 1111 1234", "**** **** **** 1234"),
            ("4111-1111-1111-1234", "****-****-****-1234"),
            ("4111111111111234", "************1234"),
            ("12345678", "****5678"),
            ("1234567", "****567"),
            ("12345", "***45"),
            ("12", "*2"),
            ("1", "*"),
            ("", ""),
            ("----", "----"),
            ("a-b-c", "*-*-c"),
            ("żółw-łódź", "****-łódź"),
            ("a.b@c", "***@c"),
        ];
        for (text, expected) in cases {
            assert_eq!(last4(text), expected);
        }
    }

    #[test]
    fn the_first_characters_are_shown_and_never_more_than_half() {
        let cases = [
            ("SW1A 2AA", 4, "SW1* ***"),
            ("Margaret", 1, "M*******"),
            ("Bob", 3, "B**"),
            ("Łukasz", 1, "Ł*****"),
            ("ab", u16::MAX, "a*"),
        ];
        for (text, characters, expected) in cases {
            assert_eq!(first(text, characters), expected);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_counted_each() {
        let mut out = Vec::new();
        write_last4(b"\xff\x80\x80\x80\xe0\x80", &mut out);
        assert_eq!(out, b"***\x80\xe0\x80");
    }

    #[test]
    fn what_reveals_suits_untouched_references_only() {
        for word in ["last4", "first:2", "hash", "round:10", "truncate:year"] {
            let transform = Transform::parse(word).unwrap();
            assert_eq!(transform.clone().on(false), Transform::Redact);
            assert_eq!(transform.clone().on(true), transform);
        }
        for word in ["redact", "null", "fixed:x"] {
            let transform = Transform::parse(word).unwrap();
            assert_eq!(transform.clone().on(false), transform);
        }
    }

    #[test]
    fn the_stricter_of_two_shows_no_more_than_either() {
        let cases = [
            ("last4", "last4", "last4"),
            ("last4", "first:4", "redact"),
            ("last4", "hash", "redact"),
            ("last4", "redact", "redact"),
            ("last4", "fixed:x", "redact"),
            ("fixed:x", "fixed:x", "fixed:x"),
            ("fixed:x", "fixed:y", "redact"),
            ("fixed:x", "redact", "redact"),
            ("redact", "null", "null"),
            ("hash", "null", "null"),
            ("first:2", "first:9", "first:2"),
            ("round:10", "round:1000", "round:1000"),
            ("truncate:day", "truncate:year", "truncate:year"),
            ("truncate:hour", "round:10", "redact"),
        ];
        for (one, two, expected) in cases {
            let parse = |word| Transform::parse(word).unwrap();
            let joined = parse(one).stricter(parse(two));
            assert_eq!(joined, parse(expected), "{one}, {two}");
        }
    }

    fn transforms() -> impl Strategy<Value = Transform> {
        prop_oneof![
            Just(Transform::Redact),
            Just(Transform::Null),
            "[xy]{0,1}".prop_map(|text| Transform::Fixed(text.into())),
            Just(Transform::Last4),
            (1_u16..4).prop_map(Transform::First),
            Just(Transform::Hash),
            (0_u8..4).prop_map(|exponent| Transform::Round(Step(exponent))),
            (0_usize..4).prop_map(|unit| Transform::Truncate(Unit::ALL[unit])),
        ]
    }

    proptest! {
        #[test]
        fn the_order_of_masks_does_not_matter(
            one in transforms(), two in transforms(), three in transforms(),
        ) {
            let join = Transform::stricter;
            prop_assert_eq!(join(one.clone(), one.clone()), one.clone());
            prop_assert_eq!(join(one.clone(), two.clone()), join(two.clone(), one.clone()));
            prop_assert_eq!(
                join(join(one.clone(), two.clone()), three.clone()),
                join(one.clone(), join(two.clone(), three.clone())),
            );
            if !one.is_revealing() || !two.is_revealing() {
                prop_assert!(!join(one, two).is_revealing());
            }
        }

        #[test]
        fn no_more_than_half_of_a_text_is_shown(text in ".{0,20}", characters in 1_u16..30) {
            let counting = text.chars().filter(|it| !matches!(it, ' ' | '-')).count();
            for shown in [first(&text, characters), last4(&text)] {
                prop_assert_eq!(shown.chars().count(), text.chars().count());
                let clear = shown.chars().filter(|it| !matches!(it, ' ' | '-' | '*')).count();
                prop_assert!(clear <= counting / 2);
            }
        }
    }
}
