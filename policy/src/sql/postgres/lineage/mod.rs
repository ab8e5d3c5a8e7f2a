//! From PostgreSQL's parse tree and a catalogue to where each value comes from.
//!
//! Resolves names as PostgreSQL's parse analysis does, but for types: what depends on them is
//! taken to be all that it may be. Says nothing about what is masked.

mod call;
mod change;
mod column;
mod expression;
mod failing;
mod from;
mod names;
mod query;
mod relation;
mod returns;
mod scope;
mod sources;
mod statement;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pg_query::protobuf as p;

use super::{ProfileLimits, parsed, statement_profile};
use crate::catalogue::Catalogue;
use crate::sql::lineage::{Called, ColumnId, Decides, Escapes, Held, Lineage, Lost, Output};
use crate::sql::profile::Reason;
pub(crate) use relation::Shape;
use sources::{Sources, Table, Union, Value};

/// Most that is looked at for one statement: names compared, columns copied, sources joined.
///
/// A text of a megabyte stays below it, unless its parts are multiplied. A statement beyond it may do
/// anything.
const WORK_MAX: usize = 10_000_000;

/// Most columns that the items of FROM of one statement may have together, counted at each join
/// anew. A hundred joins of tables with a hundred columns stay below it.
const COLUMNS_MAX: usize = 1_000_000;

/// Deepest nesting that is followed, through views as well; the decoder of a tree allows 100
/// messages, which is fewer levels.
const DEPTH_MAX: u32 = 150;

/// Most functions that are not built in of one statement: [`ColumnId`] numbers them.
const CALLS_MAX: usize = 1000;

/// What each statement of `text` does with columns: as many, and in the order, as
/// [`profile`](super::profile) has.
///
/// `search_path` is the session's; `None`, or one with `"$user"` in it, is not known: then a name
/// means every relation of that name.
#[must_use]
pub fn lineage(
    text: &str,
    catalogue: &Catalogue,
    search_path: Option<&[String]>,
    limits: &ProfileLimits,
) -> Vec<Lineage> {
    let tree = match parsed(text, limits, 0) {
        Ok(tree) => tree,
        Err(unread) => return vec![Lineage::unknown(unread.reason.to_string())],
    };
    let is_batch = tree.stmts.len() > 1;
    let mut path = search_path.map(<[String]>::to_vec).filter(is_certain);
    let mut found = Vec::with_capacity(tree.stmts.len());
    for statement in &tree.stmts {
        let mut analysis = Analysis::new(catalogue, path.as_deref(), limits);
        analysis.top(statement.stmt.as_deref());
        found.push(analysis.finish());
        if is_batch {
            let (profile, _) = statement_profile(text, statement, limits, 0);
            if profile.changes_search_path {
                path = profile.search_path_after().filter(is_certain);
            }
        }
    }
    found
}

/// `"$user"` is the name of whatever role is current.
#[expect(clippy::ptr_arg, reason = "what `Option::filter` gives")]
fn is_certain(path: &Vec<String>) -> bool {
    !path.iter().any(|schema| schema == "$user")
}

/// Scope: one statement, or the definition of one view.
struct Analysis<'c> {
    catalogue: &'c Catalogue,
    path: Option<&'c [String]>,
    limits: &'c ProfileLimits,
    text_depth: u8,
    depth: u32,
    work: usize,
    columns: usize,
    /// A bound was reached, so that what was found may be too little.
    exhausted: Option<Reason>,
    /// The views whose definitions are being looked through.
    views: Vec<u32>,
    /// It is a definition that is looked at: what it decides by does not count.
    defines: bool,
    /// What columns of recursive common tables derive from; they stand as negative numbers of
    /// relation 0 until the end.
    recursive: Vec<Sources>,
    shapes: HashMap<(u32, bool), Arc<Shape>>,
    /// What the named windows of the query at hand compare.
    windows: HashMap<String, Sources>,
    /// An unknown number of columns stands among the outputs.
    open: bool,
    outputs: Option<Vec<Output>>,
    held: Option<Held>,
    deciding: BTreeSet<(ColumnId, Decides)>,
    escaping: BTreeSet<(ColumnId, Escapes)>,
    written: BTreeSet<ColumnId>,
    referenced: BTreeSet<ColumnId>,
    relations: BTreeSet<u32>,
    redefined: BTreeSet<u32>,
    calls: Vec<Called>,
    /// Which of these the statement itself makes, and not only a view.
    own_calls: BTreeSet<usize>,
    runs_attached_code: bool,
    lost: Vec<Lost>,
}

