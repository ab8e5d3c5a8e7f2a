//! The bit masks against the same shapes spelled out byte by byte.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;

const ALL: Shapes = Shapes {
    digits: true,
    iban: true,
    addresses: true,
    phone: true,
    runs: true,
};

fn found(bytes: &[u8], within: Range<usize>) -> Vec<(usize, Shape)> {
    let mut found = Vec::new();
    let _ = anchors(bytes, within, ALL, |at, shape| {
        found.push((at, shape));
        ControlFlow::<()>::Continue(())
    });
    found.sort_by_key(|(at, shape)| (*at, *shape as u8));
    found
}

/// `9` is a digit, `x` none, `L` a letter, `w` a letter or digit, `_` neither, `(` that or a plus.
fn looks(bytes: &[u8], at: usize, form: &str) -> bool {
    form.bytes().enumerate().all(|(offset, class)| {
        let byte = bytes.get(at + offset).copied().unwrap_or(0);
        match class {
            b'9' => byte.is_ascii_digit(),
            b'x' => !byte.is_ascii_digit(),
            b'L' => byte.is_ascii_alphabetic(),
            b'w' => byte.is_ascii_alphanumeric(),
            b'_' => !byte.is_ascii_alphanumeric(),
            b'?' => true,
            b'(' => matches!(byte, b'+' | b'('),
            literal => byte == literal,
        }
    })
}

fn spelled(bytes: &[u8]) -> Vec<(usize, Shape)> {
    let starts =
        |at: usize, form: &str| looks(bytes, at, form) && !(at > 0 && looks(bytes, at - 1, form));
    let mut found = Vec::new();
    for at in 0..bytes.len() {
        let mut on = |shape, holds: bool| {
            if holds {
                found.push((at, shape));
            }
        };
        on(Shape::Digits, starts(at, "999999999"));
        on(
            Shape::Groups,
            looks(bytes, at, "999x999") || looks(bytes, at, "999x99x9999"),
        );
        on(
            Shape::Iban,
            ["LL99wwwwwwwwwww", "LL99_wwww_wwww", "LL99_wwwwwwww"]
                .iter()
                .any(|form| looks(bytes, at, form)),
        );
        let near = [
            (2, 2),
            (2, 3),
            (2, 4),
            (3, 2),
            (3, 3),
            (3, 4),
            (4, 2),
            (4, 3),
            (4, 4),
        ];
        on(
            Shape::Dotted,
            near.iter()
                .any(|(one, two)| dotted_at(bytes, at, *one, *two)),
        );
        let three = (2..=5).any(|one| {
            (2..=5).any(|two| {
                looks(bytes, at, ":")
                    && looks(bytes, at + one, ":")
                    && looks(bytes, at + one + two, ":")
            })
        });
        on(Shape::Colons, three || looks(bytes, at, "::"));
        on(Shape::Plus, looks(bytes, at, "(9"));
        on(Shape::Pairs, looks(bytes, at, "99x99x99x99"));
        on(Shape::Run, starts(at, "wwwwwwwwwwwwwwww"));
    }
    found.sort_by_key(|(at, shape)| (*at, *shape as u8));
    found
}

fn dotted_at(bytes: &[u8], at: usize, one: usize, two: usize) -> bool {
    looks(bytes, at, "9.9") && looks(bytes, at + one, "9.9") && looks(bytes, at + one + two, "9.9")
}

proptest! {
    #[test]
    fn masks_find_what_the_shapes_spell(bytes in "[0-9a-b.:+( -]{0,300}|[0-9]{0,90}[a-z]{0,90}[0-9a-z:.+ ]{0,99}") {
        prop_assert_eq!(found(bytes.as_bytes(), 0..bytes.len()), spelled(bytes.as_bytes()));
    }

    #[test]
    fn a_range_has_the_anchors_of_the_whole_that_lie_in_it(bytes in "[0-9a-b.:+( -]{0,300}", cut in 0usize..300) {
        let bytes = bytes.as_bytes();
        let cut = cut.min(bytes.len());
        let whole = found(bytes, 0..bytes.len());
        let mut parts = found(bytes, 0..cut);
        parts.extend(found(bytes, cut..bytes.len()));
        for anchor in &whole {
            prop_assert!(parts.contains(anchor));
        }
        // A run that is cut has a second anchor at the cut, and nothing else is new.
        for (at, shape) in &parts {
            prop_assert!(whole.contains(&(*at, *shape)) || (*at == cut && matches!(shape, Shape::Digits | Shape::Run)));
        }
    }
}
