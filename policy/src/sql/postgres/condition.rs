//! Whether a condition limits the rows that a statement changes.
//!
//! A condition that holds for every row, or for none, is no condition. That cannot be decided in
//! general; what is known to limit is listed instead, and the rest does not: a comparison of a
//! column of the statement's table with something that does not depend on the same column, and what
//! is put together from such. So that an OR of what limits is no way round, its arms are looked at
//! together: arms that would cover every value if only their constants were chosen well do not limit,
//! whatever the constants are.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum, NodeRef};

use super::walker::{DEPTH_MAX, name_of, string_of};
use crate::sql::children::{append_children, node_ref};
use crate::sql::nodes;

/// What the arms of an OR say of one expression.
type Said = u8;

const EQUAL: Said = 1;
const UNEQUAL: Said = 1 << 1;
/// More than one arm says unequal.
const UNEQUAL_AGAIN: Said = 1 << 2;
const BELOW: Said = 1 << 3;
const ABOVE: Said = 1 << 4;
const NULL: Said = 1 << 5;
const NOT_NULL: Said = 1 << 6;
/// Together with [`UNEQUAL_AGAIN`] for what has no order: a condition as a whole, and its denial.
const ORDERLESS: Said = 1 << 7;

/// The arms of a condition that limits, by the expression that each is about.
type Arms = BTreeMap<String, Said>;

/// Aggregates that give one row for no rows.
const AGGREGATES: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
    "every",
    "json_agg",
    "jsonb_agg",
    "any_value",
];