impl<'c> Analysis<'c> {
    fn new(
        catalogue: &'c Catalogue,
        path: Option<&'c [String]>,
        limits: &'c ProfileLimits,
    ) -> Self {
        Self {
            catalogue,
            path,
            limits,
            text_depth: 0,
            depth: 0,
            work: 0,
            columns: 0,
            exhausted: None,
            views: Vec::new(),
            defines: false,
            recursive: Vec::new(),
            shapes: HashMap::new(),
            windows: HashMap::new(),
            open: false,
            outputs: None,
            held: None,
            deciding: BTreeSet::new(),
            escaping: BTreeSet::new(),
            written: BTreeSet::new(),
            referenced: BTreeSet::new(),
            relations: BTreeSet::new(),
            redefined: BTreeSet::new(),
            calls: Vec::new(),
            own_calls: BTreeSet::new(),
            runs_attached_code: false,
            lost: Vec::new(),
        }
    }

    fn finish(mut self) -> Lineage {
        if let Some(reason) = self.exhausted {
            return Lineage {
                held: self.held,
                ..Lineage::unknown(reason.to_string())
            };
        }
        self.leave_out_calls();
        let mut outputs = self.outputs.take();
        for output in outputs.iter_mut().flatten() {
            self.resolve(&mut output.sources);
        }
        let mut deciding = BTreeSet::new();
        for (id, how) in std::mem::take(&mut self.deciding) {
            deciding.extend(self.resolved(id).into_iter().map(|id| (id, how)));
        }
        let mut escaping = BTreeSet::new();
        for (id, how) in std::mem::take(&mut self.escaping) {
            escaping.extend(self.resolved(id).into_iter().map(|id| (id, how)));
        }
        let mut calls = std::mem::take(&mut self.calls);
        for call in &mut calls {
            self.resolve(&mut call.given);
        }
        let mut referenced = std::mem::take(&mut self.referenced);
        self.resolve(&mut referenced);
        let shown = outputs.iter().flatten().flat_map(|output| &output.sources);
        referenced.extend(shown);
        referenced.extend(deciding.iter().map(|(id, _)| *id));
        referenced.extend(escaping.iter().map(|(id, _)| *id));
        referenced.extend(&self.written);
        if self.open {
            self.lost.push(Lost {
                reason: "a `*` stands for columns that are not known; name them".to_owned(),
                relations: (calls.is_empty() && !referenced.contains(&ColumnId::ANY))
                    .then(|| self.relations.clone()),
            });
        }
        Lineage {
            outputs,
            held: self.held,
            deciding,
            escaping,
            written: self.written,
            referenced,
            relations: self.relations,
            redefined: self.redefined,
            calls,
            runs_attached_code: self.runs_attached_code,
            lost: self.lost,
        }
    }

    /// Leaves out calls of views whose values are not asked for.
    fn leave_out_calls(&mut self) {
        let outputs = self.outputs.iter().flatten();
        let shown = outputs.flat_map(|output| &output.sources);
        let deciding = self.deciding.iter().map(|(id, _)| id);
        let escaping = self.escaping.iter().map(|(id, _)| id);
        let given = self.calls.iter().flat_map(|call| &call.given);
        let recursive = self.recursive.iter().flat_map(Sources::as_slice);
        let all = shown
            .chain(deciding)
            .chain(escaping)
            .chain(&self.referenced);
        let used = all.chain(given).chain(recursive).filter_map(|id| id.call());
        let mut kept: BTreeSet<usize> = used.collect();
        kept.extend(&self.own_calls);
        if kept.len() == self.calls.len() {
            return;
        }
        let numbers: HashMap<usize, ColumnId> = kept
            .iter()
            .enumerate()
            .map(|(position, index)| (*index, call_number(position)))
            .collect();
        let number = |id: ColumnId| match id.call() {
            Some(index) => numbers.get(&index).copied().unwrap_or(ColumnId::ANY),
            None => id,
        };
        let renumber = |ids: &mut BTreeSet<ColumnId>| {
            *ids = std::mem::take(ids).into_iter().map(number).collect();
        };
        for output in self.outputs.iter_mut().flatten() {
            renumber(&mut output.sources);
        }
        renumber(&mut self.referenced);
        let deciding = std::mem::take(&mut self.deciding).into_iter();
        self.deciding = deciding.map(|(id, how)| (number(id), how)).collect();
        let escaping = std::mem::take(&mut self.escaping).into_iter();
        self.escaping = escaping.map(|(id, how)| (number(id), how)).collect();
        for sources in &mut self.recursive {
            *sources = sources.as_slice().iter().copied().map(number).collect();
        }
        let calls = std::mem::take(&mut self.calls).into_iter().enumerate();
        let calls = calls.filter(|(index, _)| kept.contains(index));
        self.calls = calls.map(|(_, call)| call).collect();
        for call in &mut self.calls {
            renumber(&mut call.given);
        }
    }

    /// Puts what they derive from in the place of columns of recursive common tables.
    fn resolve(&self, columns: &mut BTreeSet<ColumnId>) {
        if columns.iter().any(|id| recursive_index(*id).is_some()) {
            let all = std::mem::take(columns);
            columns.extend(all.into_iter().flat_map(|id| self.resolved(id)));
        }
    }

