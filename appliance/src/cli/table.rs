//! Text for a terminal: aligned columns, and nothing in them that a terminal would obey.

use std::fmt::Write;

/// Widest column that is padded, in characters; longer values push the rest of their line.
const COLUMN_MAX: usize = 60;

/// Rows under a header, columns two spaces apart. An empty header is left out.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let rows: Vec<Vec<String>> = (!header.is_empty())
        .then_some(&header)
        .into_iter()
        .chain(rows)
        .map(|row| row.iter().map(|cell| escaped(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let lengths = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|c| c.chars().count());
            lengths.max().unwrap_or(0).min(COLUMN_MAX)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The text with whatever a terminal might obey or hide written out: control characters, and the
/// invisible and direction-changing ones of Unicode.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            let _ = write!(out, "{}", character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Characters without a glyph that change how their neighbours are shown.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_do_not_end_in_spaces() {
        let rows = [
            vec!["1".to_owned(), "agent".to_owned(), String::new()],
            vec!["20".to_owned(), "é".to_owned(), "x".to_owned()],
        ];
        assert_eq!(
            table(&["id", "who", "what"], &rows),
            "id  who    what\n1   agent\n20  é      x\n"
        );
        assert_eq!(table(&[], &rows), "1   agent\n20  é      x\n");
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let cases = [
            ("plain é 漢", "plain é 漢"),
            ("a\u{1b}[31mb", "a\\u{1b}[31mb"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("user\u{202e}nimda", "user\\u{202e}nimda"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("\u{9b}", "\\u{9b}"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), expected);
        }
    }
}
