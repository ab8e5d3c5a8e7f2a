//! The compiled policy against a naive reading of `docs/policy.md`, on generated rules and statements.
//!
//! The reference knows names by schema and name, in words, and goes through every rule for every
//! effect. It shares no code with the compiled form but the table of classes.

use policy::class::{ByColumn, CLASSES, Class, ClassSet};
use policy::sql::{
    Change, ColumnUse, Effect, FunctionName, Name, NamedStatementEffect, Object, Reason, Schema,
    StatementProfile,
};
use policy::{
    Actor, Client, Decision, Occasion, Operation, Policy, Principal, RefusalKind, SearchPath,
    SessionContext, Source, Target,
};
use proptest::prelude::*;

use crate::support::{known_targets, principal};

const GROUPS: [&str; 4] = ["a", "b", "c", "*"];
const TARGETS: [&str; 3] = ["orders", "billing", "*"];
const SCHEMAS: [&str; 3] = ["public", "hr", "pg_temp"];
const TABLES: [&str; 3] = ["people", "orders", "people_old"];
const COLUMNS: [&str; 3] = ["id", "card", "name"];
const FUNCTIONS: [&str; 2] = ["total", "refresh"];
const NAME_PATTERNS: [&str; 7] = [
    "people",
    "*",
    "hr.*",
    "public.people",
    "*.orders",
    "peop*",
    "p*.people*",
];
const COLUMN_PATTERNS: [&str; 6] = [
    "people.card",
    "hr.people.*",
    "*.id",
    "public.*.name",
    "people*.c*d",
    "*.*",
];
const FUNCTION_PATTERNS: [&str; 4] = ["total", "public.*", "hr.refresh", "*"];
const CLASS_WORDS: [&str; 12] = [
    "select",
    "insert",
    "update",
    "delete",
    "read",
    "write",
    "*",
    "unknown",
    "function",
    "create",
    "set",
    "update-without-where",
];

#[derive(Debug, Clone)]
struct RuleOf {
    name: String,
    action: &'static str,
    shadow: bool,
    groups: Vec<&'static str>,
    targets: Vec<&'static str>,
    statements: Vec<&'static str>,
    tables: Option<Vec<&'static str>>,
    columns: Option<Vec<&'static str>>,
    functions: Option<Vec<&'static str>>,
    networks: Option<&'static str>,
    delegated: Option<&'static str>,
}

fn list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

impl RuleOf {
    fn text(&self) -> String {
        let mut matches = format!("statements = {}", list(&self.statements));
        for (key, words) in [
            ("tables", &self.tables),
            ("columns", &self.columns),
            ("functions", &self.functions),
        ] {
            if let Some(words) = words {
                matches.push_str(&format!(", {key} = {}", list(words)));
            }
        }
        let mut text = format!(
            "[[rule]]\nname = \"{}\"\ngroups = {}\ntargets = {}\n{} = {{ {matches} }}\n",
            self.name,
            list(&self.groups),
            list(&self.targets),
            self.action
        );
        if self.action == "hold" {
            text.push_str("approvers = [\"oncall\"]\n");
        }
        if self.shadow {
            text.push_str("shadow = true\n");
        }
        if let Some(network) = self.networks {
            text.push_str(&format!("networks = [\"{network}\"]\n"));
        }
        if let Some(word) = self.delegated {
            text.push_str(&format!("delegated = \"{word}\"\n"));
        }
        text
    }

    fn applies(&self, case: &Case) -> bool {
        let by_group = self
            .groups
            .iter()
            .any(|group| *group == "*" || case.groups.contains(group));
        let by_target = self
            .targets
            .iter()
            .any(|target| *target == "*" || *target == "orders");
        let by_network = match (self.networks, case.client) {
            (None, _) => true,
            // What is not known gives nothing and takes nothing away.
            (Some(_), None) => self.action != "allow",
            (Some("unix"), Some(client)) => client == Client::Unix,
            (Some(_), Some(client)) => client == office(),
        };
        let by_delegation = match self.delegated {
            None => true,
            Some("required") => case.delegated,
            Some(_) => !case.delegated,
        };
        by_group && by_target && by_network && by_delegation
    }

