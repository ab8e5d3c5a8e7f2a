//! Data of COPY in each format, cut everywhere.

use super::*;

/// Looks at the columns with an even number: what holds an `s` is hidden, `n` becomes NULL.
#[derive(Default)]
struct Even {
    seen: Vec<Vec<u8>>,
}

impl CopyFields for Even {
    fn looks_at(&self, column: usize) -> bool {
        column.is_multiple_of(2)
    }

    fn field(&mut self, _column: usize, value: &[u8], out: &mut Vec<u8>) -> Rewritten {
        self.seen.push(value.to_vec());
        if value == b"n" {
            return Rewritten::Null;
        }
        if !value.contains(&b's') {
            return Rewritten::Unchanged;
        }
        out.extend_from_slice(b"<\t,\"\\>");
        Rewritten::Value
    }
}

const FIELD_BYTES_MAX: usize = 12;

fn rewritten(
    format: &CopyFormat,
    columns: usize,
    chunks: &[&[u8]],
) -> Result<(Vec<u8>, Vec<Vec<u8>>), CopyError> {
    let mut rewriter = CopyRewriter::new(format.clone(), columns, FIELD_BYTES_MAX);
    let mut fields = Even::default();
    let mut out = Vec::new();
    for chunk in chunks {
        rewriter.rewrite(chunk, &mut fields, &mut out)?;
    }
    rewriter.finish()?;
    Ok((out, fields.seen))
}

/// The same, whether it arrives whole, in two chunks, or byte by byte.
fn check(format: &CopyFormat, columns: usize, input: &[u8], expected: &[u8], seen: &[&[u8]]) {
    let whole = rewritten(format, columns, &[input]).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&whole.0),
        String::from_utf8_lossy(expected)
    );
    assert_eq!(whole.1, seen);
    for cut in 0..=input.len() {
        let (before, behind) = input.split_at(cut);
        assert_eq!(
            rewritten(format, columns, &[before, behind]).unwrap(),
            whole,
            "cut at {cut}"
        );
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(rewritten(format, columns, &bytes).unwrap(), whole);
}

#[test]
fn text_is_unescaped_and_escaped_again() {
    check(
        &CopyFormat::text(),
        3,
        b"a\tb\tc\n\\N\ts\t\n a\\ts\ts\\n\\\\\t\\x73\\163\\q\nn\t\\N\t\\\\N\n",
        b"a\tb\tc\n\\N\ts\t\n<\\t,\"\\\\>\ts\\n\\\\\t<\\t,\"\\\\>\n\\N\t\\N\t\\\\N\n",
        &[b"a", b"c", b"", b" a\ts", b"ssq", b"n", b"\\N"],
    );
    check(&CopyFormat::text(), 0, b"\n\n", b"\n\n", &[b"", b""]);
}

#[test]
fn text_takes_its_delimiter_its_null_and_its_header_from_the_statement() {
    let format = CopyFormat::Text {
        delimiter: b'|',
        null: (*b"nil").into(),
        header: true,
    };
    check(
        &format,
        2,
        b"s|b\nnil|nil\nn|s\n\\||s\n\\s|x\n",
        b"s|b\nnil|nil\nnil|s\n\\||s\n<\\t,\"\\\\>|x\n",
        &[b"n", b"|", b"s"],
    );
}

#[test]
fn csv_is_unquoted_and_quoted_again() {
    check(
        &CopyFormat::csv(),
        3,
        b"a,\"b\",\"c\"\n,\"s,\n\"\"\",\"s\n\"\ns\"x\"\"\"\"y\"z,,\"\"\nn,s,\"n\"\n",
        b"a,\"b\",\"c\"\n,\"s,\n\"\"\",\"<\t,\"\"\\>\"\n\"<\t,\"\"\\>\",,\"\"\n,s,\n",
        &[b"a", b"c", b"s\n", b"sx\"\"yz", b"", b"n", b"n"],
    );
}

#[test]
fn csv_takes_quote_and_escape_from_the_statement() {
    let format = CopyFormat::Csv {
        delimiter: b';',
        quote: b'\'',
        escape: b'\\',
        null: (*b"-").into(),
        header: true,
    };
    check(
        &format,
        2,
        b"'s\n';s\n'\\'a\\\\;\\b';x\n-;-\n'-';\"\nn;\nas;\n",
        b"'s\n';s\n'\\'a\\\\;\\b';x\n-;-\n'-';\"\n-;\n'<\t,\"\\\\>';\n",
        &[b"'a\\;\\b", b"-", b"n", b"as"],
    );
}

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

