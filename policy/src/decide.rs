//! Policy x principal x target x operation -> decision.
//!
//! `judge` and `explain` weigh each effect by the same function, [`Policy::weigh`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Occasion;
use crate::budget::BudgetRule;
use crate::class::{ByColumn, Class, ClassSet};
use crate::compile::{Action, Bits, Policy, Reading, Rule};
use crate::decision::{
    Decision, Held, HeldEffect, HeldRule, Permit, Refusal, RefusalKind, RulesKey,
};
use crate::guard::{self, Guard};
use crate::mask::MaskRule;
use crate::operation::{Operation, SearchPath, SessionContext};
use crate::pattern::Candidate;
use crate::principal::Principal;
use crate::resolve::{self, Surroundings};
use crate::sql::{ColumnUse, Effect, FunctionName, Name, Object, Reason, Schema, StatementProfile};
use crate::target::Target;

/// Most patterns that a hint lists.
const HINT_PATTERNS_MAX: usize = 8;

impl Policy {
    /// Whether the principal may enter the target at all: whether some rule that allows or holds is
    /// about both.
    ///
    /// # Errors
    /// A refusal of kind [`RefusalKind::NotAdmitted`]; the same for a target that does not exist.
    pub fn admit(
        &self,
        principal: &Principal,
        target: &Target,
        occasion: Occasion,
    ) -> Result<Permit, Refusal> {
        let rules = self.rule_scopes.applicable(principal, target, occasion);
        // What is not known about a principal gives nothing and takes nothing away.
        let rules = rules.certainly.or(&rules.possibly.and_not(&self.allows));
        let grants = rules.clone().and_not(&self.denies).and_not(&self.shadows);
        if grants.is_empty() {
            return Err(not_admitted());
        }
        let allowed = grants
            .iter()
            .filter_map(|index| self.rules.get(index))
            .fold(ClassSet::EMPTY, |set, rule| set.union(rule.classes));
        let masks = self.mask_scopes.applicable(principal, target, occasion);
        let masks = masks.certainly.or(&masks.possibly);
        let budgets = self.budget_scopes.applicable(principal, target, occasion);
        let budgets = budgets.certainly.or(&budgets.possibly);
        let words = rules.words().iter().chain(masks.words());
        Ok(Permit {
            policy: self.version,
            rules: RulesKey(words.copied().collect()),
            budgets: Arc::from(budgets.words()),
            read_only: !allowed.iter().any(|class| class.entry().writes),
            allowed,
        })
    }

    /// The masks that apply, in the order of the files.
    ///
    /// Under a permit of another policy every mask applies.
    pub fn masks(&self, permit: &Permit) -> impl Iterator<Item = &MaskRule> {
        let words = permit.rules.0.get(self.rules.len().div_ceil(64)..);
        let bits = self
            .is_own(permit)
            .then(|| Bits::from_words(words.unwrap_or_default()));
        self.masks
            .iter()
            .enumerate()
            .filter(move |(index, _)| bits.as_ref().is_none_or(|bits| bits.contains(*index)))
            .map(|(_, mask)| &mask.rule)
    }

    /// The budgets that apply, in the order of the files.
    ///
    /// Under a permit of another policy every budget applies.
    pub fn budgets(&self, permit: &Permit) -> impl Iterator<Item = &BudgetRule> {
        let bits = self
            .is_own(permit)
            .then(|| Bits::from_words(&permit.budgets));
        self.budgets
            .iter()
            .enumerate()
            .filter(move |(index, _)| bits.as_ref().is_none_or(|bits| bits.contains(*index)))
            .map(|(_, budget)| &budget.rule)
    }

    /// Whether a refusal under this name is a mask's or a budget's, and not a rule's.
    #[must_use]
    pub fn names_mask_or_budget(&self, name: &str) -> bool {
        self.masks.iter().any(|mask| mask.rule.name == name)
            || self.budgets.iter().any(|budget| budget.rule.name == name)
    }

    fn is_own(&self, permit: &Permit) -> bool {
        permit.policy == self.version
    }

