//! What operators read about the configuration, made from the table of keys.

use std::fmt::Write;

use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::keys::{ALL, Absent, Effect, Key, Kind};
use super::values;

/// Widest line of a generated file, in characters.
const WIDTH: usize = 96;

/// `docs/configuration.md`.
pub fn reference() -> String {
    let mut text = [TITLE, ABOUT_FILES, OTHER_PAGES].concat();
    for section in sections() {
        let _ = write!(text, "\n## `{}`\n\n", header(section));
        if let Some(about) = about(section) {
            text.push_str(about);
            text.push_str("\n\n");
        }
        text.push_str("| key | value | default | changes with | since |\n|---|---|---|---|---|\n");
        for key in keys_of(section) {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                key.path,
                kind(key.kind),
                default(key),
                effect(key.effect),
                key.since
            );
        }
        text.push('\n');
        for key in keys_of(section) {
            let _ = writeln!(text, "- `{}`: {}", key.path, key.help);
        }
    }
    text
}

/// `packaging/config/sallyport.toml`: every key, commented out.
///
/// Shape: explanations begin with `# `, keys and section headers with `#` alone, so that taking
/// that one character away gives a configuration.
pub fn default_file() -> String {
    let mut text = String::from(FILE_PREAMBLE);
    for section in sections() {
        text.push('\n');
        if let Some(about) = about(section) {
            comment(&mut text, about);
        }
        let _ = writeln!(text, "#{}", header(section));
        for key in ALL
            .iter()
            .filter(|key| section_of(key) == section && !is_inner(key))
        {
            comment(&mut text, key.help);
            let _ = writeln!(text, "#{} = {}", own_name(key), example(key));
        }
    }
    text
}

/// `sallyport.toml(5)`.
pub fn manual_page() -> String {
    let mut page = Roff::new();
    page.control(
        "TH",
        [
            "sallyport.toml",
            "5",
            "",
            concat!("Sallyport ", env!("CARGO_PKG_VERSION")),
            "Sallyport",
        ],
    );
    page.control("SH", ["NAME"]);
    page.text([roman("sallyport.toml - configuration of Sallyport")]);
    page.control("SH", ["DESCRIPTION"]);
    for paragraph in ABOUT_FILES.split("\n\n") {
        page.control("PP", []);
        page.text(inline(paragraph));
    }
    for section in sections() {
        page.control("SH", [header(section).as_str()]);
        if let Some(about) = about(section) {
            page.text(inline(about));
        }
        for key in keys_of(section) {
            page.control("TP", []);
            page.text([bold(key.path)]);
            page.text(inline(key.help));
            let mut facts = format!("Value: {}. Default: {}.", kind(key.kind), default(key));
            if key.effect == Effect::Restart {
                facts.push_str(" Changes with a restart only.");
            }
            page.control("br", []);
            page.text(inline(&facts));
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text(inline(
        "`sallyport`(1), `sallyport-check`(1), `sallyport-reload`(1)",
    ));
    page.render()
}

/// What stands between backquotes in bold, on one line.
fn inline(text: &str) -> Vec<Inline> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = text.split('`').enumerate();
    parts
        .filter(|(_, part)| !part.is_empty())
        .map(|(at, part)| if at % 2 == 1 { bold(part) } else { roman(part) })
        .collect()
}

const TITLE: &str = "\
# Configuration

Generated from `appliance/src/config/keys.rs`; a test fails when the two differ.

";

/// What the reference and the manual page say before the keys.
const ABOUT_FILES: &str = "\
`/etc/sallyport/sallyport.toml` is TOML. Another place is given by `--config` or `$SALLYPORT_CONFIG`.
Beside it stand `targets.d/*.toml`, which hold `[[target]]` tables only, and `policy.d/*.toml`, the
rules. Without any file the defaults hold, and nobody is let in anywhere.

Unknown keys are errors. `sallyport check` says what is wrong, with file, line and column, and starts
nothing. `sallyport reload` (or `SIGHUP`) reads all files again: if anything is wrong, the old
configuration stays in force. Keys that change with a restart only are left as they were, with a
warning.

Durations are written `90s`, `10m`, `8h`; sizes `64KiB`, `16MiB`. Relative paths start at the
directory of the file that names them. Secrets are references: `credential:NAME` (systemd's
`LoadCredential=`), `file:PATH` (not readable by every user; one newline at the end is cut) or
`env:NAME`.
";

const OTHER_PAGES: &str = "
The rules are in [policy.md](policy.md), what makes an agent's identity in [identity.md](identity.md).
";

const FILE_PREAMBLE: &str = "\
# Sallyport: configuration of the appliance.
#
# Everything below is commented out and shows the default, or an example where there is none.
# docs/configuration.md explains every key; `sallyport check` says whether this file is right.
# Targets may also stand one to a file in targets.d/, rules stand in policy.d/.
";

/// The tables in the order in which their first keys stand.
fn sections() -> Vec<&'static str> {
    let mut sections = Vec::new();
    for key in ALL {
        let section = section_of(key);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    sections
}

/// `listen` for `listen.postgres[].proof`, `target[].pool` for `target[].pool.warm`.
fn section_of(key: &Key) -> &'static str {
    let (first, rest) = key.path.split_once('.').unwrap_or((key.path, ""));
    match rest.split_once('.') {
        Some((second, _)) if (first.ends_with("[]") && second == "pool") || second == "s3" => {
            &key.path[..first.len() + 1 + second.len()]
        }
        Some(_) | None => first,
    }
}

