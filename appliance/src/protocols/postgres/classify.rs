//! From a statement's text to its profile and verdict, remembering both.
//!
//! A text seen before costs a hash lookup, and so does one that differs from it in literals alone,
//! where no literal can change what is said of it: `policy` says which those are. What a verdict
//! depends on besides the text is a [`Situation`]; each has a number, and a statement keeps its
//! verdicts by these.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use policy::catalogue::Catalogue;
use policy::class::Class;
use policy::sql::postgres::{ProfileLimits, profile, write_shape};
use policy::sql::{
    Batch, Effect, Name, NamedStatementEffect, Object, Schema, StatementProfile, TransactionControl,
};
use policy::{Decision, Operation, Permit, Policy, SearchPath, SessionContext};

use super::masking::{Columns, MaskSets, Plans, Tools, Traced};
use super::rewrite;
use crate::recorder::{DecisionNote, EffectNote, ForeshadowNote, Note, Verdict};

/// Bytes of statements remembered per generation and shard; two generations are kept.
///
/// An agent that never repeats itself evicts others' statements, not the shard's memory.
const STATEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest text that is remembered. Bytes; a longer one is parsed each time.
pub(super) const REMEMBERED_TEXT_MAX: usize = 64 * 1024;

/// Verdicts that a statement keeps. One is asked for as often as there are situations, and most
/// sessions of a target are in one of a few: a group's rules, with the path of its account.
const VERDICTS_MAX: usize = 4;

/// What a verdict is taken to weigh. Bytes; a note with two or three effects.
const VERDICT_BYTES: usize = 256;

/// Situations that have a number. Forgetting them costs a judgement per statement, no more.
const SITUATIONS_MAX: usize = 4096;

/// A statement text (a whole simple query, or what Parse carries) and what it does.
///
/// It may stand for all texts that differ from it in literals alone. Then its own text is not kept,
/// so that nobody can take it for theirs.
pub(super) struct Statement {
    /// Empty where other texts share it.
    pub(super) text: Box<str>,
    /// A text that it stands for: what is done with columns is the same in all of them.
    sample: Box<str>,
    pub(super) profiles: Vec<StatementProfile>,
    pub(super) touches_attribution: bool,
    /// What the database holds decides something.
    pub(super) needs_catalogue: bool,
    /// What the database holds may be something else after it.
    pub(super) redefines: Redefines,
    /// Names without a schema decide something.
    pub(super) needs_path: bool,
    pub(super) changes_path: bool,
    pub(super) ends_transaction: bool,
    pub(super) taints: bool,
    pub(super) listens: bool,
    pub(super) names_statements: bool,
    /// By the number of the situation; at most [`VERDICTS_MAX`], the oldest first.
    verdicts: RefCell<Vec<(u64, Rc<Judged>)>>,
}

/// Everything but the text that a verdict depends on.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Circumstances {
    pub(super) policy: policy::Version,
    pub(super) rules: policy::RulesKey,
    pub(super) read_only: bool,
    /// `None` when the path is not known.
    pub(super) path: Option<Rc<[String]>>,
    pub(super) catalogue: Option<Rc<Catalogue>>,
    /// As [`SessionContext::unsettled`].
    pub(super) unsettled: bool,
}

/// Circumstances and the number that stands for them on this shard.
///
/// Shared by the sessions that are in it. No other circumstances ever have the same number.
pub(super) struct Situation {
    number: u64,
    circumstances: Rc<Circumstances>,
    /// Found when the first statement is judged.
    columns: OnceCell<Columns>,
}

/// Whether the database may hold something else once a statement is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Redefines {
    Nothing,
    /// Code that an operator vouches for may have done anything.
    Perhaps,
    Certainly,
}

/// A verdict, and what the recording says of it.
pub(super) struct Judged {
    pub(super) decision: Decision,
    pub(super) note: Note,
    /// What is done to the answer of each statement; `None` where nothing is masked for the principal by column.
    pub(super) masking: Option<Plans>,
    /// Names in it are not in the catalogue, and nobody has looked for them since.
    pub(super) misses_names: Cell<bool>,
}