    /// The classes that it is about.
    fn classes(&self) -> Vec<Class> {
        let mut classes = Vec::new();
        for line in CLASSES {
            let mut named = false;
            for word in &self.statements {
                let is_group = *word == "*" || line.groups.contains(word);
                let star = *word == "*" && line.class != Class::Unknown;
                let mut by_word = line.name == *word || star || line.groups.contains(word);
                if self.columns.is_some() && is_group && line.tables {
                    by_word &= line.columns != ByColumn::Never;
                }
                let has_list =
                    self.tables.is_some() || self.columns.is_some() || self.functions.is_some();
                if *word == "*" && self.action != "allow" && has_list {
                    by_word &= self.narrows(line.class);
                }
                named |= by_word;
            }
            if named {
                classes.push(line.class);
            }
        }
        if self.action != "deny" {
            for line in CLASSES {
                if line
                    .derived_from
                    .is_some_and(|base| classes.contains(&base))
                {
                    classes.push(line.class);
                }
            }
        }
        classes
    }

    /// Whether one of its lists speaks about the class.
    fn narrows(&self, class: Class) -> bool {
        let line = class.entry();
        (self.tables.is_some() && line.tables)
            || (self.columns.is_some() && line.columns != ByColumn::Never)
            || (self.functions.is_some() && line.functions)
    }
}

/// `text` stands for `name`, `*` for any run of characters.
fn wild(text: &str, name: &str) -> bool {
    match text.split_once('*') {
        None => text == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).any(|skip| tail.get(skip..).is_some_and(|tail| wild(rest, tail)))
        }),
    }
}

/// Whether a pattern of schema and name lists the object; of any schema when it has one part.
fn lists_name(pattern: &str, schema: &str, name: &str) -> bool {
    match pattern.split_once('.') {
        None => wild(pattern, name),
        Some((of_schema, of_name)) => wild(of_schema, schema) && wild(of_name, name),
    }
}

fn table_part(pattern: &str) -> &str {
    pattern.rsplit_once('.').unwrap().0
}

fn column_part(pattern: &str) -> &str {
    pattern.rsplit_once('.').unwrap().1
}

#[derive(Debug, Clone)]
struct Case {
    groups: Vec<&'static str>,
    client: Option<Client>,
    delegated: bool,
    path: Vec<String>,
    statements: Vec<StatementProfile>,
}

fn office() -> Client {
    Client::Address([192, 0, 2, 7].into())
}

/// What the document says of one effect.
#[derive(Debug, Default)]
struct Said {
    denied: Vec<String>,
    held: Vec<String>,
    covered: bool,
}

impl Case {
    /// The schemas that a name may be in, for a refusal; and must be allowed in, each of them.
    fn schemas(&self, name: &Name) -> (Vec<String>, Vec<String>) {
        match &name.schema {
            Schema::Named(schema) => (vec![schema.clone()], vec![schema.clone()]),
            Schema::Path | Schema::Any => {
                let mut may = self.path.clone();
                may.push("pg_temp".to_owned());
                let must = if self.path.is_empty() {
                    vec!["pg_temp".to_owned()]
                } else {
                    self.path.clone()
                };
                (may, must)
            }
        }
    }

