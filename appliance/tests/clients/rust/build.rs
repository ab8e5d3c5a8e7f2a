//! Hands the versions of the drivers, as locked, to the programs that print them.

fn main() {
    let lock = std::fs::read_to_string("Cargo.lock").expect("a lock file");
    for name in ["tokio-postgres", "sqlx"] {
        let mut lines = lock
            .lines()
            .skip_while(|line| *line != format!("name = \"{name}\""));
        let version = lines
            .nth(1)
            .and_then(|line| line.split('"').nth(1))
            .expect("locked");
        let key = name.replace('-', "_").to_uppercase();
        println!("cargo:rustc-env={key}_VERSION={version}");
    }
    println!("cargo:rerun-if-changed=Cargo.lock");
}
