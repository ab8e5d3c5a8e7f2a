//! Where the columns of answers come from, statement by statement.
//!
//! Each case of `data/lineage.txt` is a statement and, behind it, all that is found of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use policy::catalogue::{
    Cast, Catalogue, Column, Event, Function, FunctionKind, Operator, Parts, Qualified, Reference,
    Relation, RelationKind, Rule, Trigger, Type, TypeKind, Volatility,
};
use policy::sql::lineage::{ColumnId, Decides, Held, Lineage};
use policy::sql::postgres::{ProfileLimits, lineage};

const CASES: &str = include_str!("../data/lineage.txt");

const TEXT: u32 = 25;
const TEXTS: u32 = 1009;
const CUSTOMERS: u32 = 20_100;
const ORDERS: u32 = 20_101;
const EVENTS: u32 = 20_110;
const PEOPLE: u32 = 20_120;
const ADDRESS: u32 = 20_130;
const CUSTOMER_ROW: u32 = 30_100;
const CUSTOMER_ROWS: u32 = 30_101;
const ADDRESS_ROW: u32 = 30_130;

fn qualified(name: &str) -> Qualified {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    Qualified {
        schema: schema.into(),
        name: name.into(),
    }
}

/// Columns are `name` or `name:type`.
fn relation(oid: u32, name: &str, columns: &str) -> Relation {
    let columns = columns.split_whitespace().zip(1..);
    let columns = columns.map(|(column, number)| {
        let (name, type_oid) = column.split_once(':').unwrap_or((column, "25"));
        Column {
            number,
            name: name.into(),
            type_oid: type_oid.parse().unwrap(),
        }
    });
    Relation {
        oid,
        name: qualified(name),
        kind: RelationKind::Table,
        columns: columns.collect(),
        definition: None,
        rules: Vec::new(),
        triggers: Vec::new(),
        parents: Vec::new(),
        cascades: Vec::new(),
        references: Vec::new(),
        expressions: Vec::new(),
        unique_columns: Vec::new(),
    }
}

fn view(oid: u32, name: &str, columns: &str, definition: &str) -> Relation {
    Relation {
        kind: RelationKind::View,
        definition: Some(definition.into()),
        ..relation(oid, name, columns)
    }
}

fn child(oid: u32, name: &str, columns: &str, parent: u32) -> Relation {
    Relation {
        parents: vec![parent],
        ..relation(oid, name, columns)
    }
}

fn function(name: &str, arguments: usize, returns: u32) -> Function {
    Function {
        name: qualified(name),
        arguments: vec![TEXT; arguments],
        defaults: 0,
        variadic: false,
        returns,
        returns_set: false,
        kind: FunctionKind::Function,
        language: "plpgsql".into(),
        volatility: Volatility::Immutable,
        security_definer: false,
        extension: None,
        body: None,
        outputs: Vec::new(),
    }
}

fn of_extension(extension: &str, volatility: Volatility, function: Function) -> Function {
    Function {
        extension: Some(extension.into()),
        language: "c".into(),
        volatility,
        ..function
    }
}

fn type_(oid: u32, name: &str, kind: TypeKind) -> Type {
    Type {
        oid,
        name: qualified(name),
        kind,
        constraints: Vec::new(),
    }
}

