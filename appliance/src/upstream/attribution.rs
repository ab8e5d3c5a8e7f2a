//! How a target's own log and row-level security name the agent.
//!
//! Says what is set on a connection; the pool sets it at a lease, and the relay again after
//! whatever took it away.

/// Longest `application_name` that PostgreSQL keeps: `NAMEDATALEN` less the terminator.
const APPLICATION_NAME_BYTES_MAX: usize = 63;

/// Longest `sallyport.subject`, in bytes. Far above what issuers use, far below what would make
/// each lease send a noticeable statement.
const SUBJECT_BYTES_MAX: usize = 2048;

/// Longest `sallyport.actors`, in bytes: eight actors of the longest names that issuers use.
const ACTORS_BYTES_MAX: usize = 8192;

/// Stands for what may not appear in `application_name`, as PostgreSQL itself writes it.
const REPLACEMENT: char = '?';

/// The settings that name an agent on an upstream connection. Per session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    subject: String,
    /// Who acts for the subject, as a JSON list of texts like `subject`, the current actor first.
    actors: Option<String>,
    agent: String,
    application_name: String,
    read_only: bool,
}

/// The statements that apply an [`Attribution`], for one simple Query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributionStatements {
    pub sql: String,
    /// How many CommandComplete messages the server answers before ReadyForQuery.
    pub count: usize,
}

/// An identity that cannot be attributed, so that its session must not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttributionError {
    #[error("an issuer name or subject contains a control character")]
    ControlCharacter,
    #[error("issuer name and subject have {bytes} bytes together, at most {SUBJECT_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("an issuer name or a subject is empty")]
    Empty,
    #[error(
        "the names of those who act for the subject have {bytes} bytes, at most {ACTORS_BYTES_MAX}"
    )]
    ActorsTooLong { bytes: usize },
}

impl Attribution {
    /// `client_name` is the client's own `application_name`, kept as a suffix.
    ///
    /// # Errors
    /// For a subject that the target's log could not show unambiguously.
    pub fn new(
        issuer: &str,
        subject: &str,
        client_name: Option<&str>,
        read_only: bool,
    ) -> Result<Self, AttributionError> {
        if issuer.is_empty() || subject.is_empty() {
            return Err(AttributionError::Empty);
        }
        let subject = format!("{issuer}/{subject}");
        if subject.len() > SUBJECT_BYTES_MAX {
            return Err(AttributionError::TooLong {
                bytes: subject.len(),
            });
        }
        if subject.chars().any(char::is_control) {
            return Err(AttributionError::ControlCharacter);
        }
        let agent = printable(&subject, APPLICATION_NAME_BYTES_MAX);
        let application_name = with_suffix(&agent, client_name);
        Ok(Self {
            subject,
            actors: None,
            agent,
            application_name,
            read_only,
        })
    }

    /// The same, of a subject for which others act: their issuers' names and subjects, the current
    /// actor first.
    ///
    /// # Errors
    /// For names that the target's log could not show.
    pub fn through<'a>(
        mut self,
        actors: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, AttributionError> {
        let actors: Vec<String> = actors
            .map(|(issuer, subject)| format!("{issuer}/{subject}"))
            .collect();
        if actors
            .iter()
            .any(|actor| actor.chars().any(char::is_control))
        {
            return Err(AttributionError::ControlCharacter);
        }
        if actors.is_empty() {
            return Ok(self);
        }
        let text = serde_json::Value::from(actors).to_string();
        if text.len() > ACTORS_BYTES_MAX {
            return Err(AttributionError::ActorsTooLong { bytes: text.len() });
        }
        self.actors = Some(text);
        Ok(self)
    }

    /// What `application_name` is set to: printable ASCII without quotes, at most 63 bytes.
    pub fn application_name(&self) -> &str {
        &self.application_name
    }

    /// Whether `default_transaction_read_only` is set as well.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// What `sallyport.subject` is set to: issuer name, a slash, the subject, all as it is.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The value that stands in for `client_name` in a client's own `SET application_name`, as an
    /// SQL literal with its quotes.
    pub fn rewritten(&self, client_name: &str) -> String {
        literal(&with_suffix(&self.agent, Some(client_name)))
    }

