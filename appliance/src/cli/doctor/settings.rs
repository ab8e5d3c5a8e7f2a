//! What is configured: files, rules, secrets within the service's reach, certificates in time.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Finding;
use super::service::{credential_source, unit_file};
use super::view::View;
use crate::config::{Examined, NamedFile, NamedPlace, Problem};
use crate::downstream::certificate::OWN_CERTIFICATE_FILE;
use crate::upstream::validity;

/// Mistakes that are shown; `sallyport check` shows all of them.
const MISTAKES_MAX: usize = 10;

/// A certificate that ends sooner is worth a word.
const SOON_SECONDS: i64 = 14 * 24 * 3600;

const CERTIFICATE_KEYS: [&str; 3] = [
    "tls.certificate",
    "tls.client_roots",
    "target[].client_certificate",
];

pub(super) fn all(view: &View, examined: &Examined, named: &[NamedFile]) -> Vec<Finding> {
    let mut findings = configuration(examined);
    findings.extend(credentials(view, named));
    findings.extend(certificates(examined, named, now()));
    findings
}

fn now() -> i64 {
    i64::try_from(runtime::unix_time().as_secs()).unwrap_or(i64::MAX)
}

fn configuration(examined: &Examined) -> Vec<Finding> {
    const CHECK: &str = "configuration";
    let is_mistake = |problem: &&Problem| problem.credential.is_none();
    let mistakes = examined.problems.iter().filter(is_mistake);
    let mut findings: Vec<Finding> = mistakes
        .take(MISTAKES_MAX)
        .map(|problem| {
            let file = problem.file.display();
            let fix = match problem.line {
                0 => "sallyport check".to_owned(),
                line => format!("${{EDITOR:-vi}} +{line} {file}; sallyport check"),
            };
            Finding::problem(CHECK, problem.to_string(), fix)
        })
        .collect();
    let warnings = examined.loaded.iter().flat_map(|loaded| &loaded.warnings);
    findings.extend(
        warnings.map(|warning| Finding::warning(CHECK, warning.to_string(), "sallyport check")),
    );
    if findings.is_empty() {
        let targets = examined.loaded.as_ref();
        let targets = targets.map_or(0, |loaded| loaded.snapshot.targets.iter().count());
        findings.push(Finding::ok(
            CHECK,
            format!("no mistake; targets: {targets}"),
        ));
    }
    findings
}

/// Whether the service's user gets at what the configuration names.
fn credentials(view: &View, named: &[NamedFile]) -> Vec<Finding> {
    const CHECK: &str = "credentials";
    let mut findings = Vec::new();
    for file in named {
        let key = file.key.replace("[]", "");
        match &file.place {
            NamedPlace::File(path) => {
                // One that is not there is a mistake of the configuration.
                let barred = path
                    .exists()
                    .then(|| view.service.barred_from(path))
                    .flatten();
                if let Some(barred) = barred {
                    let place = path.display();
                    findings.push(Finding::problem(
                        CHECK,
                        format!("{key} in {}: {barred}", file.by.display()),
                        format!("chgrp {} {place}; chmod 0640 {place}", view.service.user),
                    ));
                }
            }
            NamedPlace::Credential(name) => {
                findings.extend(credential(view, &key, &file.by, name));
            }
        }
    }
    if findings.is_empty() && !named.is_empty() {
        let said = format!("{} files and credentials are within reach", named.len());
        findings.push(Finding::ok(CHECK, said));
    }
    findings
}

/// A credential that the unit should be given.
fn credential(view: &View, key: &str, by: &Path, name: &str) -> Option<Finding> {
    const CHECK: &str = "credentials";
    let by = by.display();
    let drop_in = "/etc/systemd/system/sallyport.service.d/credentials.conf";
    let give = format!(
        "systemctl edit sallyport: [Service] LoadCredential={name}:/etc/credstore/{name} ({drop_in}); \
         systemctl restart sallyport"
    );
    if unit_file(view).is_none() {
        return Some(Finding::note(
            CHECK,
            format!(
                "{key} in {by} names the credential {name}, which a unit is given; there is no unit"
            ),
        ));
    }
    let Some(source) = credential_source(view, name) else {
        return Some(Finding::problem(
            CHECK,
            format!("{key} in {by} names the credential {name}, which the unit is not given"),
            give,
        ));
    };
    let is_missing = source.starts_with('/') && !view.path(&source).exists();
    is_missing.then(|| {
        Finding::problem(
            CHECK,
            format!(
                "the unit is to be given the credential {name} from {source}, which is not there"
            ),
            format!("install -m 0600 FILE {source}; systemctl restart sallyport"),
        )
    })
}

