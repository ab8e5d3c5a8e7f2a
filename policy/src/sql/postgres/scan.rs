//! What reading a text costs the scanner, before it is read.

/// Most that the squares of the lengths of all runs of operator characters may come to.
///
/// The scanner matches a run to its end, may keep a character or two of it, and begins again behind
/// them (`/*/*/*`, `+-+-+-`), so a run of n characters costs n²/2 steps. 2^24 is one run of 4,096
/// or four thousand lines of dashes: 35 ms at worst. A megabyte in one run would take hours.
const RUNS_COST_MAX: u64 = 1 << 24;

/// Length below which no text can cost more: 2^24 is the square of 4,096.
const CHEAP_TEXT_BYTES: usize = 4096;

/// Whether the scanner gets through `text` in time that grows with its length alone.
///
/// Runs inside literals and comments count as well, although they are cheap there: where a literal
/// ends is for the scanner to say.
pub(super) fn is_linear(text: &str) -> bool {
    if text.len() < CHEAP_TEXT_BYTES {
        return true;
    }
    let mut cost: u64 = 0;
    let mut run: u64 = 0;
    for byte in text.bytes() {
        if is_operator_character(byte) {
            // The next odd number makes the next square.
            cost += 2 * run + 1;
            run += 1;
        } else {
            run = 0;
        }
    }
    cost <= RUNS_COST_MAX
}

/// Whether the scanner takes it for part of an operator, or of the marks of a comment.
///
/// Spec: PostgreSQL manual, "Lexical Structure", "Operators".
fn is_operator_character(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'<'
            | b'>'
            | b'='
    )
}