/// The rows that a statement goes through: those of its table, joined with others.
///
/// Scope: one statement, or a subquery of its condition.
pub(super) struct Rows<'a> {
    relation: Option<&'a p::RangeVar>,
    /// Names of what is joined, and whether it has all rows of the table itself.
    others: HashMap<&'a str, bool>,
    common_tables: HashMap<&'a str, &'a Node>,
    /// A column without a table before it may be the table's: not in a subquery with a FROM.
    takes_unqualified: bool,
    looked_at_literal: Cell<bool>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        relation: Option<&'a p::RangeVar>,
        joined: impl IntoIterator<Item = &'a Node>,
        with: Option<&'a p::WithClause>,
    ) -> Self {
        let definitions = with.into_iter().flat_map(|with| &with.ctes);
        let common_tables = definitions.filter_map(|definition| match &definition.node {
            Some(NodeEnum::CommonTableExpr(table)) => {
                Some((table.ctename.as_str(), table.ctequery.as_deref()?))
            }
            _ => None,
        });
        let mut rows = Self {
            relation,
            others: HashMap::new(),
            common_tables: common_tables.collect(),
            takes_unqualified: true,
            looked_at_literal: Cell::new(false),
        };
        rows.others = rows.names_of(joined);
        rows
    }

    pub(super) fn are_limited_by(&self, condition: Option<&Node>) -> bool {
        condition.is_some_and(|condition| self.arms(condition, false).is_some())
    }

    /// Another literal might have given another answer.
    pub(super) fn looked_at_literal(&self) -> bool {
        self.looked_at_literal.get()
    }

    /// What is named in a FROM, joins included.
    fn names_of(&self, from: impl IntoIterator<Item = &'a Node>) -> HashMap<&'a str, bool> {
        let mut names = HashMap::new();
        let mut pending: Vec<&Node> = from.into_iter().collect();
        while let Some(node) = pending.pop() {
            let alias = match &node.node {
                Some(NodeEnum::JoinExpr(join)) => {
                    pending.extend(join.larg.as_deref());
                    pending.extend(join.rarg.as_deref());
                    join.alias.as_ref()
                }
                Some(NodeEnum::RangeVar(relation)) if relation.alias.is_none() => {
                    names.insert(relation.relname.as_str(), self.has_all(node));
                    None
                }
                Some(NodeEnum::RangeVar(relation)) => relation.alias.as_ref(),
                Some(NodeEnum::RangeSubselect(subselect)) => subselect.alias.as_ref(),
                Some(NodeEnum::RangeFunction(function)) => function.alias.as_ref(),
                Some(NodeEnum::RangeTableFunc(function)) => function.alias.as_ref(),
                Some(NodeEnum::RangeTableSample(sample)) => {
                    pending.extend(sample.relation.as_deref());
                    None
                }
                _ => None,
            };
            if let Some(alias) = alias {
                names.insert(alias.aliasname.as_str(), self.has_all(node));
            }
        }
        names
    }

    /// Whether an item of a FROM has every row of the table itself, as far as the text shows.
    fn has_all(&self, item: &Node) -> bool {
        let mut item = item;
        // Each turn goes into a subquery or takes one definition.
        for _ in 0..=self.common_tables.len() + DEPTH_MAX as usize {
            let query = match &item.node {
                Some(NodeEnum::RangeVar(relation)) => {
                    let definition = self.common_tables.get(relation.relname.as_str());
                    match definition.filter(|_| relation.schemaname.is_empty()) {
                        Some(definition) => definition,
                        None => return self.is_relation(relation),
                    }
                }
                Some(NodeEnum::RangeSubselect(subselect)) => match subselect.subquery.as_deref() {
                    Some(query) => query,
                    None => return false,
                },
                _ => return false,
            };
            let Some(NodeEnum::SelectStmt(select)) = &query.node else {
                return false;
            };
            match self.only_source(select) {
                Source::Item(source) => item = source,
                Source::All => return true,
                Source::Else => return false,
            }
        }
        false
    }

    /// Where all rows of a query come from, if it leaves none of them out.
    fn only_source<'n>(&self, select: &'n p::SelectStmt) -> Source<'n> {
        if let (Some(left), Some(right)) = (&select.larg, &select.rarg) {
            let arms = [left, right];
            let of_union = select.op() == p::SetOperation::SetopUnion;
            let any = arms.iter().any(|arm| match self.only_source(arm) {
                Source::Item(source) => self.has_all(source),
                Source::All => true,
                Source::Else => false,
            });
            return if of_union && any {
                Source::All
            } else {
                Source::Else
            };
        }
        let [source] = select.from_clause.as_slice() else {
            return Source::Else;
        };
        let leaves_out = select.limit_count.is_some()
            || select.limit_offset.is_some()
            || select.having_clause.is_some();
        let inner = match &source.node {
            Some(NodeEnum::RangeVar(relation)) => Rows::new(Some(relation), [], None),
            _ => Rows::new(None, [], None),
        };
        let is_limited = inner.are_limited_by(select.where_clause.as_deref());
        self.looked_at_literal
            .set(self.looked_at_literal() || inner.looked_at_literal());
        if leaves_out || is_limited {
            Source::Else
        } else {
            Source::Item(source)
        }
    }

    fn is_relation(&self, relation: &p::RangeVar) -> bool {
        self.relation
            .is_some_and(|target| target.relname == relation.relname)
    }

    /// The name that the table goes by.
    fn name(&self) -> Option<&str> {
        let relation = self.relation?;
        let alias = relation.alias.as_ref();
        Some(alias.map_or(relation.relname.as_str(), |alias| &alias.aliasname))
    }

    /// The arms of a condition; `None` where it may hold for all rows or none.
    fn arms(&self, condition: &Node, negated: bool) -> Option<Arms> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever else depends on a row is a condition as a whole"
        )]
        match condition.node.as_ref()? {
            NodeEnum::BoolExpr(expression) => match (expression.boolop(), negated) {
                (p::BoolExprType::NotExpr, _) => self.arms(expression.args.first()?, !negated),
                (p::BoolExprType::AndExpr, false) | (p::BoolExprType::OrExpr, true) => {
                    let arms = expression.args.iter();
                    arms.filter_map(|arm| self.arms(arm, negated))
                        .min_by_key(width)
                }
                (p::BoolExprType::OrExpr, false) | (p::BoolExprType::AndExpr, true) => {
                    let mut all = Arms::new();
                    for arm in &expression.args {
                        for (about, said) in self.arms(arm, negated)? {
                            let before = all.entry(about).or_insert(0);
                            if *before & said & UNEQUAL != 0 {
                                *before |= UNEQUAL_AGAIN;
                            }
                            *before |= said;
                        }
                    }
                    let is_whole = all.values().any(|said| covers(*said));
                    (!is_whole).then_some(all)
                }
                (p::BoolExprType::Undefined, _) => None,
            },
            NodeEnum::BooleanTest(test) => {
                let arg = test.arg.as_deref()?;
                match test.booltesttype() {
                    p::BoolTestType::IsTrue | p::BoolTestType::IsNotFalse => {
                        self.arms(arg, negated)
                    }
                    p::BoolTestType::IsFalse | p::BoolTestType::IsNotTrue => {
                        self.arms(arg, !negated)
                    }
                    p::BoolTestType::IsUnknown => self.null_test(arg, !negated),
                    p::BoolTestType::IsNotUnknown => self.null_test(arg, negated),
                    p::BoolTestType::Undefined => None,
                }
            }
            NodeEnum::NullTest(test) => {
                let is_null = test.nulltesttype() == p::NullTestType::IsNull;
                self.null_test(test.arg.as_deref()?, is_null != negated)
            }
            NodeEnum::TypeCast(cast) => self.arms(cast.arg.as_deref()?, negated),
            NodeEnum::CollateClause(clause) => self.arms(clause.arg.as_deref()?, negated),
            NodeEnum::CoalesceExpr(coalesce) => self.arms(coalesce.args.first()?, negated),
            NodeEnum::CaseExpr(case) => self.case(condition, case, negated),
            NodeEnum::AExpr(expression) => self.comparison(condition, expression, negated),
            NodeEnum::SubLink(link) => self.subquery(condition, link, negated),
            _ => self.as_a_whole(condition, negated),
        }
    }

    fn as_a_whole(&self, condition: &Node, negated: bool) -> Option<Arms> {
        self.varies(condition)
            .then(|| whole(key(condition), negated))
    }

    fn null_test(&self, arg: &Node, is_null: bool) -> Option<Arms> {
        let said = if is_null { NULL } else { NOT_NULL };
        self.varies(arg).then(|| Arms::from([(key(arg), said)]))
    }

    /// Its conditions must limit, and not every outcome be the same.
    fn case(&self, condition: &Node, case: &p::CaseExpr, negated: bool) -> Option<Arms> {
        let whens = case.args.iter().map(|when| match &when.node {
            Some(NodeEnum::CaseWhen(when)) => Some(when),
            _ => None,
        });
        let whens: Vec<_> = whens.collect::<Option<_>>()?;
        let chooses = whens.iter().all(|when| {
            let compared = case.arg.as_deref().is_some_and(|arg| self.varies(arg));
            let expression = when.expr.as_deref();
            compared || expression.is_some_and(|expression| self.arms(expression, false).is_some())
        });
        let results = whens.iter().map(|when| when.result.as_deref());
        let outcomes = results.chain([case.defresult.as_deref()]);
        let holds = |outcome: Option<&Node>| outcome.and_then(boolean) == Some(!negated);
        let differs = outcomes.into_iter().any(|outcome| !holds(outcome));
        (chooses && differs).then(|| whole(key(condition), negated))
    }

    fn comparison(&self, condition: &Node, expression: &p::AExpr, negated: bool) -> Option<Arms> {
        use p::AExprKind as Kind;
        let operator = match expression.name.as_slice() {
            [name] => string_of(name)?,
            [_, name] => string_of(name)?,
            _ => "",
        };
        let (Some(left), Some(right)) = (expression.lexpr.as_deref(), expression.rexpr.as_deref())
        else {
            return self.as_a_whole(condition, negated);
        };
        let equality = match operator {
            "=" => Some(false),
            "<>" | "!=" => Some(true),
            _ => None,
        };
        if let (Kind::AexprOp, Some(denied)) = (expression.kind(), equality) {
            for (side, other) in [(left, right), (right, left)] {
                if let Some(value) = boolean(other) {
                    return self.arms(side, negated ^ denied ^ !value);
                }
            }
        }
        let (left_varies, right_varies) = (self.varies(left), self.varies(right));
        if !left_varies && !right_varies {
            return None;
        }
        let mut said = match expression.kind() {
            Kind::AexprIn | Kind::AexprOp | Kind::AexprOpAny | Kind::AexprOpAll => match operator {
                "=" => EQUAL,
                "<>" | "!=" | "!~" | "!~*" => UNEQUAL,
                "<" | "<=" => BELOW,
                ">" | ">=" => ABOVE,
                _ => EQUAL | ORDERLESS,
            },
            Kind::AexprLike | Kind::AexprIlike | Kind::AexprSimilar => {
                if operator.starts_with('!') {
                    UNEQUAL
                } else {
                    EQUAL
                }
            }
            Kind::AexprNotDistinct | Kind::AexprBetween | Kind::AexprBetweenSym => EQUAL,
            Kind::AexprDistinct | Kind::AexprNotBetween | Kind::AexprNotBetweenSym => UNEQUAL,
            Kind::AexprNullif | Kind::Undefined => return self.as_a_whole(condition, negated),
        };
        if negated {
            said = denied(said);
        }
        // Unequal to one of several is equal to none of them alone.
        let of_several = (expression.kind() == Kind::AexprOpAny && !negated)
            || (expression.kind() == Kind::AexprOpAll && negated);
        if of_several && said & UNEQUAL != 0 {
            return None;
        }
        if self.share_a_column(left, right)
            && !(said == UNEQUAL && !computes(left) && !computes(right))
        {
            return None;
        }
        if said & EQUAL != 0 && self.matches_all(expression.kind(), operator, right) {
            return None;
        }
        let about = match (left_varies, right_varies) {
            (true, false) => key(left),
            (false, true) => {
                said = mirrored(said);
                key(right)
            }
            _ => {
                let (left, right) = (key(left), key(right));
                if left <= right {
                    format!("{left} {right}")
                } else {
                    said = mirrored(said);
                    format!("{right} {left}")
                }
            }
        };
        Some(Arms::from([(about, said & !ORDERLESS)]))
    }

    /// A pattern that every text fits.
    fn matches_all(&self, kind: p::AExprKind, operator: &str, pattern: &Node) -> bool {
        let is_like = matches!(
            kind,
            p::AExprKind::AexprLike | p::AExprKind::AexprIlike | p::AExprKind::AexprSimilar
        ) || matches!(operator, "~~" | "~~*" | "^@");
        let is_regex = matches!(operator, "~" | "~*" | "!~" | "!~*");
        let wild = match (is_like, is_regex) {
            (true, _) => "%",
            (false, true) => ".*^$()|?[]\\sS+",
            (false, false) => return false,
        };
        let mut pending = vec![pattern];
        while let Some(node) = pending.pop() {
            match &node.node {
                Some(NodeEnum::AConst(constant)) => {
                    self.looked_at_literal.set(true);
                    return match &constant.val {
                        Some(p::a_const::Val::Sval(text)) => {
                            text.sval.chars().all(|c| wild.contains(c))
                        }
                        _ => false,
                    };
                }
                Some(NodeEnum::TypeCast(cast)) => pending.extend(cast.arg.as_deref()),
                // SIMILAR TO, and LIKE with ESCAPE.
                Some(NodeEnum::FuncCall(call)) => pending.extend(call.args.first()),
                _ => return false,
            }
        }
        false
    }

    fn subquery(&self, condition: &Node, link: &p::SubLink, negated: bool) -> Option<Arms> {
        let query = link.subselect.as_deref()?;
        let Some(NodeEnum::SelectStmt(select)) = &query.node else {
            return None;
        };
        let test = link.testexpr.as_deref();
        match link.sub_link_type() {
            p::SubLinkType::ExistsSublink => self
                .is_related(select, negated)
                .then(|| whole(key(condition), negated)),
            p::SubLinkType::AnySublink | p::SubLinkType::AllSublink => {
                let test = test.filter(|test| self.varies(test))?;
                let operator = link.oper_name.last().map_or(Some("="), string_of)?;
                let is_any = link.sub_link_type() == p::SubLinkType::AnySublink;
                let mut said = match operator {
                    "=" => EQUAL,
                    "<>" | "!=" => UNEQUAL,
                    "<" | "<=" => BELOW,
                    ">" | ">=" => ABOVE,
                    _ => EQUAL,
                };
                if negated {
                    said = denied(said);
                }
                // Unequal to one of several is equal to none of them alone.
                if is_any != negated {
                    let from_itself = self.only_source_is_itself(select)
                        || select.from_clause.is_empty() && self.share_a_column(test, query)
                        || self.mentions_itself(query);
                    if said & UNEQUAL != 0 || from_itself {
                        return None;
                    }
                } else if !may_have_rows(select) {
                    return None;
                }
                Some(Arms::from([(key(test), said)]))
            }
            p::SubLinkType::Undefined
            | p::SubLinkType::RowcompareSublink
            | p::SubLinkType::ExprSublink
            | p::SubLinkType::MultiexprSublink
            | p::SubLinkType::ArraySublink
            | p::SubLinkType::CteSublink => self.as_a_whole(condition, negated),
        }
    }

    fn only_source_is_itself(&self, select: &p::SelectStmt) -> bool {
        match self.only_source(select) {
            Source::Item(source) => self.has_all(source),
            Source::All => true,
            Source::Else => false,
        }
    }

    /// Whether EXISTS of the query depends on the row outside.
    fn is_related(&self, select: &p::SelectStmt, negated: bool) -> bool {
        if let (Some(left), Some(right)) = (&select.larg, &select.rarg) {
            return self.is_related(left, negated) && self.is_related(right, negated);
        }
        let sums_up = select.group_clause.is_empty()
            && select.target_list.iter().any(|column| {
                node_ref(column).is_some_and(|column| any_node(column, &is_aggregate))
            });
        if sums_up {
            return false;
        }
        let inside = Rows {
            relation: self.relation,
            others: self.names_of(&select.from_clause),
            common_tables: HashMap::new(),
            takes_unqualified: self.takes_unqualified && select.from_clause.is_empty(),
            looked_at_literal: Cell::new(false),
        };
        let mut conditions: Vec<&Node> = select.where_clause.as_deref().into_iter().collect();
        let mut pending: Vec<&Node> = select.from_clause.iter().collect();
        while let Some(item) = pending.pop() {
            if let Some(NodeEnum::JoinExpr(join)) = &item.node {
                conditions.extend(join.quals.as_deref());
                pending.extend(join.larg.as_deref());
                pending.extend(join.rarg.as_deref());
            }
        }
        let is_related = |condition: &&Node| inside.arms(condition, negated).is_some();
        let related = if negated {
            !conditions.is_empty() && conditions.iter().all(is_related)
        } else {
            conditions.iter().any(is_related)
        };
        self.looked_at_literal
            .set(self.looked_at_literal() || inside.looked_at_literal());
        related
    }

    /// Whether a value depends on the row.
    fn varies(&self, value: &Node) -> bool {
        node_ref(value).is_some_and(|value| self.depends(value))
    }

    fn depends(&self, value: NodeRef<'_>) -> bool {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "any other expression depends on what its parts depend on"
        )]
        match value {
            NodeRef::ColumnRef(column) => self.is_own(column),
            NodeRef::CurrentOfExpr(_) => true,
            NodeRef::SubLink(link) => {
                let test = link.testexpr.as_deref();
                let query = link.subselect.as_deref();
                test.is_some_and(|test| self.varies(test))
                    || query.is_some_and(|query| match &query.node {
                        Some(NodeEnum::SelectStmt(select)) if select.from_clause.is_empty() => {
                            self.has_part_that_depends(select.to_ref())
                        }
                        _ => self.mentions_itself(query),
                    })
            }
            NodeRef::CoalesceExpr(coalesce) => {
                coalesce.args.first().is_some_and(|arg| self.varies(arg))
            }
            NodeRef::AExpr(expression) => {
                !self.is_constant(expression) && self.has_part_that_depends(value)
            }
            _ => self.has_part_that_depends(value),
        }
    }

    fn has_part_that_depends(&self, value: NodeRef<'_>) -> bool {
        let mut parts = Vec::new();
        append_children(value, &mut parts);
        parts.into_iter().any(|part| self.depends(part))
    }

    /// Arithmetic whose result is the same for every row.
    fn is_constant(&self, expression: &p::AExpr) -> bool {
        let operator = expression
            .name
            .last()
            .and_then(string_of)
            .unwrap_or_default();
        let (Some(left), Some(right)) = (expression.lexpr.as_deref(), expression.rexpr.as_deref())
        else {
            return false;
        };
        let is_nullif = expression.kind() == p::AExprKind::AexprNullif;
        let cancels = is_nullif || matches!(operator, "-" | "/" | "#" | "%");
        if cancels && key(left) == key(right) {
            return true;
        }
        let annihilates = |number: i64| match operator {
            "*" | "&" | "/" | "^" => number == 0,
            "%" => number.abs() == 1,
            "|" => number == -1,
            _ => false,
        };
        if !matches!(operator, "*" | "&" | "/" | "^" | "%" | "|") {
            return false;
        }
        [left, right].into_iter().any(|side| match number(side) {
            Some(number) => {
                self.looked_at_literal.set(true);
                annihilates(number)
            }
            None => false,
        })
    }

    fn is_own(&self, column: &p::ColumnRef) -> bool {
        match column.fields.as_slice() {
            [_] => self.takes_unqualified,
            [.., table, _] => {
                string_of(table).is_some_and(|table| !self.others.contains_key(table))
            }
            [] => false,
        }
    }

    /// Whether a query names the table outside before a column.
    fn mentions_itself(&self, query: &Node) -> bool {
        let Some(name) = self.name() else {
            return false;
        };
        let is_own = |node: NodeRef<'_>| {
            if let NodeRef::ColumnRef(column) = node
                && let [.., table, _] = column.fields.as_slice()
            {
                string_of(table) == Some(name)
            } else {
                false
            }
        };
        node_ref(query).is_some_and(|query| any_node(query, &is_own))
    }

    /// Whether a column of the left side is also on the right, as far as the text shows.
    fn share_a_column(&self, left: &Node, right: &Node) -> bool {
        let left = columns(left);
        let right = columns(right);
        let (few, many) = if left.len() < right.len() {
            (left, right)
        } else {
            (right, left)
        };
        few.iter().any(|(name, tables)| {
            many.get(name).is_some_and(|others| {
                tables.iter().any(|table| others.contains(table))
                    || (self.any_is_itself(tables) && self.any_is_itself(others))
            })
        })
    }

    /// Whether the table itself is among them. A column without a table before it is its: a joined
    /// table that has such a column too would make it ambiguous.
    fn any_is_itself(&self, tables: &HashSet<&str>) -> bool {
        tables
            .iter()
            .any(|table| table.is_empty() || self.is_itself(table))
    }

    fn is_itself(&self, table: &str) -> bool {
        self.others
            .get(table)
            .copied()
            .unwrap_or_else(|| self.name() == Some(table))
    }
}