fn keys_of(section: &'static str) -> impl Iterator<Item = &'static Key> {
    ALL.iter().filter(move |key| section_of(key) == section)
}

fn header(section: &str) -> String {
    match section.strip_suffix("[]") {
        Some(name) => format!("[[{name}]]"),
        None => format!("[{}]", section.replace("[]", "")),
    }
}

fn about(section: &str) -> Option<&'static str> {
    match section {
        "export" => Some("Copies of recordings for others to read."),
        "export.s3" => Some("S3-compatible storage, where exports go to a bucket."),
        "builtin_issuer" => Some("The issuer of `sallyport token issue`."),
        "issuer[]" => Some("Issuers whose tokens are accepted, one table for each."),
        "target[]" => Some("Where agents may be let to, one table for each target."),
        "webhook[]" => Some(
            "Who is told about requests for approval, one table for each. It only tells: nothing \
             that a webhook answers grants anything.",
        ),
        "target[].pool" => Some("Connections to the target above, per shard."),
        _ => None,
    }
}

/// Keys that stand inside the value of another, such as the members of a listener's table.
fn is_inner(key: &Key) -> bool {
    key.path.contains('*') || key.path.starts_with("listen.postgres[]")
}

fn own_name(key: &Key) -> &'static str {
    key.path.rsplit('.').next().unwrap_or(key.path)
}

fn example(key: &Key) -> String {
    let plain = match key.default {
        Absent::Value(value) => value,
        Absent::Required | Absent::Described(_) => return key.example.to_owned(),
    };
    match key.kind {
        Kind::Count { .. } | Kind::Switch => plain.to_owned(),
        Kind::Listeners | Kind::TextList => format!("[\"{plain}\"]"),
        Kind::Text
        | Kind::TextOrList
        | Kind::TextMap
        | Kind::Choice(_)
        | Kind::Duration { .. }
        | Kind::Bytes { .. }
        | Kind::Path
        | Kind::Secret => format!("\"{plain}\""),
    }
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::TextList => "list of texts".to_owned(),
        Kind::TextOrList => "text or list of texts".to_owned(),
        Kind::TextMap => "table".to_owned(),
        Kind::Switch => "`true` or `false`".to_owned(),
        Kind::Choice(words) => words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", "),
        Kind::Count { min, max } => format!("{min} to {max}"),
        Kind::Duration { min_ms, max_ms } => {
            let show =
                |ms| humantime::format_duration(std::time::Duration::from_millis(ms)).to_string();
            format!("duration, {} to {}", show(min_ms), show(max_ms))
        }
        Kind::Bytes { min, max } => {
            format!(
                "size, {} to {}",
                values::show_bytes(min),
                values::show_bytes(max)
            )
        }
        Kind::Path => "path".to_owned(),
        Kind::Secret => "secret reference".to_owned(),
        Kind::Listeners => "list of texts or tables".to_owned(),
    }
}

