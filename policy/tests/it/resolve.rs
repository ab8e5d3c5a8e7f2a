//! What statements come to in a database whose definitions set off more than their text shows.

use policy::catalogue::{
    Cascade, Cast, Catalogue, Column, Event, Expression, ExpressionOn, Function, FunctionKind,
    Operator, Parts, Qualified, Relation, RelationKind, Rule, Trigger, Type, TypeKind, Volatility,
};
use policy::{Decision, Operation, Policy, SearchPath, SessionContext, Source, Target};

use crate::support::{batch, known_targets, occasion, principal};

const TEXT: u32 = 25;

fn qualified(name: &str) -> Qualified {
    let (schema, name) = name.split_once('.').unwrap();
    Qualified {
        schema: schema.into(),
        name: name.into(),
    }
}

fn relation(oid: u32, name: &str, kind: RelationKind) -> Relation {
    Relation {
        oid,
        name: qualified(name),
        kind,
        columns: vec![Column {
            number: 1,
            name: "id".into(),
            type_oid: TEXT,
        }],
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

fn table(oid: u32, name: &str) -> Relation {
    relation(oid, name, RelationKind::Table)
}

fn view(oid: u32, name: &str, definition: &str) -> Relation {
    Relation {
        definition: Some(definition.into()),
        ..relation(oid, name, RelationKind::View)
    }
}

fn function(name: &str, arguments: &[u32]) -> Function {
    Function {
        name: qualified(name),
        arguments: arguments.to_vec(),
        defaults: 0,
        variadic: false,
        returns: TEXT,
        returns_set: false,
        kind: FunctionKind::Function,
        language: "plpgsql".into(),
        volatility: Volatility::Volatile,
        security_definer: false,
        extension: None,
        body: None,
        outputs: Vec::new(),
    }
}

fn from_extension(name: &str, arguments: &[u32]) -> Function {
    Function {
        language: "c".into(),
        volatility: Volatility::Immutable,
        extension: Some("citext".into()),
        ..function(name, arguments)
    }
}

/// A small shop with something of everything.
fn shop() -> Catalogue {
    let triggered = Relation {
        triggers: vec![
            Trigger {
                events: vec![Event::Insert, Event::Update],
                function: qualified("public.stamp"),
                condition: None,
            },
            Trigger {
                events: vec![Event::Delete],
                function: qualified("pg_catalog.suppress_redundant_updates_trigger"),
                condition: None,
            },
        ],
        ..table(10, "public.stamped")
    };
    let ruled = Relation {
        rules: vec![Rule {
            event: Event::Insert,
            definition: "CREATE RULE r AS ON INSERT TO public.ruled DO INSERT INTO public.secret (id) VALUES (new.id)".into(),
        }],
        ..table(11, "public.ruled")
    };
    let parent = Relation {
        cascades: vec![Cascade {
            on: Event::Delete,
            does: Event::Delete,
            relation: 13,
        }],
        ..table(12, "public.parent")
    };
    let child = Relation {
        triggers: vec![Trigger {
            events: vec![Event::Delete],
            function: qualified("public.audit"),
            condition: None,
        }],
        ..table(13, "public.child")
    };
    let checked = Relation {
        expressions: vec![
            Expression {
                on: ExpressionOn::Write,
                text: "nextval('public.numbers'::regclass)".into(),
            },
            Expression {
                on: ExpressionOn::Any,
                text: "(EXISTS ( SELECT 1 FROM public.secret))".into(),
            },
        ],
        ..table(14, "public.checked")
    };
    let part = Relation {
        parents: vec![15],
        ..table(16, "public.part")
    };
    let other_part = Relation {
        parents: vec![15],
        ..table(17, "public.other_part")
    };
    let relations = vec![
        table(1, "public.secret"),
        table(2, "public.open"),
        view(3, "public.peek", "SELECT secret.id FROM public.secret"),
        view(
            4,
            "public.peek_again",
            "SELECT peek.id FROM public.peek WHERE (peek.id > 1)",
        ),
        view(
            5,
            "public.calls",
            "SELECT public.reach(open.id) AS reach FROM public.open",
        ),
        view(31, "public.calls_known", "SELECT public.known() AS known"),
        view(6, "public.unread", "SELECT FROM WHERE"),
        table(7, "agent.open"),
        triggered,
        ruled,
        parent,
        child,
        checked,
        relation(15, "public.whole", RelationKind::Partitioned),
        part,
        other_part,
        view(18, "pg_catalog.pg_roles", ""),
        table(19, "pg_catalog.pg_class"),
    ];
    let rows = Type {
        oid: 100,
        name: qualified("public.open"),
        kind: TypeKind::Composite { relation: 2 },
        constraints: Vec::new(),
    };
    let pair = Type {
        oid: 102,
        name: qualified("public.pair"),
        kind: TypeKind::Composite { relation: 20 },
        constraints: Vec::new(),
    };
    let checked_text = Type {
        oid: 101,
        name: qualified("public.short"),
        kind: TypeKind::Domain { base: TEXT },
        constraints: vec!["public.reach(VALUE) IS NOT NULL".into()],
    };
    let mut sql = function("public.known", &[]);
    sql.language = "sql".into();
    sql.body = Some("select id from secret".into());
    Catalogue::new(
        1,
        Parts {
            server_version: 150_000,
            relations,
            functions: vec![
                function("public.reach", &[TEXT]),
                function("public.stamp", &[]),
                function("public.lower", &[TEXT, TEXT]),
                function("elsewhere.upper", &[TEXT]),
                from_extension("public.replace", &[TEXT, TEXT, TEXT]),
                function("public.label", &[100]),
                function("public.to_short", &[102]),
                sql,
            ],
            operators: vec![
                Operator {
                    name: qualified("public.<"),
                    function: qualified("public.reach"),
                },
                Operator {
                    name: qualified("public.>"),
                    function: qualified("public.replace"),
                },
            ],
            types: vec![rows, pair, checked_text],
            casts: vec![
                Cast {
                    source: 102,
                    target: TEXT,
                    function: Some(qualified("public.to_short")),
                    implicit: true,
                },
                Cast {
                    source: TEXT,
                    target: 101,
                    function: Some(qualified("public.reach")),
                    implicit: false,
                },
            ],
        },
    )
}

const RULES: &str = r#"
[[rule]]
name = "everything"
groups = ["agents"]
targets = ["*"]
allow = { statements = ["*"] }

[[rule]]
name = "listed"
groups = ["agents"]
targets = ["*"]
allow = { statements = ["function"], functions = ["public.known", "public.audit"] }

[[rule]]
name = "no-secret"
groups = ["agents"]
targets = ["*"]
deny = { statements = ["*"], tables = ["public.secret", "public.other_part", "public.whole_denied"] }

[[rule]]
name = "keep-children"
groups = ["agents"]
targets = ["*"]
deny = { statements = ["delete"], tables = ["public.child"] }

[[rule]]
name = "few"
groups = ["few"]
targets = ["*"]
allow = { statements = ["select", "insert"], tables = ["public.peek", "public.open", "public.stamped"] }

[[rule]]
name = "numbers-stay"
groups = ["few", "agents"]
targets = ["*"]
deny = { statements = ["update"], tables = ["public.numbers"] }
"#;

struct Session<'s> {
    group: &'s str,
    path: Option<&'s [&'s str]>,
    unsettled: bool,
}

