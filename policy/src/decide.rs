//! Policy x principal x target x operation -> decision, and the explanation of one.
//!
//! `judge` and `explain` weigh each effect by the same function, [`Policy::weigh`].

use std::fmt;
use std::sync::Arc;

use crate::class::{Class, ClassSet};
use crate::compile::{Bits, Policy, Reading, Rule};
use crate::decision::{Decision, Permit, Refusal, RefusalKind, RulesKey};
use crate::guard::{self, Guard};
use crate::operation::{Operation, SearchPath, SessionContext};
use crate::pattern::Candidate;
use crate::principal::Principal;
use crate::sql::{Effect, FunctionName, Name, Object, Reason, Schema, StatementProfile};
use crate::target::Target;

/// Most patterns that a hint lists.
const HINT_PATTERNS_MAX: usize = 8;

impl Policy {
    /// Whether the principal may enter the target at all: whether some allow rule is about both.
    ///
    /// # Errors
    /// A refusal of kind [`RefusalKind::NotAdmitted`]; the same for a target that does not exist.
    pub fn admit(&self, principal: &Principal, target: &Target) -> Result<Permit, Refusal> {
        let rules = self.applicable(principal, target);
        let allows = rules.clone().and_not(&self.denies);
        if allows.is_empty() {
            return Err(not_admitted());
        }
        let allowed = allows
            .iter()
            .filter_map(|index| self.rules.get(index))
            .fold(ClassSet::EMPTY, |set, rule| set.union(rule.classes));
        Ok(Permit {
            policy: self.version,
            rules: RulesKey(Arc::from(rules.words())),
            read_only: !allowed.iter().any(|class| class.entry().writes),
            allowed,
        })
    }

    /// Whether the operation may happen now.
    ///
    /// A refused statement refuses all statements of its operation. A permit of another policy is
    /// refused: admit again first.
    pub fn judge(&self, permit: &Permit, operation: &Operation<'_>) -> Decision {
        if permit.policy != self.version {
            return Decision::Deny(not_admitted());
        }
        let rules = Bits::from_words(&permit.rules.0);
        match operation {
            Operation::Sql {
                statements,
                session,
            } => {
                let mut path = Path::of(&session.search_path);
                for (index, statement) in statements.iter().enumerate() {
                    if let Err(refusal) =
                        self.judge_statement(&rules, permit, statement, session, &path)
                    {
                        let statement = index;
                        return Decision::Deny(Refusal {
                            statement,
                            ..refusal
                        });
                    }
                    path.follow(statement);
                }
                Decision::Allow
            }
            Operation::FunctionCall { oid, session } => {
                let statement = crate::sql::postgres::function_call(*oid);
                let path = Path::of(&session.search_path);
                match self.judge_statement(&rules, permit, &statement, session, &path) {
                    Ok(()) => Decision::Allow,
                    Err(refusal) => Decision::Deny(refusal),
                }
            }
        }
    }

    /// Every rule and every effect, and why the decision is what it is.
    #[must_use]
    pub fn explain(
        &self,
        principal: &Principal,
        target: &Target,
        operation: &Operation<'_>,
    ) -> Explanation {
        let rules = self.rules.iter().map(|rule| ConsideredRule {
            name: rule.name.clone(),
            deny: rule.deny,
            applies: if !rule.is_about_target(target) {
                Applies::NotThisTarget
            } else if rule.is_about_some_of(&principal.groups) {
                Applies::Yes
            } else {
                Applies::NotTheseGroups
            },
        });
        let rules = rules.collect();
        let permit = match self.admit(principal, target) {
            Ok(permit) => permit,
            Err(refusal) => {
                return Explanation {
                    rules,
                    read_only: false,
                    statements: Vec::new(),
                    decision: Decision::Deny(refusal),
                };
            }
        };
        let number_called;
        let (statements, session) = match operation {
            Operation::Sql {
                statements,
                session,
            } => (*statements, session),
            Operation::FunctionCall { oid, session } => {
                number_called = [crate::sql::postgres::function_call(*oid)];
                (number_called.as_slice(), session)
            }
        };
        let applicable = Bits::from_words(&permit.rules.0);
        let mut path = Path::of(&session.search_path);
        let statements = statements
            .iter()
            .map(|statement| {
                let explained = ExplainedStatement {
                    kind: statement.kind,
                    guard: guard::refuses(statement, session),
                    effects: statement
                        .effects
                        .iter()
                        .map(|effect| self.explain_effect(&applicable, effect, &path))
                        .collect(),
                };
                path.follow(statement);
                explained
            })
            .collect();
        Explanation {
            rules,
            read_only: permit.read_only,
            statements,
            decision: self.judge(&permit, operation),
        }
    }