    /// Remembers a client's own name, so that [`statements`](Self::statements) keep it.
    pub fn rename(&mut self, client_name: &str) {
        self.application_name = with_suffix(&self.agent, Some(client_name));
    }

    /// The settings by name, with their values as they are.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let read_only = self
            .read_only
            .then_some(("default_transaction_read_only", "on"));
        [
            ("application_name", self.application_name.as_str()),
            ("sallyport.subject", self.subject.as_str()),
        ]
        .into_iter()
        .chain(
            self.actors
                .as_deref()
                .map(|actors| ("sallyport.actors", actors)),
        )
        .chain(read_only)
    }

    /// What a reported setting will be once it names the agent again, or still does; `None` for
    /// settings that are not part of the attribution.
    pub fn upheld<'v>(&'v self, name: &[u8], reported: &'v [u8]) -> Option<&'v [u8]> {
        match name {
            b"application_name" => {
                let suffix = reported.strip_prefix(self.agent.as_bytes());
                let names_agent =
                    suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(b" "));
                Some(if names_agent {
                    reported
                } else {
                    self.application_name.as_bytes()
                })
            }
            b"default_transaction_read_only" => self.read_only.then_some(b"on"),
            _ => None,
        }
    }

    /// Sets everything again, whatever was set before.
    pub fn statements(&self) -> AttributionStatements {
        let mut sql = format!(
            "SET application_name = {}; SET sallyport.subject = {}",
            literal(&self.application_name),
            literal(&self.subject),
        );
        let mut count = 2;
        // Without them nothing is set: a connection comes from the pool with nothing of the last.
        if let Some(actors) = &self.actors {
            sql.push_str(&format!("; SET sallyport.actors = {}", literal(actors)));
            count += 1;
        }
        if self.read_only {
            sql.push_str("; SET default_transaction_read_only = on");
            count += 1;
        }
        AttributionStatements { sql, count }
    }
}

fn with_suffix(agent: &str, client_name: Option<&str>) -> String {
    let mut name = agent.to_owned();
    if let Some(client_name) = client_name.filter(|client_name| !client_name.is_empty()) {
        // The longest agent part leaves no room, not even for the blank.
        let room = APPLICATION_NAME_BYTES_MAX.saturating_sub(name.len() + 1);
        if room > 0 {
            name.push(' ');
            name.push_str(&printable(client_name, room));
        }
    }
    name
}

/// At most `bytes_max` characters of printable ASCII, none of which ends a quoted text.
fn printable(text: &str, bytes_max: usize) -> String {
    text.chars()
        .take(bytes_max)
        .map(|character| match character {
            '\'' | '"' | '\\' | '`' => REPLACEMENT,
            ' '..='~' => character,
            _ => REPLACEMENT,
        })
        .collect()
}

