//! Why a statement would be allowed, held or refused: `sallyport explain` as a page.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use policy::{Applies, Decision, Explanation, Principal};
use serde::Deserialize;

use crate::control::api::Shared;
use crate::control::console::frame::{Frame, Section, page};
use crate::control::console::marked::Marked;
use crate::control::console::{Looker, trouble};
use crate::control::explanation::{self, Question};
use crate::identity;

/// What is to be explained, as the form says it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::control::console) struct Asked {
    groups: String,
    claims: String,
    target: String,
    sql: String,
}

#[derive(Template)]
#[template(path = "console/explain.html")]
struct ExplainPage {
    frame: Frame,
    asked: Asked,
    targets: Vec<String>,
    problem: Option<String>,
    answer: Option<Answer>,
}

struct Answer {
    who: Marked,
    groups: Marked,
    verdict: &'static str,
    /// How it is coloured.
    tone: &'static str,
    decision: Marked,
    foreshadowed: Option<Marked>,
    read_only: bool,
    statements: Vec<Statement>,
    rules: Vec<Rule>,
    /// Masks and budgets.
    also: Vec<Marked>,
}

struct Statement {
    kind: &'static str,
    guard: Option<&'static str>,
    effects: Vec<Effect>,
    settings: Vec<Marked>,
}

struct Effect {
    text: Marked,
    denied_by: String,
    held_by: String,
    allowed_by: String,
    covered: bool,
}

struct Rule {
    name: String,
    action: &'static str,
    shadow: bool,
    applies: bool,
    why: &'static str,
}

/// `GET /explain`.
pub(in crate::control::console) async fn explain(
    State(shared): State<Shared>,
    looker: Looker,
) -> Response {
    show(&shared, &looker, Asked::default(), Ok(None)).await
}

/// `POST /explain`: not a link, since claims and statements belong into no address line.
pub(in crate::control::console) async fn explained(
    State(shared): State<Shared>,
    looker: Looker,
    Form(asked): Form<Asked>,
) -> Response {
    let snapshot = shared.snapshot.load();
    let answering = tokio::task::spawn_blocking(move || {
        let answer = principal(&snapshot.authenticators, &asked).map(|principal| {
            let explanation = explanation::explain(
                &snapshot,
                &Question {
                    principal: &principal,
                    target: asked.target.trim(),
                    from: None,
                    search_path: None,
                    text: &asked.sql,
                },
            );
            Some(Answer::of(&principal, &explanation))
        });
        (asked, answer)
    });
    match answering.await {
        Ok((asked, answer)) => show(&shared, &looker, asked, answer).await,
        Err(_) => trouble(&looker, "It could not be explained."),
    }
}

async fn show(
    shared: &Shared,
    looker: &Looker,
    asked: Asked,
    answer: Result<Option<Answer>, String>,
) -> Response {
    let targets = shared.snapshot.load();
    let targets = targets.targets.iter().map(|target| target.name.clone());
    let (answer, problem) = match answer {
        Ok(answer) => (answer, None),
        Err(problem) => (None, Some(problem)),
    };
    let status = if problem.is_some() {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    let explain = ExplainPage {
        targets: targets.collect(),
        frame: looker.frame(shared, Section::Explain).await,
        asked,
        problem,
        answer,
    };
    page(status, &explain)
}

/// Who is supposed to ask.
fn principal(
    authenticators: &identity::Authenticators,
    asked: &Asked,
) -> Result<Principal, String> {
    if asked.claims.trim().is_empty() {
        let groups = asked.groups.split(',').map(str::trim);
        let groups = groups.filter(|group| !group.is_empty());
        return Ok(explanation::somebody(groups.map(str::to_owned).collect()));
    }
    identity::suppose(authenticators, asked.claims.as_bytes())
        .map_err(|why| format!("The claims name nobody: {why}."))
}

impl Answer {
    fn of(principal: &Principal, explanation: &Explanation) -> Self {
        let (verdict, tone) = match &explanation.decision {
            Decision::Allow => ("allowed", "good"),
            Decision::Hold(_) => ("held for a person", "warn"),
            Decision::Deny(_) => ("refused", "bad"),
        };
        let masks = explanation.masks.iter().map(|mask| format!("mask {mask}"));
        let budgets = explanation.budgets.iter();
        let budgets = budgets.map(|budget| format!("budget {budget}"));
        Self {
            who: Marked::of(&principal.name),
            groups: Marked::of(&principal.groups.join(", ")),
            verdict,
            tone,
            decision: Marked::of(&explanation.decision.to_string()),
            foreshadowed: explanation
                .foreshadowed
                .as_ref()
                .map(|decision| Marked::of(&decision.to_string())),
            read_only: explanation.read_only,
            statements: explanation.statements.iter().map(Statement::of).collect(),
            rules: explanation.rules.iter().map(Rule::of).collect(),
            also: masks.chain(budgets).map(|line| Marked::of(&line)).collect(),
        }
    }
}

impl Statement {
    fn of(statement: &policy::ExplainedStatement) -> Self {
        let effects = statement.effects.iter().map(|explained| {
            let mut text = explained.effect.to_string();
            if explained.judged_as != explained.effect.class {
                text.push_str(", judged as ");
                text.push_str(explained.judged_as.name());
            }
            Effect {
                text: Marked::of(&text),
                denied_by: explained.denied_by.join(", "),
                held_by: explained.held_by.join(", "),
                allowed_by: explained.allowed_by.join(", "),
                covered: explained.covered,
            }
        });
        let settings = statement.settings.iter();
        Self {
            kind: statement.kind,
            guard: statement.guard.map(policy::Guard::name),
            effects: effects.collect(),
            settings: settings
                .map(|setting| Marked::of(&setting.to_string()))
                .collect(),
        }
    }
}

impl Rule {
    fn of(rule: &policy::ConsideredRule) -> Self {
        let why = match rule.applies {
            Applies::Yes => "yes",
            Applies::NotTheseGroups => "no: other groups",
            Applies::NotThisTarget => "no: other targets",
            Applies::NotThisNetwork => "no: other networks",
            Applies::NotNow => "no: other times",
            Applies::NotThisPrincipal => "no: other principals",
        };
        Self {
            name: rule.name.clone(),
            action: rule.action.word(),
            shadow: rule.shadow,
            applies: rule.applies == Applies::Yes,
            why,
        }
    }
}
