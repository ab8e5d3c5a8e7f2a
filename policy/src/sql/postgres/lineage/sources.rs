//! Sets of columns that a value derives from, and values with what is known of their shape.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use crate::sql::lineage::ColumnId;

/// Longest list of fields that is searched from end to end.
const SEARCHED_MAX: usize = 8;

/// Columns, sorted and without repetition; cheap to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources(Option<Arc<[ColumnId]>>);

impl Sources {
    pub(super) fn one(column: ColumnId) -> Self {
        Self(Some(Arc::from([column].as_slice())))
    }

    pub(super) fn any() -> Self {
        Self::one(ColumnId::ANY)
    }

    pub(super) fn as_slice(&self) -> &[ColumnId] {
        self.0.as_deref().unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(super) fn to_set(&self) -> BTreeSet<ColumnId> {
        self.as_slice().iter().copied().collect()
    }

    fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    pub(super) fn is_subset_of(&self, other: &Self) -> bool {
        self.as_slice()
            .iter()
            .all(|column| other.as_slice().binary_search(column).is_ok())
    }
}

impl FromIterator<ColumnId> for Sources {
    fn from_iter<I: IntoIterator<Item = ColumnId>>(columns: I) -> Self {
        let mut columns: Vec<_> = columns.into_iter().collect();
        columns.sort_unstable();
        columns.dedup();
        if columns.is_empty() {
            return Self::default();
        }
        Self(Some(columns.into()))
    }
}

/// Collects sources; most values have one part, which is then not copied.
#[derive(Default)]
pub(super) struct Union {
    first: Sources,
    more: Vec<ColumnId>,
}

impl Union {
    /// Returns how many columns were looked at.
    pub(super) fn add(&mut self, sources: &Sources) -> usize {
        if sources.is_empty() || self.first.is_same(sources) {
            return 0;
        }
        if self.first.is_empty() {
            self.first = sources.clone();
            return 0;
        }
        self.more.extend_from_slice(sources.as_slice());
        sources.len()
    }

    pub(super) fn finish(self) -> Sources {
        if self.more.is_empty() {
            return self.first;
        }
        let first = self.first.as_slice().iter().copied();
        first.chain(self.more).collect()
    }
}

/// What is known of a value.
#[derive(Debug, Clone, Default)]
pub(super) struct Value {
    pub(super) sources: Sources,
    /// Nothing but the value of one column.
    pub(super) untouched: bool,
    /// 0 where it is not known.
    pub(super) type_oid: u32,
    /// The fields of a row, where they are known one by one.
    pub(super) row: Option<Arc<Fields>>,
    /// The same of each element of an array of rows.
    pub(super) elements: Option<Arc<Fields>>,
}

impl Value {
    /// Made from `sources` in some way.
    pub(super) fn derived(sources: Sources) -> Self {
        Self {
            sources,
            ..Self::default()
        }
    }

    pub(super) fn any() -> Self {
        Self::derived(Sources::any())
    }
}

/// A named column of a table, query or row.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: Arc<str>,
    pub(super) value: Value,
}

/// Columns in order. Names may repeat.
#[derive(Debug, Default)]
pub(super) struct Fields {
    list: Vec<Field>,
    /// Made at the first search of a long list.
    index: OnceLock<HashMap<Arc<str>, Vec<usize>>>,
}

impl From<Vec<Field>> for Fields {
    fn from(list: Vec<Field>) -> Self {
        Self {
            list,
            index: OnceLock::new(),
        }
    }
}

impl Fields {
    pub(super) fn list(&self) -> &[Field] {
        &self.list
    }

    /// Shows `found` each field of that name.
    pub(super) fn find<'f>(&'f self, name: &str, mut found: impl FnMut(&'f Field)) {
        if self.list.len() <= SEARCHED_MAX {
            let same = self.list.iter().filter(|field| *field.name == *name);
            same.for_each(found);
            return;
        }
        let index = self.index.get_or_init(|| {
            let mut index: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
            for (position, field) in self.list.iter().enumerate() {
                index.entry(field.name.clone()).or_default().push(position);
            }
            index
        });
        for position in index.get(name).into_iter().flatten() {
            if let Some(field) = self.list.get(*position) {
                found(field);
            }
        }
    }

    /// The field of that name, if there is exactly one.
    pub(super) fn only(&self, name: &str) -> Option<&Field> {
        let mut count = 0;
        let mut last = None;
        self.find(name, |field| {
            count += 1;
            last = Some(field);
        });
        last.filter(|_| count == 1)
    }
}

/// The columns of a query or table.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) fields: Arc<Fields>,
    /// It has further columns that are not known, made from these sources; where they stand among
    /// the known ones is not known either.
    pub(super) open: Option<Sources>,
}