    fn explain_effect(&self, rules: &Bits, effect: &Effect, path: &Path<'_>) -> ExplainedEffect {
        let weighed = self.weigh(rules, effect, path);
        let names = |bits: &Bits| {
            bits.iter()
                .filter_map(|index| self.rules.get(index))
                .map(|rule| rule.name.clone())
                .collect()
        };
        ExplainedEffect {
            effect: effect.clone(),
            judged_as: weighed.class,
            denied_by: names(&weighed.denied),
            allowed_by: names(&weighed.allowed),
            covered: weighed.covered,
        }
    }

    /// The rules whose groups and targets fit.
    fn applicable(&self, principal: &Principal, target: &Target) -> Bits {
        let by_group = principal
            .groups
            .iter()
            .filter_map(|group| self.by_group.get(group))
            .fold(self.for_everybody.clone(), Bits::or);
        let with_database = target.with_database();
        let by_target = [Some(&target.name), with_database.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|word| self.by_target.get(word))
            .fold(self.for_every_target.clone(), Bits::or);
        by_group.and(&by_target)
    }

    fn judge_statement(
        &self,
        rules: &Bits,
        permit: &Permit,
        statement: &StatementProfile,
        session: &SessionContext<'_>,
        path: &Path<'_>,
    ) -> Result<(), Refusal> {
        if let Some(guard) = guard::refuses(statement, session) {
            return Err(refused_by_guard(guard));
        }
        let mut uncovered = None;
        for effect in &statement.effects {
            let weighed = self.weigh(rules, effect, path);
            if let Some(rule) = weighed
                .denied
                .iter()
                .find_map(|index| self.rules.get(index))
            {
                return Err(refused_by_rule(rule, effect, &weighed));
            }
            if !weighed.covered && uncovered.is_none() {
                uncovered = Some((effect, weighed));
            }
        }
        match uncovered {
            None if statement.effects.is_empty() => Err(refused_as_unknown(Reason::Part)),
            None => Ok(()),
            Some((effect, weighed)) => {
                Err(self.refused_by_nothing(rules, permit, statement, effect, &weighed))
            }
        }
    }

    /// What the rules say about one effect.
    ///
    /// A name that may stand for several objects is denied if any of them is, and allowed if
    /// each of them is.
    fn weigh(&self, rules: &Bits, effect: &Effect, path: &Path<'_>) -> Weighed {
        let mut weighed = self.weigh_as(effect.class, rules, effect, path);
        let opaque = matches!(
            &effect.object,
            Object::Function(FunctionName { opaque: true, .. })
        );
        if opaque && !weighed.covered {
            // Not listed by name, so what it does is not known.
            let unknown = self.weigh_as(Class::Unknown, rules, effect, path);
            weighed = Weighed {
                denied: weighed.denied.or(&unknown.denied),
                ..unknown
            };
        }
        weighed
    }

