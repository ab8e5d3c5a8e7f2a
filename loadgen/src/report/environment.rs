//! The machine and the command that figures come from; without them they mean nothing.
//!
//! Secrets in the command line are cut before it is kept.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde::Serialize;

/// Where and how a report was made.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// Of this program.
    pub version: String,
    /// Whether this program was built to be fast; the tests' own build is not.
    pub optimised: bool,
    pub kernel: String,
    pub cpu: String,
    /// CPUs that this process may use.
    pub cores: usize,
    /// Of the first CPU: `performance`, `powersave`; absent where frequencies are not governed.
    pub governor: Option<String>,
    /// `kernel.io_uring_disabled`, where the kernel has it.
    pub io_uring_disabled: Option<u8>,
    /// Runnable threads of the machine in the minute before, as the kernel averages them.
    pub load_before: Option<f64>,
    pub command_line: Vec<String>,
}

impl Environment {
    /// Reads the machine's side; what it does not say stays absent.
    #[must_use]
    pub fn read(arguments: &[OsString]) -> Self {
        let text = |path: &str| -> Option<String> {
            let text = fs::read_to_string(Path::new(path)).ok()?;
            Some(text.trim().to_owned())
        };
        let load = text("/proc/loadavg");
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            optimised: !cfg!(debug_assertions),
            kernel: text("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            cpu: text("/proc/cpuinfo")
                .as_deref()
                .and_then(cpu_model)
                .unwrap_or_else(|| "unknown".to_owned()),
            cores: runtime::allowed_cpus().map_or(0, |cpus| cpus.len()),
            governor: text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            io_uring_disabled: text(concat!("/proc/sys/kernel/io_", "uring_disabled"))
                .and_then(|value| value.parse().ok()),
            load_before: load
                .as_deref()
                .and_then(|load| load.split_whitespace().next())
                .and_then(|load| load.parse().ok()),
            command_line: without_secrets(arguments),
        }
    }
}

/// In a line.
impl std::fmt::Display for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, {} cores, Linux {}, sallyport-loadgen {}",
            self.cpu, self.cores, self.kernel, self.version
        )?;
        if !self.optimised {
            f.write_str(" (an unoptimised build)")?;
        }
        Ok(())
    }
}

/// `model name` on x86; AArch64 tells numbers only.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    field("model name").or_else(|| {
        let (implementer, part) = (field("CPU implementer")?, field("CPU part")?);
        Some(format!("implementer {implementer}, part {part}"))
    })
}

/// What stands in the place of a secret.
const CUT: &str = "[cut]";

/// The arguments, with what follows `--password`, `--token` and the like cut, and the password of
/// a URL. Files that hold secrets are named, not read.
fn without_secrets(arguments: &[OsString]) -> Vec<String> {
    let mut kept = Vec::with_capacity(arguments.len());
    let mut cut_next = false;
    for argument in arguments {
        let argument = argument.to_string_lossy().into_owned();
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        let secret = is_secret(name);
        kept.push(if cut_next {
            CUT.to_owned()
        } else if secret && value.is_some() {
            format!("{name}={CUT}")
        } else {
            without_password(&argument)
        });
        cut_next = secret && value.is_none() && !cut_next;
    }
    kept
}

fn is_secret(option: &str) -> bool {
    let name = option.to_ascii_lowercase();
    let named = ["password", "token", "secret", "key"];
    name.starts_with("--")
        && named.iter().any(|word| name.contains(word))
        && !name.ends_with("-file")
        && !name.ends_with("-command")
}

/// `postgres://user:PASSWORD@host` and `password=...` inside a connection string.
fn without_password(argument: &str) -> String {
    if let Some((scheme, rest)) = argument.split_once("://")
        && let Some((account, host)) = rest.rsplit_once('@')
        && let Some((user, _)) = account.split_once(':')
    {
        return format!("{scheme}://{user}:{CUT}@{host}");
    }
    let lower = argument.to_ascii_lowercase();
    match lower.find("password=") {
        Some(at) => format!("{}password={CUT}", argument.get(..at).unwrap_or_default()),
        None => argument.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_cut(arguments: &[&str], kept: &[&str]) {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        assert_eq!(without_secrets(&arguments), kept);
    }

    #[test]
    fn secrets_are_cut_and_names_of_files_are_not() {
        check_cut(
            &["x", "run", "--password", "hunter2", "--rate", "5"],
            &["x", "run", "--password", "[cut]", "--rate", "5"],
        );
        check_cut(&["--token=abc"], &["--token=[cut]"]);
        check_cut(&["--token", "--token"], &["--token", "[cut]"]);
        check_cut(&["--tokens-file", "agents"], &["--tokens-file", "agents"]);
        check_cut(
            &["--to", "postgres://a:b@c/d@x:1"],
            &["--to", "postgres://a:[cut]@x:1"],
        );
        check_cut(
            &["--to=host=x Password=y user=z"],
            &["--to=host=x password=[cut]"],
        );
    }

    #[test]
    fn the_model_of_the_cpu_is_found() {
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n").as_deref(),
            Some("AMD EPYC")
        );
        assert_eq!(
            cpu_model("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n").as_deref(),
            Some("implementer 0x41, part 0xd0c")
        );
        assert_eq!(cpu_model("processor: 0\n"), None);
    }

    #[test]
    fn this_machine_is_described() {
        let environment = Environment::read(&[]);
        assert!(environment.cores >= 1);
        assert_ne!(environment.kernel, "unknown");
    }
}
