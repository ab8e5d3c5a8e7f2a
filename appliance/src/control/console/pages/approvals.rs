//! What waits for a person, and the person's answer.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Form, Json};
use serde::Deserialize;

use super::{date, span};
use crate::approvals::{Audience, Filter, LookError, Shown, ShownCommand, ShownRule};
use crate::control::api::approvals::{self as answers, Denial};
use crate::control::api::{Person, Shared};
use crate::control::console::frame::{Frame, Section, page, version};
use crate::control::console::looker::{Done, Looker, outcome};
use crate::control::console::marked::Marked;
use crate::control::roles::Role;
use crate::telemetry::chain;

/// Requests on the page. More wait only when something is wrong, and the oldest come first.
const CARDS_MAX: u32 = 100;

/// Longest text or value in the list, in bytes: what one sees at once. Alone it is shown whole.
const LISTED_BYTES_MAX: usize = 2048;

#[derive(Template)]
#[template(path = "console/approvals.html")]
struct ApprovalsPage {
    frame: Frame,
    cards: Vec<Card>,
}

#[derive(Template)]
#[template(path = "console/approval.html")]
struct ApprovalPage {
    frame: Frame,
    card: Card,
}

/// A request, as somebody sees it.
struct Card {
    version: u64,
    id: String,
    who: Marked,
    on_behalf: Vec<Marked>,
    place: Marked,
    is_pending: bool,
    is_awaited: bool,
    is_deceptive: bool,
    /// Only the beginning of something in it is shown.
    is_cut: bool,
    state: String,
    tone: &'static str,
    asked: String,
    /// Seconds since 1970.
    expires: u64,
    left: String,
    commands: Vec<Command>,
    rules: Vec<Rule>,
    in_transaction: bool,
    votes: Vec<Marked>,
    reason: Option<Marked>,
    /// Why whoever looks has no say.
    may_not: Option<String>,
    issuer: Marked,
    subject: Marked,
    groups: Vec<Marked>,
    session: String,
    role: Marked,
    search_path: Marked,
    policy: String,
    digest: String,
}

struct Command {
    text: Marked,
    values: Vec<Value>,
    effects: Vec<Marked>,
    estimate: String,
}

struct Value {
    kind: String,
    shown: Marked,
}

struct Rule {
    name: Marked,
    takes: String,
}

impl Card {
    fn of(shown: &Shown, looker: &Looker, bytes_max: usize) -> Self {
        let now = runtime::unix_time().as_secs();
        let mut is_cut = false;
        let mut marked = |text: &str| {
            let (marked, cut) = Marked::cut_at(text, bytes_max);
            is_cut |= cut;
            marked
        };
        let commands = shown.commands.iter();
        let commands = commands
            .map(|command| Command::of(command, &mut marked))
            .collect();
        let may_not = may_not(shown, looker);
        let requester = &shown.requester;
        let chain = requester.chain.iter();
        let people = shown.approvals.iter();
        let denied_by = shown.denied_by.as_ref();
        let state = match denied_by {
            Some(person) => format!("{} by {}", shown.state, person.name),
            None => shown.state.clone(),
        };
        Self {
            version: version((serde_json::to_string(shown).unwrap_or_default(), &may_not)),
            id: shown.id.clone(),
            who: Marked::of(&requester.name),
            on_behalf: chain.map(|actor| Marked::of(&actor.subject)).collect(),
            place: Marked::of(&shown.target),
            is_pending: shown.state == "pending",
            is_awaited: shown.is_awaited,
            is_deceptive: shown.is_deceptive(),
            is_cut,
            state,
            tone: match shown.state.as_str() {
                "approved" | "used" => "good",
                _ => "bad",
            },
            asked: date(shown.asked.saturating_mul(1_000_000)),
            expires: shown.expires,
            left: span(shown.remaining(now).as_secs()),
            commands,
            rules: shown.rules.iter().map(Rule::of).collect(),
            in_transaction: shown.in_transaction,
            votes: people.map(|vote| Marked::of(&vote.by.name)).collect(),
            reason: shown.reason.as_deref().map(Marked::of),
            may_not,
            issuer: Marked::of(&requester.issuer),
            subject: Marked::of(&requester.subject),
            groups: requester
                .groups
                .iter()
                .map(|group| Marked::of(group))
                .collect(),
            session: shown.session.clone(),
            role: Marked::of(shown.role.as_deref().unwrap_or("its own")),
            search_path: Marked::of(&match &shown.search_path {
                Some(schemas) => schemas.join(", "),
                None => "not known".to_owned(),
            }),
            policy: shown.policy.clone(),
            digest: shown.digest.clone(),
        }
    }
}

impl Command {
    fn of(command: &ShownCommand, marked: &mut impl FnMut(&str) -> Marked) -> Self {
        let text = marked(&command.text.text);
        let values = command.parameters.iter().map(|parameter| Value {
            kind: parameter.kind.clone(),
            shown: match &parameter.value {
                Some(value) => marked(&value.text),
                None => Marked::of("NULL"),
            },
        });
        Self {
            text,
            values: values.collect(),
            effects: command
                .effects
                .iter()
                .map(|effect| Marked::of(format!("{} {}", effect.class, effect.object).trim()))
                .collect(),
            estimate: match command.estimated_rows {
                Some(1) => "about 1 row".to_owned(),
                Some(rows) => format!("about {rows} rows"),
                None => "no estimate".to_owned(),
            },
        }
    }
}