    fn uses<'s>(
        &self,
        statement: &'s StatementProfile,
        effect: &Effect,
    ) -> Option<Vec<&'s ColumnUse>> {
        let Object::Table(name) = &effect.object else {
            return None;
        };
        let all = statement.columns.as_ref()?;
        Some(
            all.iter()
                .filter(|used| used.class == effect.class)
                .filter(|used| Some(&used.table) == name.name.as_ref())
                .filter(|used| match &name.schema {
                    // A temporary table of the name would be asked for the same columns.
                    Schema::Named(schema) => *schema == used.schema || schema == "pg_temp",
                    Schema::Path | Schema::Any => true,
                })
                .collect(),
        )
    }

    fn says(&self, rules: &[&RuleOf], statement: &StatementProfile, effect: &Effect) -> Said {
        let mut said = self.says_as(effect.class, rules, statement, effect);
        let opaque = matches!(&effect.object, Object::Function(function) if function.opaque);
        if opaque && !said.covered {
            let unknown = self.says_as(Class::Unknown, rules, statement, effect);
            said.denied.extend(unknown.denied);
            said.held.extend(unknown.held);
            said.covered = unknown.covered;
        }
        said
    }

    fn says_as(
        &self,
        class: Class,
        rules: &[&RuleOf],
        statement: &StatementProfile,
        effect: &Effect,
    ) -> Said {
        let mut said = Said::default();
        let about: Vec<_> = rules
            .iter()
            .filter(|rule| rule.classes().contains(&class))
            .collect();
        for rule in &about {
            if self.matches(class, rule, statement, effect) {
                match rule.action {
                    "deny" => said.denied.push(rule.name.clone()),
                    "hold" => said.held.push(rule.name.clone()),
                    _ => {}
                }
            }
        }
        let granting: Vec<_> = about.iter().filter(|rule| rule.action != "deny").collect();
        said.covered = match &effect.object {
            Object::Nothing => granting
                .iter()
                .any(|rule| rule.action == "allow" || !rule.narrows(class)),
            Object::Other { .. } | Object::Unread(_) => {
                granting.iter().any(|rule| !rule.narrows(class))
            }
            Object::Table(name) => {
                let uses = self.uses(statement, effect);
                self.schemas(name).1.iter().all(|schema| {
                    let table = name.name.as_deref().unwrap();
                    let whole = granting.iter().any(|rule| {
                        let open = !rule.narrows(class);
                        let listed = rule.tables.as_ref().is_some_and(|tables| {
                            tables
                                .iter()
                                .any(|pattern| lists_name(pattern, schema, table))
                        });
                        open || (listed && class != Class::Unknown)
                    });
                    whole || self.covers_columns(class, &granting, schema, table, uses.as_deref())
                })
            }
            Object::Function(function) => {
                let opaque = function.opaque && class != Class::Unknown;
                let name = function.name.name.as_deref().unwrap();
                self.schemas(&function.name).1.iter().all(|schema| {
                    granting.iter().any(|rule| {
                        let open = !rule.narrows(class) && !opaque;
                        let listed = rule.functions.as_ref().is_some_and(|functions| {
                            functions
                                .iter()
                                .any(|pattern| lists_name(pattern, schema, name))
                        });
                        open || (listed && class != Class::Unknown)
                    })
                })
            }
        };
        said
    }

    fn covers_columns(
        &self,
        class: Class,
        granting: &[&&&RuleOf],
        schema: &str,
        table: &str,
        uses: Option<&[&ColumnUse]>,
    ) -> bool {
        let patterns: Vec<&str> = granting
            .iter()
            .flat_map(|rule| rule.columns.iter().flatten().copied())
            .filter(|pattern| lists_name(table_part(pattern), schema, table))
            .collect();
        match (class.entry().columns, uses) {
            (ByColumn::Never, _) | (ByColumn::Each, None) => false,
            (ByColumn::Table, _) => !patterns.is_empty(),
            (ByColumn::Each, Some([])) => !patterns.is_empty(),
            (ByColumn::Each, Some(uses)) => uses.iter().all(|used| {
                patterns.iter().any(|pattern| match &used.column {
                    Some(column) => wild(column_part(pattern), column),
                    None => column_part(pattern) == "*",
                })
            }),
        }
    }

    /// Whether a deny or hold with the class matches the effect.
    fn matches(
        &self,
        class: Class,
        rule: &RuleOf,
        statement: &StatementProfile,
        effect: &Effect,
    ) -> bool {
        if !rule.narrows(class) {
            return true;
        }
        match &effect.object {
            Object::Nothing | Object::Other { .. } | Object::Unread(_) => false,
            Object::Table(name) => {
                let table = name.name.as_deref().unwrap();
                let uses = self.uses(statement, effect);
                self.schemas(name).0.iter().any(|schema| {
                    let by_table = rule.tables.iter().flatten();
                    let by_column = rule.columns.iter().flatten();
                    by_table
                        .into_iter()
                        .any(|pattern| lists_name(pattern, schema, table))
                        || by_column.into_iter().any(|pattern| {
                            let of_table = lists_name(table_part(pattern), schema, table);
                            let of_column = match (class.entry().columns, &uses) {
                                (ByColumn::Never, _) => false,
                                (ByColumn::Table, _) | (ByColumn::Each, None) => true,
                                (ByColumn::Each, Some(uses)) => uses.iter().any(|used| {
                                    used.column
                                        .as_ref()
                                        .is_none_or(|column| wild(column_part(pattern), column))
                                }),
                            };
                            of_table && of_column
                        })
                })
            }
            Object::Function(function) => {
                let name = function.name.name.as_deref().unwrap();
                let mut schemas = self.schemas(&function.name).0;
                if function.name.schema != Schema::Path {
                    // Written out: it is there and nowhere else.
                } else {
                    schemas.retain(|schema| schema != "pg_temp");
                    schemas.push("pg_catalog".to_owned());
                }
                schemas.iter().any(|schema| {
                    let mut patterns = rule.functions.iter().flatten();
                    patterns.any(|pattern| lists_name(pattern, schema, name))
                })
            }
        }
    }

    /// The decision in words, with the rules that may be named for it.
    fn decide(&self, rules: &[RuleOf], with_shadow: bool) -> (&'static str, Vec<String>) {
        let in_force: Vec<&RuleOf> = rules
            .iter()
            .filter(|rule| rule.applies(self))
            .filter(|rule| with_shadow || !rule.shadow)
            .collect();
        let admits = rules
            .iter()
            .any(|rule| rule.applies(self) && rule.action != "deny" && !rule.shadow);
        if !admits {
            return ("not admitted", Vec::new());
        }
        let mut held = Vec::new();
        for statement in &self.statements {
            let said: Vec<_> = statement
                .effects
                .iter()
                .map(|effect| self.says(&in_force, statement, effect))
                .collect();
            if let Some(denied) = said.iter().find(|said| !said.denied.is_empty()) {
                return ("denied", denied.denied.clone());
            }
            if said.iter().any(|said| !said.covered) {
                return ("not allowed", Vec::new());
            }
            held.extend(said.into_iter().flat_map(|said| said.held));
        }
        // Each once, in the order of the files.
        let names = rules.iter().map(|rule| &rule.name);
        let held: Vec<String> = names.filter(|name| held.contains(name)).cloned().collect();
        if held.is_empty() {
            ("allowed", held)
        } else {
            ("held", held)
        }
    }
}