    fn weigh_as(&self, class: Class, rules: &Bits, effect: &Effect, path: &Path<'_>) -> Weighed {
        let index = usize::from(class as u8);
        let none = || Bits::none(self.rules.len());
        let (Some(holding), Some(open)) = (self.holding.get(index), self.open.get(index)) else {
            return Weighed {
                class,
                denied: none(),
                allowed: none(),
                covered: false,
            };
        };
        let holding = rules.clone().and(holding);
        let denying = holding.clone().and(&self.denies);
        let allowing = holding.and_not(&self.denies);
        let (names, objects) = match &effect.object {
            Object::Nothing => {
                let covered = !allowing.is_empty();
                return Weighed {
                    class,
                    denied: denying.and(open),
                    allowed: allowing,
                    covered,
                };
            }
            Object::Other { .. } | Object::Unread(_) => {
                let allowed = allowing.and(open);
                return Weighed {
                    class,
                    denied: denying.and(open),
                    covered: !allowed.is_empty(),
                    allowed,
                };
            }
            Object::Table(name) => (&self.tables, path.tables(name)),
            Object::Function(function) => (&self.functions, path.functions(&function.name)),
        };
        let by_name_only = class != Class::Unknown
            && matches!(
                &effect.object,
                Object::Function(FunctionName { opaque: true, .. })
            );
        let denied = objects
            .may
            .iter()
            .map(|candidate| names.rules(*candidate, Reading::May))
            .fold(open.clone(), |bits, listed| bits.or(&listed))
            .and(&denying);
        let mut allowed = none();
        let mut covered = !objects.must.is_empty();
        for candidate in &objects.must {
            let mut listed = names.rules(*candidate, Reading::Must);
            // `unknown` is never narrowed by a list.
            if class == Class::Unknown {
                listed = none();
            }
            if !by_name_only {
                listed = listed.or(open);
            }
            let covering = listed.and(&allowing);
            covered &= !covering.is_empty();
            allowed = allowed.or(&covering);
        }
        Weighed {
            class,
            denied,
            allowed,
            covered,
        }
    }

    fn refused_by_nothing(
        &self,
        rules: &Bits,
        permit: &Permit,
        statement: &StatementProfile,
        effect: &Effect,
        weighed: &Weighed,
    ) -> Refusal {
        if let Object::Unread(reason) = &effect.object {
            let mut refusal = refused_as_unknown(*reason);
            if let Some(message) = &statement.parse_error {
                refusal.message.clone_from(message);
            }
            return refusal;
        }
        let object = effect.object.to_string();
        if weighed.class == Class::Unknown {
            return Refusal {
                kind: RefusalKind::Unclassified,
                rule: None,
                message: format!("{object} is not built in, and no rule lists it by name"),
                hint: "a rule may allow class `function` with this name in `functions`".to_owned(),
                class: Some(Class::Unknown),
                object,
                statement: 0,
            };
        }
        let message = if effect.object == Object::Nothing {
            format!("no rule allows `{}` here", weighed.class)
        } else {
            format!("no rule allows `{}` on {object} here", weighed.class)
        };
        Refusal {
            kind: RefusalKind::NotAllowed,
            rule: None,
            message,
            hint: self.what_is_allowed(rules, permit, effect, weighed.class),
            class: Some(weighed.class),
            object,
            statement: 0,
        }
    }

    /// The objects on which the class is allowed, or else the classes that are.
    fn what_is_allowed(
        &self,
        rules: &Bits,
        permit: &Permit,
        effect: &Effect,
        class: Class,
    ) -> String {
        if !permit.allowed.contains(class) {
            return format!("allowed to you here: {}", permit.allowed);
        }
        let holding = rules
            .iter()
            .filter_map(|index| self.rules.get(index))
            .filter(|rule| !rule.deny && rule.classes.contains(class));
        let patterns: Vec<String> = holding
            .flat_map(|rule| {
                if let Object::Function(_) = &effect.object {
                    rule.functions.iter()
                } else {
                    rule.tables.iter()
                }
            })
            .flatten()
            .map(ToString::to_string)
            .take(HINT_PATTERNS_MAX)
            .collect();
        let mut hint = match patterns.as_slice() {
            [] => format!("`{class}` is not allowed to you on this"),
            some => format!("`{class}` is allowed to you on: {}", some.join(", ")),
        };
        if let Object::Table(Name {
            schema: Schema::Path,
            ..
        }) = &effect.object
        {
            hint.push_str("; a name without a schema must be allowed in every schema of the search_path: write SCHEMA.NAME");
        }
        hint
    }
}

/// What the rules say about one effect.
struct Weighed {
    /// The class that it was judged as.
    class: Class,
    denied: Bits,
    /// Rules that cover it, or some object that it may stand for.
    allowed: Bits,
    covered: bool,
}

/// The session's search path as statements of a batch change it.
enum Path<'a> {
    Session(&'a [String]),
    Changed(Vec<String>),
    Unknown,
}