fn relations() -> Vec<Relation> {
    let customers = Relation {
        unique_columns: vec![1, 3],
        triggers: vec![Trigger {
            events: vec![Event::Update],
            function: qualified("audit_row"),
            condition: None,
        }],
        ..relation(CUSTOMERS, "customers", "id:23 name card email")
    };
    let orders = Relation {
        references: vec![Reference {
            columns: vec![2],
            relation: CUSTOMERS,
            referenced: vec![1],
        }],
        ..relation(ORDERS, "orders", "id:23 customer_id:23 total note")
    };
    let rules = Relation {
        rules: vec![Rule {
            event: Event::Insert,
            definition: "CREATE RULE r AS ON INSERT TO public.journal DO INSTEAD NOTHING;".into(),
        }],
        ..relation(20_104, "journal", "id:23 text")
    };
    vec![
        customers,
        orders,
        relation(20_102, "app.customers", "id:23 token"),
        relation(20_103, "audit", "id:23 what"),
        rules,
        relation(
            20_105,
            "places",
            &format!("id:23 addr:{ADDRESS_ROW} tags:{TEXTS}"),
        ),
        relation(20_106, "books", &format!("id:23 holders:{CUSTOMER_ROWS}")),
        Relation {
            kind: RelationKind::Composite,
            ..relation(ADDRESS, "address", "street city")
        },
        Relation {
            kind: RelationKind::Partitioned,
            ..relation(EVENTS, "events", "id:23 at payload")
        },
        child(20_111, "events_a", "payload id:23 at", EVENTS),
        child(20_112, "events_b", "id:23 at payload", EVENTS),
        relation(PEOPLE, "people", "id:23 name"),
        child(20_121, "staff", "id:23 name salary", PEOPLE),
        view(
            20_140,
            "cards",
            "id:23 card",
            "SELECT customers.id, customers.card FROM public.customers WHERE (customers.email IS NOT NULL);",
        ),
        view(
            20_141,
            "ends",
            "id:23 tail",
            "SELECT cards.id, \"right\"(cards.card, 4) AS \"right\" FROM public.cards;",
        ),
        Relation {
            kind: RelationKind::MaterialisedView,
            ..view(
                20_142,
                "counts",
                "card n",
                "SELECT ends.tail AS card, count(*) AS n FROM public.ends GROUP BY ends.tail;",
            )
        },
        view(20_143, "odd", "a b", "SELECT FROM WHERE"),
        view(20_144, "short", "a b", "SELECT audit.id FROM public.audit;"),
        view(20_145, "ring", "a", "SELECT gnir.a FROM public.gnir;"),
        view(20_146, "gnir", "a", "SELECT ring.a FROM public.ring;"),
        view(
            20_147,
            "looked_up",
            "id:23 found",
            "SELECT orders.id, public.lookup(orders.note) AS found FROM public.orders WHERE public.lookup(orders.total) IS NULL;",
        ),
        view(
            20_148,
            "mixed",
            "id:23 word",
            "SELECT c.id, c.name AS word FROM public.customers c UNION ALL SELECT o.id, o.note FROM public.orders o;",
        ),
    ]
}

fn functions() -> Vec<Function> {
    vec![
        function("lookup", 1, TEXT),
        function("app.hidden", 1, TEXT),
        function("lower", 2, TEXT),
        of_extension(
            "pg_trgm",
            Volatility::Immutable,
            function("similarity", 2, 700),
        ),
        of_extension("dblink", Volatility::Volatile, function("dblink", 2, 2249)),
        of_extension(
            "uuid-ossp",
            Volatility::Volatile,
            function("uuid_generate_v4", 0, 2950),
        ),
        Function {
            returns_set: true,
            ..function("all_customers", 0, CUSTOMER_ROW)
        },
        Function {
            returns_set: true,
            outputs: vec![("key".into(), TEXT), ("found".into(), TEXT)],
            ..function("pairs", 1, 2249)
        },
        function("same", 2, 16),
        of_extension("pg_trgm", Volatility::Immutable, function("trgm_op", 2, 16)),
        function("to_mood", 1, 30_200),
    ]
}

fn catalogue() -> Catalogue {
    Catalogue::new(
        1,
        Parts {
            server_version: 170_002,
            relations: relations(),
            functions: functions(),
            operators: vec![
                Operator {
                    name: qualified("==="),
                    function: qualified("same"),
                },
                Operator {
                    name: qualified("%"),
                    function: qualified("trgm_op"),
                },
            ],
            types: vec![
                type_(
                    CUSTOMER_ROW,
                    "customers",
                    TypeKind::Composite {
                        relation: CUSTOMERS,
                    },
                ),
                type_(
                    CUSTOMER_ROWS,
                    "_customers",
                    TypeKind::Array {
                        element: CUSTOMER_ROW,
                    },
                ),
                type_(
                    ADDRESS_ROW,
                    "address",
                    TypeKind::Composite { relation: ADDRESS },
                ),
                type_(30_200, "mood", TypeKind::Enum),
            ],
            casts: vec![Cast {
                source: TEXT,
                target: 30_200,
                function: Some(qualified("to_mood")),
                implicit: false,
            }],
        },
    )
}

/// Writes what was found of a statement, as the data file has it.
struct Written<'c> {
    catalogue: &'c Catalogue,
    lineage: &'c Lineage,
}

