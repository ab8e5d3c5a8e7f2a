//! Lineage and effects of statements against PostgreSQL itself: what they leave out does not matter.
//!
//! The same tables stand in several schemas. One is the base; each other one differs from it in the
//! values of one column. A statement is run in the base and in others: where its lineage does not
//! name the column, the answer must be the same.

mod generate;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use generate::{Generator, Random};
use policy::catalogue::{
    Catalogue, Column, Parts, Qualified, Reference, Relation, RelationKind, Type, TypeKind,
};
use policy::class::Class;
use policy::sql::lineage::{ColumnId, Escapes, Lineage};
use policy::sql::postgres::{ProfileLimits, lineage, profile};
use policy::sql::{Name, Object};

use crate::postgres::{self, SUPERUSER};
use crate::wire::Wire;

/// Statements that are made.
const STATEMENTS: u64 = 600;

/// In how many other schemas each is run.
const OTHERS: usize = 4;

/// The columns that differ in a schema: as they are stored.
const VARIANTS: &[&[&str]] = &[
    &["customers.name"],
    &["customers.card"],
    &["customers.email"],
    &["orders.total"],
    &["orders.note"],
    &["audit.what"],
    &["places.tags"],
    &["places.addr"],
    &["people.name"],
    &["staff.name"],
    &["staff.salary"],
    &["events.payload", "events_a.payload", "events_b.payload"],
];

/// The tables of one schema. `changed` is the column whose values differ.
fn tables(schema: &str, changed: &str) -> String {
    let text = |column: &str, prefix: &str| {
        if column == changed {
            format!(
                "CASE WHEN r % 6 = 1 THEN NULL ELSE repeat('a', r % 4) || 'w{prefix}' || (90 - r) END"
            )
        } else {
            format!("CASE WHEN r % 5 = 4 THEN NULL ELSE 'q{prefix}' || r END")
        }
    };
    let int = |column: &str| {
        if column == changed {
            "40 - r * 3"
        } else {
            "r * 7 % 11"
        }
    };
    let mut sql = format!("CREATE SCHEMA {schema}; SET search_path = {schema};");
    sql.push_str(
        "CREATE TABLE customers (id int PRIMARY KEY, name text, card text UNIQUE, email text);
         CREATE TABLE orders (id int PRIMARY KEY, customer_id int REFERENCES customers, total int, note text);
         CREATE TABLE audit (id int, what text);
         CREATE TYPE address AS (street text, city text);
         CREATE TABLE places (id int, addr address, tags text[]);
         CREATE TABLE people (id int, name text);
         CREATE TABLE staff (salary int) INHERITS (people);
         CREATE TABLE events (id int, at int, payload text) PARTITION BY LIST (at);
         CREATE TABLE events_a (payload text, id int, at int);
         ALTER TABLE events ATTACH PARTITION events_a FOR VALUES IN (1);
         CREATE TABLE events_b PARTITION OF events DEFAULT;
         CREATE VIEW cards AS SELECT id, card FROM customers WHERE id > 1;
         CREATE VIEW ends AS SELECT id, right(card, 4) AS tail FROM cards;
         CREATE VIEW totals AS SELECT customer_id AS id, sum(total)::int AS total, max(note) AS note FROM orders GROUP BY customer_id;
         CREATE VIEW mixed AS SELECT id, name AS word FROM customers UNION ALL SELECT o.id, o.note FROM orders o;",
    );
    let (name, card, email) = (
        text("customers.name", "name"),
        text("customers.card", "card"),
        text("customers.email", "mail"),
    );
    let (total, note) = (int("orders.total"), text("orders.note", "note"));
    let (what, staff) = (text("audit.what", "what"), text("staff.name", "staf"));
    let (street, tags) = (text("places.addr", "addr"), text("places.tags", "tags"));
    let (people, salary) = (text("people.name", "peop"), int("staff.salary"));
    let payload = text("events.payload", "payl");
    write!(
        sql,
        "INSERT INTO customers SELECT r, {name}, {card}, {email} FROM generate_series(1, 9) r;
         INSERT INTO orders SELECT r, 1 + r % 5, {total}, {note} FROM generate_series(1, 7) r;
         INSERT INTO audit SELECT r, {what} FROM generate_series(1, 5) r;
         INSERT INTO places SELECT r, ROW({street}, 'c')::address, ARRAY[{tags}, 'x'] FROM generate_series(1, 4) r;
         INSERT INTO people SELECT r, {people} FROM generate_series(1, 4) r;
         INSERT INTO staff SELECT r, {staff}, {salary} FROM generate_series(5, 8) r;
         INSERT INTO events SELECT r, r % 3, {payload} FROM generate_series(1, 6) r;
         CREATE MATERIALIZED VIEW counts AS SELECT tail AS card, length(tail) AS n FROM ends;
        "
    )
    .unwrap();
    sql
}