const AGENT: Session<'_> = Session {
    group: "agents",
    path: Some(&["agent", "public"]),
    unsettled: false,
};

const PUBLIC: Session<'_> = Session {
    path: Some(&["public"]),
    ..AGENT
};

const FEW: Session<'_> = Session {
    group: "few",
    ..PUBLIC
};

/// "allow", or the rule or the object that refuses.
fn decide(session: &Session<'_>, text: &str) -> String {
    let source = Source {
        file: "resolve.toml".to_owned(),
        text: RULES.to_owned(),
    };
    let policy = Policy::compile(&[source], &known_targets()).unwrap().policy;
    let permit = policy
        .admit(
            &principal(&[session.group]),
            &Target::named("orders"),
            occasion(),
        )
        .unwrap();
    let catalogue = shop();
    let path: Option<Vec<String>> = session
        .path
        .map(|path| path.iter().map(|schema| (*schema).to_owned()).collect());
    let batch = batch(text);
    let operation = Operation::Sql {
        statements: &batch.statements,
        session: SessionContext {
            search_path: path
                .as_deref()
                .map_or(SearchPath::Unknown, SearchPath::Known),
            read_only: false,
            catalogue: Some(&catalogue),
            unsettled: session.unsettled,
        },
    };
    match policy.judge(&permit, &operation) {
        Decision::Allow => "allow".to_owned(),
        Decision::Hold(held) => held.to_string(),
        Decision::Deny(refusal) => refusal
            .rule
            .unwrap_or_else(|| format!("{} on {}", refusal.message, refusal.object)),
    }
}