impl Written<'_> {
    fn column(&self, id: ColumnId) -> String {
        if let Some(index) = id.call() {
            return format!("{}()", self.lineage.calls[index].name);
        }
        if id == ColumnId::ANY {
            return "ANY".to_owned();
        }
        let relation = self.catalogue.relation(id.relation).expect("a relation");
        let schema = match &*relation.name.schema {
            "public" => String::new(),
            other => format!("{other}."),
        };
        let column = match id.number {
            0 => "*",
            -1 => "ctid",
            number => relation.column(number).map_or("?", |column| &column.name),
        };
        format!("{schema}{}.{column}", relation.name.name)
    }

    fn columns<'i>(&self, ids: impl IntoIterator<Item = &'i ColumnId>) -> String {
        let names: BTreeSet<_> = ids.into_iter().map(|id| self.column(*id)).collect();
        names.into_iter().collect::<Vec<_>>().join(" ")
    }

    fn lines(&self) -> String {
        let mut out = String::new();
        for output in self.lineage.outputs.iter().flatten() {
            let sources = self.columns(&output.sources);
            let mark = match (output.untouched, sources.is_empty()) {
                (true, _) => " = ",
                (false, false) => " < ",
                (false, true) => "",
            };
            writeln!(out, "  {}{mark}{sources}", output.name).unwrap();
        }
        if self.lineage.outputs.is_none() {
            out.push_str("  (no rows)\n");
        }
        self.sets(&mut out);
        for lost in &self.lineage.lost {
            let about = match &lost.relations {
                None => "any".to_owned(),
                Some(some) => self.columns(&some.iter().map(|oid| whole(*oid)).collect::<Vec<_>>()),
            };
            writeln!(out, "  lost: {} ({about})", lost.reason).unwrap();
        }
        out
    }

    fn sets(&self, out: &mut String) {
        // Most of what is computed may fail; that has a test of its own.
        let places = self.lineage.deciding.iter().map(|(_, how)| *how);
        let mut places: Vec<_> = places.filter(|how| *how != Decides::Failure).collect();
        places.sort();
        places.dedup();
        for place in places {
            let of_place = self
                .lineage
                .deciding
                .iter()
                .filter(|(_, how)| *how == place);
            let columns = self.columns(of_place.map(|(id, _)| id));
            writeln!(out, "  by {place:?}: {columns}").unwrap();
        }
        for (id, how) in &self.lineage.escaping {
            writeln!(out, "  {how:?}: {}", self.column(*id)).unwrap();
        }
        let written = self.columns(&self.lineage.written);
        if !written.is_empty() {
            writeln!(out, "  writes: {written}").unwrap();
        }
        let redefined: Vec<_> = self
            .lineage
            .redefined
            .iter()
            .map(|oid| whole(*oid))
            .collect();
        if !redefined.is_empty() {
            writeln!(out, "  redefines: {}", self.columns(&redefined)).unwrap();
        }
        for call in &self.lineage.calls {
            writeln!(out, "  calls: {} {}", call.name, self.columns(&call.given)).unwrap();
        }
        match &self.lineage.held {
            None => {}
            Some(Held::Prepares(name)) => writeln!(out, "  prepares: {name}").unwrap(),
            Some(Held::Executes(name)) => writeln!(out, "  executes: {name}").unwrap(),
            Some(Held::Declares(name)) => writeln!(out, "  declares: {name}").unwrap(),
            Some(Held::Fetches(name)) => writeln!(out, "  fetches: {name}").unwrap(),
        }
    }
}

fn whole(relation: u32) -> ColumnId {
    ColumnId {
        relation,
        number: 0,
    }
}

fn found(text: &str, catalogue: &Catalogue) -> Vec<Lineage> {
    let path = ["public".to_owned()];
    lineage(text, catalogue, Some(&path), &ProfileLimits::default())
}

fn written(text: &str, catalogue: &Catalogue) -> String {
    let all = found(text, catalogue);
    let each = all.iter().map(|lineage| {
        let written = Written { catalogue, lineage };
        written.lines()
    });
    each.collect::<Vec<_>>().join("  ;\n")
}