#[test]
fn binary_gets_new_lengths() {
    let mut input = b"PGCOPY\n\xff\r\n\0\0\0\0\x01\0\0\0\x02ex".to_vec();
    let mut expected = input.clone();
    input.extend(b"\0\x03\0\0\0\x01s\0\0\0\x02ss\xff\xff\xff\xff");
    expected.extend(b"\0\x03\0\0\0\x06<\t,\"\\>\0\0\0\x02ss\xff\xff\xff\xff");
    input.extend(b"\0\x03\0\0\0\x01n\0\0\0\x00\0\0\0\x00");
    expected.extend(b"\0\x03\xff\xff\xff\xff\0\0\0\x00\0\0\0\x00");
    input.extend(b"\xff\xff");
    expected.extend(b"\xff\xff");
    check(
        &CopyFormat::Binary,
        3,
        &input,
        &expected,
        &[b"s", b"n", b""],
    );
    let empty = [HEADER, b"\0\0\0\0\xff\xff"].concat();
    check(&CopyFormat::Binary, 0, &empty, &empty, &[]);
}

#[test]
fn rows_end_where_chunks_end() {
    let mut rewriter = CopyRewriter::new(CopyFormat::csv(), 2, FIELD_BYTES_MAX);
    let mut fields = Even::default();
    for (row, expected) in [
        ("s,\"\n\"\n", "\"<\t,\"\"\\>\",\"\n\"\n"),
        ("a,b\n", "a,b\n"),
    ] {
        let mut out = Vec::new();
        rewriter
            .rewrite(row.as_bytes(), &mut fields, &mut out)
            .unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn a_field_that_is_looked_at_is_held_up_to_its_limit() {
    let too_long = CopyError::TooLong {
        limit: FIELD_BYTES_MAX,
    };
    let most = b"aaaaaaaaaaaa".as_slice();
    assert_eq!(most.len(), FIELD_BYTES_MAX);
    for (format, columns) in [(CopyFormat::text(), 1), (CopyFormat::csv(), 1)] {
        assert!(rewritten(&format, columns, &[most, b"\n"]).is_ok());
        assert!(rewritten(&format, columns, &[&[most, b"\n"].concat()]).is_ok());
        for chunks in [
            vec![most, b"a", b"\n"],
            vec![most, b"a\n"],
            vec![b"aaaaaaaaaaaaa\n"],
        ] {
            assert_eq!(rewritten(&format, columns, &chunks), Err(too_long));
        }
    }
    let announced = [HEADER, b"\0\x01\0\0\0\x0d"].concat();
    assert_eq!(
        rewritten(&CopyFormat::Binary, 1, &[&announced]),
        Err(too_long)
    );
    // Not looked at, so that it may be of any length.
    let passing = [b"a\t".as_slice(), &[b's'; 1000], b"\n"].concat();
    check(&CopyFormat::text(), 2, &passing, &passing, &[b"a"]);
}

#[test]
fn data_that_is_not_in_the_format_is_refused() {
    let refused = |format: CopyFormat, columns, input: &[u8]| {
        let outcome = rewritten(&format, columns, &[input]);
        assert!(
            matches!(outcome, Err(CopyError::Malformed { .. })),
            "{input:?}: {outcome:?}"
        );
    };
    refused(CopyFormat::text(), 2, b"a\n");
    refused(CopyFormat::text(), 2, b"a\tb\tc\n");
    refused(CopyFormat::text(), 1, b"a");
    refused(CopyFormat::text(), 2, b"a\t");
    refused(CopyFormat::csv(), 1, b"\"a\n");
    refused(CopyFormat::csv(), 2, b"\"a,b\"\n");
    let after = |bytes: &[u8]| [HEADER, bytes].concat();
    refused(CopyFormat::Binary, 1, b"");
    refused(CopyFormat::Binary, 1, HEADER);
    refused(
        CopyFormat::Binary,
        1,
        b"PGCOPY\n\xff\r\n\x01\0\0\0\0\0\0\0\0\xff\xff",
    );
    refused(
        CopyFormat::Binary,
        1,
        b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0\xff\xff",
    );
    refused(
        CopyFormat::Binary,
        1,
        b"PGCOPY\n\xff\r\n\0\0\0\0\0\xff\0\0\0\xff\xff",
    );
    refused(CopyFormat::Binary, 1, &after(b"\0\x02\0\0\0\x01a"));
    refused(CopyFormat::Binary, 1, &after(b"\xff\xfe"));
    refused(CopyFormat::Binary, 1, &after(b"\0\x01\xff\xff\xff\xfe"));
    refused(CopyFormat::Binary, 1, &after(b"\0\x01\0\0\0\x02a"));
    refused(CopyFormat::Binary, 1, &after(b"\xff\xff\0"));
}