fn default(key: &Key) -> String {
    match key.default {
        Absent::Required => "(required)".to_owned(),
        Absent::Described(words) => words.to_owned(),
        Absent::Value("") => "empty".to_owned(),
        Absent::Value(_) => format!("`{}`", example(key)),
    }
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Reload => "reload",
        Effect::Restart => "restart",
    }
}

/// Writes `text` as comment lines of bounded width.
fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        if width == 0 {
            out.push_str("# ");
            width = 2;
        } else if width + 1 + word.len() > WIDTH {
            out.push_str("\n# ");
            width = 2;
        } else {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += word.chars().count();
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config::file;
    use crate::config::problem::Source;

    /// Compares a file of the repository with what it is generated from. With
    /// `SALLYPORT_GENERATE` set it is written instead.
    fn check_generated(path: &str, generated: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        if std::env::var_os("SALLYPORT_GENERATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, generated).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == generated,
            "{} differs from the table of keys: \
             SALLYPORT_GENERATE=1 cargo test -p appliance config::reference",
            path.display()
        );
    }

    #[test]
    fn the_reference_is_generated() {
        check_generated("docs/configuration.md", &reference());
    }

    #[test]
    fn the_default_file_is_generated() {
        check_generated("packaging/config/sallyport.toml", &default_file());
    }

    #[test]
    fn the_manual_page_explains_each_key_and_shows_no_marks_of_another_format() {
        let page = manual_page();
        for key in ALL {
            let name = key.path.replace('-', r"\-");
            assert!(page.contains(&format!(".TP\n\\fB{name}\\fR\n")), "{name}");
        }
        for mark in ["`", "](", "\n# "] {
            assert!(!page.contains(mark), "{mark:?}");
        }
    }

    fn read(text: String) -> Result<file::File, Vec<crate::config::Problem>> {
        file::read(&Source {
            file: "sallyport.toml".into(),
            text,
        })
    }

    #[test]
    fn the_default_file_says_nothing_and_says_everything_without_its_comment_signs() {
        let empty = format!("{:?}", file::File::default());
        assert_eq!(format!("{:?}", read(default_file()).unwrap()), empty);

        let is_prose = |line: &str| line.starts_with("# ") || line == "#";
        let default = default_file();
        let keys = default.lines().filter(|line| !is_prose(line));
        let uncommented: Vec<&str> = keys.map(|l| l.strip_prefix('#').unwrap_or(l)).collect();
        let written = read(uncommented.join("\n")).unwrap_or_else(|p| panic!("{p:?}"));
        assert!(
            !format!("{written:?}").contains("None"),
            "a key is not in the file: {written:#?}"
        );
    }

    #[test]
    fn each_key_stands_once_and_has_a_default_that_it_would_accept() {
        let mut paths = HashSet::new();
        for key in ALL {
            assert!(paths.insert(key.path), "{} stands twice", key.path);
            assert!(key.help.ends_with('.'), "{}: {}", key.path, key.help);
            let Absent::Value(default) = key.default else {
                continue;
            };
            let accepted = match key.kind {
                Kind::Count { min, max } => default
                    .parse::<u64>()
                    .is_ok_and(|count| (min..=max).contains(&count)),
                Kind::Duration { min_ms, max_ms } => values::duration(default).is_ok_and(|d| {
                    (u128::from(min_ms)..=u128::from(max_ms)).contains(&d.as_millis())
                }),
                Kind::Bytes { min, max } => {
                    values::bytes(default).is_ok_and(|bytes| (min..=max).contains(&bytes))
                }
                Kind::Choice(words) => words.contains(&default),
                Kind::Switch => default == "true" || default == "false",
                Kind::Text
                | Kind::TextList
                | Kind::TextOrList
                | Kind::TextMap
                | Kind::Path
                | Kind::Secret
                | Kind::Listeners => true,
            };
            assert!(accepted, "{} = {default}", key.path);
        }
    }
}