/// The word, and the rules that are named for it.
fn in_words(decision: &Decision) -> (&'static str, Vec<String>) {
    let refusal = match decision {
        Decision::Allow => return ("allowed", Vec::new()),
        Decision::Hold(held) => {
            let names = held.rules.iter().map(|rule| rule.name.clone());
            return ("held", names.collect());
        }
        Decision::Deny(refusal) => refusal,
    };
    let word = match refusal.kind {
        RefusalKind::NotAdmitted => "not admitted",
        RefusalKind::Denied => "denied",
        RefusalKind::NotAllowed | RefusalKind::Unclassified | RefusalKind::Unparsed => {
            "not allowed"
        }
        RefusalKind::Guard | RefusalKind::Held | RefusalKind::Masked | RefusalKind::OverBudget => {
            panic!("{decision:?}")
        }
    };
    (word, refusal.rule.iter().cloned().collect())
}

fn some<T: Clone + std::fmt::Debug + 'static>(
    words: &'static [T],
    count: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(prop::sample::select(words), count)
}

fn rule() -> impl Strategy<Value = RuleOf> {
    let lists = (
        prop::option::weighted(0.4, some(&NAME_PATTERNS, 0..=2)),
        prop::option::weighted(0.3, some(&COLUMN_PATTERNS, 1..=2)),
        prop::option::weighted(0.3, some(&FUNCTION_PATTERNS, 0..=2)),
    );
    let who = (
        some(&GROUPS, 1..=2),
        some(&TARGETS, 1..=1),
        prop::option::weighted(0.2, prop::sample::select(vec!["192.0.2.0/24", "unix"])),
        prop::option::weighted(0.2, prop::sample::select(vec!["required", "never"])),
    );
    let action = prop::sample::select(vec!["allow", "allow", "deny", "hold"]);
    (
        action,
        prop::bool::weighted(0.15),
        some(&CLASS_WORDS, 1..=3),
        lists,
        who,
    )
        .prop_map(
            |(action, shadow, statements, (tables, columns, functions), who)| {
                let (mut groups, targets, networks, delegated) = who;
                if groups.contains(&"*") {
                    groups = vec!["*"];
                }
                RuleOf {
                    name: String::new(),
                    action,
                    shadow,
                    groups,
                    targets,
                    statements,
                    tables: if columns.is_some() { None } else { tables },
                    columns,
                    functions,
                    networks,
                    delegated,
                }
            },
        )
}