fn check(session: &Session<'_>, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let decided = decide(session, text);
        let as_expected = match expected.strip_suffix("..") {
            Some(beginning) => decided.starts_with(beginning),
            None => decided == *expected,
        };
        assert!(as_expected, "{text}: {decided}, not {expected}");
    }
}

#[test]
fn views_are_looked_through_for_what_is_denied() {
    check(
        &PUBLIC,
        &[
            ("SELECT * FROM open", "allow"),
            ("SELECT * FROM peek", "no-secret"),
            ("SELECT * FROM public.peek_again", "no-secret"),
            (
                "WITH x AS (SELECT 1) SELECT (SELECT max(id) FROM peek)",
                "no-secret",
            ),
            ("INSERT INTO peek VALUES (1)", "no-secret"),
            ("DELETE FROM peek_again WHERE id = '1'", "no-secret"),
            ("LOCK TABLE peek", "no-secret"),
            ("COPY peek TO STDOUT", "no-secret"),
            ("EXPLAIN SELECT * FROM peek", "no-secret"),
            ("SELECT * FROM pg_roles", "allow"),
        ],
    );
}

#[test]
fn an_allow_of_a_view_covers_what_is_beneath_it() {
    check(
        &FEW,
        &[
            ("SELECT * FROM peek", "allow"),
            (
                "SELECT * FROM secret",
                "no rule allows `select` on public.secret..",
            ),
            (
                "SELECT * FROM calls",
                "no rule allows `select` on public.calls..",
            ),
        ],
    );
}

#[test]
fn a_definition_that_can_not_be_read_is_unknown() {
    check(
        &PUBLIC,
        &[("SELECT * FROM unread", "the statement cannot be judged..")],
    );
}

#[test]
fn triggers_run_functions_that_a_rule_must_list() {
    check(
        &PUBLIC,
        &[
            (
                "INSERT INTO stamped VALUES (1)",
                "public.stamp() is not built in, and no rule lists it by name; it is run through a trigger of public.stamped..",
            ),
            ("COPY stamped FROM STDIN", "public.stamp().."),
            (
                "UPDATE stamped SET id = '1' WHERE id = '2'",
                "public.stamp()..",
            ),
            ("DELETE FROM stamped WHERE id = '2'", "allow"),
            ("SELECT * FROM stamped", "allow"),
            ("DELETE FROM parent WHERE id = '1'", "keep-children"),
        ],
    );
    // Not even where the table itself is allowed by name.
    check(
        &FEW,
        &[("INSERT INTO stamped VALUES (1)", "public.stamp()..")],
    );
}

