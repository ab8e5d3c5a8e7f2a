//! What a client asks for in its `StartupMessage`: which parameters pass, as what, and which are refused.
//!
//! It decides nothing about rights: settings that need policy come out as such.

use codecs::postgres::startup::Startup;

/// Most settings one client may ask for at start-up.
///
/// Count. Drivers send fewer than ten; each distinct set is an upstream pool of its own.
const SETTINGS_MAX: usize = 32;

/// Longest value of one setting, in bytes.
const VALUE_BYTES_MAX: usize = 1024;

/// Settings that only shape how values are written or how long the client waits.
///
/// They pass for every principal: drivers send them unasked at each start-up,
/// and none of them changes what a statement means or touches.
const HARMLESS: &[&str] = &[
    "bytea_output",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "statement_timeout",
    "timezone",
    "xmloption",
];

/// What stands where a client put a token in place of a name. No target is called so.
const MISPLACED_TOKEN: &str = "(token)";

/// The client's wishes, checked for form.
///
/// Names are lower case. `harmless` go upstream as they are; `judged` go
/// upstream only if policy allows the client to `SET` them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// A label only: recorded, never trusted. Not empty: the codec sees to that.
    pub(crate) user: String,
    /// Name of the target.
    pub(crate) database: String,
    /// The client's own name for itself; becomes a suffix of the attribution.
    pub(crate) application: Option<String>,
    pub(crate) harmless: Vec<(String, String)>,
    pub(crate) judged: Vec<(String, String)>,
}

/// Why a `StartupMessage` is refused. Carries names of parameters we know, never values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WishRefused {
    #[error("replication is not available through this listener")]
    Replication,
    #[error("client_encoding must be UTF8")]
    Encoding,
    #[error("standard_conforming_strings must be on")]
    Strings,
    #[error("a start-up option has a form that is not supported")]
    OptionForm,
    #[error("a start-up parameter is not UTF-8, too long or not a setting's name")]
    Malformed,
    #[error("more than {SETTINGS_MAX} start-up parameters")]
    TooMany,
    #[error("a setting that the gateway keeps for itself")]
    Reserved,
}

impl WishRefused {
    /// SQLSTATE that says it to the client.
    pub(crate) fn sqlstate(self) -> &'static [u8; 5] {
        match self {
            Self::Replication => b"0A000",
            Self::Encoding | Self::Strings | Self::OptionForm | Self::Malformed => b"22023",
            Self::TooMany => b"54000",
            Self::Reserved => b"42501",
        }
    }
}

/// Reads the parameters of a start-up packet.
///
/// # Errors
/// `WishRefused` for what can not be carried out faithfully; the connection ends.
pub(crate) fn read(startup: &Startup<'_>) -> Result<Wishes, WishRefused> {
    let mut wishes = Wishes::default();
    for (name, value) in startup.parameters() {
        match name {
            "user" => wishes.user = label(value),
            "database" => wishes.database = label(value),
            // Any value but a plain "false" asks for a walsender; PostgreSQL reads
            // `database` and every boolean spelling of true that way.
            "replication" if is_off(value) => {}
            "replication" => return Err(WishRefused::Replication),
            "options" => {
                for (name, value) in split_options(value)? {
                    wish(&mut wishes, &name, &value)?;
                }
            }
            protocol if protocol.starts_with("_pq_.") => {}
            setting => wish(&mut wishes, setting, value)?,
        }
    }
    if wishes.database.is_empty() {
        wishes.database.clone_from(&wishes.user);
    }
    Ok(wishes)
}

/// A label as it may be recorded and shown to the target.
///
/// Security: a token that an agent put into the wrong field is a credential all the same.
fn label(value: &str) -> String {
    if is_token_shaped(value) {
        MISPLACED_TOKEN
    } else {
        value
    }
    .to_owned()
}

/// Whether the text holds something like a JWT: three runs of base64url, the first a JSON object.
fn is_token_shaped(text: &str) -> bool {
    let is_base64url = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
        .any(|word| {
            let parts: Vec<&str> = word.split('.').collect();
            parts.len() >= 3
                && parts.iter().take(2).all(|part| is_base64url(part))
                && parts
                    .first()
                    .is_some_and(|header| header.starts_with("eyJ"))
        })
}

fn wish(wishes: &mut Wishes, name: &str, value: &str) -> Result<(), WishRefused> {
    let well_named = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if !well_named || name.len() > 63 || value.len() > VALUE_BYTES_MAX || value.contains('\0') {
        return Err(WishRefused::Malformed);
    }
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "application_name" => wishes.application = Some(label(value)),
        // "No conversion" is what a C locale asks for; with a UTF-8 session the bytes are the same.
        "client_encoding" if is_utf8(value) || value.eq_ignore_ascii_case("SQL_ASCII") => {}
        "client_encoding" => return Err(WishRefused::Encoding),
        "standard_conforming_strings" if is_on(value) => {}
        "standard_conforming_strings" => return Err(WishRefused::Strings),
        "role" | "session_authorization" => return Err(WishRefused::Reserved),
        reserved if reserved.starts_with("sallyport.") => return Err(WishRefused::Reserved),
        _ => {
            let list = if HARMLESS.contains(&name.as_str()) {
                &mut wishes.harmless
            } else {
                &mut wishes.judged
            };
            list.retain(|(earlier, _)| *earlier != name);
            list.push((name, value.to_owned()));
        }
    }
    if wishes.harmless.len() + wishes.judged.len() > SETTINGS_MAX {
        return Err(WishRefused::TooMany);
    }
    Ok(())
}