fn rows(wire: &mut Wire, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = wire.query(sql);
    let error = messages.iter().find(|message| message.tag == 'E');
    assert!(error.is_none(), "{sql}: {error:?}");
    let rows = messages.iter().filter(|message| message.tag == 'D');
    rows.map(|row| row.columns()).collect()
}

fn qualified(name: &str) -> Qualified {
    Qualified {
        schema: "base".into(),
        name: name.into(),
    }
}

/// Field `index` of a row that has it.
fn field<T: std::str::FromStr>(row: &[Option<String>], index: usize) -> T
where
    T::Err: std::fmt::Debug,
{
    row[index].as_deref().expect("not NULL").parse().unwrap()
}

fn numbers(list: &str) -> Vec<i16> {
    let numbers = list.split(',');
    numbers
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().unwrap())
        .collect()
}

/// The base schema as a catalogue: read by queries of the test's own.
fn catalogue(wire: &mut Wire) -> Catalogue {
    rows(wire, "SET search_path = ''");
    let mut relations = BTreeMap::new();
    for row in rows(
        wire,
        "SELECT c.oid, relname, relkind, CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END
         FROM pg_class c WHERE relnamespace = 'base'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'c')",
    ) {
        let kind = match row[2].as_deref() {
            Some("p") => RelationKind::Partitioned,
            Some("v") => RelationKind::View,
            Some("m") => RelationKind::MaterialisedView,
            Some("c") => RelationKind::Composite,
            _ => RelationKind::Table,
        };
        let relation = Relation {
            oid: field(&row, 0),
            name: qualified(&field::<String>(&row, 1)),
            kind,
            columns: Vec::new(),
            definition: row[3].clone().map(Into::into),
            rules: Vec::new(),
            triggers: Vec::new(),
            parents: Vec::new(),
            cascades: Vec::new(),
            references: Vec::new(),
            expressions: Vec::new(),
            unique_columns: Vec::new(),
        };
        relations.insert(relation.oid, relation);
    }
    details(wire, &mut relations);
    let types = rows(
        wire,
        "SELECT oid, typname, typrelid, typelem FROM pg_type WHERE typnamespace = 'base'::regnamespace",
    );
    let types = types.iter().map(|row| Type {
        oid: field(row, 0),
        name: qualified(&field::<String>(row, 1)),
        kind: match (field(row, 2), field(row, 3)) {
            (0, element) => TypeKind::Array { element },
            (relation, _) => TypeKind::Composite { relation },
        },
        constraints: Vec::new(),
    });
    Catalogue::new(
        1,
        Parts {
            types: types.collect(),
            relations: relations.into_values().collect(),
            ..Parts::default()
        },
    )
}

fn details(wire: &mut Wire, relations: &mut BTreeMap<u32, Relation>) {
    for row in rows(
        wire,
        "SELECT attrelid, attnum, attname, atttypid FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
         WHERE relnamespace = 'base'::regnamespace AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum",
    ) {
        if let Some(relation) = relations.get_mut(&field(&row, 0)) {
            relation.columns.push(Column {
                number: field(&row, 1),
                name: field::<String>(&row, 2).into(),
                type_oid: field(&row, 3),
            });
        }
    }
    for row in rows(wire, "SELECT inhrelid, inhparent FROM pg_inherits") {
        if let Some(relation) = relations.get_mut(&field(&row, 0)) {
            relation.parents.push(field(&row, 1));
        }
    }
    for row in rows(
        wire,
        "SELECT indrelid, array_to_string(indkey::int2[], ',') FROM pg_index WHERE indisunique",
    ) {
        if let Some(relation) = relations.get_mut(&field(&row, 0)) {
            relation
                .unique_columns
                .extend(numbers(&field::<String>(&row, 1)));
        }
    }
    for row in rows(
        wire,
        "SELECT conrelid, array_to_string(conkey, ','), confrelid, array_to_string(confkey, ',') FROM pg_constraint WHERE contype = 'f'",
    ) {
        if let Some(relation) = relations.get_mut(&field(&row, 0)) {
            relation.references.push(Reference {
                columns: numbers(&field::<String>(&row, 1)),
                relation: field(&row, 2),
                referenced: numbers(&field::<String>(&row, 3)),
            });
        }
    }
}