/// The objects that a name may stand for.
struct Objects<'a> {
    /// For a deny: all that are possible.
    may: Vec<Candidate<'a>>,
    /// For an allow: without those that the server certainly does not choose.
    must: Vec<Candidate<'a>>,
}

impl<'p> Path<'p> {
    fn of(path: &SearchPath<'p>) -> Self {
        match path {
            SearchPath::Known(schemas) => Self::Session(schemas),
            SearchPath::Unknown => Self::Unknown,
        }
    }

    fn follow(&mut self, statement: &StatementProfile) {
        if statement.changes_search_path {
            *self = match statement.search_path_after() {
                Some(schemas) => Self::Changed(schemas),
                None => Self::Unknown,
            };
        }
    }

    /// `"$user"` is some role's name, so the path is known only without it.
    fn schemas(&self) -> Option<&[String]> {
        let schemas = match self {
            Self::Session(schemas) => *schemas,
            Self::Changed(schemas) => schemas.as_slice(),
            Self::Unknown => return None,
        };
        (!schemas.iter().any(|schema| schema == "$user")).then_some(schemas)
    }

    fn tables<'a>(&'a self, name: &'a Name) -> Objects<'a> {
        let of = |schema: Option<&'a str>| Candidate {
            schema,
            name: name.name.as_deref(),
        };
        if let Some(known) = written_schema(name) {
            return Objects {
                may: vec![of(known)],
                must: vec![of(known)],
            };
        }
        let Some(schemas) = self.schemas() else {
            return Objects {
                may: vec![of(None)],
                must: vec![of(None)],
            };
        };
        let in_catalogue = name
            .name
            .as_deref()
            .is_some_and(crate::sql::is_catalogue_relation);
        let listed = schemas.iter().position(|schema| schema == "pg_catalog");
        // The session's own temporary tables come first, and are its own: for an allow they are
        // not asked for. Then pg_catalog, unless the path puts it later.
        let must = match (in_catalogue, listed) {
            (true, None) => vec![of(Some("pg_catalog"))],
            (true, Some(position)) => schemas
                .iter()
                .take(position + 1)
                .map(|schema| of(Some(schema)))
                .collect(),
            (false, _) => schemas.iter().map(|schema| of(Some(schema))).collect(),
        };
        let must = if must.is_empty() {
            vec![of(Some("pg_temp"))]
        } else {
            must
        };
        let mut may: Vec<_> = schemas.iter().map(|schema| of(Some(schema))).collect();
        may.push(of(Some("pg_temp")));
        if in_catalogue {
            may.push(of(Some("pg_catalog")));
        }
        Objects { may, must }
    }

    fn functions<'a>(&'a self, name: &'a Name) -> Objects<'a> {
        let of = |schema: Option<&'a str>| Candidate {
            schema,
            name: name.name.as_deref(),
        };
        if let Some(known) = written_schema(name) {
            return Objects {
                may: vec![of(known)],
                must: vec![of(known)],
            };
        }
        let Some(schemas) = self.schemas() else {
            return Objects {
                may: vec![of(None)],
                must: vec![of(None)],
            };
        };
        let mut must: Vec<_> = schemas.iter().map(|schema| of(Some(schema))).collect();
        let mut may = must.clone();
        may.push(of(Some("pg_catalog")));
        // A built-in of a server that is older or newer than the table of built-ins.
        if must.is_empty()
            || name
                .name
                .as_deref()
                .is_some_and(|name| name.starts_with("pg_"))
        {
            must.push(of(Some("pg_catalog")));
        }
        Objects { may, must }
    }
}

/// The schema that the statement itself gives: `Some(None)` is any.
fn written_schema(name: &Name) -> Option<Option<&str>> {
    match &name.schema {
        Schema::Named(schema) => Some(Some(schema)),
        Schema::Any => Some(None),
        Schema::Path => None,
    }
}

fn not_admitted() -> Refusal {
    Refusal {
        kind: RefusalKind::NotAdmitted,
        rule: None,
        message: "access to this target is not allowed".to_owned(),
        hint: String::new(),
        class: None,
        object: String::new(),
        statement: 0,
    }
}