impl Judged {
    pub(super) fn new(
        decision: Decision,
        foreshadowed: Option<&Decision>,
        situation: &Situation,
        profiles: &[StatementProfile],
    ) -> Self {
        let circumstances = &situation.circumstances;
        let (verdict, rule) = noted(&decision);
        let effects: Vec<(&str, String)> = profiles
            .iter()
            .flat_map(|profile| &profile.effects)
            .map(|effect| (effect.class.name(), effect.object.to_string()))
            .collect();
        let effects: Vec<EffectNote<'_>> = effects
            .iter()
            .map(|(class, object)| EffectNote {
                class,
                object: Some(object),
            })
            .collect();
        let note = Note::new(&DecisionNote {
            verdict,
            rule,
            policy: circumstances.policy.number(),
            effects: &effects,
            search_path: circumstances.path.as_deref(),
            foreshadowed: foreshadowed.map(|decision| {
                let (verdict, rule) = noted(decision);
                ForeshadowNote { verdict, rule }
            }),
        });
        Self {
            decision,
            note,
            masking: None,
            misses_names: Cell::new(false),
        }
    }
}

fn noted(decision: &Decision) -> (Verdict, Option<&str>) {
    match decision {
        Decision::Allow => (Verdict::Permitted, None),
        Decision::Hold(held) => {
            let rule = held.rules.first();
            (Verdict::Held, rule.map(|rule| rule.name.as_str()))
        }
        Decision::Deny(refusal) => (Verdict::Refused, refusal.rule.as_deref()),
    }
}

/// Per shard.
pub(crate) struct Classifier {
    /// By text, or by the shape of texts that share a statement. Neither can be taken for the other:
    /// a shape with literals is not UTF-8.
    statements: RefCell<Generations<Box<[u8]>, Rc<Statement>>>,
    situations: RefCell<HashMap<Rc<Circumstances>, Rc<Situation>>>,
    situations_made: Cell<u64>,
    pub(super) mask_sets: MaskSets,
    /// For rewriting answers.
    pub(super) tools: Rc<Tools>,
    /// The shape of the text that is looked up.
    shape: RefCell<Vec<u8>>,
}

impl Classifier {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            statements: RefCell::new(Generations::new(STATEMENT_BYTES_MAX)),
            situations: RefCell::default(),
            situations_made: Cell::new(0),
            mask_sets: MaskSets::default(),
            tools: Rc::default(),
            shape: RefCell::default(),
        })
    }

    /// How many values masks have changed: by column, and by form.
    pub(crate) fn masked_values(&self) -> (u64, u64) {
        self.tools.changed()
    }

    /// What `text` does.
    pub(super) fn classify(&self, text: &str) -> Rc<Statement> {
        self.known(text)
            .unwrap_or_else(|| self.learn(text, profile(text, &ProfileLimits::default())))
    }

    /// What `text` does, if it was seen before or another that stands for it was.
    pub(super) fn known(&self, text: &str) -> Option<Rc<Statement>> {
        if text.len() > REMEMBERED_TEXT_MAX {
            return None;
        }
        let mut shape = self.shape.borrow_mut();
        shape.clear();
        let mut statements = self.statements.borrow_mut();
        match write_shape(text, &mut shape) {
            Some(0) | None => statements.find(text.as_bytes()),
            Some(_) => statements
                .find(shape.as_slice())
                .or_else(|| statements.find(text.as_bytes())),
        }
    }

    /// Remembers what `text` does, which `batch` says.
    pub(super) fn learn(&self, text: &str, batch: Batch) -> Rc<Statement> {
        let mut shape = Vec::new();
        if !batch.literals_decide && write_shape(text, &mut shape).is_some() {
            let statement = Rc::new(Statement::new("", text, without_spans(batch.statements)));
            self.remember(&shape, &statement);
            return statement;
        }
        let statement = Rc::new(Statement::new(text, "", batch.statements));
        self.remember(text.as_bytes(), &statement);
        statement
    }

    fn remember(&self, key: &[u8], statement: &Rc<Statement>) {
        if key.len() > REMEMBERED_TEXT_MAX {
            return;
        }
        let weight = key.len() + statement.weight();
        self.statements
            .borrow_mut()
            .keep(key.into(), Rc::clone(statement), weight);
    }

    /// The number of these circumstances. Not for every message: a session keeps it.
    pub(super) fn situation(&self, circumstances: Circumstances) -> Rc<Situation> {
        let mut situations = self.situations.borrow_mut();
        if let Some(known) = situations.get(&circumstances) {
            return Rc::clone(known);
        }
        if situations.len() >= SITUATIONS_MAX {
            situations.clear();
        }
        // A catalogue that nobody judges by any more is large.
        let is_new = circumstances.catalogue.is_some()
            && !situations
                .keys()
                .any(|known| known.catalogue == circumstances.catalogue);
        if is_new {
            situations.retain(|_, situation| Rc::strong_count(situation) > 1);
        }
        let number = self.situations_made.get();
        self.situations_made.set(number + 1);
        let circumstances = Rc::new(circumstances);
        let situation = Rc::new(Situation {
            number,
            circumstances: Rc::clone(&circumstances),
            columns: OnceCell::new(),
        });
        situations.insert(circumstances, Rc::clone(&situation));
        situation
    }
}

