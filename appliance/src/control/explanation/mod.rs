//! What the policy in force says about a statement of somebody: for the command line, the API and
//! the console alike.
//!
//! It asks the code that decides, and runs nothing.

pub mod json;

use policy::sql::postgres::{ProfileLimits, profile};
use policy::{
    Client, Explanation, Occasion, Operation, Principal, Proof, SearchPath, SessionContext, Target,
};

use crate::config::Snapshot;

/// What is to be explained.
pub struct Question<'a> {
    pub principal: &'a Principal,
    /// The database name that an agent would ask for.
    pub target: &'a str,
    /// From where, if that is known.
    pub from: Option<Client>,
    /// The session's search_path, if that is known.
    pub search_path: Option<&'a [String]>,
    /// One statement or several.
    pub text: &'a str,
}

/// Explains. A name that no target has is explained as a target to which nobody is let in.
#[must_use]
pub fn explain(snapshot: &Snapshot, question: &Question<'_>) -> Explanation {
    let target = match snapshot.targets.find(question.target) {
        Some(destination) => destination.sought,
        None => Target::named(question.target),
    };
    let batch = profile(question.text, &ProfileLimits::default());
    let occasion = Occasion {
        client: question.from,
        unix_time: runtime::unix_time().as_secs(),
    };
    let admitted = snapshot.policy.admit(question.principal, &target, occasion);
    let session = SessionContext {
        search_path: match question.search_path {
            Some(schemas) => SearchPath::Known(schemas),
            None => SearchPath::Unknown,
        },
        read_only: admitted.is_ok_and(|permit| permit.read_only()),
        catalogue: None,
        unsettled: false,
    };
    let operation = Operation::Sql {
        statements: &batch.statements,
        session,
    };
    snapshot
        .policy
        .explain(question.principal, &target, occasion, &operation)
}

/// Somebody who is a member of these groups, and nothing else is known of them.
#[must_use]
pub fn somebody(groups: Vec<String>) -> Principal {
    Principal {
        issuer: "none".to_owned(),
        subject: "somebody".to_owned(),
        name: "somebody".to_owned(),
        groups,
        delegation: Vec::new(),
        token_id: None,
        expires: u64::MAX,
        proof: Proof::Password,
    }
}