/// Where all rows of a query come from.
enum Source<'n> {
    Item(&'n Node),
    /// It has all rows of the table.
    All,
    Else,
}

fn whole(about: String, negated: bool) -> Arms {
    let said = if negated { UNEQUAL } else { EQUAL };
    Arms::from([(about, said)])
}

/// Whether arms that say this of one expression leave no value out.
fn covers(said: Said) -> bool {
    let has = |wanted: Said| said & wanted == wanted;
    has(BELOW | ABOVE)
        || has(UNEQUAL_AGAIN)
        || (has(UNEQUAL) && said & (EQUAL | BELOW | ABOVE) != 0)
        || has(NULL | NOT_NULL)
}

/// How far an arm of an AND is from the best that can stand for all of it.
fn width(arms: &Arms) -> usize {
    let widest = arms.values().map(|said| match *said {
        EQUAL => 0,
        NULL => 1,
        _ => 2,
    });
    widest.max().unwrap_or(0)
}

fn denied(said: Said) -> Said {
    match said & !ORDERLESS {
        EQUAL => UNEQUAL,
        UNEQUAL => EQUAL,
        BELOW => ABOVE,
        ABOVE => BELOW,
        other => other,
    }
}

fn mirrored(said: Said) -> Said {
    match said {
        BELOW => ABOVE,
        ABOVE => BELOW,
        other => other,
    }
}