#[test]
fn every_case_is_as_written() {
    let catalogue = catalogue();
    let mut cases = 0;
    let mut now = String::new();
    for line in CASES.lines() {
        if line.starts_with("  ") {
            continue;
        }
        writeln!(now, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        cases += 1;
        now.push_str(&written(line, &catalogue));
    }
    for (expected, found) in CASES.lines().zip(now.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(now, CASES);
    assert!(cases >= 150, "{cases}");
}

#[test]
fn what_can_fail_by_a_value_tells_it() {
    let catalogue = catalogue();
    let fails = |value: &str| {
        let text = format!("SELECT {value} FROM customers");
        let lineage = found(&text, &catalogue).remove(0);
        lineage
            .deciding
            .iter()
            .any(|(_, how)| *how == Decides::Failure)
    };
    for value in [
        "1 / (length(card) - 16)",
        "card::int",
        "int4(card)",
        "(card || 'x')::json",
        "substr(card, 1, ascii(card) - 60)",
        "card ~ '('",
        "'x' LIKE card",
        "card::bytea",
        "CAST(card AS date)",
        "to_number(card, '9')",
        "chr(ascii(card))",
    ] {
        assert!(fails(value), "{value}");
    }
    for value in [
        "card",
        "upper(card)",
        "card || name",
        "card::text",
        "card = 'x'",
        "card IN ('x', 'y')",
        "card BETWEEN 'x' AND 'y'",
        "count(card)",
        "concat(card, length(card))",
        "row_to_json(customers)",
        "coalesce(card, name)",
    ] {
        assert!(!fails(value), "{value}");
    }
}

/// A chain of common tables, each with twice the columns of the one before.
fn doubling(count: usize) -> String {
    let tables =
        (1..count).map(|n| format!("t{n} AS (SELECT x.*, y.* FROM t{0} x, t{0} y)", n - 1));
    let tables: Vec<_> = tables.collect();
    format!(
        "WITH t0 AS (SELECT * FROM customers), {} SELECT * FROM t{}",
        tables.join(", "),
        count - 1
    )
}

#[test]
fn what_is_too_much_to_trace_may_do_anything() {
    let catalogue = catalogue();
    let many = |item: &str, count: usize| vec![item; count].join(", ");
    let nested = |count: usize| {
        format!(
            "{}SELECT card FROM customers{}",
            "SELECT * FROM (".repeat(count),
            ") x".repeat(count)
        )
    };
    for text in [
        doubling(30),
        nested(200),
        format!(
            "SELECT {} FROM {}",
            many("card", 30_000),
            many("customers", 30_000)
        ),
        format!(
            "SELECT {} FROM customers",
            many("customers", 60_000) + ", " + &many("*", 200_000)
        ),
    ] {
        let found = found(&text, &catalogue);
        assert_eq!(found.len(), 1);
        assert!(found[0].escaping.iter().any(|(id, _)| *id == ColumnId::ANY));
        assert!(found[0].lost.iter().any(|lost| lost.relations.is_none()));
    }
}

#[test]
fn what_is_large_is_traced() {
    let catalogue = catalogue();
    let list = vec!["card || 'x'"; 40_000].join(", ");
    let sum = vec!["upper(card)"; 20].join(" || ");
    let joins: String = (0..40)
        .map(|n| format!(" JOIN customers c{n} ON c{n}.id = c.id"))
        .collect();
    for (text, outputs) in [
        (doubling(10), 2048),
        (format!("SELECT {list} FROM customers"), 40_000),
        (format!("SELECT {sum} FROM customers"), 1),
        (format!("SELECT * FROM customers c{joins}"), 164),
        (
            format!(
                "SELECT id FROM customers WHERE card IN ({})",
                vec!["'x'"; 100_000].join(", ")
            ),
            1,
        ),
    ] {
        let found = found(&text, &catalogue);
        assert_eq!(found[0].lost, [], "{}", text.len());
        assert_eq!(found[0].outputs.as_ref().unwrap().len(), outputs);
    }
}

#[test]
fn a_name_without_a_known_path_means_every_relation_of_that_name() {
    let catalogue = catalogue();
    let limits = ProfileLimits::default();
    let text = "SELECT id FROM customers";
    let set = format!("SET search_path = \"$user\", public; {text}");
    let user = ["$user".to_owned(), "public".to_owned()];
    let public = &user[1..];
    for (text, path) in [
        (text, None),
        (text, Some(user.as_slice())),
        (set.as_str(), Some(public)),
    ] {
        let found = lineage(text, &catalogue, path, &limits);
        let sources = &found.last().unwrap().outputs.as_ref().unwrap()[0].sources;
        let both = [CUSTOMERS, 20_102].map(|relation| ColumnId {
            relation,
            number: 1,
        });
        assert!(both.iter().all(|id| sources.contains(id)), "{sources:?}");
    }
}

#[test]
fn a_relation_that_is_not_known_may_show_anything() {
    let catalogue = catalogue();
    let found = found("SELECT x FROM made_meanwhile", &catalogue);
    let output = &found[0].outputs.as_ref().unwrap()[0];
    assert!(output.sources.contains(&ColumnId::ANY));
    assert_eq!(found[0].lost.len(), 1);
}

#[test]
fn code_that_a_change_sets_off_is_counted() {
    let catalogue = catalogue();
    for (text, runs) in [
        ("UPDATE customers SET name = 'x'", true),
        ("INSERT INTO customers (id) VALUES (1)", false),
        (
            "INSERT INTO customers (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'",
            true,
        ),
        (
            "MERGE INTO customers c USING audit a ON c.id = a.id WHEN MATCHED THEN DELETE",
            true,
        ),
        (
            "MERGE INTO journal j USING audit a ON j.id = a.id WHEN NOT MATCHED THEN INSERT (id) VALUES (1)",
            true,
        ),
        ("DELETE FROM journal", false),
    ] {
        assert_eq!(
            found(text, &catalogue)[0].runs_attached_code,
            runs,
            "{text}"
        );
    }
}