/// A literal for `standard_conforming_strings = on`, which every upstream session has: a
/// backslash is an ordinary character.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(subject: &str, client_name: Option<&str>) -> String {
        let attribution = Attribution::new("corp", subject, client_name, false).unwrap();
        attribution.application_name().to_owned()
    }

    #[test]
    fn the_clients_name_follows_the_agent() {
        assert_eq!(name("reporter", None), "corp/reporter");
        assert_eq!(name("reporter", Some("psql")), "corp/reporter psql");
        assert_eq!(name("reporter", Some("")), "corp/reporter");
    }

    #[test]
    fn the_agent_wins_over_the_suffix_at_63_bytes() {
        let subject = "s".repeat(56);
        assert_eq!(name(&subject, Some("psql")), format!("corp/{subject} p"));
        let subject = "s".repeat(57);
        assert_eq!(name(&subject, Some("psql")), format!("corp/{subject}"));
        let subject = "s".repeat(58);
        assert_eq!(name(&subject, None), format!("corp/{subject}"));
        assert_eq!(
            name(&format!("{subject}t"), None),
            format!("corp/{subject}")
        );
    }

    #[test]
    fn what_is_not_plain_ascii_becomes_a_question_mark() {
        assert_eq!(
            name("o'b\"r\\ien`é\u{202e}日", Some("a\nb\0c")),
            "corp/o?b?r?ien???? a?b?c"
        );
    }

    #[test]
    fn statements_quote_for_standard_conforming_strings() {
        let attribution = Attribution::new("corp", r"o'brien\'; DROP é", None, true).unwrap();
        let statements = attribution.statements();
        assert_eq!(
            statements.sql,
            r"SET application_name = 'corp/o?brien??; DROP ?'; SET sallyport.subject = 'corp/o''brien\''; DROP é'; SET default_transaction_read_only = on"
        );
        assert_eq!(statements.count, 3);
        assert_eq!(
            Attribution::new("corp", "a", None, false)
                .unwrap()
                .statements()
                .count,
            2
        );
    }

    #[test]
    fn who_acts_for_the_subject_is_a_list_that_sql_can_read() {
        let attribution = Attribution::new("corp", "ada", None, true).unwrap();
        let through = |actors: &[(&str, &str)]| attribution.clone().through(actors.iter().copied());
        assert_eq!(through(&[]).unwrap(), attribution);
        let statements = through(&[("corp", "o'tool \"1\""), ("partner", "agent")]);
        let statements = statements.unwrap().statements();
        assert_eq!(
            statements.sql,
            r#"SET application_name = 'corp/ada'; SET sallyport.subject = 'corp/ada'; SET sallyport.actors = '["corp/o''tool \"1\"","partner/agent"]'; SET default_transaction_read_only = on"#
        );
        assert_eq!(statements.count, 4);
        assert_eq!(
            through(&[("corp", "a\nb")]),
            Err(AttributionError::ControlCharacter)
        );
        let longest = "s".repeat(ACTORS_BYTES_MAX - 9);
        assert!(through(&[("corp", &longest)]).is_ok());
        assert_eq!(
            through(&[("corp", &format!("{longest}s"))]),
            Err(AttributionError::ActorsTooLong { bytes: 8193 })
        );
    }

    #[test]
    fn a_report_that_does_not_name_the_agent_is_of_a_reset_that_is_undone() {
        let attribution = Attribution::new("corp", "a", Some("psql"), false).unwrap();
        let upheld = |name: &str, reported: &str| {
            let value = attribution.upheld(name.as_bytes(), reported.as_bytes());
            value.map(|value| std::str::from_utf8(value).unwrap().to_owned())
        };
        let check = |name, reported, expected: Option<&str>| {
            assert_eq!(upheld(name, reported).as_deref(), expected, "{reported}");
        };
        check("application_name", "", Some("corp/a psql"));
        check("application_name", "sallyport", Some("corp/a psql"));
        check("application_name", "corp/ab", Some("corp/a psql"));
        check("application_name", "corp/a", Some("corp/a"));
        check("application_name", "corp/a batch", Some("corp/a batch"));
        check("TimeZone", "UTC", None);
        check("default_transaction_read_only", "off", None);
        let locked = Attribution::new("corp", "a", None, true).unwrap();
        assert_eq!(
            locked.upheld(b"default_transaction_read_only", b"off"),
            Some(b"on".as_slice())
        );
    }

    #[test]
    fn a_clients_rename_is_kept_as_the_suffix() {
        let mut attribution = Attribution::new("corp", "a", Some("psql"), false).unwrap();
        assert_eq!(attribution.rewritten("it's"), "'corp/a it?s'");
        assert_eq!(attribution.application_name(), "corp/a psql");
        attribution.rename("batch");
        assert_eq!(attribution.application_name(), "corp/a batch");
    }

    #[test]
    fn identities_that_a_log_could_not_show_are_refused() {
        let refused = |issuer: &str, subject: &str| {
            Attribution::new(issuer, subject, None, false).unwrap_err()
        };
        assert_eq!(refused("corp", "a\nb"), AttributionError::ControlCharacter);
        assert_eq!(refused("co\0rp", "a"), AttributionError::ControlCharacter);
        assert_eq!(
            refused("corp", "a\u{85}"),
            AttributionError::ControlCharacter
        );
        assert_eq!(refused("corp", ""), AttributionError::Empty);
        assert_eq!(refused("", "a"), AttributionError::Empty);
        let longest = "s".repeat(SUBJECT_BYTES_MAX - 5);
        assert!(Attribution::new("corp", &longest, None, false).is_ok());
        assert_eq!(
            refused("corp", &format!("{longest}s")),
            AttributionError::TooLong { bytes: 2049 }
        );
    }
}