/// What a statement did in one schema.
struct Answer {
    error: Option<String>,
    rows: Vec<Vec<Option<String>>>,
    /// What the tables hold behind it, where it changes some.
    stored: Vec<(String, Vec<Vec<Option<String>>>)>,
    /// Relations that it locked, with the mode.
    locks: Vec<(String, String)>,
}

/// Every table that a statement may change.
const STORED: &[(&str, &str)] = &[
    ("customers", "id, name, card, email"),
    ("orders", "id, note"),
    ("audit", "id, what"),
    ("events", "id, payload"),
    ("people", "id, name"),
];

/// Runs a statement and takes it back; `changed` are the tables that it may change.
fn answer(wire: &mut Wire, statement: &str, changed: &[&str], locks: bool) -> Answer {
    let changes = !changed.is_empty();
    let mut answer = Answer {
        error: None,
        rows: Vec::new(),
        stored: Vec::new(),
        locks: Vec::new(),
    };
    let begun = if changes || locks { "BEGIN; " } else { "" };
    for message in wire.query(&format!("{begun}{statement}")) {
        match message.tag {
            'E' => answer.error = Some(format!("{message:?}")),
            'D' => answer.rows.push(message.columns()),
            _ => {}
        }
    }
    if answer.error.is_none() {
        if locks {
            let held = rows(
                wire,
                "SELECT relname, mode FROM pg_locks JOIN pg_class c ON c.oid = relation
                 WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relkind IN ('r', 'p', 'v', 'm')
                 AND relnamespace = 'base'::regnamespace",
            );
            answer.locks = held
                .iter()
                .map(|row| (field(row, 0), field(row, 1)))
                .collect();
        }
        if changes {
            for (table, columns) in STORED.iter().filter(|(table, _)| changed.contains(table)) {
                let sql = format!("SELECT {columns} FROM {table}");
                answer.stored.push(((*table).to_owned(), rows(wire, &sql)));
            }
        }
    }
    if changes || locks {
        rows(wire, "ROLLBACK");
    }
    answer
}

/// The tables that a statement may change, of those that are looked at.
fn changed(catalogue: &Catalogue, lineage: &Lineage) -> Vec<&'static str> {
    let tables = STORED.iter().map(|(table, _)| *table);
    let changed = tables.filter(|table| {
        let relation = catalogue.relation_in("base", table).unwrap().oid;
        lineage.written.iter().any(|id| id.relation == relation)
    });
    changed.collect()
}

/// The ids of a column by its name in `table.column`.
fn ids(catalogue: &Catalogue, names: &[&str]) -> BTreeSet<ColumnId> {
    let ids = names.iter().map(|name| {
        let (table, column) = name.split_once('.').unwrap();
        let relation = catalogue.relation_in("base", table).unwrap();
        ColumnId {
            relation: relation.oid,
            number: relation.column_named(column).unwrap().number,
        }
    });
    ids.collect()
}

/// Whether any of `columns` is among `sources`, by itself, in a whole row or as anything.
fn names<'s>(
    mut sources: impl Iterator<Item = &'s ColumnId>,
    columns: &BTreeSet<ColumnId>,
) -> bool {
    sources.any(|source| {
        source.relation == 0
            || columns.contains(source)
            || (source.number == 0
                && columns
                    .iter()
                    .any(|column| column.relation == source.relation))
    })
}

fn column_of(rows: &[Vec<Option<String>>], index: usize) -> Vec<&Option<String>> {
    let mut column: Vec<_> = rows.iter().map(|row| &row[index]).collect();
    column.sort();
    column
}

