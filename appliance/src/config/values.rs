//! Values as they are written in the configuration: durations, sizes, permissions and groups.

use std::time::Duration;

/// Why a text is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("expected a duration such as `90s`, `10m` or `8h`")]
    Duration,
    #[error("expected a size such as `64KiB` or `16MiB`")]
    Bytes,
    #[error("expected permissions in octal such as `0660`")]
    Mode,
    #[error("no such group on this machine")]
    Group,
}

pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    policy::quantity::duration(text).ok_or(ValueError::Duration)
}

pub(super) fn bytes(text: &str) -> Result<u64, ValueError> {
    policy::quantity::bytes(text).ok_or(ValueError::Bytes)
}

/// The permission bits of a file, without the three above them.
pub(super) fn mode(text: &str) -> Result<u32, ValueError> {
    let digits = match text.strip_prefix('0') {
        Some(digits) if digits.len() == 3 => digits,
        Some(_) | None => text,
    };
    let is_octal = digits.len() == 3 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|_| is_octal)
        .ok_or(ValueError::Mode)
}

/// The number of a group, which the system's name service may know by name.
pub(super) fn group(text: &str) -> Result<u32, ValueError> {
    if text.bytes().all(|digit| digit.is_ascii_digit()) {
        return text.parse().map_err(|_| ValueError::Group);
    }
    match nix::unistd::Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) | Err(_) => Err(ValueError::Group),
    }
}

pub(super) use policy::quantity::show_bytes;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_units_only() {
        let cases = [
            ("0B", Some(0)),
            ("64KiB", Some(65_536)),
            ("16 MiB", Some(16 << 20)),
            ("4GiB", Some(4 << 30)),
            ("16", None),
            ("16MB", None),
            ("16mib", None),
            ("-1B", None),
            ("MiB", None),
            ("", None),
            ("1.5MiB", None),
            ("99999999999999999999B", None),
            ("99999999999GiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn permissions_are_three_octal_digits() {
        let cases = [
            ("0660", Some(0o660)),
            ("660", Some(0o660)),
            ("0777", Some(0o777)),
            ("000", Some(0)),
            ("0", None),
            ("", None),
            ("66", None),
            ("00660", None),
            ("1777", None),
            ("0668", None),
            ("+66", None),
            ("rw-rw----", None),
        ];
        for (text, expected) in cases {
            assert_eq!(mode(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_group_has_a_name_or_a_number() {
        assert_eq!(group("root"), Ok(0));
        assert_eq!(group("4711"), Ok(4711));
        assert_eq!(group("4294967296"), Err(ValueError::Group));
        assert_eq!(group("no-such-group"), Err(ValueError::Group));
        assert_eq!(group(""), Err(ValueError::Group));
    }

    #[test]
    fn durations_are_read_with_a_unit() {
        let cases = [
            ("15s", Some(15_000)),
            ("1h 30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("0s", Some(0)),
            ("15", None),
            ("-1s", None),
            ("", None),
            ("soon", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                duration(text).ok().map(|d| d.as_millis()),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_exact_unit() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (65_536, "64KiB"),
            (1 << 30, "1GiB"),
        ] {
            assert_eq!(show_bytes(bytes), text);
        }
    }
}
