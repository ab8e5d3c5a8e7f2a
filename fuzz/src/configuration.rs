//! The configuration file: whatever it says, it loads or its problems point into it.

use std::ffi::OsString;
use std::fs;

use appliance::config::{Environment, Writing, admin_socket, load, recordings};

pub fn file(input: &[u8]) {
    let directory = std::env::temp_dir().join(format!("sallyport-config-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory can be made");
    let environment = Environment {
        file: directory.join("sallyport.toml"),
        file_named: true,
        state_directory: directory.join("state"),
        runtime_directory: directory.join("run"),
        credentials_directory: None,
        policy_directory: None,
        drafts: Vec::new(),
        variable: |_| None::<OsString>,
    };
    fs::write(&environment.file, input).expect("a file can be written");
    let lines = input.split(|byte| *byte == b'\n').count();
    let results = [
        load(&environment, Writing::Never, 1).err(),
        admin_socket(&environment).err(),
        recordings(&environment).err(),
    ];
    for problem in results.into_iter().flatten().flatten() {
        assert!(
            problem.file != environment.file || problem.line <= lines,
            "{problem:?}"
        );
        assert!(!problem.message.is_empty());
    }
}