    /// The rules that apply under the permit, those in shadow among them.
    pub(crate) fn rules_of(&self, permit: &Permit) -> Bits {
        let words = permit.rules.0.get(..self.rules.len().div_ceil(64));
        Bits::from_words(words.unwrap_or_default())
    }

    /// Whether some rule that applies names columns, so that it matters which ones a statement is
    /// about ([`StatementProfile::columns`]).
    #[must_use]
    pub fn weighs_columns(&self, permit: &Permit) -> bool {
        self.is_own(permit)
            && self
                .rules_of(permit)
                .iter()
                .filter_map(|index| self.rules.get(index))
                .any(|rule| rule.columns.is_some())
    }

    /// Whether some rule that applies holds: only then is anything decided to be held.
    #[must_use]
    pub fn may_hold(&self, permit: &Permit) -> bool {
        let holding = self.rules_of(permit).and(&self.holds);
        self.is_own(permit) && !holding.and_not(&self.shadows).is_empty()
    }

    /// When a rule's time window next opens or closes: from then on, admit anew.
    ///
    /// Seconds since the Unix epoch; `None` when no rule has one.
    #[must_use]
    pub fn next_change(&self, unix_time: u64) -> Option<u64> {
        self.rule_scopes.next_change(unix_time)
    }

    /// Whether the operation may happen now.
    ///
    /// A refused statement refuses all statements of its operation. A permit of another policy is
    /// refused: admit again first.
    pub fn judge(&self, permit: &Permit, operation: &Operation<'_>) -> Decision {
        if !self.is_own(permit) {
            return Decision::Deny(not_admitted());
        }
        let rules = self.rules_of(permit).and_not(&self.shadows);
        self.judge_by(&rules, permit, operation)
    }

    /// What the decision would be if rules in shadow were in force; `None` if it would be the same,
    /// and where no rule in shadow applies.
    #[must_use]
    pub fn foreshadow(
        &self,
        permit: &Permit,
        operation: &Operation<'_>,
        decision: &Decision,
    ) -> Option<Decision> {
        let rules = self.rules_of(permit);
        if !self.is_own(permit) || rules.clone().and(&self.shadows).is_empty() {
            return None;
        }
        let foreshadowed = self.judge_by(&rules, permit, operation);
        (foreshadowed != *decision).then_some(foreshadowed)
    }

    fn judge_by(&self, rules: &Bits, permit: &Permit, operation: &Operation<'_>) -> Decision {
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
        let mut session = *session;
        let mut path = Path::of(&session.search_path);
        let mut holding = Holding::default();
        for (index, statement) in statements.iter().enumerate() {
            let resolved = path
                .look_up(statement, &session)
                .map(|(resolved, _)| resolved);
            let statement = resolved.as_ref().unwrap_or(statement);
            let judged = self.judge_statement(rules, permit, statement, &session, &path);
            match judged {
                Ok(held) => holding.add(index, held),
                // Nobody is asked to approve what is refused all the same.
                Err(refusal) => {
                    return Decision::Deny(Refusal {
                        statement: index,
                        ..refusal
                    });
                }
            }
            path.follow(statement);
            session.unsettled |= resolve::redefines(statement);
        }
        self.held(holding)
    }

    /// An allowance where nothing is held.
    fn held(&self, holding: Holding) -> Decision {
        if holding.rules.is_empty() {
            return Decision::Allow;
        }
        let rules = holding.rules.into_iter().filter_map(|(index, effects)| {
            let rule = self.rules.get(index)?;
            let Action::Hold(hold) = &rule.action else {
                return None;
            };
            Some(HeldRule {
                name: rule.name.clone(),
                message: rule.message.clone(),
                approvers: hold.approvers.clone(),
                approvals: hold.approvals,
                expires: hold.expires,
                effects,
            })
        });
        Decision::Hold(Held {
            rules: rules.collect(),
        })
    }