fn may_have_rows(select: &p::SelectStmt) -> bool {
    let condition = select.where_clause.as_deref().and_then(node_ref);
    let depends = |condition| any_node(condition, &|node| matches!(node, NodeRef::ColumnRef(_)));
    select.limit_count.is_none() && condition.is_none_or(depends)
}

fn is_aggregate(node: NodeRef<'_>) -> bool {
    let NodeRef::FuncCall(call) = node else {
        return false;
    };
    name_of(&call.funcname)
        .and_then(|name| name.name)
        .is_some_and(|name| AGGREGATES.contains(&name.as_str()))
}

/// Whether a value is computed by an operator.
fn computes(value: &Node) -> bool {
    node_ref(value).is_some_and(|value| any_node(value, &|node| matches!(node, NodeRef::AExpr(_))))
}

/// Columns by name, each with the tables written before it; `""` where there is none.
fn columns(value: &Node) -> HashMap<&str, HashSet<&str>> {
    let mut found: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut pending: Vec<_> = node_ref(value).into_iter().collect();
    while let Some(node) = pending.pop() {
        if let NodeRef::ColumnRef(column) = node {
            let mut fields = column.fields.iter().rev().map(string_of);
            if let Some(Some(name)) = fields.next() {
                let table = fields.next().flatten().unwrap_or_default();
                found.entry(name).or_default().insert(table);
            }
        }
        append_children(node, &mut pending);
    }
    found
}