/// What is wrong with a lineage, given answers of the base and of another schema.
fn wrong(
    catalogue: &Catalogue,
    lineage: &Lineage,
    variant: &[&str],
    base: &Answer,
    other: &Answer,
) -> Option<String> {
    let changed = ids(catalogue, variant);
    let is_lost = lineage.lost.iter().any(|lost| {
        lost.relations
            .as_ref()
            .is_none_or(|some| changed.iter().any(|column| some.contains(&column.relation)))
    });
    if is_lost {
        return None;
    }
    if other.error.is_some() {
        let deciding = lineage.deciding.iter().map(|(id, _)| id);
        let known =
            names(deciding, &changed) || names(lineage.escaping.iter().map(|(id, _)| id), &changed);
        return (!known).then(|| format!("fails by {variant:?}: {:?}", other.error));
    }
    if names(lineage.deciding.iter().map(|(id, _)| id), &changed) {
        return None;
    }
    if base.rows.len() != other.rows.len() {
        return Some(format!(
            "{} rows, {} with other {variant:?}",
            base.rows.len(),
            other.rows.len()
        ));
    }
    let outputs = lineage.outputs.as_deref().unwrap_or_default();
    let width = base.rows.first().map_or(outputs.len(), Vec::len);
    // Then the answer is redacted whole, as long as it is not clear why.
    if width != outputs.len() {
        if !lineage.lost.is_empty() {
            return None;
        }
        return Some(format!("{width} columns, not {}", outputs.len()));
    }
    for (index, output) in outputs.iter().enumerate() {
        let differs = column_of(&base.rows, index) != column_of(&other.rows, index);
        if differs && !names(output.sources.iter(), &changed) {
            return Some(format!("column {index} shows {variant:?}"));
        }
    }
    let escapes = lineage.escaping.iter();
    let escapes = escapes.filter(|(_, how)| *how == Escapes::Stored);
    if names(escapes.map(|(id, _)| id), &changed) {
        return None;
    }
    stored_elsewhere(catalogue, variant, base, other)
}

fn stored_elsewhere(
    catalogue: &Catalogue,
    variant: &[&str],
    base: &Answer,
    other: &Answer,
) -> Option<String> {
    for ((table, ours), (_, theirs)) in base.stored.iter().zip(&other.stored) {
        let (_, columns) = STORED.iter().find(|(name, _)| name == table).unwrap();
        for (index, column) in columns.split(", ").enumerate() {
            let relation = catalogue.relation_in("base", table).unwrap().oid;
            // The rows of a parent are those of its children.
            let own = variant.iter().any(|name| {
                let (changed, its_column) = name.split_once('.').unwrap();
                let changed = catalogue.relation_in("base", changed).unwrap();
                its_column == column
                    && (changed.oid == relation || changed.parents.contains(&relation))
            });
            if !own && column_of(ours, index) != column_of(theirs, index) {
                return Some(format!("{table}.{column} keeps {variant:?}"));
            }
        }
    }
    None
}

/// Values of an untouched output are values of its column.
fn touched(
    lineage: &Lineage,
    base: &Answer,
    values: &BTreeMap<ColumnId, BTreeSet<String>>,
) -> Option<String> {
    for (index, output) in lineage.outputs.iter().flatten().enumerate() {
        if !output.untouched || output.sources.iter().any(|id| id.number <= 0) {
            continue;
        }
        let known: BTreeSet<&String> = output
            .sources
            .iter()
            .filter_map(|id| values.get(id))
            .flatten()
            .collect();
        for value in base.rows.iter().filter_map(|row| row.get(index)?.as_ref()) {
            if !known.contains(value) {
                return Some(format!("column {index} is called untouched: {value}"));
            }
        }
    }
    None
}

/// Locks on relations that neither lineage nor profile know of.
fn unsaid(
    catalogue: &Catalogue,
    statement: &str,
    lineage: &Lineage,
    base: &Answer,
) -> Option<String> {
    let batch = profile(statement, &ProfileLimits::default());
    let written: BTreeSet<String> = batch.statements[0]
        .effects
        .iter()
        .filter(|effect| {
            matches!(
                effect.class,
                Class::Insert | Class::Update | Class::Delete | Class::Merge
            )
        })
        .filter_map(|effect| match &effect.object {
            Object::Table(Name { name, .. }) => name.clone(),
            _ => None,
        })
        .collect();
    let mut written_oids: BTreeSet<u32> = BTreeSet::new();
    for name in &written {
        let relation = catalogue.relation_in("base", name).unwrap();
        written_oids.insert(relation.oid);
    }
    let written_columns: BTreeSet<u32> = lineage.written.iter().map(|id| id.relation).collect();
    for (name, mode) in &base.locks {
        let relation = catalogue.relation_in("base", name).unwrap();
        if !lineage.relations.contains(&relation.oid) {
            return Some(format!(
                "{name} is locked in {mode}, and not among the relations"
            ));
        }
        if mode != "RowExclusiveLock" {
            continue;
        }
        // A view stands for what is beneath it, a parent for its children.
        let by_view = written_oids.iter().any(|oid| {
            let view = catalogue.relation(*oid).unwrap();
            view.kind == RelationKind::View
        });
        let by_parent = relation
            .parents
            .iter()
            .any(|parent| written_oids.contains(parent));
        if !(written_oids.contains(&relation.oid) || by_view || by_parent) {
            return Some(format!(
                "{name} is written, and the profile has {written:?}"
            ));
        }
        let family = std::iter::once(&relation.oid).chain(&relation.parents);
        if !family.into_iter().any(|oid| written_columns.contains(oid)) {
            return Some(format!(
                "{name} is written, and the lineage does not say so"
            ));
        }
    }
    None
}

