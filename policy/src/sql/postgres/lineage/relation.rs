//! Relations as FROM sees them: columns with what is beneath, through views and inheritance.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf as p;

use super::scope::Item;
use super::sources::{Field, Fields, Sources, Table, Value};
use super::{Analysis, ProfileLimits, parsed};
use crate::catalogue::{Catalogue, Relation, RelationKind};
use crate::sql::functions;
use crate::sql::lineage::{Called, ColumnId, Lost};

/// Most descendants whose columns are listed with those of their parent. With more, the parent's
/// stand for them: masks are spread over the whole family, and lists of thousands help nobody.
const DESCENDANTS_MAX: usize = 32;

/// Deepest nesting of views that is looked through.
const VIEWS_MAX: usize = 40;

/// The view of the extension of that name, whose function has that name too.
const STATEMENTS: &str = "pg_stat_statements";

/// Columns of the server's relations that may hold any table's values, or texts of statements,
/// which quote them.
const SHOWING: &[(&str, &[&str])] = &[
    (
        "pg_stats",
        &[
            "most_common_vals",
            "histogram_bounds",
            "most_common_elems",
            "range_bounds_histogram",
        ],
    ),
    (
        "pg_statistic",
        &[
            "stavalues1",
            "stavalues2",
            "stavalues3",
            "stavalues4",
            "stavalues5",
        ],
    ),
    ("pg_stats_ext", &["most_common_vals"]),
    (
        "pg_stats_ext_exprs",
        &["most_common_vals", "histogram_bounds", "most_common_elems"],
    ),
    ("pg_statistic_ext_data", &["stxdmcv", "stxdexpr"]),
    ("pg_attribute", &["attmissingval"]),
    ("pg_largeobject", &["data"]),
    ("pg_stat_activity", &["query"]),
    ("pg_prepared_statements", &["statement"]),
    ("pg_cursors", &["statement"]),
    ("pg_stat_statements", &["query"]),
];

/// A relation as it is read: without what the statement at hand calls it.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    table: Table,
    whole: Sources,
    /// With what it is read from.
    relations: BTreeSet<u32>,
    calls: Vec<Called>,
    lost: Vec<Lost>,
}

impl Shape {
    fn size(&self) -> usize {
        let fields = self.table.fields.list().iter();
        fields.map(|field| field.value.sources.len() + 1).sum()
    }
}

impl Shape {
    /// With other numbers for its calls, and without these.
    fn renumbered(&self, number: impl Fn(usize) -> ColumnId) -> Self {
        let of = |sources: &Sources| -> Sources {
            let ids = sources.as_slice().iter();
            ids.map(|id| id.call().map_or(*id, &number)).collect()
        };
        let fields = self.table.fields.list().iter().map(|field| Field {
            name: field.name.clone(),
            value: Value {
                sources: of(&field.value.sources),
                untouched: field.value.untouched,
                type_oid: field.value.type_oid,
                ..Value::default()
            },
        });
        Self {
            table: Table {
                fields: Arc::new(Fields::from(fields.collect::<Vec<_>>())),
                open: self.table.open.as_ref().map(of),
            },
            whole: of(&self.whole),
            relations: self.relations.clone(),
            calls: Vec::new(),
            lost: self.lost.clone(),
        }
    }
}

/// Columns that may show other tables' values, of a relation of that name.
fn showing(name: &str) -> &'static [&'static str] {
    SHOWING
        .iter()
        .find(|(relation, _)| *relation == name)
        .map_or(&[], |(_, columns)| *columns)
}

pub(super) fn is_of_server(schema: &str) -> bool {
    schema == "pg_catalog" || schema == "information_schema"
}

