//! When a certificate is valid, for those that rustls does not check: our own, and the ones
//! that are trusted because they are configured, not because of who signed them.
//!
//! Spec: RFC 5280, "Validity".

use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::der::{CONTEXT_0, Der, GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME};

/// # Errors
/// `NotValidYet`, `Expired`, or `BadEncoding` when it cannot be told.
pub(crate) fn check_validity(certificate: &[u8], now: UnixTime) -> Result<(), CertificateError> {
    let (not_before, not_after) = validity(certificate).ok_or(CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).map_err(|_| CertificateError::Expired)?;
    if now < not_before {
        return Err(CertificateError::NotValidYet);
    }
    if now > not_after {
        return Err(CertificateError::Expired);
    }
    Ok(())
}

/// First and last second, since 1970.
pub(crate) fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let mut outer = Der(certificate);
    let mut fields = Der(Der(outer.take(SEQUENCE)?).take(SEQUENCE)?);
    if fields.begins_with(CONTEXT_0) {
        fields.take(CONTEXT_0)?;
    }
    fields.take(INTEGER)?;
    let (_signature, _issuer) = (fields.take(SEQUENCE)?, fields.take(SEQUENCE)?);
    let mut validity = Der(fields.take(SEQUENCE)?);
    Some((time(&mut validity)?, time(&mut validity)?))
}

fn time(der: &mut Der<'_>) -> Option<i64> {
    if der.begins_with(GENERALIZED_TIME) {
        let (century, rest) = der.take(GENERALIZED_TIME)?.split_at_checked(2)?;
        return seconds(number(century)? * 100, rest);
    }
    let text = der.take(UTC_TIME)?;
    // Two digits of a year stand for 1950 to 2049.
    let century = if *text.first()? >= b'5' { 1900 } else { 2000 };
    seconds(century, text)
}

/// `YYMMDDHHMMSSZ` of a century.
fn seconds(century: i64, text: &[u8]) -> Option<i64> {
    let text = text
        .strip_suffix(b"Z")
        .filter(|digits| digits.len() == 12)?;
    let mut pairs = text.chunks_exact(2).map(number);
    let mut next = || pairs.next()?;
    let (year, month, day) = (century + next()?, next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    let legal = (1..=12).contains(&month) && (1..=31).contains(&day);
    let legal = legal && hour < 24 && minute < 60 && second < 60;
    legal.then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value: i64, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + i64::from(digit - b'0'))
    })
}

/// Days since 1970 in the Gregorian calendar, counted in years that begin in March, so that the
/// leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Option<i64> {
        let mut der = vec![UTC_TIME, u8::try_from(text.len()).unwrap()];
        der.extend_from_slice(text.as_bytes());
        time(&mut Der(&der))
    }

    fn generalized(text: &str) -> Option<i64> {
        let mut der = vec![GENERALIZED_TIME, u8::try_from(text.len()).unwrap()];
        der.extend_from_slice(text.as_bytes());
        time(&mut Der(&der))
    }

    // Expected values by `date -u -d '...' +%s`.
    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(utc("700101000000Z"), Some(0));
        assert_eq!(utc("240229235959Z"), Some(1_709_251_199));
        assert_eq!(utc("491231235959Z"), Some(2_524_607_999));
        assert_eq!(utc("500101000000Z"), Some(-631_152_000));
        assert_eq!(generalized("20500101000000Z"), Some(2_524_608_000));
        assert_eq!(generalized("21000301000000Z"), Some(4_107_542_400));
        assert_eq!(generalized("99991231235959Z"), Some(253_402_300_799));
    }

    #[test]
    fn other_forms_of_time_are_not_read() {
        for text in [
            "",
            "Z",
            "2402292359Z",
            "240229235959",
            "240229235959+0100",
            "24022923595xZ",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
        for text in [
            "241301000000Z",
            "240100000000Z",
            "240101240000Z",
            "240101006000Z",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
    }

    #[test]
    fn a_certificate_is_valid_from_its_first_to_its_last_second() {
        let parameters = {
            let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
            parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(2050, 1, 1);
            parameters
        };
        let certificate = parameters
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap();
        let check = |seconds| {
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
            check_validity(certificate.der(), now)
        };
        assert_eq!(check(1_577_836_799), Err(CertificateError::NotValidYet));
        assert_eq!(check(1_577_836_800), Ok(()));
        assert_eq!(check(2_524_608_000), Ok(()));
        assert_eq!(check(2_524_608_001), Err(CertificateError::Expired));
        let cut = certificate.der().get(..40).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        assert_eq!(check_validity(cut, now), Err(CertificateError::BadEncoding));
    }
}