fn connect(server: &postgres::Server, schema: &str) -> Wire {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
    let mut wire = Wire::login(address, SUPERUSER, "postgres", "");
    let settings =
        format!("SET search_path = {schema}; SET statement_timeout = '2s'; SET jit = off");
    rows(&mut wire, &settings);
    wire
}

fn values(wire: &mut Wire, catalogue: &Catalogue) -> BTreeMap<ColumnId, BTreeSet<String>> {
    let mut values = BTreeMap::new();
    for relation in catalogue.relations() {
        if relation.kind == RelationKind::Composite {
            continue;
        }
        for column in &relation.columns {
            let sql = format!("SELECT {} FROM base.{}", column.name, relation.name.name);
            let id = ColumnId {
                relation: relation.oid,
                number: column.number,
            };
            let found = rows(wire, &sql)
                .into_iter()
                .filter_map(|mut row| row.remove(0));
            values.insert(id, found.collect());
        }
    }
    values
}

#[test]
fn no_answer_depends_on_a_column_that_its_lineage_leaves_out() {
    let mut setup = tables("base", "");
    for (index, variant) in VARIANTS.iter().enumerate() {
        setup.push_str(&tables(&format!("v{index}"), variant[0]));
    }
    let server = postgres::Server::start(postgres::Options {
        setup,
        configuration: vec![("autovacuum", "off".to_owned())],
        ..postgres::Options::default()
    });
    let mut base = connect(&server, "base");
    let known = catalogue(&mut connect(&server, "base"));
    let values = values(&mut base, &known);
    let mut others: Vec<_> = (0..VARIANTS.len())
        .map(|index| connect(&server, &format!("v{index}")))
        .collect();
    let path = ["base".to_owned()];
    let mut valid = 0;
    let mut wrongs = Vec::new();
    for seed in 0..STATEMENTS {
        let statement = Generator::new(seed).statement();
        let found = lineage(&statement, &known, Some(&path), &ProfileLimits::default());
        let [found] = found.as_slice() else {
            panic!("{statement}");
        };
        let changed = changed(&known, found);
        let ours = answer(&mut base, &statement, &changed, true);
        if ours.error.is_some() {
            continue;
        }
        valid += 1;
        wrongs.extend(
            touched(found, &ours, &values)
                .or_else(|| unsaid(&known, &statement, found, &ours))
                .map(|what| format!("{seed}: {what}\n{statement}")),
        );
        let mut random = Random::new(seed);
        // A change leaves dead rows behind, and plans differ by the size of tables: all get them.
        let runs: Vec<usize> = if changed.is_empty() {
            (0..OTHERS).map(|_| random.below(VARIANTS.len())).collect()
        } else {
            (0..VARIANTS.len()).collect()
        };
        for index in runs {
            let theirs = answer(&mut others[index], &statement, &changed, false);
            // It took too long there.
            if theirs
                .error
                .as_ref()
                .is_some_and(|error| error.contains("57014"))
            {
                continue;
            }
            let what = wrong(&known, found, VARIANTS[index], &ours, &theirs);
            wrongs.extend(what.map(|what| format!("{seed}: {what}\n{statement}")));
        }
    }
    let count = wrongs.len();
    wrongs.truncate(5);
    assert!(count == 0, "{count} wrong:\n{}", wrongs.join("\n"));
    assert!(valid * 2 > STATEMENTS, "{valid} statements were valid");
}