/// Splits `options` as PostgreSQL does: words at white space, a backslash keeps the next character.
///
/// Spec: PostgreSQL source, `pg_split_opts`, and the manual, "Parameter Interaction via the Shell".
fn split_options(text: &str) -> Result<Vec<(String, String)>, WishRefused> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c') {
            words.extend(word.take());
            continue;
        }
        let kept = if character == '\\' {
            characters.next().ok_or(WishRefused::OptionForm)?
        } else {
            character
        };
        word.get_or_insert_default().push(kept);
    }
    words.extend(word);

    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().ok_or(WishRefused::OptionForm)?
        } else {
            let rest = word.strip_prefix("--").or_else(|| word.strip_prefix("-c"));
            rest.ok_or(WishRefused::OptionForm)?.to_owned()
        };
        let (name, value) = assignment.split_once('=').ok_or(WishRefused::OptionForm)?;
        // PostgreSQL reads `-` in these names as `_`.
        settings.push((name.replace('-', "_"), value.to_owned()));
        if settings.len() > SETTINGS_MAX {
            return Err(WishRefused::TooMany);
        }
    }
    Ok(settings)
}

fn is_utf8(value: &str) -> bool {
    let folded: String = value
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase();
    matches!(folded.as_str(), "utf8" | "unicode")
}

fn is_on(value: &str) -> bool {
    ["on", "true", "yes", "1"]
        .iter()
        .any(|on| value.eq_ignore_ascii_case(on))
}

fn is_off(value: &str) -> bool {
    ["off", "false", "no", "0"]
        .iter()
        .any(|off| value.eq_ignore_ascii_case(off))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn check(parameters: Pairs<'_>, expected: Result<(&str, &str, Pairs<'_>), WishRefused>) {
        let mut packet = Vec::new();
        codecs::postgres::startup::encode_startup(
            &mut packet,
            codecs::postgres::startup::ProtocolVersion::V3_0,
            parameters.iter().copied(),
        )
        .unwrap();
        let limits = codecs::limits::Limits::default();
        let decoded = codecs::postgres::startup::decode_startup(&packet, &limits)
            .unwrap()
            .unwrap();
        let codecs::postgres::startup::StartupPacket::Startup(startup) = decoded.message else {
            panic!("not a StartupMessage");
        };
        let read = read(&startup);
        match expected {
            Err(refused) => assert_eq!(read.unwrap_err(), refused),
            Ok((database, application, settings)) => {
                let wishes = read.unwrap();
                assert_eq!(wishes.database, database);
                assert_eq!(wishes.application.unwrap_or_default(), application);
                let all: Vec<(&str, &str)> = wishes
                    .harmless
                    .iter()
                    .chain(&wishes.judged)
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                assert_eq!(all, settings);
            }
        }
    }

    #[test]
    fn what_drivers_send_is_understood() {
        check(&[("user", "a")], Ok(("a", "", &[])));
        check(
            &[
                ("user", "a"),
                ("database", "orders"),
                ("client_encoding", "utf-8"),
                ("DateStyle", "ISO"),
            ],
            Ok(("orders", "", &[("datestyle", "ISO")])),
        );
        check(
            &[
                ("user", "a"),
                ("options", "-c search_path=a\\ b --statement-timeout=5"),
                ("application_name", "x"),
            ],
            Ok((
                "a",
                "x",
                &[("statement_timeout", "5"), ("search_path", "a b")],
            )),
        );
        check(&[("user", "a"), ("replication", "off")], Ok(("a", "", &[])));
    }

    #[test]
    fn what_would_change_meaning_is_refused() {
        check(
            &[("user", "a"), ("replication", "database")],
            Err(WishRefused::Replication),
        );
        check(
            &[("user", "a"), ("replication", "ye")],
            Err(WishRefused::Replication),
        );
        check(
            &[("user", "a"), ("client_encoding", "LATIN1")],
            Err(WishRefused::Encoding),
        );
        check(
            &[("user", "a"), ("options", "-c client_encoding=SJIS")],
            Err(WishRefused::Encoding),
        );
        check(
            &[
                ("user", "a"),
                ("options", "-cstandard_conforming_strings=off"),
            ],
            Err(WishRefused::Strings),
        );
        check(
            &[("user", "a"), ("options", "-c sallyport.subject=root")],
            Err(WishRefused::Reserved),
        );
        check(
            &[("user", "a"), ("options", "-c role=postgres")],
            Err(WishRefused::Reserved),
        );
        check(
            &[("user", "a"), ("options", "-d 5")],
            Err(WishRefused::OptionForm),
        );
        check(
            &[("user", "a"), ("options", "-c\\")],
            Err(WishRefused::OptionForm),
        );
    }

    #[test]
    fn a_token_in_place_of_a_name_is_not_kept() {
        let token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
        for text in [
            token.to_owned(),
            format!("psql {token}"),
            format!("{token}.x"),
            format!("({token})"),
        ] {
            assert_eq!(label(&text), MISPLACED_TOKEN, "{text}");
        }
        for text in [
            "orders",
            "eyJ",
            "a.b.c",
            "www.example.com",
            "eyJhbGciOiJFZERTQSJ9",
            "v1.2.3",
        ] {
            assert_eq!(label(text), text);
        }
    }
}
