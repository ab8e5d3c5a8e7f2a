//! Statements made at random, out of most of what a query can be made of.
//!
//! They are valid more often than not; a statement that the server refuses proves nothing.

use std::fmt::Write as _;

/// A small generator of numbers, the same on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap();
        usize::try_from(self.next() % bound).unwrap()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Int,
    Bool,
    Texts,
    Address,
    Json,
}

use Kind::{Address, Bool, Int, Json, Text, Texts};

#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: Kind,
}

/// What FROM brings: `row` where its name alone is a row.
#[derive(Debug, Clone)]
struct Item {
    alias: String,
    columns: Vec<Column>,
    /// Its columns may stand without its name, unless another item has them too.
    shows_columns: bool,
}

type Scope = Vec<Vec<Item>>;

/// The relations of `mod.rs` and their columns.
const RELATIONS: &[(&str, &[(&str, Kind)])] = &[
    (
        "customers",
        &[("id", Int), ("name", Text), ("card", Text), ("email", Text)],
    ),
    (
        "orders",
        &[
            ("id", Int),
            ("customer_id", Int),
            ("total", Int),
            ("note", Text),
        ],
    ),
    ("audit", &[("id", Int), ("what", Text)]),
    ("places", &[("id", Int), ("addr", Address), ("tags", Texts)]),
    ("people", &[("id", Int), ("name", Text)]),
    ("staff", &[("id", Int), ("name", Text), ("salary", Int)]),
    ("events", &[("id", Int), ("at", Int), ("payload", Text)]),
    ("cards", &[("id", Int), ("card", Text)]),
    ("ends", &[("id", Int), ("tail", Text)]),
    ("totals", &[("id", Int), ("total", Int), ("note", Text)]),
    ("mixed", &[("id", Int), ("word", Text)]),
    ("counts", &[("card", Text), ("n", Int)]),
];

/// The tables that are changed, with a column each that may be.
const CHANGED: &[(&str, &str)] = &[
    ("customers", "name"),
    ("customers", "card"),
    ("orders", "note"),
    ("audit", "what"),
    ("cards", "card"),
    ("events", "payload"),
    ("people", "name"),
];

pub struct Generator {
    random: Random,
    names: usize,
    /// Common tables that are in sight.
    common: Vec<(String, Vec<Column>)>,
}