/// What policy needs to know of the session.
pub(super) fn session_context(situation: &Situation) -> SessionContext<'_> {
    SessionContext {
        search_path: situation
            .circumstances
            .path
            .as_deref()
            .map_or(SearchPath::Unknown, SearchPath::Known),
        read_only: situation.circumstances.read_only,
        catalogue: situation.circumstances.catalogue.as_deref(),
        unsettled: situation.circumstances.unsettled,
    }
}

impl Statement {
    pub(super) fn new(text: &str, sample: &str, profiles: Vec<StatementProfile>) -> Self {
        Self {
            sample: sample.into(),
            touches_attribution: profiles.iter().any(rewrite::touches_attribution),
            needs_path: profiles.iter().any(|profile| {
                !profile.relies_on.is_empty() || profile.effects.iter().any(depends_on_path)
            }),
            needs_catalogue: profiles.iter().any(depends_on_catalogue),
            redefines: redefines(&profiles),
            changes_path: profiles.iter().any(|profile| profile.changes_search_path),
            ends_transaction: profiles.iter().any(may_undo),
            taints: profiles
                .iter()
                .flat_map(|profile| &profile.effects)
                .any(leaves_traces),
            listens: profiles
                .iter()
                .flat_map(|profile| &profile.effects)
                .any(|effect| effect.class == Class::Listen),
            names_statements: profiles
                .iter()
                .any(|profile| profile.names != NamedStatementEffect::None),
            text: text.into(),
            profiles,
            verdicts: RefCell::default(),
        }
    }

    /// What policy says of it.
    pub(super) fn judge(
        &self,
        situation: &Situation,
        policy: &Policy,
        permit: &Permit,
    ) -> Rc<Judged> {
        let mut verdicts = self.verdicts.borrow_mut();
        let known = verdicts
            .iter()
            .find(|(number, _)| *number == situation.number);
        if let Some((_, judged)) = known {
            return Rc::clone(judged);
        }
        let with_columns = self.with_columns(situation, policy, permit);
        let operation = Operation::Sql {
            statements: with_columns.as_deref().unwrap_or(&self.profiles),
            session: session_context(situation),
        };
        let decision = policy.judge(permit, &operation);
        let (decision, masking) = self.mask(decision, situation, policy, permit);
        let foreshadowed = policy.foreshadow(permit, &operation, &decision);
        let foreshadowed = foreshadowed.as_ref();
        let judged = Judged::new(decision, foreshadowed, situation, &self.profiles);
        let judged = Judged { masking, ..judged };
        judged.misses_names.set(operation.misses_names());
        let judged = Rc::new(judged);
        if verdicts.len() >= VERDICTS_MAX {
            verdicts.remove(0);
        }
        verdicts.push((situation.number, Rc::clone(&judged)));
        judged
    }

    /// What is done to its answers if it is allowed, or held and approved; which it is not where
    /// nothing that can be done would hide what is masked. Then nobody is asked.
    fn mask(
        &self,
        decision: Decision,
        situation: &Situation,
        policy: &Policy,
        permit: &Permit,
    ) -> (Decision, Option<Plans>) {
        if decision.refusal().is_some() {
            return (decision, None);
        }
        let catalogue = situation.circumstances.catalogue.as_deref();
        let columns = situation
            .columns
            .get_or_init(|| Columns::find(policy, permit, catalogue));
        match self.traced(situation).plans(columns) {
            Ok(plans) => (decision, plans),
            Err(refusal) => (Decision::Deny(refusal), None),
        }
    }

    /// The profiles with the columns that they are about; `None` where no rule asks for these, and
    /// where they can not be known.
    fn with_columns(
        &self,
        situation: &Situation,
        policy: &Policy,
        permit: &Permit,
    ) -> Option<Vec<StatementProfile>> {
        let catalogue = situation.circumstances.catalogue.as_deref()?;
        if !policy.weighs_columns(permit) {
            return None;
        }
        let lineages = self.traced(situation).lineages();
        let profiles = self.profiles.iter().zip(&lineages);
        let profiles = profiles.map(|(profile, lineage)| StatementProfile {
            columns: policy::column_uses(profile, lineage, catalogue),
            ..profile.clone()
        });
        Some(profiles.collect())
    }