    fn resolved(&self, id: ColumnId) -> Vec<ColumnId> {
        let Some(first) = recursive_index(id) else {
            return vec![id];
        };
        let mut found = Vec::new();
        let mut seen = BTreeSet::from([first]);
        let mut pending = vec![first];
        while let Some(index) = pending.pop() {
            for id in self
                .recursive
                .get(index)
                .into_iter()
                .flat_map(Sources::as_slice)
            {
                match recursive_index(*id) {
                    Some(index) if seen.insert(index) => pending.push(index),
                    Some(_) => {}
                    None => found.push(*id),
                }
            }
        }
        found
    }

    /// Counts a level of nesting; `false` where no more are followed.
    fn enter(&mut self) -> bool {
        self.charge(1);
        if self.depth >= DEPTH_MAX {
            self.exhausted = Some(Reason::TooDeep);
        }
        if self.exhausted.is_some() {
            return false;
        }
        self.depth += 1;
        true
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn charge(&mut self, work: usize) {
        self.work = self.work.saturating_add(work);
        if self.work > WORK_MAX {
            self.exhausted.get_or_insert(Reason::TooMuchWork);
        }
    }

    fn charge_columns(&mut self, columns: usize) {
        self.columns = self.columns.saturating_add(columns);
        if self.columns > COLUMNS_MAX {
            self.exhausted.get_or_insert(Reason::TooMuchWork);
        }
    }

    fn union<'v>(&mut self, parts: impl IntoIterator<Item = &'v Sources>) -> Sources {
        let mut union = Union::default();
        for part in parts {
            self.charge(1);
            // What does not fit any more is not needed: the result is thrown away.
            if self.exhausted.is_some() {
                break;
            }
            let looked_at = union.add(part);
            self.charge(looked_at);
        }
        union.finish()
    }

    fn union_of_values<'v>(&mut self, parts: impl IntoIterator<Item = &'v Value>) -> Sources {
        self.union(parts.into_iter().map(|value| &value.sources))
    }

    fn all_of(&mut self, table: &Table) -> Sources {
        let fields = table.fields.list().iter();
        let parts = fields.map(|field| &field.value.sources);
        self.union(parts.chain(&table.open))
    }

    fn decide(&mut self, by: &Sources, how: Decides) {
        if self.defines {
            return;
        }
        self.charge(by.len());
        self.deciding
            .extend(by.as_slice().iter().map(|id| (*id, how)));
    }

    fn escape(&mut self, what: &Sources, how: Escapes) {
        if self.defines {
            return;
        }
        self.charge(what.len());
        self.escaping
            .extend(what.as_slice().iter().map(|id| (*id, how)));
    }

    fn mention(&mut self, what: &Sources) {
        self.charge(what.len());
        self.referenced.extend(what.as_slice());
    }

    /// What it is about may be any value there is; `reason` says why, for the client.
    fn lose(&mut self, reason: String) -> Sources {
        self.lost.push(Lost {
            reason,
            relations: None,
        });
        Sources::any()
    }

    fn answers(&mut self, table: &Table) {
        self.open |= table.open.is_some();
        let fields = table.fields.list();
        let size: usize = fields
            .iter()
            .map(|field| field.value.sources.len() + 1)
            .sum();
        self.charge(size);
        if self.exhausted.is_some() {
            return;
        }
        let outputs = fields.iter().map(|field| Output {
            name: field.name.as_ref().to_owned(),
            sources: field.value.sources.to_set(),
            untouched: field.value.untouched && !field.value.sources.is_empty(),
        });
        self.outputs = Some(outputs.collect());
        if let Some(open) = &table.open {
            self.mention(&open.clone());
        }
    }

    /// The statement itself.
    fn top(&mut self, node: Option<&pg_query::Node>) {
        match node.and_then(|node| node.node.as_ref()) {
            Some(node) => self.statement(node.to_ref()),
            None => {
                self.lose(Reason::Part.to_string());
            }
        }
    }
}

/// The column that stands for the value of a call.
fn call_number(index: usize) -> ColumnId {
    ColumnId {
        relation: 0,
        number: i16::try_from(index + 1).unwrap_or(0),
    }
}

fn recursive_index(id: ColumnId) -> Option<usize> {
    (id.relation == 0 && id.number < 0).then(|| usize::from(id.number.unsigned_abs()) - 1)
}

/// Bytes of names as the tree has them.
fn string_list(nodes: &[pg_query::Node]) -> Vec<Arc<str>> {
    nodes
        .iter()
        .filter_map(super::walker::string_of)
        .map(Arc::from)
        .collect()
}

fn alias_names(alias: Option<&p::Alias>) -> Vec<Arc<str>> {
    alias.map_or_else(Vec::new, |alias| string_list(&alias.colnames))
}
