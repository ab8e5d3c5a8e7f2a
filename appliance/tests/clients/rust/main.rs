//! What tokio-postgres and sqlx see of a database: prints the same through the appliance as directly.
//!
//! Connects by the PG* environment variables. Prints nothing that differs from run to run.

mod over_sqlx;
mod over_tokio;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("the first to install one");
    match std::env::args().nth(1).as_deref() {
        Some("tokio-postgres") => over_tokio::run().await,
        Some("sqlx") => over_sqlx::run().await,
        other => panic!("tokio-postgres or sqlx, not {other:?}"),
    }
}

fn title(text: &str) {
    println!("== {text}");
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}
