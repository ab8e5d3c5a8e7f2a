//! From a statement's text to its profile and verdict, remembering both.
//!
//! A text seen before costs a hash lookup. What a verdict depends on besides the
//! text is in [`Situation`], and all of that is in the key.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use policy::class::Class;
use policy::sql::postgres::ProfileLimits;
use policy::sql::{
    Effect, NamedStatementEffect, Object, Schema, StatementProfile, TransactionControl,
};
use policy::{Decision, Operation, Permit, Policy, SearchPath, SessionContext};

use super::rewrite;
use crate::recorder::{DecisionNote, EffectNote, Note, Verdict};

/// Bytes of statement text remembered per generation and shard; two generations are kept.
///
/// An agent that never repeats itself evicts others' statements, not the shard's memory.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest text that is remembered. Bytes; a longer one is parsed each time.
const REMEMBERED_TEXT_MAX: usize = 64 * 1024;

/// Verdicts remembered per generation and shard.
const VERDICTS_MAX: usize = 64 * 1024;

/// A statement text (a whole simple query, or what Parse carries) and what it does.
pub(super) struct Statement {
    /// Distinguishes it from every other of this shard, for the verdicts.
    id: u64,
    pub(super) text: Box<str>,
    pub(super) profiles: Vec<StatementProfile>,
    pub(super) touches_attribution: bool,
    /// Names without a schema decide something.
    pub(super) needs_path: bool,
    pub(super) changes_path: bool,
    pub(super) ends_transaction: bool,
    pub(super) taints: bool,
    pub(super) listens: bool,
    pub(super) names_statements: bool,
}

/// Everything but the text that a verdict depends on. Part of the key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Situation {
    pub(super) policy: policy::Version,
    pub(super) rules: policy::RulesKey,
    pub(super) read_only: bool,
    /// `None` when the path is not known.
    pub(super) path: Option<Rc<[String]>>,
}

/// A verdict, and what the recording says of it.
pub(super) struct Judged {
    pub(super) decision: Decision,
    pub(super) note: Note,
}

impl Judged {
    pub(super) fn new(
        decision: Decision,
        situation: &Situation,
        profiles: &[StatementProfile],
    ) -> Self {
        let (verdict, rule) = match &decision {
            Decision::Allow => (Verdict::Permitted, None),
            Decision::Deny(refusal) => (Verdict::Refused, refusal.rule.as_deref()),
        };
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
            policy: situation.policy.number(),
            effects: &effects,
            search_path: situation.path.as_deref(),
        });
        Self { decision, note }
    }
}

/// Per shard.
pub(crate) struct Classifier {
    statements: RefCell<Generations<Box<str>, Rc<Statement>>>,
    verdicts: RefCell<Generations<(u64, Situation), Rc<Judged>>>,
    next_id: std::cell::Cell<u64>,
}

impl Classifier {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            statements: RefCell::new(Generations::new(TEXT_BYTES_MAX)),
            verdicts: RefCell::new(Generations::new(VERDICTS_MAX)),
            next_id: std::cell::Cell::new(0),
        })
    }

    /// What `text` does.
    pub(super) fn classify(&self, text: &str) -> Rc<Statement> {
        if let Some(known) = self.statements.borrow_mut().find(text) {
            return known;
        }
        let statement = Rc::new(Statement::read(self.next_id.get(), text));
        self.next_id.set(self.next_id.get() + 1);
        if text.len() <= REMEMBERED_TEXT_MAX {
            let weight = text.len().saturating_add(size_of::<Statement>());
            self.statements
                .borrow_mut()
                .keep(text.into(), Rc::clone(&statement), weight);
        }
        statement
    }

    /// What policy says of it.
    pub(super) fn judge(
        &self,
        statement: &Statement,
        situation: &Situation,
        policy: &Policy,
        permit: &Permit,
    ) -> Rc<Judged> {
        // The situation is cloned for the look-up: an Rc and a few words.
        let key = (statement.id, situation.clone());
        if let Some(known) = self.verdicts.borrow_mut().find(&key) {
            return known;
        }
        let operation = Operation::Sql {
            statements: &statement.profiles,
            session: session_context(situation),
        };
        let decision = policy.judge(permit, &operation);
        let judged = Rc::new(Judged::new(decision, situation, &statement.profiles));
        self.verdicts.borrow_mut().keep(key, Rc::clone(&judged), 1);
        judged
    }
}

/// What policy needs to know of the session.
pub(super) fn session_context(situation: &Situation) -> SessionContext<'_> {
    SessionContext {
        search_path: situation
            .path
            .as_deref()
            .map_or(SearchPath::Unknown, SearchPath::Known),
        read_only: situation.read_only,
    }
}

impl Statement {
    pub(super) fn read(id: u64, text: &str) -> Self {
        let profiles = policy::sql::postgres::profile(text, &ProfileLimits::default()).statements;
        Self {
            id,
            touches_attribution: profiles.iter().any(rewrite::touches_attribution),
            needs_path: profiles
                .iter()
                .flat_map(|profile| &profile.effects)
                .any(depends_on_path),
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
        }
    }
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