fn refused_by_guard(guard: Guard) -> Refusal {
    Refusal {
        kind: RefusalKind::Guard,
        rule: Some(guard.name().to_owned()),
        message: guard.message().to_owned(),
        hint: guard.hint().to_owned(),
        class: Some(Class::Set),
        object: String::new(),
        statement: 0,
    }
}

fn refused_by_rule(rule: &Rule, effect: &Effect, weighed: &Weighed) -> Refusal {
    let what = Effect {
        class: weighed.class,
        object: effect.object.clone(),
    };
    Refusal {
        kind: RefusalKind::Denied,
        rule: Some(rule.name.clone()),
        message: rule
            .message
            .clone()
            .unwrap_or_else(|| format!("{what} is denied here")),
        hint: format!("the statement does this: {what}"),
        class: Some(weighed.class),
        object: effect.object.to_string(),
        statement: 0,
    }
}

fn refused_as_unknown(reason: Reason) -> Refusal {
    let kind = if reason == Reason::NotParsed {
        RefusalKind::Unparsed
    } else {
        RefusalKind::Unclassified
    };
    Refusal {
        kind,
        rule: None,
        message: format!("the statement cannot be judged: {reason}"),
        hint: "what Sallyport cannot judge is refused unless a rule allows `unknown`".to_owned(),
        class: Some(Class::Unknown),
        object: String::new(),
        statement: 0,
    }
}

/// Why a decision is what it is, complete: for `sallyport explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Every rule of the policy, in order.
    pub rules: Vec<ConsideredRule>,
    /// The session would be read-only.
    pub read_only: bool,
    /// Empty when the principal is not admitted.
    pub statements: Vec<ExplainedStatement>,
    pub decision: Decision,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsideredRule {
    pub name: String,
    pub deny: bool,
    pub applies: Applies,
}

/// Whether a rule is about the principal and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    Yes,
    NotTheseGroups,
    NotThisTarget,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedStatement {
    pub kind: &'static str,
    pub guard: Option<Guard>,
    pub effects: Vec<ExplainedEffect>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedEffect {
    pub effect: Effect,
    /// Differs from the effect's own class for a function that no rule lists.
    pub judged_as: Class,
    pub denied_by: Vec<String>,
    pub allowed_by: Vec<String>,
    /// Each object that the effect may be about is allowed.
    pub covered: bool,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rules:")?;
        for rule in &self.rules {
            let word = if rule.deny { "deny " } else { "allow" };
            let applies = match rule.applies {
                Applies::Yes => "applies",
                Applies::NotTheseGroups => "is not about the principal's groups",
                Applies::NotThisTarget => "is not about this target",
            };
            writeln!(f, "  {word} {} {applies}", rule.name)?;
        }
        if self.read_only {
            writeln!(f, "the session is read-only")?;
        }
        for (index, statement) in self.statements.iter().enumerate() {
            let kind = if statement.kind.is_empty() {
                "not parsed"
            } else {
                statement.kind
            };
            writeln!(f, "statement {} ({kind}):", index + 1)?;
            if let Some(guard) = statement.guard {
                writeln!(f, "  refused by {}", guard.name())?;
            }
            for effect in &statement.effects {
                writeln!(f, "  {effect}")?;
            }
        }
        match &self.decision {
            Decision::Allow => writeln!(f, "decision: allow"),
            Decision::Deny(refusal) => writeln!(f, "decision: deny: {refusal}"),
        }
    }
}

impl fmt::Display for ExplainedEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.effect)?;
        if self.judged_as != self.effect.class {
            write!(f, ", judged as {}", self.judged_as)?;
        }
        if !self.denied_by.is_empty() {
            write!(f, ": denied by {}", self.denied_by.join(", "))?;
        }
        if self.covered {
            write!(f, ": allowed by {}", self.allowed_by.join(", "))
        } else if self.allowed_by.is_empty() {
            write!(f, ": allowed by no rule")
        } else {
            let some = self.allowed_by.join(", ");
            write!(
                f,
                ": allowed by {some} for some of the objects it may mean, not for all"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::CLASSES;

    #[test]
    fn the_compiled_tables_have_a_line_for_every_class() {
        let policy = Policy::compile(&[], &[]).unwrap().policy;
        assert_eq!(policy.holding.len(), CLASSES.len());
        assert_eq!(policy.open.len(), CLASSES.len());
    }
}