/// When certificates end. Whether a key fits, `configuration` has seen.
fn certificates(examined: &Examined, named: &[NamedFile], now: i64) -> Vec<Finding> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for file in named
        .iter()
        .filter(|file| CERTIFICATE_KEYS.contains(&file.key))
    {
        if let NamedPlace::File(path) = &file.place {
            let fix = format!(
                "put a new one in {}, then `sallyport reload`",
                path.display()
            );
            files.push((path.clone(), fix));
        }
    }
    let has_own = !named.iter().any(|file| file.key == "tls.certificate");
    if let Some(startup) = examined.startup.as_ref().filter(|_| has_own) {
        let state = startup.state.path().display();
        let fix = format!(
            "rm {state}/tls-own.pem; systemctl restart sallyport; clients that pin it need \
             {state}/{OWN_CERTIFICATE_FILE} again"
        );
        files.push((startup.state.file(OWN_CERTIFICATE_FILE), fix));
    }
    let findings = files
        .into_iter()
        .filter(|(path, _)| path.exists())
        .filter_map(|(path, fix)| certificate(&path, fix, now));
    findings.collect()
}

fn certificate(path: &Path, fix: String, now: i64) -> Option<Finding> {
    const CHECK: &str = "certificate";
    let certificate = CertificateDer::from_pem_file(path).ok()?;
    let (from, until) = validity(&certificate)?;
    let time = |seconds: i64| super::super::time(u64::try_from(seconds).unwrap_or_default());
    let place = path.display();
    Some(if now > until {
        Finding::problem(
            CHECK,
            format!("{place} has expired on {}", time(until)),
            fix,
        )
    } else if now < from {
        Finding::problem(
            CHECK,
            format!(
                "{place} is not valid before {}; or this machine's clock is wrong",
                time(from)
            ),
            "timedatectl",
        )
    } else if until - now < SOON_SECONDS {
        Finding::warning(CHECK, format!("{place} expires on {}", time(until)), fix)
    } else {
        Finding::ok(CHECK, format!("{place} is valid until {}", time(until)))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::State;
    use super::super::view::made::Machine;
    use super::*;

    fn named(machine: &Machine, place: NamedPlace) -> Vec<NamedFile> {
        vec![NamedFile {
            key: "target[].password",
            by: machine.view.path("/etc/sallyport/targets.d/orders.toml"),
            place,
        }]
    }

    const UNIT: (&str, &str) = ("/usr/lib/systemd/system/sallyport.service", "[Service]\n");

    #[test]
    fn a_secret_is_within_the_reach_of_the_service_not_only_of_root() {
        let machine = Machine::new(&[
            ("/etc/passwd", "sallyport:x:990:991::/:/bin/false\n"),
            ("/secret", "x"),
        ]);
        fs::set_permissions(machine.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = machine.view.path("/secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let named = named(&machine, NamedPlace::File(path.clone()));
        let found = credentials(&machine.view, &named);
        assert_eq!(found[0].state, State::Problem);
        let place = path.display();
        let fix = format!("chgrp sallyport {place}; chmod 0640 {place}");
        assert_eq!(found[0].fix, Some(fix));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(credentials(&machine.view, &named)[0].state, State::Ok);
    }

    #[test]
    fn a_credential_is_given_to_the_unit_from_something_that_is_there() {
        let of = |files: &[(&str, &str)]| {
            let machine = Machine::new(files);
            let place = NamedPlace::Credential("orders".to_owned());
            credentials(&machine.view, &named(&machine, place))[0].clone()
        };
        assert_eq!(of(&[]).state, State::Note, "no unit");
        let missing = of(&[UNIT]);
        assert_eq!(missing.state, State::Problem);
        assert!(
            missing
                .fix
                .unwrap()
                .contains("LoadCredential=orders:/etc/credstore/orders")
        );
        let drop_in = "/etc/systemd/system/sallyport.service.d/a.conf";
        let loaded = "[Service]\nLoadCredential=orders:/etc/credstore/orders\n";
        let absent = of(&[UNIT, (drop_in, loaded)]);
        assert_eq!(absent.state, State::Problem);
        assert!(
            absent.said.contains("which is not there"),
            "{}",
            absent.said
        );
        let there = ("/etc/credstore/orders", "x");
        assert_eq!(of(&[UNIT, (drop_in, loaded), there]).state, State::Ok);
        let encrypted = "[Service]\nSetCredentialEncrypted=orders: abc\n";
        assert_eq!(of(&[UNIT, (drop_in, encrypted)]).state, State::Ok);
        let commented = "[Service]\n#LoadCredential=orders:/etc/credstore/orders\n";
        assert_eq!(
            of(&[UNIT, (drop_in, commented), there]).state,
            State::Problem
        );
    }

    #[test]
    fn a_certificate_ends_at_its_last_second() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("c.pem");
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 3, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        let (from, until) = (1_767_225_600, 1_772_323_200);
        let at = |now| certificate(&path, String::new(), now).unwrap().state;
        assert_eq!(at(from - 1), State::Problem);
        assert_eq!(at(from), State::Ok);
        assert_eq!(at(until - SOON_SECONDS), State::Ok);
        assert_eq!(at(until - SOON_SECONDS + 1), State::Warning);
        assert_eq!(at(until), State::Warning);
        assert_eq!(at(until + 1), State::Problem);
    }
}