/// A query in parentheses or not, and its columns.
struct Made {
    sql: String,
    columns: Vec<Column>,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            names: 0,
            common: Vec::new(),
        }
    }

    pub fn statement(&mut self) -> String {
        self.names = 0;
        self.common.clear();
        match self.random.below(12) {
            0 => self.insert(),
            1 => self.update(),
            2 => self.delete(),
            3 => self.merge(),
            4 => self.changing_common_table(),
            _ => self.with_query(&Vec::new(), 3).sql,
        }
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn with_query(&mut self, around: &Scope, depth: usize) -> Made {
        if depth < 2 || !self.random.one_in(4) {
            return self.query(around, depth);
        }
        let before = self.common.len();
        let mut sql = String::from("WITH ");
        let is_recursive = self.random.one_in(2);
        if is_recursive {
            sql.push_str("RECURSIVE ");
        }
        for index in 0..=self.random.below(2) {
            if index > 0 {
                sql.push_str(", ");
            }
            let name = self.name("w");
            let made = if is_recursive && self.random.one_in(2) {
                self.recursive(&name, around)
            } else {
                self.query(around, depth - 1)
            };
            let mut columns = made.columns;
            write!(sql, "{name}").unwrap();
            if self.random.one_in(3) {
                for column in &mut columns {
                    column.name = self.name("k");
                }
                let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
                write!(sql, "({})", names.join(", ")).unwrap();
            }
            let hint = self
                .random
                .pick(&["", "MATERIALIZED ", "NOT MATERIALIZED "]);
            write!(sql, " AS {hint}({})", made.sql).unwrap();
            self.common.push((name, columns));
        }
        let made = self.query(around, depth);
        self.common.truncate(before);
        sql.push(' ');
        sql.push_str(&made.sql);
        Made {
            sql,
            columns: made.columns,
        }
    }

    /// Three columns that change places at every step.
    fn recursive(&mut self, name: &str, around: &Scope) -> Made {
        let first = self.items_of(&[("customers", "a")]);
        let scope = extended(around, first);
        let values = [self.text(&scope, 1), self.text(&scope, 1)];
        let union = self.random.pick(&["UNION", "UNION ALL"]);
        let order = self
            .random
            .pick(&["y, x", "x, y", "x, upper(y)", "y, r.x || y"]);
        let filter = if self.random.one_in(2) {
            " AND x <> ''"
        } else {
            ""
        };
        Made {
            sql: format!(
                "SELECT 1 AS step, {}::text AS x, {}::text AS y FROM customers a {union} SELECT step + 1, {order} FROM {name} r WHERE step < 3{filter}",
                values[0], values[1]
            ),
            columns: vec![column("step", Int), column("x", Text), column("y", Text)],
        }
    }

    fn query(&mut self, around: &Scope, depth: usize) -> Made {
        if depth > 0 && self.random.one_in(7) {
            return self.set_operation(around, depth);
        }
        if self.random.one_in(25) {
            let first = self.text(around, 1);
            let second = self.text(around, 1);
            return Made {
                sql: format!("VALUES (({first})::text, 1), (({second})::text, 2)"),
                columns: vec![column("column1", Text), column("column2", Int)],
            };
        }
        self.select(around, depth)
    }

    fn set_operation(&mut self, around: &Scope, depth: usize) -> Made {
        let count = 1 + self.random.below(3);
        let kinds: Vec<_> = (0..count)
            .map(|_| *self.random.pick(&[Text, Text, Int]))
            .collect();
        let left = self.select_of(around, depth - 1, &kinds);
        let right = self.select_of(around, depth - 1, &kinds);
        let operator = self.random.pick(&[
            "UNION",
            "UNION ALL",
            "UNION ALL",
            "INTERSECT",
            "EXCEPT",
            "EXCEPT ALL",
        ]);
        let mut sql = format!("({}) {operator} ({})", left.sql, right.sql);
        if self.random.one_in(4) {
            write!(sql, " ORDER BY {}", 1 + self.random.below(count)).unwrap();
        }
        Made {
            sql,
            columns: left.columns,
        }
    }

    fn select_of(&mut self, around: &Scope, depth: usize, kinds: &[Kind]) -> Made {
        let (from, items) = self.from(around, depth);
        let scope = extended(around, items);
        let mut sql = String::from("SELECT ");
        let mut columns = Vec::new();
        for (index, kind) in kinds.iter().enumerate() {
            if index > 0 {
                sql.push_str(", ");
            }
            let name = self.name("o");
            let value = self.value(*kind, &scope, 2);
            write!(sql, "{value} AS {name}").unwrap();
            columns.push(Column { name, kind: *kind });
        }
        write!(sql, " FROM {from}").unwrap();
        self.filter(&mut sql, "WHERE", &scope, depth);
        Made { sql, columns }
    }

    fn filter(&mut self, sql: &mut String, word: &str, scope: &Scope, depth: usize) {
        if self.random.one_in(2) {
            let condition = self.condition(scope, depth.min(2));
            write!(sql, " {word} {condition}").unwrap();
        }
    }

    fn select(&mut self, around: &Scope, depth: usize) -> Made {
        let (from, items) = self.from(around, depth);
        if self.random.one_in(5) {
            return self.grouped(around, depth, &from, items);
        }
        let mut sql = String::from("SELECT ");
        if self.random.one_in(10) {
            sql.push_str("DISTINCT ");
        }
        let mut columns = Vec::new();
        let scope = extended(around, items.clone());
        let count = 1 + self.random.below(4);
        for index in 0..count {
            if index > 0 {
                sql.push_str(", ");
            }
            self.target(&mut sql, &mut columns, &items, &scope, depth);
        }
        write!(sql, " FROM {from}").unwrap();
        self.filter(&mut sql, "WHERE", &scope, depth);
        if self.random.one_in(4) {
            let by = 1 + self.random.below(columns.len());
            write!(sql, " ORDER BY {by}").unwrap();
            if self.random.one_in(2) {
                write!(sql, " LIMIT {}", 1 + self.random.below(8)).unwrap();
            }
        }
        Made { sql, columns }
    }

    fn target(
        &mut self,
        sql: &mut String,
        columns: &mut Vec<Column>,
        items: &[Item],
        scope: &Scope,
        depth: usize,
    ) {
        match self.random.below(12) {
            0 if items.iter().all(|item| item.shows_columns) => {
                sql.push('*');
                columns.extend(items.iter().flat_map(|item| item.columns.clone()));
            }
            1 => {
                let item = self.random.pick(items).clone();
                let star = self
                    .random
                    .pick(&["%.*", "(%).*"])
                    .replace('%', &item.alias);
                sql.push_str(&star);
                columns.extend(item.columns);
            }
            2 => {
                let name = self.name("o");
                let window = self.window(scope);
                let (call, kind) = match self.random.below(4) {
                    0 => ("row_number()".to_owned(), Int),
                    1 => (format!("lag({})", self.text(scope, 1)), Text),
                    2 => (format!("sum({})", self.int(scope, 1)), Int),
                    _ => (format!("max({})", self.text(scope, 1)), Text),
                };
                let kind_name = if kind == Int { "int" } else { "text" };
                write!(sql, "({call} OVER ({window}))::{kind_name} AS {name}").unwrap();
                columns.push(Column { name, kind });
            }
            3 => {
                // Without a name of its own, where it has the name of its column.
                let kind = *self.random.pick(&[Text, Int]);
                if let Some((value, name)) = self.reference(kind, scope) {
                    sql.push_str(&value);
                    columns.push(Column { name, kind });
                } else {
                    let name = self.name("o");
                    write!(sql, "1 AS {name}").unwrap();
                    columns.push(Column { name, kind: Int });
                }
            }
            _ => {
                let kind = *self
                    .random
                    .pick(&[Text, Text, Text, Int, Bool, Texts, Json]);
                let name = self.name("o");
                let value = self.value(kind, scope, depth.min(3));
                write!(sql, "{value} AS {name}").unwrap();
                columns.push(Column { name, kind });
            }
        }
    }

    fn window(&mut self, scope: &Scope) -> String {
        let mut sql = String::new();
        if self.random.one_in(2) {
            write!(sql, "PARTITION BY {} ", self.text(scope, 1)).unwrap();
        }
        if self.random.one_in(2) {
            write!(sql, "ORDER BY {}", self.int(scope, 1)).unwrap();
        }
        sql
    }

    fn grouped(&mut self, around: &Scope, depth: usize, from: &str, items: Vec<Item>) -> Made {
        let scope = extended(around, items);
        let key = self.text(&scope, 1);
        let key_name = self.name("o");
        let mut sql = format!("SELECT {key} AS {key_name}");
        let mut columns = vec![column(&key_name, Text)];
        for _ in 0..=self.random.below(2) {
            let name = self.name("o");
            let text = self.text(&scope, 2);
            let int = self.int(&scope, 2);
            let by = self.int(&scope, 1);
            let (call, kind) = match self.random.below(7) {
                0 => (format!("max({text})"), Text),
                1 => (format!("count(DISTINCT {text})::int"), Int),
                2 => (
                    format!("string_agg({text}, ',' ORDER BY {by}, {text})"),
                    Text,
                ),
                3 => (format!("sum({int})::int"), Int),
                4 => (format!("array_agg({text} ORDER BY {by}, {text})"), Texts),
                5 => (format!("bool_or({})", self.condition(&scope, 1)), Bool),
                _ => ("count(*)::int".to_owned(), Int),
            };
            let filter = if self.random.one_in(4) && !call.ends_with("::int") {
                format!(" FILTER (WHERE {})", self.condition(&scope, 1))
            } else {
                String::new()
            };
            write!(sql, ", {call}{filter} AS {name}").unwrap();
            columns.push(Column { name, kind });
        }
        write!(sql, " FROM {from}").unwrap();
        self.filter(&mut sql, "WHERE", &scope, depth);
        let by = match self.random.below(3) {
            0 => "1".to_owned(),
            1 => key_name,
            _ => format!("GROUPING SETS ((1), ({key_name}))"),
        };
        write!(sql, " GROUP BY {by}").unwrap();
        if self.random.one_in(4) {
            let text = self.text(&scope, 1);
            write!(sql, " HAVING max({text}) > 'm'").unwrap();
        }
        Made { sql, columns }
    }

    /// A FROM clause, and what it brings.
    fn from(&mut self, around: &Scope, depth: usize) -> (String, Vec<Item>) {
        let mut sql = String::new();
        let mut items: Vec<Item> = Vec::new();
        for index in 0..=self.random.below(2) {
            if index > 0 {
                sql.push_str(", ");
            }
            let scope = extended(around, items.clone());
            let (text, new) = if depth > 0 && self.random.one_in(4) {
                self.join(&scope, depth)
            } else {
                let (text, item) = self.item(&scope, depth);
                (text, vec![item])
            };
            sql.push_str(&text);
            items.extend(new);
        }
        (sql, items)
    }

    fn join(&mut self, scope: &Scope, depth: usize) -> (String, Vec<Item>) {
        let (left_sql, left) = self.item(scope, depth - 1);
        let (right_sql, right) = self.item(scope, depth - 1);
        let both = vec![left.clone(), right.clone()];
        let has_id = |item: &Item| {
            item.columns
                .iter()
                .filter(|column| column.name == "id")
                .count()
                == 1
        };
        let hidden = |item: &Item| Item {
            shows_columns: false,
            ..item.clone()
        };
        let kind = self.random.pick(&["JOIN", "LEFT JOIN", "FULL JOIN"]);
        if has_id(&left) && has_id(&right) && self.random.one_in(2) {
            let alias = self.name("j");
            let mut columns = vec![column("id", Int)];
            for item in [&left, &right] {
                let rest = item.columns.iter().filter(|column| column.name != "id");
                columns.extend(rest.cloned());
            }
            let named = self.random.one_in(2);
            let joined = Item {
                alias: alias.clone(),
                columns,
                shows_columns: true,
            };
            if named {
                return (
                    format!("({left_sql} {kind} {right_sql} USING (id)) AS {alias}"),
                    vec![joined],
                );
            }
            return (
                format!("{left_sql} {kind} {right_sql} USING (id)"),
                vec![hidden(&left), hidden(&right)],
            );
        }
        let inner = vec![both.clone()];
        let condition = match *kind {
            // The server joins in full by what it can merge or hash.
            "FULL JOIN" => {
                let texts = [
                    self.text(&vec![vec![left.clone()]], 0),
                    self.text(&vec![vec![right.clone()]], 0),
                ];
                format!("{} = {}", texts[0], texts[1])
            }
            _ => self.condition(&inner, 1),
        };
        (
            format!("{left_sql} {kind} {right_sql} ON {condition}"),
            both,
        )
    }

    fn items_of(&mut self, names: &[(&str, &str)]) -> Vec<Item> {
        let items = names.iter().map(|(relation, alias)| {
            let (_, columns) = RELATIONS.iter().find(|(name, _)| name == relation).unwrap();
            Item {
                alias: (*alias).to_owned(),
                columns: columns
                    .iter()
                    .map(|(name, kind)| column(name, *kind))
                    .collect(),
                shows_columns: true,
            }
        });
        items.collect()
    }

    fn item(&mut self, scope: &Scope, depth: usize) -> (String, Item) {
        let alias = self.name("t");
        let plain = |columns| Item {
            alias: alias.clone(),
            columns,
            shows_columns: true,
        };
        match self.random.below(12) {
            0 | 1 if depth > 0 => {
                let lateral = self.random.one_in(2);
                let outer = scope[..scope.len() - 1].to_vec();
                let made = self.with_query(if lateral { scope } else { &outer }, depth - 1);
                let word = if lateral { "LATERAL " } else { "" };
                let mut columns = made.columns;
                let mut names = String::new();
                if self.random.one_in(3) {
                    for column in &mut columns {
                        column.name = self.name("k");
                    }
                    let list: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
                    names = format!("({})", list.join(", "));
                }
                (
                    format!("{word}({}) AS {alias}{names}", made.sql),
                    plain(columns),
                )
            }
            2 => self.function_item(scope, &alias),
            3 if !self.common.is_empty() => {
                let (name, columns) = self.random.pick(&self.common.clone()).clone();
                (format!("{name} AS {alias}"), plain(columns))
            }
            4 => {
                let first = self.text(&vec![Vec::new()], 0);
                (
                    format!("(VALUES (1, {first}), (2, 'b')) AS {alias}(id, v)"),
                    plain(vec![column("id", Int), column("v", Text)]),
                )
            }
            _ => {
                let (name, columns) = self.random.pick(RELATIONS);
                let mut columns: Vec<_> = columns
                    .iter()
                    .map(|(name, kind)| column(name, *kind))
                    .collect();
                let only = if self.random.one_in(15) { "ONLY " } else { "" };
                let mut names = String::new();
                if self.random.one_in(8) {
                    let new = self.name("k");
                    columns[0].name.clone_from(&new);
                    names = format!("({new})");
                }
                (format!("{only}{name} AS {alias}{names}"), plain(columns))
            }
        }
    }

    fn function_item(&mut self, scope: &Scope, alias: &str) -> (String, Item) {
        let item = |columns| Item {
            alias: alias.to_owned(),
            columns,
            shows_columns: true,
        };
        match self.random.below(6) {
            0 => {
                let texts = self.value(Texts, scope, 1);
                (
                    format!("unnest({texts}) WITH ORDINALITY AS {alias}(x, n)"),
                    item(vec![column("x", Text), column("n", Int)]),
                )
            }
            1 => {
                let json = self.value(Json, scope, 1);
                (
                    format!("json_each_text(json_build_object('a', {json})) AS {alias}"),
                    item(vec![column("key", Text), column("value", Text)]),
                )
            }
            2 => {
                let text = self.text(scope, 1);
                (
                    format!("regexp_split_to_table({text}, 'a') AS {alias}"),
                    item(vec![column(alias, Text)]),
                )
            }
            3 => {
                let int = self.int(scope, 1);
                (
                    format!("generate_series(1, ({int}) % 4) AS {alias}(g)"),
                    item(vec![column("g", Int)]),
                )
            }
            4 => {
                let text = self.text(scope, 1);
                (
                    format!(
                        "json_to_record(json_build_object('a', {text})) AS {alias}(a text, b int)"
                    ),
                    item(vec![column("a", Text), column("b", Int)]),
                )
            }
            _ => {
                let (text, int) = (self.text(scope, 1), self.int(scope, 1));
                (
                    format!(
                        "ROWS FROM (unnest(ARRAY[{text}]), generate_series(1, ({int}) % 3)) AS {alias}(x, g)"
                    ),
                    item(vec![column("x", Text), column("g", Int)]),
                )
            }
        }
    }

    fn value(&mut self, kind: Kind, scope: &Scope, depth: usize) -> String {
        match kind {
            Text => self.text(scope, depth),
            Int => self.int(scope, depth),
            Bool => self.condition(scope, depth),
            Texts => self.texts(scope, depth),
            Json => self.json(scope, depth),
            Address => "ROW('s', 'c')::address".to_owned(),
        }
    }

    /// A column of a kind that is in sight, and its name; often of the innermost level.
    fn reference(&mut self, kind: Kind, scope: &Scope) -> Option<(String, String)> {
        let innermost = !self.random.one_in(4);
        let levels: Vec<&Vec<Item>> = if innermost {
            scope
                .iter()
                .rev()
                .filter(|level| !level.is_empty())
                .take(1)
                .collect()
        } else {
            scope.iter().collect()
        };
        let mut found = Vec::new();
        for level in levels {
            for item in level {
                for column in item.columns.iter().filter(|column| column.kind == kind) {
                    let same = |other: &&Item| {
                        let mut names = other.columns.iter().map(|column| &column.name);
                        names.any(|name| *name == column.name)
                    };
                    let is_only = scope.iter().flatten().filter(same).count() == 1
                        && item
                            .columns
                            .iter()
                            .filter(|other| other.name == column.name)
                            .count()
                            == 1;
                    found.push((item.alias.clone(), column.name.clone(), is_only));
                }
            }
        }
        if found.is_empty() {
            return None;
        }
        let (alias, name, is_only) = self.random.pick(&found).clone();
        let written = match self.random.below(8) {
            0..=2 if is_only => name.clone(),
            3 => format!("({alias}).{name}"),
            4 => format!("({alias}.*).{name}"),
            _ => format!("{alias}.{name}"),
        };
        Some((written, name))
    }

    fn text(&mut self, scope: &Scope, depth: usize) -> String {
        if depth == 0 || self.random.one_in(3) {
            if self.random.one_in(12) {
                return "'lit'".to_owned();
            }
            if let Some((value, _)) = self.reference(Text, scope) {
                return value;
            }
            return "'none'".to_owned();
        }
        let depth = depth - 1;
        match self.random.below(28) {
            0 => format!("upper({})", self.text(scope, depth)),
            1 => format!(
                "({} || {})",
                self.text(scope, depth),
                self.text(scope, depth)
            ),
            2 => format!("substr({}, 2)", self.text(scope, depth)),
            3 => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.condition(scope, depth),
                self.text(scope, depth),
                self.text(scope, depth)
            ),
            4 => format!(
                "coalesce({}, {})",
                self.text(scope, depth),
                self.text(scope, depth)
            ),
            5 => format!(
                "nullif({}, {})",
                self.text(scope, depth),
                self.text(scope, depth)
            ),
            6 => format!("md5({})", self.text(scope, depth)),
            7 => format!(
                "format('%s-%s', {}, {})",
                self.text(scope, depth),
                self.int(scope, depth)
            ),
            8 => format!("({})[1]", self.texts(scope, depth)),
            9 => format!("array_to_string({}, ',')", self.texts(scope, depth)),
            10 => format!("({} COLLATE \"C\")", self.text(scope, depth)),
            11 => format!(
                "(ROW({}, {})).f1",
                self.text(scope, depth),
                self.int(scope, depth)
            ),
            12 => format!("({})::text", self.json(scope, depth)),
            13 => format!("({})::text", self.int(scope, depth)),
            14 => format!(
                "greatest({}, {})",
                self.text(scope, depth),
                self.text(scope, depth)
            ),
            15..=17 => {
                let made = self.select_of(scope, depth, &[Text]);
                format!("({} LIMIT 1)", made.sql)
            }
            18 => {
                let made = self.select_of(scope, depth, &[Text]);
                let name = self.name("q");
                format!(
                    "(SELECT max({0}.{1}) FROM ({2}) {0})",
                    name, made.columns[0].name, made.sql
                )
            }
            19 => self
                .row(scope)
                .map_or_else(|| "'r'".to_owned(), |row| format!("({row})::text")),
            20 => match self.reference(Address, scope) {
                Some((value, _)) => format!("({value}).street"),
                None => "'s'".to_owned(),
            },
            21 => format!(
                "CASE {} WHEN 1 THEN {} END",
                self.int(scope, depth),
                self.text(scope, depth)
            ),
            22 => self.projected(scope),
            23 => format!("(xmlelement(name x, {}))::text", self.text(scope, depth)),
            24 => format!("trim(both 'q' from {})", self.text(scope, depth)),
            25 => self.of_array(scope),
            26 => format!("({})::varchar(3)", self.text(scope, depth)),
            _ => format!(
                "concat({}, {})",
                self.text(scope, depth),
                self.condition(scope, depth)
            ),
        }
    }

    /// `column(row)`.
    fn projected(&mut self, scope: &Scope) -> String {
        let items: Vec<_> = scope.iter().flatten().cloned().collect();
        let mut found = Vec::new();
        for item in items {
            for column in item.columns {
                let is_function =
                    ["name", "left", "right", "tail", "value"].contains(&&*column.name);
                if column.kind == Text && !is_function && item.shows_columns {
                    found.push(format!("{}({})", column.name, item.alias));
                }
            }
        }
        if found.is_empty() {
            return "'p'".to_owned();
        }
        self.random.pick(&found).clone()
    }

    /// A field of an element of an array of rows.
    fn of_array(&mut self, scope: &Scope) -> String {
        let alias = self.name("t");
        let _ = scope;
        format!("((SELECT array_agg({alias} ORDER BY {alias}.id) FROM customers {alias}))[2].card")
    }

    fn row(&mut self, scope: &Scope) -> Option<String> {
        let items: Vec<_> = scope
            .last()?
            .iter()
            .map(|item| item.alias.clone())
            .collect();
        (!items.is_empty()).then(|| self.random.pick(&items).clone())
    }

    fn int(&mut self, scope: &Scope, depth: usize) -> String {
        if depth == 0 || self.random.one_in(3) {
            if let Some((value, _)) = self.reference(Int, scope) {
                return value;
            }
            return "3".to_owned();
        }
        let depth = depth - 1;
        match self.random.below(8) {
            0 | 1 => format!("length({})", self.text(scope, depth)),
            2 => format!("({} + {})", self.int(scope, depth), self.int(scope, depth)),
            3 => format!("({} % 7)", self.int(scope, depth)),
            4 => {
                let made = self.select_of(scope, depth, &[Text]);
                format!(
                    "(SELECT count(*)::int FROM ({}) {})",
                    made.sql,
                    self.name("q")
                )
            }
            5 => format!("coalesce({}, 0)", self.int(scope, depth)),
            6 => format!("array_length({}, 1)", self.texts(scope, depth)),
            _ => format!(
                "CASE WHEN {} THEN 1 ELSE {} END",
                self.condition(scope, depth),
                self.int(scope, depth)
            ),
        }
    }

    fn condition(&mut self, scope: &Scope, depth: usize) -> String {
        let depth = depth.saturating_sub(1);
        match self.random.below(14) {
            0 | 1 => format!("{} = {}", self.text(scope, depth), self.text(scope, depth)),
            2 => format!("{} LIKE '%a%'", self.text(scope, depth)),
            3 | 4 => format!("{} < {}", self.int(scope, depth), self.int(scope, depth)),
            5 => format!("{} IS NOT NULL", self.text(scope, depth)),
            6 if depth > 0 => {
                let made = self.select_of(scope, depth, &[Text]);
                format!("EXISTS ({})", made.sql)
            }
            7 if depth > 0 => {
                let made = self.select_of(scope, depth, &[Text]);
                format!("{} IN ({})", self.text(scope, depth), made.sql)
            }
            8 if depth > 0 => {
                let made = self.select_of(scope, depth, &[Int]);
                format!("{} >= ANY ({})", self.int(scope, depth), made.sql)
            }
            9 if depth > 0 => format!(
                "({} AND {})",
                self.condition(scope, depth),
                self.condition(scope, depth)
            ),
            10 => format!("NOT ({} > 5)", self.int(scope, depth)),
            11 => format!(
                "{} = ANY ({})",
                self.text(scope, depth),
                self.texts(scope, depth)
            ),
            12 => format!(
                "{} BETWEEN 1 AND {}",
                self.int(scope, depth),
                self.int(scope, depth)
            ),
            _ => format!("{} > 2", self.int(scope, depth)),
        }
    }

    fn texts(&mut self, scope: &Scope, depth: usize) -> String {
        if self.random.one_in(2)
            && let Some((value, _)) = self.reference(Texts, scope)
        {
            return value;
        }
        let depth = depth.saturating_sub(1);
        match self.random.below(4) {
            0 => format!("string_to_array({}, 'a')", self.text(scope, depth)),
            1 if depth > 0 => {
                let made = self.select_of(scope, depth, &[Text]);
                format!("ARRAY({})", made.sql)
            }
            _ => format!(
                "ARRAY[{}, {}]",
                self.text(scope, depth),
                self.text(scope, depth)
            ),
        }
    }

    fn json(&mut self, scope: &Scope, depth: usize) -> String {
        let depth = depth.saturating_sub(1);
        match self.random.below(4) {
            0 => match self.row(scope) {
                Some(row) => format!("row_to_json({row})"),
                None => "'{}'::json".to_owned(),
            },
            1 => format!("to_json({})", self.text(scope, depth)),
            2 => {
                let alias = self.name("q");
                let made = self.select_of(scope, depth, &[Text, Int]);
                format!("(SELECT json_agg({alias}) FROM ({}) {alias})", made.sql)
            }
            _ => format!("json_build_object('k', {})", self.text(scope, depth)),
        }
    }

    fn returning(&mut self, items: &[Item]) -> String {
        let scope = vec![items.to_vec()];
        let mut sql = String::from(" RETURNING ");
        if self.random.one_in(4) {
            let alias = self.random.pick(items).alias.clone();
            return format!("{sql}{alias}.*");
        }
        for index in 0..=self.random.below(2) {
            if index > 0 {
                sql.push_str(", ");
            }
            let value = self.text(&scope, 1);
            write!(sql, "{value} AS {}", self.name("o")).unwrap();
        }
        sql
    }

    fn insert(&mut self) -> String {
        let made = self.select_of(&Vec::new(), 2, &[Int, Text]);
        let (table, name) = *self
            .random
            .pick(&[("audit", "what"), ("events", "payload")]);
        let items = self.items_of(&[(table, table)]);
        let returning = self.returning(&items);
        format!("INSERT INTO {table} (id, {name}) {}{returning}", made.sql)
    }

    fn update(&mut self) -> String {
        let (table, name) = *self.random.pick(CHANGED);
        let mut items = self.items_of(&[(table, "u")]);
        let mut from = String::new();
        if self.random.one_in(2) {
            let (text, item) = self.item(&vec![Vec::new()], 1);
            from = format!(" FROM {text}");
            items.push(item);
        }
        let scope = vec![items.clone()];
        // A value that may not be unique is refused in a column that must be.
        let value = match name {
            "card" => format!("u.card || {}", self.text(&scope, 1)),
            _ => self.text(&scope, 2),
        };
        let mut sql = if self.random.one_in(4) && table == "customers" && name == "name" {
            let made = self.select_of(&scope, 1, &[Text, Text]);
            format!(
                "UPDATE {table} u SET (name, email) = ({} LIMIT 1){from}",
                made.sql
            )
        } else {
            format!("UPDATE {table} u SET {name} = {value}{from}")
        };
        self.filter(&mut sql, "WHERE", &scope, 2);
        sql + &self.returning(&items)
    }

    fn delete(&mut self) -> String {
        let (table, _) = *self.random.pick(&CHANGED[2..]);
        let mut items = self.items_of(&[(table, "d")]);
        let mut using = String::new();
        if self.random.one_in(2) {
            let (text, item) = self.item(&vec![Vec::new()], 1);
            using = format!(" USING {text}");
            items.push(item);
        }
        let scope = vec![items.clone()];
        let mut sql = format!("DELETE FROM {table} d{using}");
        self.filter(&mut sql, "WHERE", &scope, 2);
        sql + &self.returning(&items)
    }

    /// Without RETURNING, which is of PostgreSQL 17.
    fn merge(&mut self) -> String {
        let (source, item) = self.item(&vec![Vec::new()], 1);
        let target = self.items_of(&[("audit", "m")]).remove(0);
        let both = vec![vec![target, item.clone()]];
        let only = vec![vec![item]];
        let condition = format!("m.id = {}", self.int(&only, 0));
        format!(
            "MERGE INTO audit m USING {source} ON {condition} WHEN MATCHED AND {} THEN DELETE WHEN MATCHED THEN UPDATE SET what = {} WHEN NOT MATCHED THEN INSERT (id, what) VALUES ({}, {})",
            self.condition(&both, 1),
            self.text(&both, 1),
            self.int(&only, 0),
            self.text(&only, 1)
        )
    }

    fn changing_common_table(&mut self) -> String {
        let change = match self.random.below(3) {
            0 => self.insert(),
            1 => self.update(),
            _ => self.delete(),
        };
        // What it returns has a name of the change's own; its columns are taken as they come.
        let more = self.with_query(&Vec::new(), 1);
        let name = self.name("c");
        match self.random.below(2) {
            0 => format!("WITH {name} AS ({change}) SELECT * FROM {name}"),
            _ => format!("WITH {name} AS ({change}) {}", more.sql),
        }
    }
}

fn column(name: &str, kind: Kind) -> Column {
    Column {
        name: name.to_owned(),
        kind,
    }
}

fn extended(around: &Scope, items: Vec<Item>) -> Scope {
    let mut scope = around.clone();
    scope.push(items);
    scope
}