    /// The rules that hold some effect of the statement, by effect; none where it is allowed.
    fn judge_statement<'s>(
        &self,
        rules: &Bits,
        permit: &Permit,
        statement: &'s StatementProfile,
        session: &SessionContext<'_>,
        path: &Path<'_>,
    ) -> Result<Vec<HeldBy<'s>>, Refusal> {
        if let Some(guard) = guard::refuses(statement, session) {
            return Err(refused_by_guard(guard));
        }
        let mut uncovered = None;
        let mut held = Vec::new();
        for effect in &statement.effects {
            let weighed = self.weigh(rules, statement, effect, path);
            if let Some(rule) = self.first(&weighed.denied) {
                return Err(refused_by_rule(rule, effect, &weighed));
            }
            let needs_cover = match &effect.through {
                Some(through) => through.needs_own,
                None => true,
            };
            if !weighed.covered && needs_cover {
                uncovered = uncovered.or(Some((effect, weighed)));
            } else if !weighed.held.is_empty() {
                held.push(HeldBy {
                    rules: weighed.held,
                    class: weighed.class,
                    object: &effect.object,
                });
            }
        }
        match uncovered {
            None if statement.effects.is_empty() => Err(refused_as_unknown(Reason::Part)),
            None => Ok(held),
            Some((effect, weighed)) => {
                Err(self.refused_by_nothing(rules, permit, statement, effect, &weighed))
            }
        }
    }

    fn first(&self, rules: &Bits) -> Option<&Rule> {
        rules.iter().find_map(|index| self.rules.get(index))
    }

    /// What the rules say about one effect.
    ///
    /// A name that may stand for several objects is denied if any of them is, and allowed if
    /// each of them is.
    pub(crate) fn weigh(
        &self,
        rules: &Bits,
        statement: &StatementProfile,
        effect: &Effect,
        path: &Path<'_>,
    ) -> Weighed {
        let columns = columns_of(statement, effect);
        let columns = columns.as_deref();
        let mut weighed = self.weigh_as(effect.class, rules, effect, columns, path);
        let opaque = matches!(
            &effect.object,
            Object::Function(FunctionName { opaque: true, .. })
        );
        if opaque && !weighed.covered {
            // Not listed by name, so what it does is not known.
            let unknown = self.weigh_as(Class::Unknown, rules, effect, columns, path);
            weighed = Weighed {
                denied: weighed.denied.or(&unknown.denied),
                held: weighed.held.or(&unknown.held),
                ..unknown
            };
        }
        weighed
    }

    fn weigh_as(
        &self,
        class: Class,
        rules: &Bits,
        effect: &Effect,
        columns: Option<&[&ColumnUse]>,
        path: &Path<'_>,
    ) -> Weighed {
        let index = usize::from(class as u8);
        let none = || Bits::none(self.rules.len());
        let (Some(holding), Some(open)) = (self.holding.get(index), self.open.get(index)) else {
            return Weighed::by_nothing(class, none());
        };
        let holding = rules.clone().and(holding);
        let granting = holding.clone().and_not(&self.denies);
        let (names, objects) = match &effect.object {
            Object::Nothing => {
                let matching = holding.and(open);
                // To allow some tables is to allow what has none.
                let granting = granting
                    .and_not(&self.holds)
                    .or(&matching.clone().and(&self.holds));
                let covered = !granting.is_empty();
                return self.weighed(class, &matching, granting, covered);
            }
            Object::Other { .. } | Object::Unread(_) => {
                let matching = holding.and(open);
                let granting = granting.and(open);
                let covered = !granting.is_empty();
                return self.weighed(class, &matching, granting, covered);
            }
            Object::Table(name) => (&self.tables, path.tables(name)),
            Object::Function(function) => (&self.functions, path.functions(&function.name)),
        };
        let is_table = matches!(&effect.object, Object::Table(_));
        let by_name_only = class != Class::Unknown
            && matches!(
                &effect.object,
                Object::Function(FunctionName { opaque: true, .. })
            );
        let matching = objects
            .may
            .iter()
            .map(|candidate| {
                let listed = names.rules(*candidate, Reading::May);
                if !is_table {
                    return listed;
                }
                listed.or(&self.matching_columns(class, *candidate, columns))
            })
            .fold(open.clone(), |bits, listed| bits.or(&listed))
            .and(&holding);
        let mut granted = none();
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
            let mut covering = listed.and(&granting);
            if covering.is_empty() && is_table {
                covering = self.covering_columns(class, *candidate, columns, &granting);
            }
            covered &= !covering.is_empty();
            granted = granted.or(&covering);
        }
        self.weighed(class, &matching, granted, covered)
    }

    fn weighed(&self, class: Class, matching: &Bits, granted: Bits, covered: bool) -> Weighed {
        Weighed {
            class,
            denied: matching.clone().and(&self.denies),
            held: matching.clone().and(&self.holds),
            granted,
            covered,
        }
    }

    /// The rules whose `columns` list speaks about something that may be done to the table.
    ///
    /// Without knowledge of the columns, any column may be meant.
    fn matching_columns(
        &self,
        class: Class,
        table: Candidate<'_>,
        columns: Option<&[&ColumnUse]>,
    ) -> Bits {
        match (class.entry().columns, columns) {
            (ByColumn::Never, _) => Bits::none(self.rules.len()),
            (ByColumn::Table, _) | (ByColumn::Each, None) => {
                self.columns.of_table(table, Reading::May)
            }
            (ByColumn::Each, Some(uses)) => uses
                .iter()
                .map(|used| {
                    let column = used.column.as_deref();
                    self.columns.of_column(table, column, Reading::May)
                })
                .fold(Bits::none(self.rules.len()), |bits, listed| {
                    bits.or(&listed)
                }),
        }
    }

    /// The granting rules whose `columns` lists together cover what is done to the table; none
    /// where one column is left, or the columns are not known.
    fn covering_columns(
        &self,
        class: Class,
        table: Candidate<'_>,
        columns: Option<&[&ColumnUse]>,
        granting: &Bits,
    ) -> Bits {
        let none = || Bits::none(self.rules.len());
        let uses = match (class.entry().columns, columns) {
            (ByColumn::Never, _) | (ByColumn::Each, None) => return none(),
            // As for the server, some column is enough where none is asked for.
            (ByColumn::Table, _) | (ByColumn::Each, Some([])) => {
                return self.columns.of_table(table, Reading::Must).and(granting);
            }
            (ByColumn::Each, Some(uses)) => uses,
        };
        let mut covering = none();
        for used in uses {
            let column = used.column.as_deref();
            let listed = self.columns.of_column(table, column, Reading::Must);
            let one = listed.and(granting);
            if one.is_empty() {
                return none();
            }
            covering = covering.or(&one);
        }
        covering
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
                message: format!(
                    "{object} is not built in, and no rule lists it by name{}",
                    way_to(effect)
                ),
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
            .filter(|rule| rule.action != Action::Deny && rule.classes.contains(class));
        let patterns: Vec<String> = holding
            .flat_map(|rule| rule.patterns_for(&effect.object))
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

impl Operation<'_> {
    /// Whether all that it does, with what is beneath it in the database, is to read and write rows of
    /// tables: no code but what is built in runs, also when it is planned only.
    ///
    /// False where that is not known.
    #[must_use]
    pub fn is_of_rows_alone(&self) -> bool {
        let Self::Sql {
            statements,
            session,
        } = self
        else {
            return false;
        };
        let path = Path::of(&session.search_path);
        let [statement] = statements else {
            return false;
        };
        let Some((resolved, false)) = path.look_up(statement, session) else {
            return false;
        };
        let mut effects = resolved.effects.iter();
        !session.unsettled
            && effects.all(|effect| {
                matches!(
                    effect.class,
                    Class::Select
                        | Class::Insert
                        | Class::Update
                        | Class::Delete
                        | Class::Merge
                        | Class::UpdateWithoutWhere
                        | Class::DeleteWithoutWhere
                )
            })
    }

    /// Whether it names what the catalogue does not have: it may be newer than that.
    #[must_use]
    pub fn misses_names(&self) -> bool {
        let Self::Sql {
            statements,
            session,
        } = self
        else {
            return false;
        };
        let mut path = Path::of(&session.search_path);
        statements.iter().any(|statement| {
            let looked_up = path.look_up(statement, session);
            path.follow(statement);
            looked_up.is_some_and(|(_, misses)| misses)
        })
    }
}