/// Bounded by the depth of the decoded tree.
fn any_node(node: NodeRef<'_>, is_wanted: &dyn Fn(NodeRef<'_>) -> bool) -> bool {
    let mut pending = vec![node];
    while let Some(node) = pending.pop() {
        if is_wanted(node) {
            return true;
        }
        append_children(node, &mut pending);
    }
    false
}

fn boolean(node: &Node) -> Option<bool> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(p::a_const::Val::Boolval(value)) => Some(value.boolval),
            _ => None,
        },
        _ => None,
    }
}

/// A numeric literal, rounded towards zero.
fn number(node: &Node) -> Option<i64> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(p::a_const::Val::Ival(value)) => Some(i64::from(value.ival)),
            Some(p::a_const::Val::Fval(value)) => {
                let whole = value.fval.split('.').next().unwrap_or_default();
                Some(
                    whole
                        .parse()
                        .unwrap_or(if whole.is_empty() { 0 } else { 2 }),
                )
            }
            Some(p::a_const::Val::Sval(_)) => Some(0),
            _ => None,
        },
        Some(NodeEnum::TypeCast(cast)) => number(cast.arg.as_deref()?),
        Some(NodeEnum::AExpr(sign)) if sign.lexpr.is_none() => {
            number(sign.rexpr.as_deref()?).map(|number| -number)
        }
        _ => None,
    }
}

