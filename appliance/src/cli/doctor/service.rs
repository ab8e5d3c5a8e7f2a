//! The running appliance and its unit.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::Finding;
use super::view::View;
use crate::cli::client;
use crate::config::Environment;
use crate::control::{AdminError, Health, Status, paths};
use crate::telemetry::chain;

const UNIT: &str = "sallyport.service";

/// Where systemd looks for units, the first first.
const UNIT_DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// How long a tool of the system may take to answer.
const TOOL_SECONDS: &str = "5";

/// What is at the admin socket.
pub(super) enum Running {
    Answers(Box<Status>, Result<Health, AdminError>),
    Silent(AdminError),
    /// The configuration does not say where the socket is.
    Unknown,
}

pub(super) fn running(environment: &Environment) -> Running {
    let Ok(client) = client(environment) else {
        return Running::Unknown;
    };
    match client.get::<Status>(paths::STATUS) {
        Ok(status) => Running::Answers(Box::new(status), client.get(paths::HEALTH)),
        Err(error) => Running::Silent(error),
    }
}

impl Running {
    pub(super) fn status(&self) -> Option<&Status> {
        match self {
            Self::Answers(status, _) => Some(status),
            Self::Silent(_) | Self::Unknown => None,
        }
    }
}

pub(super) fn all(view: &View, running: &Running) -> Vec<Finding> {
    let mut findings = appliance(running);
    if view.path("/run/systemd/system").is_dir() && unit_file(view).is_some() {
        findings.extend(unit(&systemctl()));
    }
    findings
}

fn appliance(running: &Running) -> Vec<Finding> {
    const CHECK: &str = "appliance";
    let (status, health) = match running {
        Running::Answers(status, health) => (status, health),
        Running::Silent(AdminError::NotRunning { .. }) => {
            let said = "not running; systemctl start sallyport";
            return vec![Finding::note(CHECK, said)];
        }
        Running::Silent(AdminError::Permission { socket }) => {
            let said = format!(
                "{} is for root and its own user: nothing was asked",
                socket.display()
            );
            return vec![Finding::note(CHECK, said)];
        }
        Running::Silent(error) => {
            let fix = "journalctl -u sallyport -n 50; systemctl restart sallyport";
            return vec![Finding::problem(CHECK, chain(error), fix)];
        }
        Running::Unknown => return Vec::new(),
    };
    let mut findings = vec![version(&status.version, status.pid)];
    match health {
        Ok(health) if health.ready => {}
        Ok(health) => findings.push(Finding::problem(
            CHECK,
            format!("it takes no sessions: {}", health.problems.join("; ")),
            "journalctl -u sallyport -n 50",
        )),
        Err(error) => findings.push(Finding::problem(
            CHECK,
            chain(error),
            "journalctl -u sallyport -n 50",
        )),
    }
    let step = status.next_step.iter();
    findings.extend(step.map(|step| Finding::note("next", step.clone())));
    findings
}

fn version(running: &str, pid: u32) -> Finding {
    const CHECK: &str = "appliance";
    let installed = env!("CARGO_PKG_VERSION");
    if running == installed {
        return Finding::ok(CHECK, format!("{running} runs as process {pid}"));
    }
    Finding::warning(
        CHECK,
        format!("{running} runs as process {pid}, and {installed} is installed"),
        "systemctl restart sallyport",
    )
}

/// What systemd says of the unit; nothing where it does not answer.
fn systemctl() -> Option<String> {
    let output = Command::new("timeout")
        .args([TOOL_SECONDS, "systemctl", "show", UNIT, "-p"])
        .arg("LoadState,ActiveState,SubState,Result,UnitFileState")
        .output()
        .ok()?;
    let said = output.status.success().then_some(output.stdout)?;
    String::from_utf8(said).ok()
}

