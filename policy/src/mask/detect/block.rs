//! Values without a greatest length: private keys in PEM, and web tokens.
//!
//! What begins them is an anchor; how far they go is followed byte by byte, over as many pieces of
//! a stream as they have.
//! Spec: RFC 7468, "Textual Encodings of PKIX, PKCS, and CMS Structures"; RFC 7519, "JSON Web Token".

use super::text::Text;

/// What a value without a greatest length consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Pem,
    Token,
}

/// Opens a block in PEM.
pub(super) const BEGIN: &[u8] = b"-----BEGIN ";

/// Closes it.
const END: &[u8] = b"-----END ";

/// Bytes of the longest label: `EC PRIVATE KEY`, `PGP PRIVATE KEY BLOCK`, with room.
const LABEL: usize = 48;

const DASHES: &[u8] = b"-----";

/// How much of the header of a token is looked at.
const HEADER: usize = 1024;

/// How much of it is decoded: the names of its fields stand there.
const DECODED: usize = 96;

impl Block {
    /// A private key begins at `start`; the end of what says so.
    pub(super) fn pem(text: Text<'_>, start: usize) -> Option<usize> {
        if !text.from(start).starts_with(BEGIN) {
            return None;
        }
        let label = start + BEGIN.len();
        let close = text.run(label, LABEL, |byte| {
            byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' '
        });
        let private = memchr::memmem::find(text.between(label, close), b"PRIVATE KEY").is_some();
        let body = close + DASHES.len();
        if !private || text.between(close, body) != DASHES {
            return None;
        }
        // The first line of the body: text that only speaks of such a line has none.
        let line = text.run(body, 16, |byte| {
            byte.is_ascii_whitespace() || b"\\nrt".contains(&byte)
        });
        let first = text.run(line, 24, |byte| is_base64(byte) || b"-:".contains(&byte));
        (first - line >= 8).then_some(body)
    }

    /// A web token begins at `start`; the end of its header.
    pub(super) fn token(text: Text<'_>, start: usize) -> Option<usize> {
        let begins = !matches!(text.before(start), b'-' | b'_') && text.opens(start);
        begins.then(|| Self::token_header(text, start)).flatten()
    }

    /// As [`Self::token`], whatever stands before it.
    pub(super) fn token_header(text: Text<'_>, start: usize) -> Option<usize> {
        if !text.from(start).starts_with(b"eyJ") {
            return None;
        }
        let dot = text.run(start, HEADER, is_base64url);
        if text.at(dot) != b'.' || !is_base64url(text.at(dot + 1)) {
            return None;
        }
        let mut decoded = [0; DECODED];
        let header = decode(text.between(start, dot), &mut decoded);
        [b"\"alg\"", b"\"enc\"", b"\"typ\"", b"\"kid\""]
            .iter()
            .any(|name| memchr::memmem::find(header, *name).is_some())
            .then_some(dot + 1)
    }

    /// How far the block goes from `start`, up to `end`; whether it is over there.
    pub(super) fn extent(self, text: Text<'_>, start: usize, end: usize) -> (usize, bool) {
        let mut place = start;
        match self {
            Self::Token => {
                while place < end && (is_base64url(text.at(place)) || text.at(place) == b'.') {
                    place += 1;
                }
            }
            Self::Pem => {
                while place < end && is_pem(text.at(place)) {
                    if text.at(place) == b'-' && text.from(place).starts_with(END) {
                        let label = place + END.len();
                        let close = text.run(label, LABEL, |byte| byte != b'-');
                        let close = text.run(close, DASHES.len(), |byte| byte == b'-');
                        return (close, true);
                    }
                    place += 1;
                }
            }
        }
        (place, place < end)
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Base64, headers, line ends as such or escaped; quotes, braces and the like end a block that has
/// lost its last line.
fn is_pem(byte: u8) -> bool {
    is_base64(byte) || byte.is_ascii_whitespace() || b"-:,.()\\".contains(&byte)
}

/// The head of `text` in base64url, as far as `to` has room.
fn decode<'o>(text: &[u8], to: &'o mut [u8; DECODED]) -> &'o [u8] {
    let mut count = 0;
    for (quantum, out) in text.chunks(4).zip(to.chunks_exact_mut(3)) {
        let bits = quantum
            .iter()
            .fold(0u32, |bits, byte| bits << 6 | sextet(*byte));
        let bits = bits << (6 * (4 - quantum.len()));
        let [_, bytes @ ..] = bits.to_be_bytes();
        out.copy_from_slice(&bytes);
        count += quantum.len() * 3 / 4;
    }
    to.get(..count).unwrap_or_default()
}

fn sextet(byte: u8) -> u32 {
    u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        _ => 63,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_goes_to_its_last_line() {
        let text =
            "x -----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY----- y";
        let text = Text(text.as_bytes());
        let body = Block::pem(text, 2).expect("a key");
        let (end, over) = Block::Pem.extent(text, body, text.len());
        assert_eq!((text.from(end), over), (&b" y"[..], true));
    }

    #[test]
    fn a_key_that_was_cut_goes_as_far_as_it_can() {
        let text = Text(b"{\"k\":\"-----BEGIN PRIVATE KEY-----\\nMIIEowIBAAKC\\nAQEA\",\"z\":1}");
        let body = Block::pem(text, 6).expect("a key");
        let (end, over) = Block::Pem.extent(text, body, text.len());
        assert_eq!((text.from(end), over), (&b"\",\"z\":1}"[..], true));
    }

    #[test]
    fn public_keys_and_talk_of_keys_are_left_alone() {
        assert_eq!(
            Block::pem(Text(b"-----BEGIN PUBLIC KEY-----\nMIIEowIBAAKC"), 0),
            None
        );
        assert_eq!(
            Block::pem(Text(b"-----BEGIN PRIVATE KEY----- is the first line"), 0),
            None
        );
    }

    #[test]
    fn a_token_has_a_header() {
        let text = Text(b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln, x");
        let payload = Block::token(text, 0).expect("a token");
        assert_eq!(Block::Token.extent(text, payload, text.len()), (41, true));
        assert_eq!(
            Block::token(Text(b"eyJub3RoaW5nIjoxfQ.eyJzdWIiOiIxIn0.c2ln"), 0),
            None
        );
        assert_eq!(
            Block::token(Text(b"eyJhbGciOiJIUzI1NiJ9 eyJzdWIiOiIxIn0"), 0),
            None
        );
    }
}
