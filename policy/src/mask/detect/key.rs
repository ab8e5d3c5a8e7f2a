//! Keys of cloud and service providers, by the form that the provider gives them.

use std::ops::Range;

use super::scan::HEADER;
use super::text::Text;

/// How far before its first long run of letters and digits a key begins.
const HEAD: usize = 96;

/// Bytes of the longest key.
const LONGEST: usize = 512;

/// A provider's form: what it begins with, and how much of which bytes follows.
struct Form {
    prefix: &'static [u8],
    most: usize,
    least: usize,
    of: fn(u8) -> bool,
}

const fn form(prefix: &'static [u8], least: usize, most: usize, of: fn(u8) -> bool) -> Form {
    Form {
        prefix,
        most,
        least,
        of,
    }
}

/// Keys that are secret, or that name one (AWS). Stripe's publishable keys are public.
const FORMS: &[Form] = &[
    form(b"AKIA", 16, 16, is_aws),       // AWS access key
    form(b"ASIA", 16, 16, is_aws),       // AWS, temporary
    form(b"ABIA", 16, 16, is_aws),       // AWS, bearer
    form(b"ACCA", 16, 16, is_aws),       // AWS, context
    form(b"AIza", 35, 35, is_url),       // Google API key
    form(b"GOCSPX-", 28, 28, is_url),    // Google OAuth client secret
    form(b"ya29.", 20, LONGEST, is_url), // Google access token
    form(b"ghp_", 36, LONGEST, is_alnum),
    form(b"gho_", 36, LONGEST, is_alnum),
    form(b"ghu_", 36, LONGEST, is_alnum),
    form(b"ghs_", 36, LONGEST, is_url),
    form(b"ghr_", 36, LONGEST, is_alnum),
    form(b"github_pat_", 59, LONGEST, is_url),
    form(b"glpat-", 20, LONGEST, is_dotted), // GitLab
    form(b"xoxb-", 24, LONGEST, is_url),     // Slack
    form(b"xoxp-", 24, LONGEST, is_url),
    form(b"xoxa-", 24, LONGEST, is_url),
    form(b"xoxr-", 24, LONGEST, is_url),
    form(b"xoxs-", 24, LONGEST, is_url),
    form(b"xoxe-", 24, LONGEST, is_url),
    form(b"xoxe.", 24, LONGEST, is_dotted),
    form(b"xapp-", 24, LONGEST, is_url),
    form(b"sk_live_", 16, LONGEST, is_url), // Stripe
    form(b"sk_test_", 16, LONGEST, is_url),
    form(b"rk_live_", 16, LONGEST, is_url),
    form(b"rk_test_", 16, LONGEST, is_url),
    form(b"whsec_", 24, LONGEST, is_base64),
    form(b"sk-", 20, LONGEST, is_url), // OpenAI, Anthropic
    form(b"npm_", 36, 36, is_alnum),
    form(b"pypi-AgEI", 50, LONGEST, is_url),
    form(b"hf_", 30, 40, is_alnum),     // Hugging Face
    form(b"dop_v1_", 64, 64, is_alnum), // DigitalOcean
    form(b"shpat_", 32, 32, is_alnum),  // Shopify
    form(b"shpss_", 32, 32, is_alnum),
    form(b"SG.", 60, 70, is_dotted), // SendGrid
    form(b"SK", 32, 32, is_hex),     // Twilio
];

/// Slack's address of an incoming hook is its key.
const SLACK_HOOK: &[u8] = b"hooks.slack.com/services/";

/// The key around the run of letters and digits that begins at `anchor`.
pub(super) fn around(text: Text<'_>, anchor: usize) -> Option<Range<usize>> {
    let start = text.run_back(anchor, HEAD, is_dotted);
    let token = |start| FORMS.iter().find_map(|form| form.at(text, start));
    if let Some(found) = token(start) {
        return Some(found);
    }
    // After a dot or an escape, a key may begin anew.
    let head = text.between(start, anchor);
    let restart = head
        .iter()
        .rposition(|byte| *byte == b'.')
        .map(|dot| start + dot + 1);
    let escaped = (text.before(start) == b'\\').then_some(start + 1);
    restart
        .and_then(token)
        .or_else(|| escaped.and_then(token))
        .or_else(|| slack_hook(text, anchor))
        .or_else(|| azure(text, start))
}