/// What the rules say about one effect.
pub(crate) struct Weighed {
    /// The class that it was judged as.
    pub(crate) class: Class,
    pub(crate) denied: Bits,
    pub(crate) held: Bits,
    /// Rules that allow or hold it, or some object that it may stand for.
    pub(crate) granted: Bits,
    pub(crate) covered: bool,
}

impl Weighed {
    fn by_nothing(class: Class, none: Bits) -> Self {
        Self {
            class,
            denied: none.clone(),
            held: none.clone(),
            granted: none,
            covered: false,
        }
    }
}

/// An effect, and the rules that hold it.
struct HeldBy<'s> {
    rules: Bits,
    class: Class,
    object: &'s Object,
}

/// What holds an operation: each rule with the effects that it holds.
#[derive(Default)]
struct Holding {
    rules: BTreeMap<usize, Vec<HeldEffect>>,
}

impl Holding {
    fn add(&mut self, statement: usize, held: Vec<HeldBy<'_>>) {
        for by in held {
            let effect = HeldEffect {
                statement,
                class: by.class,
                object: by.object.to_string(),
            };
            for rule in by.rules.iter() {
                let effects = self.rules.entry(rule).or_default();
                if !effects.contains(&effect) {
                    effects.push(effect.clone());
                }
            }
        }
    }
}

