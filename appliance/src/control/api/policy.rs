//! What the policy in force is, and what it says about a statement.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use policy::{Action, Client};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::explanation::{self, Question, json, somebody};
use super::error::{broken, refused};
use super::{Shared, paths};
use crate::identity;
use crate::telemetry::chain;

/// The policy in force, as names and shapes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct PolicyShown {
    /// Names it: equal for equal files under one version of the appliance.
    pub version: String,
    /// Of the configuration in force.
    pub generation: u64,
    /// In the order of the files.
    pub rules: Vec<RuleShown>,
    pub masks: Vec<ItemShown>,
    pub budgets: Vec<ItemShown>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct RuleShown {
    pub name: String,
    /// `allow`, `deny` or `hold`.
    pub action: String,
    pub message: Option<String>,
    /// It is judged and decides nothing.
    pub shadow: bool,
    #[serde(flatten)]
    pub about: AboutShown,
    /// Classes of statements, by their names.
    pub classes: Vec<String>,
    /// Of `tables`, `columns` and `functions`, those that narrow it.
    pub narrowed_by: Vec<String>,
    /// Of a hold: groups whose members may approve.
    pub approvers: Vec<String>,
    /// Of a hold: how many of them have to.
    pub approvals: Option<u32>,
    /// Of a hold: how long a request stays open.
    pub expires_seconds: Option<u64>,
}

/// A mask or a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct ItemShown {
    pub name: String,
    #[serde(flatten)]
    pub about: AboutShown,
}

/// Whom and where something is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct AboutShown {
    /// Absent: everybody.
    pub groups: Option<Vec<String>>,
    pub except_groups: Vec<String>,
    /// Absent: everywhere.
    pub targets: Option<Vec<String>>,
    /// It asks for a network, a time, an issuer, a subject or a delegation besides.
    pub conditional: bool,
}

/// A statement, and whose it would be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainWanted {
    /// Groups as rules name them: somebody who is in these, and of whom nothing else is known.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Claims of a token, in place of groups. They are mapped as those of their issuer and not
    /// verified; a token itself has no business here.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub claims: Option<Map<String, Value>>,
    /// The database name that the agent would ask for.
    pub target: String,
    /// From where: an address, or `unix`. Absent: not known.
    #[serde(default)]
    pub from: Option<String>,
    /// The session's search_path. Absent: not known.
    #[serde(default)]
    pub search_path: Option<Vec<String>>,
    /// One statement or several.
    pub sql: String,
}

/// The policy in force
///
/// Its rules, masks and budgets by name, with whom and what they are about. What they match in
/// detail is in the files.
#[utoipa::path(
    get,
    path = paths::POLICY,
    operation_id = "policy",
    responses((status = 200, description = "The policy", body = PolicyShown))
)]
pub(super) async fn policy(State(shared): State<Shared>) -> Json<PolicyShown> {
    let snapshot = shared.snapshot.load();
    let outline = snapshot.policy.outline();
    let items = |items: Vec<policy::OutlinedItem>| {
        let items = items.into_iter().map(|item| ItemShown {
            name: item.name,
            about: item.about.into(),
        });
        items.collect()
    };
    Json(PolicyShown {
        version: snapshot.policy.version().to_string(),
        generation: snapshot.generation,
        rules: outline.rules.into_iter().map(RuleShown::from).collect(),
        masks: items(outline.masks),
        budgets: items(outline.budgets),
    })
}

/// What the policy in force says about a statement
///
/// As `sallyport explain --json`: every rule that was looked at, every effect, and the decision.
/// Nothing runs. Statements and claims belong into no address line, so it is asked by POST.
#[utoipa::path(
    post,
    path = paths::EXPLAIN,
    operation_id = "explain",
    request_body = ExplainWanted,
    responses(
        (status = 200, description = "The explanation", body = Object),
        (status = 422, description = "Not a question", body = super::Refused),
    )
)]
pub(super) async fn explain(
    State(shared): State<Shared>,
    Json(wanted): Json<ExplainWanted>,
) -> Response {
    // A statement takes as long to parse as it is long.
    match tokio::task::spawn_blocking(move || explained(&shared, &wanted)).await {
        Ok(Ok(explanation)) => Json(explanation).into_response(),
        Ok(Err(why)) => refused(StatusCode::UNPROCESSABLE_ENTITY, &why),
        Err(panicked) => broken(&panicked),
    }
}

fn explained(shared: &Shared, wanted: &ExplainWanted) -> Result<Value, String> {
    let snapshot = shared.snapshot.load();
    let from = wanted.from.as_deref().map(client).transpose()?;
    let principal = match &wanted.claims {
        Some(_) if !wanted.groups.is_empty() => {
            return Err("either `groups` or `claims`".to_owned());
        }
        Some(claims) => {
            let claims = Value::Object(claims.clone()).to_string();
            identity::suppose(&snapshot.authenticators, claims.as_bytes())
                .map_err(|why| format!("the claims name nobody: {}", chain(&why)))?
        }
        None => somebody(wanted.groups.clone()),
    };
    let question = Question {
        principal: &principal,
        target: &wanted.target,
        from,
        search_path: wanted.search_path.as_deref(),
        text: &wanted.sql,
    };
    let explanation = explanation::explain(&snapshot, &question);
    Ok(json::explanation(&principal, &explanation))
}

fn client(text: &str) -> Result<Client, String> {
    if text == "unix" {
        return Ok(Client::Unix);
    }
    let address = text.parse().map(Client::Address);
    address.map_err(|_| "`from` is an address or `unix`".to_owned())
}

impl From<policy::About> for AboutShown {
    fn from(about: policy::About) -> Self {
        Self {
            groups: about.groups,
            except_groups: about.except_groups,
            targets: about.targets,
            conditional: about.is_conditional,
        }
    }
}

impl From<policy::OutlinedRule> for RuleShown {
    fn from(rule: policy::OutlinedRule) -> Self {
        let action = rule.action.word().to_owned();
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        let hold = match rule.action {
            Action::Hold(hold) => Some(hold),
            Action::Allow | Action::Deny => None,
        };
        Self {
            name: rule.name,
            action,
            message: rule.message,
            shadow: rule.shadow,
            about: rule.about.into(),
            classes: owned(rule.classes),
            narrowed_by: owned(rule.narrowed_by),
            approvals: hold.as_ref().map(|hold| hold.approvals.get()),
            expires_seconds: hold.as_ref().map(|hold| hold.expires.as_secs()),
            approvers: hold.map(|hold| hold.approvers).unwrap_or_default(),
        }
    }
}
