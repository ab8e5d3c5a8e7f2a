//! A target as `sallyport targets add` writes it: options from the table of keys, and a first rule.
//!
//! It checks nothing: what it writes is read like any other file before it is put in place.

use std::fmt::Write;

use toml::Value;

use super::keys::{ALL, Absent, Key, Kind};

/// Tables of which targets are made.
const TABLE: &str = "target[].";

/// Given beside the options.
const NAME: &str = "target[].name";

/// What a reader needs besides reads: transactions, cursors and prepared statements of drivers.
const READING: [&str; 5] = ["read", "transaction", "session", "cursor", "prepare"];

/// One key of a target, as an option of the command line.
#[derive(Debug, Clone, Copy)]
pub struct TargetOption(&'static Key);

/// What was given for an option; several values only where it takes a list.
#[derive(Debug, Clone)]
pub struct TargetValue {
    pub option: TargetOption,
    pub values: Vec<String>,
}

/// A target that is to be written.
#[derive(Debug, Clone)]
pub struct NewTarget {
    pub name: String,
    pub values: Vec<TargetValue>,
}

/// Every key of a target with a value of its own, in the order of the documentation.
pub fn target_options() -> impl Iterator<Item = TargetOption> {
    let of_targets = |key: &&Key| {
        let has_free_names = key.path.contains('*') || matches!(key.kind, Kind::TextMap);
        key.path.starts_with(TABLE) && key.path != NAME && !has_free_names
    };
    ALL.iter().filter(of_targets).map(TargetOption)
}

impl TargetOption {
    /// The key inside the target's table, with dots.
    pub fn key(self) -> &'static str {
        self.0.path.strip_prefix(TABLE).unwrap_or(self.0.path)
    }

    /// `pool-connections` for `pool.connections`.
    #[must_use]
    pub fn flag(self) -> String {
        self.key().replace(['.', '_'], "-")
    }

    #[must_use]
    pub fn help(self) -> String {
        let help = self.0.help.trim_end_matches('.');
        match self.0.default {
            Absent::Required | Absent::Described(_) => help.to_owned(),
            Absent::Value(default) => format!("{help} [default: {default}]"),
        }
    }

    /// The only value or the first choice, where one has to be given.
    #[must_use]
    pub fn standard(self) -> Option<&'static str> {
        let first = self.choices().first().copied();
        first.filter(|_| matches!(self.0.default, Absent::Required))
    }

    #[must_use]
    pub fn is_list(self) -> bool {
        matches!(self.0.kind, Kind::TextList | Kind::TextOrList)
    }

    /// The words that it may be, where it is one of a few.
    #[must_use]
    pub fn choices(self) -> &'static [&'static str] {
        if let Kind::Choice(words) = self.0.kind {
            return words;
        }
        &[]
    }

    fn value(self, values: &[String]) -> Value {
        let text = |value: &String| Value::String(value.clone());
        match (self.0.kind, values) {
            (Kind::TextList, _) => Value::Array(values.iter().map(text).collect()),
            // A number that is none stays a text, and is refused with its place.
            (Kind::Count { .. }, [one]) => one.parse().map_or_else(|_| text(one), Value::Integer),
            (_, [one]) => text(one),
            (_, _) => Value::Array(values.iter().map(text).collect()),
        }
    }
}

impl NewTarget {
    /// The file of `targets.d`.
    #[must_use]
    pub fn text(&self) -> String {
        let name = Value::String(self.name.clone());
        let mut text = format!(
            "# Written by `sallyport targets add`. docs/configuration.md has every key.\n\
             [[target]]\nname = {name}\n"
        );
        let given = |option: TargetOption| {
            let mut given = self
                .values
                .iter()
                .filter(|v| v.option.key() == option.key());
            given.next().map(|given| option.value(&given.values))
        };
        let options = target_options().filter_map(|option| {
            let standard = option.standard().map(|word| Value::String(word.to_owned()));
            Some((option, given(option).or(standard)?))
        });
        for (option, value) in options {
            let _ = writeln!(text, "{} = {value}", option.key());
        }
        text
    }
}

/// A file of `policy.d` that lets groups read at a target.
#[must_use]
pub fn starter_rule(target: &str, groups: &[String]) -> String {
    let list = |words: &[String]| {
        let words = words.iter().cloned().map(Value::String).collect();
        Value::Array(words).to_string()
    };
    let reading = READING.map(str::to_owned);
    // Names of rules have fewer letters than names of targets.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = target
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .collect();
    format!(
        "# Written by `sallyport targets`: a first rule, to be made narrower. docs/policy.md says how.\n\
         [[rule]]\n\
         name    = \"{name}-read\"\n\
         groups  = {}\n\
         targets = {}\n\
         allow   = {{ statements = {} }}\n",
        list(groups),
        list(&[target.to_owned()]),
        list(&reading),
    )
}

/// The groups of a file that is exactly a starter rule for that target; nobody has changed it.
#[must_use]
pub fn starter_groups(target: &str, text: &str) -> Option<Vec<String>> {
    let file: toml::Table = text.parse().ok()?;
    let groups = file.get("rule")?.get(0)?.get("groups")?.as_array()?;
    let groups = groups.iter().map(|group| group.as_str().map(str::to_owned));
    let groups: Vec<String> = groups.collect::<Option<_>>()?;
    (starter_rule(target, &groups) == text).then_some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;
    use crate::config::problem::Source;

    fn value(flag: &str, values: &[&str]) -> TargetValue {
        TargetValue {
            option: target_options().find(|o| o.flag() == flag).unwrap(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        let target = NewTarget {
            name: "or\"ders".to_owned(),
            values: vec![
                value("pool-connections", &["32"]),
                value("address", &["db1:5432", "db2:5432"]),
                value("databases", &["app_*"]),
                value("user", &["a\\b"]),
            ],
        };
        assert_eq!(
            target.text(),
            "# Written by `sallyport targets add`. docs/configuration.md has every key.\n\
             [[target]]\n\
             name = 'or\"ders'\n\
             protocol = \"postgres\"\n\
             address = [\"db1:5432\", \"db2:5432\"]\n\
             databases = [\"app_*\"]\n\
             user = 'a\\b'\n\
             pool.connections = 32\n"
        );
        let source = Source {
            file: "t.toml".into(),
            text: target.text(),
        };
        let written = file::read_targets(&source).unwrap().target;
        assert_eq!(written[0].user.get_ref(), "a\\b");
        assert_eq!(*written[0].pool.connections.as_ref().unwrap().get_ref(), 32);
    }

    #[test]
    fn every_key_of_a_target_is_an_option_but_its_name_and_the_accounts_of_groups() {
        let flags: Vec<String> = target_options().map(TargetOption::flag).collect();
        for key in ALL.iter().filter(|key| key.path.starts_with(TABLE)) {
            let flag = key.path[TABLE.len()..].replace(['.', '_'], "-");
            let left_out = key.path == NAME || key.path.contains(".groups");
            assert_eq!(flags.contains(&flag), !left_out, "{}", key.path);
        }
    }

    #[test]
    fn a_starter_rule_is_recognised_until_somebody_changes_it() {
        let groups = vec!["analysts".to_owned(), "ops".to_owned()];
        let text = starter_rule("a b", &groups);
        assert!(text.contains("name    = \"a-b-read\""), "{text}");
        assert_eq!(starter_groups("a b", &text), Some(groups));
        assert_eq!(starter_groups("c", &text), None);
        assert_eq!(
            starter_groups("a b", &text.replace("ops", "ops\",\"x")),
            None
        );
        assert_eq!(starter_groups("a b", &(text + "# mine\n")), None);
    }
}
