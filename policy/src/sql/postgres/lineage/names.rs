//! The names that PostgreSQL gives to columns of a query that are given none.
//!
//! Spec: PostgreSQL, `parse_target.c`, `FigureColname`.

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum};

use super::super::walker::string_of;

const NO_NAME: &str = "?column?";

/// How good a name is: of several, the outer one is taken unless it is weaker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    None,
    /// Of a type or a keyword.
    Weak,
    Strong,
}

/// The name of an output column.
pub(super) fn output_name(target: &p::ResTarget) -> &str {
    if target.name.is_empty() {
        figured(target.val.as_deref()).1.unwrap_or(NO_NAME)
    } else {
        &target.name
    }
}

/// The name of a value that stands for itself, as a function in FROM.
pub(super) fn name_of_value(node: Option<&Node>) -> &str {
    figured(node).1.unwrap_or(NO_NAME)
}

fn last(names: &[Node]) -> Option<&str> {
    names.iter().rev().find_map(string_of)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other expression is unnamed; a wrong name is taken for one of any column"
)]
fn figured(node: Option<&Node>) -> (Strength, Option<&str>) {
    let strong = |name| (Strength::Strong, Some(name));
    let Some(node) = node.and_then(|node| node.node.as_ref()) else {
        return (Strength::None, None);
    };
    match node {
        NodeEnum::ColumnRef(column) => match last(&column.fields) {
            Some(name) => strong(name),
            None => (Strength::None, None),
        },
        NodeEnum::AIndirection(indirection) => match last(&indirection.indirection) {
            Some(name) => strong(name),
            None => figured(indirection.arg.as_deref()),
        },
        NodeEnum::FuncCall(call) => match last(&call.funcname) {
            Some(name) => strong(name),
            None => (Strength::None, None),
        },
        NodeEnum::AExpr(expression) if expression.kind() == p::AExprKind::AexprNullif => {
            strong("nullif")
        }
        NodeEnum::TypeCast(cast) => match figured(cast.arg.as_deref()) {
            (Strength::Strong, name) => (Strength::Strong, name),
            (Strength::None | Strength::Weak, _) => {
                let names = cast.type_name.as_ref().map(|name| name.names.as_slice());
                (Strength::Weak, names.and_then(last))
            }
        },
        NodeEnum::CollateClause(collate) => figured(collate.arg.as_deref()),
        NodeEnum::GroupingFunc(_) => strong("grouping"),
        NodeEnum::MergeSupportFunc(_) => strong("merge_action"),
        NodeEnum::SubLink(link) => of_link(link),
        NodeEnum::CaseExpr(case) => match figured(case.defresult.as_deref()) {
            (Strength::Strong, name) => (Strength::Strong, name),
            (Strength::None | Strength::Weak, _) => (Strength::Weak, Some("case")),
        },
        NodeEnum::AArrayExpr(_) => strong("array"),
        NodeEnum::RowExpr(_) => strong("row"),
        NodeEnum::CoalesceExpr(_) => strong("coalesce"),
        NodeEnum::MinMaxExpr(expression) => strong(match expression.op() {
            p::MinMaxOp::IsLeast => "least",
            p::MinMaxOp::Undefined | p::MinMaxOp::IsGreatest => "greatest",
        }),
        NodeEnum::SqlvalueFunction(function) => strong(of_function(function.op())),
        NodeEnum::XmlExpr(xml) => match of_xml(xml.op()) {
            Some(name) => strong(name),
            None => (Strength::None, None),
        },
        NodeEnum::XmlSerialize(_) => strong("xmlserialize"),
        NodeEnum::JsonParseExpr(_) => strong("json"),
        NodeEnum::JsonScalarExpr(_) => strong("json_scalar"),
        NodeEnum::JsonSerializeExpr(_) => strong("json_serialize"),
        NodeEnum::JsonObjectConstructor(_) => strong("json_object"),
        NodeEnum::JsonArrayConstructor(_) | NodeEnum::JsonArrayQueryConstructor(_) => {
            strong("json_array")
        }
        NodeEnum::JsonObjectAgg(_) => strong("json_objectagg"),
        NodeEnum::JsonArrayAgg(_) => strong("json_arrayagg"),
        NodeEnum::JsonFuncExpr(function) => strong(match function.op() {
            p::JsonExprOp::JsonExistsOp => "json_exists",
            p::JsonExprOp::JsonQueryOp => "json_query",
            p::JsonExprOp::Undefined | p::JsonExprOp::JsonValueOp | p::JsonExprOp::JsonTableOp => {
                "json_value"
            }
        }),
        _ => (Strength::None, None),
    }
}

fn of_link(link: &p::SubLink) -> (Strength, Option<&str>) {
    use p::SubLinkType as Type;
    match link.sub_link_type() {
        Type::ExistsSublink => (Strength::Strong, Some("exists")),
        Type::ArraySublink => (Strength::Strong, Some("array")),
        Type::ExprSublink => {
            let mut select = match link
                .subselect
                .as_deref()
                .and_then(|node| node.node.as_ref())
            {
                Some(NodeEnum::SelectStmt(select)) => select.as_ref(),
                _ => return (Strength::None, None),
            };
            // The leftmost arm names the columns of a set operation.
            while let Some(left) = &select.larg {
                select = left;
            }
            match select
                .target_list
                .first()
                .and_then(|node| node.node.as_ref())
            {
                Some(NodeEnum::ResTarget(target)) => (Strength::Strong, Some(output_name(target))),
                _ => (Strength::Strong, Some("column1")),
            }
        }
        Type::Undefined
        | Type::AllSublink
        | Type::AnySublink
        | Type::RowcompareSublink
        | Type::MultiexprSublink
        | Type::CteSublink => (Strength::None, None),
    }
}

fn of_function(function: p::SqlValueFunctionOp) -> &'static str {
    use p::SqlValueFunctionOp as Op;
    match function {
        Op::SqlvalueFunctionOpUndefined => NO_NAME,
        Op::SvfopCurrentDate => "current_date",
        Op::SvfopCurrentTime | Op::SvfopCurrentTimeN => "current_time",
        Op::SvfopCurrentTimestamp | Op::SvfopCurrentTimestampN => "current_timestamp",
        Op::SvfopLocaltime | Op::SvfopLocaltimeN => "localtime",
        Op::SvfopLocaltimestamp | Op::SvfopLocaltimestampN => "localtimestamp",
        Op::SvfopCurrentRole => "current_role",
        Op::SvfopCurrentUser => "current_user",
        Op::SvfopUser => "user",
        Op::SvfopSessionUser => "session_user",
        Op::SvfopCurrentCatalog => "current_catalog",
        Op::SvfopCurrentSchema => "current_schema",
    }
}

fn of_xml(operation: p::XmlExprOp) -> Option<&'static str> {
    use p::XmlExprOp as Op;
    match operation {
        Op::IsXmlconcat => Some("xmlconcat"),
        Op::IsXmlelement => Some("xmlelement"),
        Op::IsXmlforest => Some("xmlforest"),
        Op::IsXmlparse => Some("xmlparse"),
        Op::IsXmlpi => Some("xmlpi"),
        Op::IsXmlroot => Some("xmlroot"),
        Op::IsXmlserialize => Some("xmlserialize"),
        Op::Undefined | Op::IsDocument => None,
    }
}