    fn traced<'t>(&'t self, situation: &'t Situation) -> Traced<'t> {
        let Circumstances {
            path,
            catalogue,
            unsettled,
            ..
        } = &*situation.circumstances;
        Traced {
            text: if self.text.is_empty() {
                &self.sample
            } else {
                &self.text
            },
            statements: self.profiles.len(),
            names_objects: self.needs_catalogue,
            catalogue: catalogue.as_deref(),
            unsettled: *unsettled,
            search_path: path.as_deref(),
        }
    }

    /// Bytes that it takes, with the verdicts that it may come to keep.
    fn weight(&self) -> usize {
        let effects = self.profiles.iter().map(|profile| profile.effects.len());
        let effects = effects.sum::<usize>() * size_of::<Effect>();
        size_of::<Self>()
            + self.text.len()
            + self.sample.len()
            + effects
            + VERDICTS_MAX * VERDICT_BYTES
    }
}

/// Profiles that stand for several texts: where something stood in the first is of no use to others.
fn without_spans(profiles: Vec<StatementProfile>) -> Vec<StatementProfile> {
    let profiles = profiles.into_iter();
    profiles
        .map(|profile| StatementProfile {
            span: 0..0,
            ..profile
        })
        .collect()
}

/// Whether a name without a schema decides what the effect is on.
fn depends_on_path(effect: &Effect) -> bool {
    let name = match &effect.object {
        Object::Table(name) => name,
        Object::Function(function) => &function.name,
        Object::Nothing | Object::Other { .. } | Object::Unread(_) => return false,
    };
    name.schema == Schema::Path
}

/// Whether what the database holds decides what the statement does.
fn depends_on_catalogue(profile: &StatementProfile) -> bool {
    profile.names != NamedStatementEffect::None
        || !profile.relies_on.is_empty()
        || profile.effects.iter().any(|effect| match &effect.object {
            Object::Table(_) | Object::Function(_) => true,
            Object::Nothing | Object::Other { .. } | Object::Unread(_) => false,
        })
}

/// What is made under a temporary name is the session's own.
fn redefines(profiles: &[StatementProfile]) -> Redefines {
    let effects = profiles.iter().flat_map(|profile| &profile.effects);
    let each = effects.map(|effect| {
        let defines = matches!(
            effect.class,
            Class::Create
                | Class::Alter
                | Class::Drop
                | Class::Grant
                | Class::SelectInto
                | Class::Do
                | Class::Unknown
        );
        let runs = matches!(effect.class, Class::Call | Class::Function | Class::Admin);
        if defines && !is_temporary(&effect.object) {
            Redefines::Certainly
        } else if runs {
            Redefines::Perhaps
        } else {
            Redefines::Nothing
        }
    });
    each.max().unwrap_or(Redefines::Nothing)
}

fn is_temporary(object: &Object) -> bool {
    matches!(object, Object::Table(Name { schema: Schema::Named(schema), .. }) if schema == "pg_temp")
}

/// Whether the statement may bring back what was changed in its transaction.
fn may_undo(profile: &StatementProfile) -> bool {
    match profile.transaction {
        Some(
            TransactionControl::Commit
            | TransactionControl::Rollback
            | TransactionControl::RollbackTo
            | TransactionControl::Prepare,
        ) => true,
        Some(
            TransactionControl::Begin
            | TransactionControl::Savepoint
            | TransactionControl::Release
            | TransactionControl::CommitPrepared
            | TransactionControl::RollbackPrepared,
        )
        | None => false,
    }
}

/// Whether the effect may leave something in the session that `DISCARD ALL` does not clear: loaded
/// libraries, connections of dblink, variables of procedural languages, temporary replication slots,
/// the random seed, the name of a custom setting.
pub(super) fn leaves_traces(effect: &Effect) -> bool {
    let by_class = matches!(
        effect.class,
        Class::Do
            | Class::Call
            | Class::Function
            | Class::Admin
            | Class::Replication
            | Class::File
            | Class::CopyProgram
            | Class::Unknown
    );
    by_class
        || match &effect.object {
            Object::Other { kind, name } => *kind == "setting" && outlives_reset(name),
            Object::Nothing | Object::Table(_) | Object::Function(_) | Object::Unread(_) => false,
        }
}

/// Whether something of a setting stays after RESET: `seed` acts when it is set, and a custom
/// setting that was set once is empty from then on, where it was unknown before.
fn outlives_reset(setting: &str) -> bool {
    setting == "seed" || setting.contains('.')
}

/// A bounded memory: what was not asked for during a whole generation is forgotten.
struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    weight: usize,
    weight_max: usize,
}