impl Rule {
    fn of(rule: &ShownRule) -> Self {
        let approvers = rule.approvers.join(" or ");
        let takes = match rule.needed {
            1 => format!("one of {approvers}"),
            needed => format!("{needed} of {approvers}; {} so far", rule.given),
        };
        Self {
            name: Marked::of(&rule.name),
            takes,
        }
    }
}

/// Why somebody has no say in a request. The broker decides; this saves people the attempt.
fn may_not(shown: &Shown, looker: &Looker) -> Option<String> {
    let Some(person) = looker.caller.person() else {
        return Some("Deciding takes a person: sign in with a token of your own.".to_owned());
    };
    let principal = person.principal();
    let is_me =
        |issuer: &str, subject: &str| issuer == principal.issuer && subject == principal.subject;
    let requester = &shown.requester;
    let mut chain = requester.chain.iter();
    if is_me(&requester.issuer, &requester.subject)
        || chain.any(|actor| is_me(&actor.issuer, &actor.subject))
    {
        return Some("Nobody decides about a request of their own.".to_owned());
    }
    let mut votes = shown.approvals.iter();
    if votes.any(|vote| is_me(&vote.by.issuer, &vote.by.subject)) {
        return Some("You have approved it. Others are missing.".to_owned());
    }
    let mut approvers = shown.rules.iter().flat_map(|rule| &rule.approvers);
    let has_say = person.roles().holds(Role::Approver)
        && approvers.any(|group| principal.groups.contains(group));
    (!has_say).then(|| "None of your groups may decide about it.".to_owned())
}

fn audience(looker: &Looker) -> Audience {
    let person = looker.caller.person();
    if person.is_some_and(|person| person.roles().holds(Role::Approver)) {
        Audience::Approver
    } else {
        Audience::Others
    }
}

fn pending_only() -> Filter {
    Filter {
        state: Some("pending".to_owned()),
        limit: Some(CARDS_MAX),
        ..Filter::default()
    }
}

/// How many wait.
pub(in crate::control::console) async fn pending(shared: &Shared) -> usize {
    let listed = shared.approvals.list(pending_only(), Audience::Others);
    // The page of approvals says what is wrong.
    listed.await.map_or(0, |listed| listed.len())
}

/// What differs whenever the page would.
pub(in crate::control::console) async fn pulse(shared: &Shared) -> u64 {
    let listed = shared.approvals.list(pending_only(), Audience::Others);
    let listed = listed.await.unwrap_or_default();
    version(serde_json::to_string(&listed).unwrap_or_default())
}

/// `GET /`.
pub(in crate::control::console) async fn approvals(
    State(shared): State<Shared>,
    looker: Looker,
) -> Response {
    let listed = shared.approvals.list(pending_only(), audience(&looker));
    let mut listed = match listed.await {
        Ok(listed) => listed,
        Err(error) => return not_looked(&looker, &error),
    };
    listed.sort_by_key(|shown| shown.expires);
    let card = |shown: &Shown| Card::of(shown, &looker, LISTED_BYTES_MAX);
    let approvals = ApprovalsPage {
        cards: listed.iter().map(card).collect(),
        frame: looker.frame(&shared, Section::Approvals).await,
    };
    page(StatusCode::OK, &approvals)
}

/// `GET /approvals/{id}`.
pub(in crate::control::console) async fn approval(
    State(shared): State<Shared>,
    looker: Looker,
    Path(id): Path<String>,
) -> Response {
    let found = match shared.approvals.find(&id, audience(&looker)).await {
        Ok(found) => found,
        Err(error) => return not_looked(&looker, &error),
    };
    let Some(shown) = found else {
        return looker.refusal(StatusCode::NOT_FOUND, "There is no such request.");
    };
    let approval = ApprovalPage {
        card: Card::of(&shown, &looker, usize::MAX),
        frame: looker.frame(&shared, Section::Approvals).await,
    };
    page(StatusCode::OK, &approval)
}

/// `POST /approvals/{id}/approve`.
pub(in crate::control::console) async fn approve(
    State(shared): State<Shared>,
    looker: Looker,
    person: Person,
    Path(id): Path<String>,
) -> Response {
    let answer = answers::approve(State(shared), person, Path(id)).await;
    outcome(&looker, answer, "/", Done::Approved).await
}

/// The form of a denial.
#[derive(Deserialize)]
pub(in crate::control::console) struct Reason {
    reason: String,
}

/// `POST /approvals/{id}/deny`.
pub(in crate::control::console) async fn deny(
    State(shared): State<Shared>,
    looker: Looker,
    person: Person,
    Path(id): Path<String>,
    Form(Reason { reason }): Form<Reason>,
) -> Response {
    let denial = Json(Denial { reason });
    let answer = answers::deny(State(shared), person, Path(id), denial).await;
    outcome(&looker, answer, "/", Done::Denied).await
}

fn not_looked(looker: &Looker, error: &LookError) -> Response {
    tracing::warn!(error = chain(error), "requests cannot be shown");
    looker.refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "Requests for approval cannot be read.",
    )
}
