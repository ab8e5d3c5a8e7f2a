//! The name of a session: sortable by time, and not to be guessed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ring::rand::SecureRandom;
use thiserror::Error;

/// Characters of the printed form.
pub(super) const SESSION_ID_CHARS: usize = 26;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 128 bits: milliseconds since 1970 in the upper 48, random below.
///
/// Printed as a ULID: 26 characters of Crockford's base 32. Later sessions sort behind earlier
/// ones, to the millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u128);

/// The system gave no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no random numbers from the system")]
pub struct NoRandomness;

/// The text is not the printed form of a session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a session id: 26 characters of base 32 are expected")]
pub struct NotASessionId;

impl SessionId {
    /// A new id for a session that starts at `unix_time`.
    ///
    /// # Errors
    /// When the system has no random numbers to give; the session must not start then.
    pub fn generate(random: &dyn SecureRandom, unix_time: Duration) -> Result<Self, NoRandomness> {
        let mut bytes = [0; 16];
        random.fill(&mut bytes).map_err(|_| NoRandomness)?;
        let milliseconds = unix_time.as_millis() & ((1 << 48) - 1);
        Ok(Self(milliseconds << 80 | u128::from_be_bytes(bytes) >> 48))
    }

    /// The first id of that millisecond; the last there can be, for a time that no id has.
    pub(super) fn first_at(unix_time: Duration) -> Self {
        Self(unix_time.as_millis().min((1 << 48) - 1) << 80)
    }

    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Big-endian, so that bytes sort like ids.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(SESSION_ID_CHARS);
        for index in (0..SESSION_ID_CHARS).rev() {
            let digit = (self.0 >> (index * 5)) & 31;
            let character = usize::try_from(digit)
                .ok()
                .and_then(|digit| ALPHABET.get(digit));
            text.push(char::from(*character.unwrap_or(&b'0')));
        }
        f.pad(&text)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = NotASessionId;

    /// Accepts lower case too, since people type.
    fn from_str(text: &str) -> Result<Self, NotASessionId> {
        if text.len() != SESSION_ID_CHARS {
            return Err(NotASessionId);
        }
        text.bytes()
            .try_fold(0_u128, |value, character| {
                let upper = character.to_ascii_uppercase();
                let digit = ALPHABET.iter().position(|letter| *letter == upper)?;
                let digit = u128::try_from(digit).ok()?;
                // 26 characters hold 130 bits; the first may not use the two that are too many.
                value.checked_mul(32).map(|shifted| shifted | digit)
            })
            .map(Self)
            .ok_or(NotASessionId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_form_is_that_of_the_ulid_specification() {
        // Milliseconds 1469918176385 print as 01ARYZ6S41 (the example of the ULID specification).
        let id = SessionId((1_469_918_176_385 << 80) | 0x1f);
        assert_eq!(id.to_string(), "01ARYZ6S41000000000000000Z");
        assert_eq!("01aryz6s41000000000000000z".parse(), Ok(id));
    }

    #[test]
    fn the_largest_id_is_read_and_one_more_is_refused() {
        assert_eq!(
            "7ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse(),
            Ok(SessionId(u128::MAX))
        );
        let refused = Err::<SessionId, _>(NotASessionId);
        assert_eq!("80000000000000000000000000".parse(), refused);
        assert_eq!("01ARYZ6S4100000000000000Z".parse(), refused);
        assert_eq!("01ARYZ6S4100000000000000U0".parse(), refused);
        assert_eq!("01ARYZ6S41000000000000000é".parse(), refused);
        assert_eq!("".parse(), refused);
    }

    #[test]
    fn generated_ids_differ_and_sort_by_time() {
        let random = ring::rand::SystemRandom::new();
        let earlier = SessionId::generate(&random, Duration::from_millis(1_000)).unwrap();
        let same_time = SessionId::generate(&random, Duration::from_millis(1_000)).unwrap();
        let later = SessionId::generate(&random, Duration::from_millis(1_001)).unwrap();
        assert_ne!(earlier, same_time);
        assert!(earlier < later && same_time < later);
        assert!(earlier.to_string() < later.to_string());
        assert_eq!(SessionId::from_bytes(later.to_bytes()), later);
    }
}