fn name(names: &'static [&'static str]) -> impl Strategy<Value = Name> {
    let schema = prop_oneof![
        Just(Schema::Path),
        prop::sample::select(&SCHEMAS[..]).prop_map(|schema| Schema::Named(schema.to_owned())),
    ];
    (schema, prop::sample::select(names)).prop_map(|(schema, name)| Name {
        schema,
        name: Some(name.to_owned()),
    })
}

fn effect() -> impl Strategy<Value = Effect> {
    const OF_TABLE: [Class; 6] = [
        Class::Select,
        Class::Insert,
        Class::Update,
        Class::Delete,
        Class::CopyTo,
        Class::UpdateWithoutWhere,
    ];
    prop_oneof![
        6 => (prop::sample::select(&OF_TABLE[..]), name(&TABLES))
            .prop_map(|(class, name)| Effect::new(class, Object::Table(name))),
        1 => Just(Effect::new(Class::Select, Object::Nothing)),
        1 => Just(Effect::new(
            Class::Set,
            Object::Other { kind: "setting", name: "work_mem".to_owned() },
        )),
        1 => Just(Effect::new(Class::Unknown, Object::Unread(Reason::Code))),
        2 => (name(&FUNCTIONS), any::<bool>()).prop_map(|(name, opaque)| {
            Effect::new(Class::Function, Object::Function(FunctionName { name, opaque }))
        }),
    ]
}

fn column_use() -> impl Strategy<Value = ColumnUse> {
    (
        prop::sample::select(vec![Class::Select, Class::Insert, Class::Update]),
        prop::sample::select(&SCHEMAS[..]),
        prop::sample::select(&TABLES[..]),
        prop::option::weighted(0.8, prop::sample::select(&COLUMNS[..])),
    )
        .prop_map(|(class, schema, table, column)| ColumnUse {
            class,
            schema: schema.to_owned(),
            table: table.to_owned(),
            column: column.map(str::to_owned),
        })
}

fn statement() -> impl Strategy<Value = StatementProfile> {
    (
        prop::collection::vec(effect(), 1..=3),
        prop::option::of(prop::collection::vec(column_use(), 0..=4)),
    )
        .prop_map(|(effects, columns)| {
            let mut profile = crate::support::batch("SELECT 1").statements.remove(0);
            assert!(
                profile
                    .settings
                    .iter()
                    .all(|setting| setting.change != Change::Opaque)
            );
            assert_eq!(profile.names, NamedStatementEffect::None);
            profile.effects = effects;
            profile.columns = columns;
            profile
        })
}