/// What an expression is but for its constants, casts and the tables before its columns.
fn key(node: &Node) -> String {
    let mut out = String::new();
    if let Some(node) = node_ref(node) {
        write_key(node, &mut out);
    }
    out
}

fn write_key(node: NodeRef<'_>, out: &mut String) {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "any other expression is its kind and its parts"
    )]
    match node {
        NodeRef::AConst(_) => out.push('?'),
        NodeRef::ParamRef(parameter) => {
            // Writing to a string does not fail.
            let _ = write!(out, "${}", parameter.number);
        }
        NodeRef::ColumnRef(column) => match column.fields.last().map(string_of) {
            Some(Some(name)) => {
                let _ = write!(out, "{name:?}");
            }
            _ => out.push('*'),
        },
        NodeRef::String(text) => {
            let _ = write!(out, "'{:?}", text.sval);
        }
        NodeRef::TypeCast(cast) => {
            if let Some(arg) = cast.arg.as_deref().and_then(node_ref) {
                write_key(arg, out);
            }
        }
        _ => {
            out.push_str(nodes::kind(node).0);
            out.push('(');
            let mut children = Vec::new();
            append_children(node, &mut children);
            for child in children {
                write_key(child, out);
                out.push(' ');
            }
            out.push(')');
        }
    }
}