/// The key that begins at `start`, where one of the prefixes was seen.
pub(super) fn at(text: Text<'_>, start: usize) -> Option<Range<usize>> {
    let begins = text.opens(start) && !matches!(text.before(start), b'-' | b'_');
    begins
        .then(|| FORMS.iter().find_map(|form| form.at(text, start)))
        .flatten()
}

/// Some prefix stands before the end of the word around `anchor`: there may be a key, whatever
/// stands before it.
pub(super) fn is_near(text: Text<'_>, anchor: usize) -> bool {
    let start = text.run_back(anchor, HEAD, is_dotted);
    let begins = |place| {
        FORMS
            .iter()
            .any(|form| text.from(place).starts_with(form.prefix))
    };
    (start..=anchor + HEADER).any(begins)
        || slack_hook(text, anchor).is_some()
        || text.before(start) == b'~'
}

impl Form {
    fn at(&self, text: Text<'_>, start: usize) -> Option<Range<usize>> {
        let rest = start + self.prefix.len();
        if text.between(start, rest) != self.prefix {
            return None;
        }
        let end = text.run(rest, self.most, self.of);
        let valid = end - rest >= self.least && !text.at(end).is_ascii_alphanumeric();
        valid.then_some(start..end)
    }
}

/// `hooks.slack.com/services/T.../B.../KEY`: the whole path.
fn slack_hook(text: Text<'_>, anchor: usize) -> Option<Range<usize>> {
    if text.before(anchor) != b'/' {
        return None;
    }
    let from = text.run_back(anchor, HEAD, |byte| is_dotted(byte) || byte == b'/');
    let path = memchr::memmem::find(text.between(from, anchor), SLACK_HOOK)?;
    let end = text.run(anchor, LONGEST, is_alnum);
    Some(from + path + SLACK_HOOK.len()..end)
}

/// An Entra client secret: `xxx8Q~` and 31 to 34 more. The run stands behind its tilde.
fn azure(text: Text<'_>, run: usize) -> Option<Range<usize>> {
    let start = run.checked_sub(6)?;
    let head = text.between(start, run);
    let [_, _, _, digit, b'Q', b'~'] = head else {
        return None;
    };
    let end = text.run(run, 35, |byte| is_dotted(byte) || byte == b'~');
    (digit.is_ascii_digit() && end - run >= 31).then_some(start..end)
}

fn is_alnum(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_aws(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn is_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_dotted(byte: u8) -> bool {
    is_url(byte) || byte == b'.'
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key is around its first 16 letters and digits in a row.
    fn check(text: &str, expected: Option<&str>) {
        let bytes = Text(text.as_bytes());
        let anchor = (0..text.len())
            .find(|at| bytes.run(*at, 16, is_alnum) - at == 16)
            .expect("a run");
        assert_eq!(
            around(bytes, anchor).map(|span| &text[span]),
            expected,
            "{text}"
        );
    }

    #[test]
    fn keys_of_every_provider_are_found() {
        for key in [
            "AKIAIOSFODNN7EXAMPLE",
            "AIzaSyA1234567890abcdefghijklmnopqrstuv",
            "GOCSPX-abcdefghijklmnopqrstuvwxyz12",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "glpat-abcdefghij0123456789",
            "xoxb-123456789012-123456789012-abcdefghijklmnopqrstuvwx",
            "sk_live_abcdefghijklmnopqrstuvwx",
            "sk-proj-abcdefghijklmnopqrstuvwx",
            "npm_abcdefghijklmnopqrstuvwxyz0123456789",
            "abc8Q~abcdefghijklmnopqrstuvwxyz0123456",
        ] {
            check(key, Some(key));
            check(&format!("key={key};"), Some(key));
        }
        check(
            "https://hooks.slack.com/services/T00000000/B00000000/abcdefghijklmnopqrstuvwx",
            Some("T00000000/B00000000/abcdefghijklmnopqrstuvwx"),
        );
    }

    #[test]
    fn other_long_words_are_left_alone() {
        check("da39a3ee5e6b4b0d3255bfef95601890afd80709", None);
        check("AKIAIOSFODNN7EXAMPLE0", None);
        check("pk_live_abcdefghijklmnopqrstuvwx", None);
        check("xghp_abcdefghijklmnopqrstuvwxyz0123456789", None);
    }
}
