//! Disks that disappear or fill under the running appliance, besides that of the journal, which
//! `e2e_recording` fills.

use std::fs;
use std::process::{Command, Output};

use rustix::process::getuid;

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::wire::tags;

#[test]
fn recordings_that_were_moved_away_are_an_outage_until_they_are_back() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[recording]\nring_bytes = \"1MiB\"\n".into();
    let appliance = Appliance::start(&setup);
    let token = appliance.token("claude", "analysts");
    let mut wire = appliance.login("claude", "analysts");
    wire.value("select 'before'");
    let journal = appliance.recordings_path().join("journal");
    let aside = appliance.recordings_path().join("aside");
    fs::rename(&journal, &aside).unwrap();

    // The next commit notices.
    wire.value("select 'during'");
    wait_until("logins to be refused", || {
        let refusal = appliance.try_login("orders", &token).err();
        refusal.is_some_and(|refusal| refusal.sqlstate() == "53100")
    });
    assert!(
        !journal.exists(),
        "it may be a file system that is not mounted"
    );
    // What runs goes on while there is room for its records.
    assert_eq!(wire.value("select 'still'"), "still");

    fs::rename(&aside, &journal).unwrap();
    wait_until("logins again", || {
        appliance.try_login("orders", &token).is_ok()
    });
    assert_eq!(wire.value("select 'after'"), "after");
    let recorded = appliance.everything_recorded();
    for said in ["before", "during", "still", "after"] {
        assert!(
            recorded.contains(&format!("select '{said}'")),
            "{said} is lost"
        );
    }
    let log = appliance.log();
    assert_eq!(log.matches("nothing can be recorded").count(), 1, "{log}");
    assert_eq!(log.matches("recording goes on").count(), 1, "{log}");
}

/// An appliance whose state directory is a file system of 1 MiB, seen only by itself. Recordings are
/// elsewhere.
fn small_state(setup: &mut Setup<'_>) -> Appliance {
    setup.tables = "[recording]\ndirectory = \"elsewhere\"\n".into();
    let script = r#"
        folder=$(dirname "$3")/state
        mount -t tmpfs -o size=1m none "$folder"
        exec "$@"
    "#;
    let mut wrapper = vec!["unshare".to_owned(), "--mount".into()];
    if !getuid().is_root() {
        wrapper.extend(["--map-root-user".into(), "--user".into()]);
    }
    wrapper.extend(["sh".into(), "-ec".into(), script.into(), "sh".into()]);
    setup.wrapper = wrapper;
    Appliance::start(setup)
}

/// Runs a shell command where the appliance sees its own file systems.
fn inside(appliance: &Appliance, script: &str) -> Output {
    let mut command = Command::new("nsenter");
    if !getuid().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    let process = appliance.process_id().to_string();
    command.args(["--mount", "--target", &process, "sh", "-c", script]);
    command.arg(appliance.directory().join("state/filler"));
    command.output().unwrap()
}

#[test]
fn a_full_state_directory_refuses_revocations_clearly_and_takes_them_when_there_is_room() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    let appliance = small_state(&mut setup);
    let token = appliance.token("claude", "analysts");
    let mut wire = appliance.login("claude", "analysts");
    // Ends with an error when nothing more fits.
    let filled = inside(&appliance, "cat /dev/zero >\"$0\"");
    assert!(!filled.status.success());

    let refused = appliance.cli(&["revoke", "agent", "claude"]);
    let words = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(
        words.contains("could not be written to the disk"),
        "{words}"
    );
    // It did not take effect either, and nothing else is disturbed.
    assert_eq!(tags(&wire.query("select 1")), "TDCZ");
    assert!(appliance.try_login("orders", &token).is_ok());
    assert!(!appliance.cli_text(&["revoke", "list"]).contains("claude"));

    assert!(inside(&appliance, "rm \"$0\"").status.success());
    appliance.cli_text(&["revoke", "agent", "claude"]);
    wire.until_closed();
    assert!(appliance.try_login("orders", &token).is_err());
}
