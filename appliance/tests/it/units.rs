//! The units of `systemd/`, held to what systemd itself says about them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Highest exposure of `systemd-analyze security`, in tenths.
const EXPOSURE_MAX: &str = "15";

/// Drop-ins for a systemd that is newer than the oldest one that we support, and its version.
const NEWER: &[(&str, u32)] = &[("restart-backoff.conf", 254)];

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

/// A root with systemd's own units and ours, and something in the place of the program.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(TempDir::new().unwrap());
        let system = root.0.path().join("usr/lib/systemd/system");
        fs::create_dir_all(system.parent().unwrap()).unwrap();
        let copied = Command::new("cp")
            .args(["--archive", "/usr/lib/systemd/system"])
            .arg(&system)
            .status()
            .unwrap();
        assert!(copied.success());
        for unit in [
            "sallyport.service",
            "sallyport@.service",
            "sallyport.socket",
        ] {
            fs::copy(units().join(unit), system.join(unit)).unwrap();
        }
        let program = root.0.path().join("usr/bin/sallyport");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::copy("/bin/true", program).unwrap();
        root
    }

    fn add_drop_in(&self, file: &Path) {
        let folder = self.0.path().join("etc/systemd/system/sallyport.service.d");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }

    fn analyze(&self, arguments: &[&str]) -> Output {
        Command::new("systemd-analyze")
            .args(arguments)
            .arg("--root")
            .arg(self.0.path())
            .output()
            .expect("systemd-analyze, which `.ci/prepare test` installs")
    }

    /// It warns on standard error and exits with success: any word is a failure.
    fn verify(&self, unit: &str) {
        let output = self.analyze(&["verify", "--man=no", unit]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{unit}: {said}");
    }
}

fn systemd_version() -> u32 {
    let output = Command::new("systemd-analyze").arg("--version").output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let version = text.split_whitespace().nth(1).unwrap();
    version.parse().unwrap()
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let root = Root::new();
    for unit in [
        "sallyport.service",
        "sallyport.socket",
        "sallyport@.service",
        "sallyport@blue.service",
    ] {
        root.verify(unit);
    }
    // What the checks above would have noticed.
    let broken = units().join("sallyport.service");
    let broken = fs::read_to_string(broken).unwrap() + "\n[Service]\nNoSuchKey=yes\n";
    let file = root.0.path().join("etc/systemd/system/broken.service");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, broken).unwrap();
    let noticed = root.analyze(&["verify", "--man=no", "broken.service"]);
    assert!(String::from_utf8_lossy(&noticed.stderr).contains("NoSuchKey"));
}

#[test]
fn systemd_has_nothing_to_say_about_the_drop_ins() {
    let mut files: Vec<PathBuf> = fs::read_dir(units().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let installed = systemd_version();
    let is_known = |file: &&PathBuf| {
        let needs = NEWER.iter().find(|(name, _)| file.ends_with(name));
        needs.is_none_or(|(_, version)| *version <= installed)
    };
    for file in files.iter().filter(is_known) {
        let root = Root::new();
        root.add_drop_in(file);
        root.verify("sallyport.service");
    }
}

#[test]
fn the_units_are_exposed_to_at_most_one_and_a_half() {
    let root = Root::new();
    for unit in ["sallyport.service", "sallyport@blue.service"] {
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        let output = root.analyze(&["security", "--offline=yes", "--no-pager", &threshold, unit]);
        let said = String::from_utf8_lossy(&output.stdout);
        let weak: Vec<&str> = said.lines().filter(|line| !line.contains('✓')).collect();
        assert!(output.status.success(), "{unit}:\n{}", weak.join("\n"));
        assert!(said.contains("Overall exposure level"), "{said}");
    }
}

/// The template and the unit drift apart unnoticed otherwise, in a line that protects something.
#[test]
fn an_instance_is_the_service_under_another_name() {
    let settings = |unit: &str| -> Vec<String> {
        let text = fs::read_to_string(units().join(unit)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(ToOwned::to_owned).collect()
    };
    let of_the_service: Vec<String> = settings("sallyport.service")
        .into_iter()
        .flat_map(|line| match line.as_str() {
            "Description=Sallyport, the proxy between agents and the systems they use" => {
                vec![line.replace("Sallyport", "Sallyport %i")]
            }
            "ExecStart=/usr/bin/sallyport serve" => vec![
                "Environment=SALLYPORT_CONFIG=%E/sallyport-%i/sallyport.toml".to_owned(),
                line,
            ],
            "RuntimeDirectory=sallyport" | "StateDirectory=sallyport" => vec![line + "-%i"],
            _ => vec![line],
        })
        .collect();
    assert_eq!(settings("sallyport@.service"), of_the_service);
}