/// The columns that the effect is about, where they are known.
fn columns_of<'s>(statement: &'s StatementProfile, effect: &Effect) -> Option<Vec<&'s ColumnUse>> {
    let Object::Table(name) = &effect.object else {
        return None;
    };
    let is_of = |used: &&ColumnUse| {
        used.class == effect.class
            && name.name.as_ref().is_none_or(|table| *table == used.table)
            && match &name.schema {
                // A temporary table of the name would be asked for the same columns.
                Schema::Named(schema) => *schema == used.schema || schema == "pg_temp",
                Schema::Path | Schema::Any => true,
            }
    };
    let columns = statement.columns.as_ref()?;
    let columns: Vec<_> = columns.iter().filter(is_of).collect();
    // Rules, triggers and cascades are not followed down to columns.
    let is_temporary = name.schema == Schema::Named("pg_temp".to_owned());
    let is_followed = effect.through.is_none() || is_temporary || !columns.is_empty();
    is_followed.then_some(columns)
}

/// The session's search path as statements of a batch change it.
pub(crate) enum Path<'a> {
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
    pub(crate) fn of(path: &SearchPath<'p>) -> Self {
        match path {
            SearchPath::Known(schemas) => Self::Session(schemas),
            SearchPath::Unknown => Self::Unknown,
        }
    }

    pub(crate) fn follow(&mut self, statement: &StatementProfile) {
        if statement.changes_search_path {
            *self = match statement.search_path_after() {
                Some(schemas) => Self::Changed(schemas),
                None => Self::Unknown,
            };
        }
    }

    /// The statement as it is in the session's database, and whether a name was not found there;
    /// `None` where nothing is known of that.
    pub(crate) fn look_up(
        &self,
        statement: &StatementProfile,
        session: &SessionContext<'_>,
    ) -> Option<(StatementProfile, bool)> {
        let surroundings = Surroundings {
            catalogue: session.catalogue?,
            path: self.schemas(),
            unsettled: session.unsettled,
        };
        Some(resolve::resolve(statement, surroundings))
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

/// How the statement comes to an effect that it does not name.
fn way_to(effect: &Effect) -> String {
    match &effect.through {
        Some(through) => format!("; it is run through {}", through.what),
        None => String::new(),
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
        ..effect.clone()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::CLASSES;

    #[test]
    fn the_compiled_tables_have_a_line_for_every_class() {
        let policy = Policy::compile(&[], &crate::Known::default())
            .unwrap()
            .policy;
        assert_eq!(policy.holding.len(), CLASSES.len());
        assert_eq!(policy.open.len(), CLASSES.len());
    }
}