#[test]
fn rules_cascades_and_expressions_do_what_they_do() {
    check(
        &PUBLIC,
        &[
            ("INSERT INTO ruled VALUES (1)", "no-secret"),
            ("SELECT * FROM ruled", "allow"),
            ("UPDATE parent SET id = '1' WHERE id = '2'", "allow"),
            ("INSERT INTO checked VALUES (1)", "numbers-stay"),
            ("SELECT * FROM checked", "no-secret"),
        ],
    );
}

#[test]
fn rows_of_a_parent_are_rows_of_its_children() {
    check(
        &PUBLIC,
        &[
            ("SELECT * FROM whole", "no-secret"),
            ("SELECT * FROM part", "allow"),
            ("SELECT * FROM other_part", "no-secret"),
        ],
    );
}

#[test]
fn names_are_those_of_the_schema_that_the_server_chooses() {
    check(
        &AGENT,
        &[
            ("SELECT * FROM secret", "no-secret"),
            ("SELECT * FROM open", "allow"),
            ("SET search_path = public; SELECT * FROM peek", "no-secret"),
        ],
    );
    let few = Session {
        group: "few",
        ..AGENT
    };
    check(
        &few,
        &[
            (
                "SELECT * FROM open",
                "no rule allows `select` on agent.open..",
            ),
            ("SELECT * FROM peek", "allow"),
        ],
    );
    // While the session's own changes are not settled, each schema of the path may be meant.
    let unsettled = Session {
        unsettled: true,
        ..few
    };
    check(
        &unsettled,
        &[("SELECT * FROM peek", "no rule allows `select` on peek..")],
    );
    let unknown = Session {
        path: None,
        ..AGENT
    };
    check(
        &unknown,
        &[
            ("SELECT * FROM peek", "no-secret"),
            ("SELECT upper('x')", "elsewhere.upper().."),
        ],
    );
}

#[test]
fn a_function_in_the_place_of_one_that_is_built_in_is_not_built_in() {
    check(
        &PUBLIC,
        &[
            ("SELECT lower('x')", "allow"),
            ("SELECT lower('x', 'y')", "public.lower().."),
            ("SELECT pg_catalog.lower('x')", "allow"),
            ("SELECT lower(VARIADIC ARRAY['x'])", "public.lower().."),
            // Not on the path.
            ("SELECT upper('x')", "allow"),
            // Of an extension, and changes nothing.
            ("SELECT replace('x', 'y', 'z')", "allow"),
        ],
    );
}

#[test]
fn an_operator_in_the_place_of_one_that_is_built_in_is_not_built_in() {
    check(
        &PUBLIC,
        &[
            ("SELECT 1 < 2", "public.<().."),
            ("SELECT 1 OPERATOR(pg_catalog.<) 2", "allow"),
            ("SELECT 1 > 2", "allow"),
            ("SELECT 1 = 2", "allow"),
        ],
    );
}

#[test]
fn a_function_that_is_written_as_a_column_is_a_function() {
    check(
        &PUBLIC,
        &[
            ("SELECT open.label FROM open", "public.label().."),
            ("SELECT (o).label FROM open o", "public.label().."),
            ("SELECT open.id FROM open", "allow"),
        ],
    );
}

#[test]
fn the_body_of_a_listed_function_is_looked_at() {
    check(
        &PUBLIC,
        &[
            ("SELECT known()", "no-secret"),
            ("SELECT public.known()", "no-secret"),
            ("SELECT * FROM calls_known", "no-secret"),
            ("SELECT (name).reach FROM open", "public.reach().."),
            ("SELECT reach('x')", "public.reach().."),
        ],
    );
}

#[test]
fn types_bring_their_code_along() {
    check(
        &PUBLIC,
        &[
            ("SELECT 'x'::text", "allow"),
            ("SELECT '(1)'::pair", "public.to_short().."),
            ("SELECT 'x'::short", "public.reach().."),
        ],
    );
}

#[test]
fn a_definition_within_the_batch_leaves_later_names_open() {
    check(
        &AGENT,
        &[(
            "CREATE TABLE agent.x (id int); SELECT * FROM peek",
            "no-secret",
        )],
    );
}