impl<K: Eq + Hash, V: Clone> Generations<K, V> {
    fn new(weight_max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            weight: 0,
            weight_max,
        }
    }

    fn find<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = self.old.remove_entry(key)?;
        self.keep(key, value.clone(), weight);
        Some(value)
    }

    fn keep(&mut self, key: K, value: V, weight: usize) {
        if self.weight.saturating_add(weight) > self.weight_max {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight = self.weight.saturating_add(weight);
        self.young.insert(key, (value, weight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(classifier: &Classifier, one: &str, other: &str) -> bool {
        Rc::ptr_eq(&classifier.classify(one), &classifier.classify(other))
    }

    #[test]
    fn texts_that_differ_in_a_literal_that_decides_nothing_are_one_statement() {
        let classifier = Classifier::new();
        assert!(same(
            &classifier,
            "SELECT a FROM t WHERE id = 1",
            "SELECT a FROM t WHERE id = 2147483647"
        ));
        assert!(!same(
            &classifier,
            "SELECT a FROM t WHERE id = 1",
            "SELECT a FROM u WHERE id = 1"
        ));
    }

    #[test]
    fn a_statement_of_several_texts_says_nothing_of_the_first() {
        let text = "SELECT a FROM t WHERE id = 'planted'";
        let statement = Classifier::new().classify(text);
        assert_eq!(&*statement.text, "");
        assert_eq!(statement.profiles[0].span, 0..0);
        assert!(!format!("{:?}", statement.profiles).contains("planted"));
    }

    #[test]
    fn texts_whose_literals_decide_are_each_remembered() {
        let classifier = Classifier::new();
        let (one, other) = ("SELECT nextval('a')", "SELECT nextval('b')");
        assert!(!same(&classifier, one, other));
        assert!(same(&classifier, one, one) && same(&classifier, other, other));
        assert_eq!(&*classifier.classify(other).text, other);
    }

    #[test]
    fn texts_without_a_shape_are_remembered_by_their_bytes() {
        let classifier = Classifier::new();
        assert!(!same(&classifier, "SELECT E'a'", "SELECT E'b'"));
        assert!(same(&classifier, "SELECT E'a'", "SELECT E'a'"));
    }

    #[test]
    fn a_situation_has_one_number_and_another_has_another() {
        let rule = "[[rule]]\nname = \"all\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nallow = { statements = [\"*\"] }";
        let source = policy::Source {
            file: "test".to_owned(),
            text: rule.to_owned(),
        };
        let known = policy::KnownTarget {
            name: "t",
            databases: &[],
        };
        let known = policy::Known {
            targets: &[known],
            issuers: &[],
        };
        let policy = Policy::compile(&[source], &known).unwrap().policy;
        let principal = policy::Principal {
            issuer: String::new(),
            subject: String::new(),
            name: String::new(),
            groups: Vec::new(),
            delegation: Vec::new(),
            token_id: None,
            expires: 0,
            proof: policy::Proof::Password,
        };
        let target = policy::Target::named("t");
        let permit = policy
            .admit(&principal, &target, policy::Occasion::default())
            .unwrap();
        let classifier = Classifier::new();
        let circumstances = |path: Option<&str>| Circumstances {
            policy: policy.version(),
            rules: permit.rules_key().clone(),
            read_only: false,
            path: path.map(|schema| Rc::from([schema.to_owned()])),
            catalogue: None,
            unsettled: false,
        };
        let public = classifier.situation(circumstances(Some("public")));
        let again = classifier.situation(circumstances(Some("public")));
        let unknown = classifier.situation(circumstances(None));
        assert_eq!(public.number, again.number);
        assert_ne!(public.number, unknown.number);
        for index in 0..SITUATIONS_MAX {
            classifier.situation(circumstances(Some(&format!("s{index}"))));
        }
        // Forgotten, and not one of the numbers in use.
        let later = classifier.situation(circumstances(Some("public")));
        assert!(later.number > u64::try_from(SITUATIONS_MAX).unwrap());
    }

    #[test]
    fn what_is_asked_for_survives_and_the_rest_is_forgotten() {
        let mut memory = Generations::<u32, u32>::new(2);
        memory.keep(1, 10, 1);
        memory.keep(2, 20, 1);
        memory.keep(3, 30, 1);
        assert_eq!(memory.find(&1), Some(10));
        memory.keep(4, 40, 1);
        memory.keep(5, 50, 1);
        assert_eq!(memory.find(&1), Some(10));
        assert_eq!(memory.find(&2), None);
    }
}
