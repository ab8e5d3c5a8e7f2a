//! Whether the appliance is well: what runs, what is recorded, by which policy, with which keys.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::{date, span};
use crate::control::api::{Asked, IssuerStatus, Shared, Status};
use crate::control::console::Looker;
use crate::control::console::frame::{Frame, Section, page, version};

#[derive(Template)]
#[template(path = "console/health.html")]
struct HealthPage {
    frame: Frame,
    parts: Vec<Part>,
}

struct Part {
    version: u64,
    name: &'static str,
    /// What is wrong, in a word or two.
    trouble: Option<String>,
    lines: Vec<(&'static str, String)>,
}

impl Part {
    fn new(
        name: &'static str,
        trouble: Option<String>,
        lines: Vec<(&'static str, String)>,
    ) -> Self {
        Self {
            version: version((name, &trouble, &lines)),
            name,
            trouble,
            lines,
        }
    }
}

/// `GET /health`.
pub(in crate::control::console) async fn health(
    State(shared): State<Shared>,
    looker: Looker,
) -> Response {
    let status = match shared.ask(|reply| Asked::Status { reply }).await {
        Ok(status) => status,
        Err(stopping) => return stopping,
    };
    let health = HealthPage {
        frame: looker.frame(&shared, Section::Health).await,
        parts: vec![
            appliance(&status),
            journal(&shared),
            archive(&shared),
            rules(&shared),
            issuers(&shared, &status),
        ],
    };
    page(StatusCode::OK, &health)
}

fn appliance(status: &Status) -> Part {
    let now = runtime::unix_time().as_secs();
    let trouble = status.draining.then(|| "stopping".to_owned());
    Part::new(
        "Appliance",
        trouble,
        vec![
            ("Version", status.version.clone()),
            (
                "Started",
                format!(
                    "{}, {} ago",
                    date(status.started.saturating_mul(1_000_000)),
                    span(now.saturating_sub(status.started))
                ),
            ),
            ("Shards", status.shards.to_string()),
            ("Listeners", status.listeners.join(", ")),
            ("Certificate", status.certificate_fingerprint.clone()),
        ],
    )
}

fn journal(shared: &Shared) -> Part {
    let status = shared.recorder.status();
    let trouble = status.trouble.map(|trouble| trouble.to_string());
    Part::new(
        "Recording",
        trouble,
        vec![
            ("Alarms since the start", status.alarms.to_string()),
            ("Commits", status.commits.to_string()),
            ("Committed", format!("{} bytes", status.committed_bytes)),
        ],
    )
}

fn archive(shared: &Shared) -> Part {
    let status = shared.archivist.status();
    let trouble = status.is_failing.then(|| "cannot be written".to_owned());
    let head = match status.head {
        0 => "none yet".to_owned(),
        number => format!("number {number}, {}", date(status.head_at)),
    };
    Part::new(
        "Archive",
        trouble,
        vec![
            ("Newest head", head),
            (
                "Sealed since the start",
                format!("{} records", status.sealed_records),
            ),
        ],
    )
}

fn rules(shared: &Shared) -> Part {
    let snapshot = shared.snapshot.load();
    let age = runtime::now().saturating_duration_since(snapshot.in_force_since);
    Part::new(
        "Policy",
        None,
        vec![
            ("Version", snapshot.policy.version().to_string()),
            ("In force for", span(age.as_secs())),
            (
                "Configuration",
                format!("generation {}", snapshot.generation),
            ),
        ],
    )
}

fn issuers(shared: &Shared, status: &Status) -> Part {
    let snapshot = shared.snapshot.load();
    let issuers = snapshot.authenticators.issuers().iter();
    let lines = issuers.map(|issuer| {
        let fetched = status.issuers.iter().find(|it| it.name == issuer.name);
        let keys = match fetched {
            None => String::new(),
            Some(IssuerStatus {
                trouble: Some(trouble),
                ..
            }) => format!("; {trouble}"),
            Some(IssuerStatus {
                keys_age_seconds: Some(age),
                ..
            }) => {
                format!("; keys of {} ago", span(*age))
            }
            Some(_) => "; no keys yet".to_owned(),
        };
        (
            "Issuer",
            format!("{}: {}{keys}", issuer.name, issuer.issuer),
        )
    });
    let mut fetched = status.issuers.iter();
    let refused = fetched.find(|issuer| !issuer.accepted);
    let trouble = refused.map(|issuer| format!("tokens of {} are refused", issuer.name));
    Part::new("Issuers", trouble, lines.collect())
}