impl<'c> Analysis<'c> {
    /// Every relation that a name may mean; more than one where the path, or what is visible to
    /// the session, is not known well enough.
    pub(super) fn candidates(&self, name: &p::RangeVar) -> Vec<&'c Relation> {
        let temporary = name.relpersistence == "t";
        if !name.schemaname.is_empty() && !temporary {
            let schema = name.schemaname.as_str();
            return self
                .catalogue
                .relation_in(schema, &name.relname)
                .into_iter()
                .collect();
        }
        self.candidates_named(&name.relname)
    }

    pub(super) fn candidates_named(&self, name: &str) -> Vec<&'c Relation> {
        let mut all: Vec<_> = self
            .catalogue
            .relations_named(name)
            .filter(|relation| has_columns(relation.kind))
            .collect();
        let Some(path) = self.path else {
            all.sort_by_key(|relation| relation.oid);
            return all;
        };
        let lists_catalogue = path.iter().any(|schema| schema == "pg_catalog");
        let implied = (!lists_catalogue).then_some("pg_catalog");
        let schemas = implied.into_iter().chain(path.iter().map(String::as_str));
        let mut found = Vec::new();
        for schema in schemas {
            // Not only the first: the session may lack the right to look into a schema.
            let same = all
                .iter()
                .filter(|relation| *relation.name.schema == *schema);
            found.extend(same.copied());
            if schema == "pg_catalog" && !found.is_empty() {
                break;
            }
        }
        found.dedup_by_key(|relation| relation.oid);
        found
    }

    /// The relation of FROM or of a change.
    pub(super) fn relation_item(&mut self, name: &p::RangeVar) -> Item {
        let candidates = self.candidates(name);
        let mut item = match candidates.as_slice() {
            [] => self.absent(name),
            [relation] => self.known(relation, name.inh),
            [first, others @ ..] => self.one_of(first, others, name.inh),
        };
        if let Some(alias) = &name.alias {
            item.name = Some(Arc::from(alias.aliasname.as_str()));
            item.schema = None;
            item.table = super::scope::renamed(item.table, &super::string_list(&alias.colnames));
        }
        item
    }

    fn known(&mut self, relation: &'c Relation, with_descendants: bool) -> Item {
        let shape = self.shape(relation, with_descendants);
        Item {
            name: Some(Arc::from(&*relation.name.name)),
            schema: Some(Arc::from(&*relation.name.schema)),
            table: shape.table.clone(),
            whole: shape.whole.clone(),
            relation: Some(relation.oid),
            shows_columns: true,
            shows_name: true,
        }
    }

    /// The first of several, with what the others hold under the same names.
    fn one_of(
        &mut self,
        first: &'c Relation,
        others: &[&'c Relation],
        with_descendants: bool,
    ) -> Item {
        let mut item = self.known(first, with_descendants);
        let others: Vec<_> = others
            .iter()
            .map(|other| self.known(other, with_descendants))
            .collect();
        let names = |item: &Item| -> Vec<Arc<str>> {
            let fields = item.table.fields.list().iter();
            fields.map(|field| field.name.clone()).collect()
        };
        let alike = others.iter().all(|other| names(other) == names(&item));
        let wholes = others.iter().map(|other| &other.whole);
        item.whole = self.union(wholes.chain([&item.whole.clone()]));
        if !alike {
            let all = item.whole.clone();
            item.table.open = Some(all);
        }
        let fields: Vec<_> = item.table.fields.list().to_vec();
        let fields = fields.into_iter().map(|field| {
            let mut same = Vec::new();
            for other in &others {
                other.find(&field.name, &mut same);
            }
            let parts = same.iter().map(|value| &value.sources);
            let sources = self.union(parts.chain([&field.value.sources]));
            Field {
                value: Value {
                    sources,
                    ..field.value
                },
                ..field
            }
        });
        item.table.fields = Arc::new(Fields::from(fields.collect::<Vec<_>>()));
        item
    }

    /// A relation that the catalogue does not have.
    fn absent(&mut self, name: &p::RangeVar) -> Item {
        let relation = name.relname.as_str();
        let in_catalogue = match name.schemaname.as_str() {
            "" => functions::is_catalogue_relation(relation),
            schema => is_of_server(schema),
        };
        let (fields, open) = if in_catalogue {
            let fields = showing(relation).iter().map(|column| Field {
                name: Arc::from(*column),
                value: Value::any(),
            });
            (fields.collect(), Sources::default())
        } else {
            let reason = format!("the relation {relation} is not known yet");
            (Vec::new(), self.lose(reason))
        };
        let table = Table {
            fields: Arc::new(Fields::from(fields)),
            open: Some(open),
        };
        let whole = self.all_of(&table);
        Item {
            schema: (!name.schemaname.is_empty()).then(|| Arc::from(name.schemaname.as_str())),
            ..Item::plain(Some(Arc::from(relation)), table, whole)
        }
    }

    /// All columns of a relation, as one.
    pub(super) fn whole_of(&mut self, relation: &'c Relation) -> Sources {
        self.known(relation, true).whole
    }

    /// What reading `relation` shows; it counts as read.
    pub(super) fn shape(&mut self, relation: &'c Relation, with_descendants: bool) -> Arc<Shape> {
        let key = (relation.oid, with_descendants);
        if let Some(shape) = self.shapes.get(&key) {
            let shape = Arc::clone(shape);
            self.charge_columns(shape.table.fields.list().len() + 1);
            return shape;
        }
        let shape = if relation.definition.is_some() && !self.is_listed(relation) {
            self.view(relation)
        } else {
            Arc::new(self.table(relation, with_descendants))
        };
        self.charge_columns(shape.table.fields.list().len() + 1);
        self.charge(shape.size());
        self.relations.extend(&shape.relations);
        let shape = self.import(shape);
        self.shapes.insert(key, Arc::clone(&shape));
        shape
    }

    /// Whether it is known what it shows, without a look at its definition.
    fn is_listed(&self, relation: &Relation) -> bool {
        let name = &relation.name;
        let of_extension = |extension: &str| {
            let mut functions = self.catalogue.functions_named(extension);
            functions.any(|function| {
                function.name == *name && function.extension.as_deref() == Some(extension)
            })
        };
        is_of_server(&name.schema) || (&*name.name == STATEMENTS && of_extension(STATEMENTS))
    }

    fn table(&mut self, relation: &'c Relation, with_descendants: bool) -> Shape {
        let mut family = vec![relation];
        let mut relations = BTreeSet::from([relation.oid]);
        if with_descendants {
            for oid in self.catalogue.descendants(relation.oid) {
                relations.insert(oid);
                family.extend(self.catalogue.relation(oid));
            }
        }
        if family.len() > DESCENDANTS_MAX + 1 {
            family.truncate(1);
        }
        let shows: &[_] = if self.is_listed(relation) {
            showing(&relation.name.name)
        } else {
            &[]
        };
        let fields = relation.columns.iter().map(|column| {
            let ids = family.iter().filter_map(|member| {
                let same = member.column_named(&column.name)?;
                Some(ColumnId {
                    relation: member.oid,
                    number: same.number,
                })
            });
            let any = shows.contains(&&*column.name).then_some(ColumnId::ANY);
            Field {
                name: Arc::from(&*column.name),
                value: Value {
                    untouched: any.is_none(),
                    sources: ids.chain(any).collect(),
                    type_oid: column.type_oid,
                    ..Value::default()
                },
            }
        });
        let fields: Vec<_> = fields.collect();
        let wholes = family.iter().map(|member| ColumnId {
            relation: member.oid,
            number: 0,
        });
        let any = (!shows.is_empty()).then_some(ColumnId::ANY);
        Shape {
            table: Table {
                fields: Arc::new(Fields::from(fields)),
                open: None,
            },
            whole: wholes.chain(any).collect(),
            relations,
            calls: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Numbers the calls of a view's definition among those of the statement.
    fn import(&mut self, shape: Arc<Shape>) -> Arc<Shape> {
        for lost in &shape.lost {
            if !self.lost.contains(lost) {
                self.lost.push(lost.clone());
            }
        }
        if shape.calls.is_empty() {
            return shape;
        }
        let numbers: Vec<_> = shape
            .calls
            .iter()
            .map(|call| self.call_id(call.schema.as_deref(), &call.name))
            .collect();
        Arc::new(shape.renumbered(|index| numbers.get(index).copied().unwrap_or(ColumnId::ANY)))
    }

    fn view(&mut self, view: &'c Relation) -> Arc<Shape> {
        if let Some(shape) = self.catalogue.shape(view.oid) {
            return Arc::clone(shape);
        }
        if self.views.len() >= VIEWS_MAX || self.views.contains(&view.oid) {
            self.exhausted = Some(super::Reason::TooDeep);
            return Arc::new(Shape::default());
        }
        let mut beneath = Analysis::new(self.catalogue, Some(&[]), &DEFINITION);
        beneath.defines = true;
        beneath.depth = self.depth;
        beneath.work = self.work;
        beneath.views.clone_from(&self.views);
        beneath.views.push(view.oid);
        let rows = beneath.definition(view.definition.as_deref().unwrap_or_default());
        self.work = beneath.work;
        if let Some(reason) = beneath.exhausted {
            // Not kept: it depends on where the view was met.
            self.exhausted = Some(reason);
            return Arc::new(Shape::default());
        }
        let shape = Arc::new(beneath.shape_of_view(view, rows));
        self.catalogue.keep_shape(view.oid, Arc::clone(&shape));
        shape
    }

    /// The rows of a view's query; `None` where it can not be read.
    fn definition(&mut self, text: &str) -> Option<Table> {
        let tree = parsed(text, &DEFINITION, 0).ok()?;
        let [statement] = tree.stmts.as_slice() else {
            return None;
        };
        match &statement.stmt.as_deref()?.node {
            Some(NodeEnum::SelectStmt(select)) => Some(self.select(select, None, None)),
            _ => None,
        }
    }

    fn shape_of_view(mut self, view: &Relation, rows: Option<Table>) -> Shape {
        self.relations.insert(view.oid);
        let exact = rows.as_ref().is_some_and(|rows| {
            rows.open.is_none() && rows.fields.list().len() == view.columns.len()
        });
        let is_read = rows.is_some();
        let rows = rows.unwrap_or_default();
        let mut all = self.all_of(&rows);
        if !exact {
            let wholes = self.relations.iter().map(|relation| ColumnId {
                relation: *relation,
                number: 0,
            });
            let any = (!is_read).then_some(ColumnId::ANY);
            let found = all.as_slice().iter().copied();
            all = wholes.chain(any).chain(found).collect();
            let name = &view.name.name;
            self.lost.push(Lost {
                reason: format!("the definition of the view {name} can not be read"),
                relations: is_read.then(|| self.relations.clone()),
            });
        }
        let mut fields = Vec::with_capacity(view.columns.len());
        for (position, column) in view.columns.iter().enumerate() {
            let own = ColumnId {
                relation: view.oid,
                number: column.number,
            };
            let inner = if exact {
                rows.fields.list().get(position)
            } else {
                None
            };
            let (beneath, untouched) = inner.map_or((&all, false), |field| {
                (&field.value.sources, field.value.untouched)
            });
            let ids = beneath.as_slice().iter().copied();
            let sources: Sources = ids.flat_map(|id| self.resolved(id)).chain([own]).collect();
            fields.push(Field {
                name: Arc::from(&*column.name),
                value: Value {
                    sources,
                    untouched,
                    type_oid: column.type_oid,
                    ..Value::default()
                },
            });
        }
        let own = ColumnId {
            relation: view.oid,
            number: 0,
        };
        let beneath = fields
            .iter()
            .flat_map(|field| field.value.sources.as_slice());
        let whole = beneath.copied().chain([own]).collect();
        let shape = Shape {
            table: Table {
                fields: Arc::new(Fields::from(fields)),
                open: None,
            },
            whole,
            relations: self.relations,
            calls: Vec::new(),
            lost: self.lost,
        };
        with_calls(shape, self.calls)
    }
}

/// Keeps the calls that a column derives from: others only decide, as the view's maker wanted.
fn with_calls(shape: Shape, calls: Vec<Called>) -> Shape {
    let used: BTreeSet<usize> = shape
        .whole
        .as_slice()
        .iter()
        .filter_map(|id| id.call())
        .collect();
    if used.is_empty() {
        return shape;
    }
    let numbers: Vec<_> = used
        .iter()
        .enumerate()
        .map(|(position, index)| {
            let number = i16::try_from(position + 1).unwrap_or(0);
            (
                *index,
                ColumnId {
                    relation: 0,
                    number,
                },
            )
        })
        .collect();
    let shape = shape.renumbered(|index| {
        let known = numbers.iter().find(|(old, _)| *old == index);
        known.map_or(ColumnId::ANY, |(_, id)| *id)
    });
    let kept = calls.into_iter().enumerate();
    Shape {
        // What the view gives to them was chosen by who made it.
        calls: kept
            .filter(|(index, _)| used.contains(index))
            .map(|(_, call)| Called {
                given: BTreeSet::new(),
                ..call
            })
            .collect(),
        ..shape
    }
}

/// A definition is as long as it is: the server holds it already.
const DEFINITION: ProfileLimits = ProfileLimits {
    text_bytes: 4 << 20,
    statements: 1,
};

fn has_columns(kind: RelationKind) -> bool {
    match kind {
        RelationKind::Table
        | RelationKind::Partitioned
        | RelationKind::View
        | RelationKind::MaterialisedView
        | RelationKind::Foreign
        | RelationKind::Sequence
        | RelationKind::Toast => true,
        RelationKind::Index | RelationKind::Composite => false,
    }
}

impl Catalogue {
    /// Everything that inherits from a relation, at any depth.
    pub(crate) fn descendants(&self, oid: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut pending = vec![oid];
        while let Some(parent) = pending.pop() {
            for child in self.children(parent) {
                if found.insert(*child) {
                    pending.push(*child);
                }
            }
        }
        found
    }
}