fn unit(shown: &Option<String>) -> Option<Finding> {
    const CHECK: &str = "unit";
    let shown = shown.as_ref()?;
    let value = |name: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.strip_prefix('=')).unwrap_or("?")
    };
    let state = format!("{} ({})", value("ActiveState"), value("SubState"));
    Some(match (value("ActiveState"), value("UnitFileState")) {
        ("failed", _) => Finding::problem(
            CHECK,
            format!("{state}: {}", value("Result")),
            "journalctl -u sallyport -n 50; systemctl reset-failed sallyport; systemctl start sallyport",
        ),
        (_, "masked") => Finding::problem(CHECK, "masked", "systemctl unmask sallyport"),
        ("activating", _) => Finding::problem(
            CHECK,
            format!("{state}: it starts again and again, or has not come up yet"),
            "journalctl -u sallyport -n 50",
        ),
        (_, "disabled") => Finding::warning(
            CHECK,
            format!("{state}; it does not start with the machine"),
            "systemctl enable --now sallyport",
        ),
        (_, _) => Finding::ok(CHECK, state),
    })
}

/// The unit's file, if it is installed.
pub(super) fn unit_file(view: &View) -> Option<PathBuf> {
    let mut files = UNIT_DIRECTORIES
        .iter()
        .map(|directory| view.path(directory).join(UNIT));
    files.find(|file| file.exists())
}

/// The unit and its drop-ins, in the order in which they count.
fn unit_texts(view: &View) -> Vec<String> {
    let Some(file) = unit_file(view) else {
        return Vec::new();
    };
    let mut drop_ins = Vec::new();
    for directory in UNIT_DIRECTORIES {
        let directory = view.path(directory).join(format!("{UNIT}.d"));
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path());
        drop_ins.extend(files.filter(|path| path.extension().is_some_and(|e| e == "conf")));
    }
    drop_ins.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    let files = std::iter::once(file).chain(drop_ins);
    files
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}

/// The last value of a setting of the unit.
pub(super) fn unit_setting(view: &View, name: &str) -> Option<String> {
    let texts = unit_texts(view);
    let lines = texts.iter().flat_map(|text| text.lines());
    let mut values = lines.filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
    values.next_back().map(|value| value.trim().to_owned())
}

/// Where the unit has a credential of that name from; empty where it stands in the unit itself.
pub(super) fn credential_source(view: &View, name: &str) -> Option<String> {
    let texts = unit_texts(view);
    let mut lines = texts.iter().flat_map(|text| text.lines());
    lines.find_map(|line| {
        let (setting, value) = line.trim().split_once('=')?;
        let is_loaded = matches!(setting, "LoadCredential" | "LoadCredentialEncrypted");
        let is_set = matches!(setting, "SetCredential" | "SetCredentialEncrypted");
        let (id, source) = value.split_once(':').unwrap_or((value, ""));
        let source = if is_loaded { source } else { "" };
        ((is_loaded || is_set) && id.trim() == name).then(|| source.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::view::made::Machine;
    use super::*;

    #[test]
    fn the_unit_is_read_as_systemd_shows_it() {
        let shown = |active: &str, file: &str| {
            let text = format!(
                "LoadState=loaded\nActiveState={active}\nSubState=x\nResult=exit-code\n\
                 UnitFileState={file}\n"
            );
            unit(&Some(text)).unwrap().state
        };
        assert_eq!(shown("active", "enabled"), State::Ok);
        assert_eq!(shown("active", "disabled"), State::Warning);
        assert_eq!(shown("failed", "enabled"), State::Problem);
        assert_eq!(shown("activating", "enabled"), State::Problem);
        assert_eq!(shown("inactive", "masked"), State::Problem);
        assert_eq!(unit(&None), None);
    }

    #[test]
    fn the_last_drop_in_counts() {
        let machine = Machine::new(&[
            (
                "/usr/lib/systemd/system/sallyport.service",
                "LimitNOFILE=1\n",
            ),
            (
                "/usr/lib/systemd/system/sallyport.service.d/10.conf",
                "LimitNOFILE=2\n",
            ),
            (
                "/etc/systemd/system/sallyport.service.d/05.conf",
                "LimitNOFILE=3\n",
            ),
            (
                "/etc/systemd/system/sallyport.service.d/99.bak",
                "LimitNOFILE=4\n",
            ),
        ]);
        assert_eq!(
            unit_setting(&machine.view, "LimitNOFILE").as_deref(),
            Some("2")
        );
        assert_eq!(unit_setting(&machine.view, "LimitCORE"), None);
    }

    #[test]
    fn an_older_process_than_the_program_is_to_be_restarted() {
        assert_eq!(version(env!("CARGO_PKG_VERSION"), 1).state, State::Ok);
        assert_eq!(version("0.0.9", 1).state, State::Warning);
    }
}