fn case() -> impl Strategy<Value = Case> {
    let client = prop_oneof![
        3 => Just(Some(office())),
        1 => Just(Some(Client::Unix)),
        1 => Just(Some(Client::Address([198, 51, 100, 1].into()))),
        1 => Just(None),
    ];
    let path = prop::sample::subsequence(vec!["public".to_owned(), "hr".to_owned()], 0..=2);
    (
        some(&GROUPS[..3], 0..=2),
        client,
        prop::bool::weighted(0.3),
        path,
        prop::collection::vec(statement(), 1..=2),
    )
        .prop_map(|(groups, client, delegated, path, statements)| Case {
            groups,
            client,
            delegated,
            path,
            statements,
        })
}

fn principal_of(case: &Case) -> Principal {
    let mut principal = principal(&case.groups);
    if case.delegated {
        principal.delegation.push(Actor {
            issuer: "https://issuer.example".to_owned(),
            subject: "bot".to_owned(),
        });
    }
    principal
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, ..ProptestConfig::default() })]

    #[test]
    fn the_compiled_policy_decides_as_the_document_says(
        rules in prop::collection::vec(rule(), 1..=6),
        cases in prop::collection::vec(case(), 1..=4),
    ) {
        // What the compiler refuses is not compared: most such rules match nothing.
        let mut kept: Vec<RuleOf> = Vec::new();
        for (index, mut rule) in rules.into_iter().enumerate() {
            rule.name = format!("r{index}");
            let source = Source { file: "p".to_owned(), text: rule.text() };
            if Policy::compile(&[source], &known_targets()).is_ok() {
                kept.push(rule);
            }
        }
        let text: String = kept.iter().map(RuleOf::text).collect();
        let source = Source { file: "p".to_owned(), text: text.clone() };
        let policy = Policy::compile(&[source], &known_targets()).unwrap().policy;
        for case in &cases {
            let target = Target::named("orders");
            let operation = Operation::Sql {
                statements: &case.statements,
                session: SessionContext {
                    search_path: SearchPath::Known(&case.path),
                    read_only: false,
                    catalogue: None,
                    unsettled: false,
                },
            };
            let occasion = Occasion { client: case.client, unix_time: 0 };
            let principal = principal_of(case);
            let (decision, foreshadowed) = match policy.admit(&principal, &target, occasion) {
                Ok(permit) => {
                    let decision = policy.judge(&permit, &operation);
                    let foreshadowed = policy.foreshadow(&permit, &operation, &decision);
                    (decision, foreshadowed)
                }
                Err(refusal) => (Decision::Deny(refusal), None),
            };
            let explained = policy.explain(&principal, &target, occasion, &operation);
            prop_assert_eq!(&explained.decision, &decision);
            for (rule, considered) in kept.iter().zip(&explained.rules) {
                let applies = considered.applies == policy::Applies::Yes;
                prop_assert_eq!(applies, rule.applies(case), "{:?}", rule);
            }
            let expected = case.decide(&kept, false);
            let (word, rules) = in_words(&decision);
            prop_assert_eq!(word, expected.0, "{}\n{:?}\n{:?}", text, case, decision);
            if word == "held" {
                prop_assert_eq!(&rules, &expected.1, "{}\n{:?}", text, case);
            }
            for rule in rules {
                prop_assert!(expected.1.contains(&rule), "{}\n{:?}\n{:?}", text, expected, decision);
            }
            if word != "not admitted" {
                let with_shadow = case.decide(&kept, true);
                let (word, _) = in_words(foreshadowed.as_ref().unwrap_or(&decision));
                prop_assert_eq!(word, with_shadow.0, "in shadow: {}\n{:?}", text, case);
            }
        }
    }
}

/// A reference that reads no group of classes would agree with itself alone.
#[test]
fn the_reference_reads_the_groups_of_classes() {
    let read: ClassSet = CLASSES
        .iter()
        .filter(|line| line.groups.contains(&"read"))
        .map(|line| line.class)
        .collect();
    assert_eq!(ClassSet::named("read"), Some(read));
}
