//! Whether the value of a literal can change a profile.
//!
//! It can, unless every literal of the text is found again as a constant in a place of the tree
//! where the walker looks at no constant's value. The places are listed; a literal that the grammar
//! put anywhere else (a type's length, an option, an argument that names something) decides.

use std::ops::Range;

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum, NodeRef};

use super::shape;
use super::walker::{built_in, name_of};
use crate::sql::children::{append_children, node_ref};
use crate::sql::functions::Call;
use crate::sql::profile::{NamedStatementEffect, StatementProfile};

/// Whether another text of the shape of `text`, which has the one statement `statement` with this
/// profile, may have another profile.
pub(super) fn decide(text: &str, statement: Option<&Node>, profile: &StatementProfile) -> bool {
    let Some(literals) = shape::literals(text) else {
        return true;
    };
    let is_plain = profile.settings.is_empty()
        && profile.secrets.is_empty()
        && profile.names == NamedStatementEffect::None
        && profile.transaction.is_none()
        && profile.copy.is_none()
        && profile.parse_error.is_none();
    let Some(statement) = statement.and_then(node_ref).filter(|_| is_plain) else {
        return true;
    };
    let is_listed = matches!(
        statement,
        NodeRef::SelectStmt(_)
            | NodeRef::InsertStmt(_)
            | NodeRef::UpdateStmt(_)
            | NodeRef::DeleteStmt(_)
    );
    !(is_listed && is_each_found(text, &literals, plain_constants(statement)))
}

/// Where the constants begin that stand in the listed places, ascending.
fn plain_constants(statement: NodeRef<'_>) -> Vec<usize> {
    let mut found = Vec::new();
    let mut pending = vec![statement];
    while let Some(node) = pending.pop() {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a place that is not listed decides; nodes::NODES lists all kinds"
        )]
        match node {
            NodeRef::AConst(p::AConst {
                location,
                val:
                    Some(
                        p::a_const::Val::Ival(_)
                        | p::a_const::Val::Fval(_)
                        | p::a_const::Val::Sval(_),
                    ),
                ..
            }) => found.extend(usize::try_from(*location).ok()),
            NodeRef::SelectStmt(select) if has_ordinals(select) => return Vec::new(),
            // Not into the type: its constants are lengths and precisions.
            NodeRef::TypeCast(cast) => pending.extend(cast.arg.as_deref().and_then(node_ref)),
            NodeRef::FuncCall(call) if reads_no_argument(call) => {
                append_children(node, &mut pending);
            }
            node if is_passed_through(node) => append_children(node, &mut pending),
            _ => {}
        }
    }
    found.sort_unstable();
    found
}

/// Whether a literal says by which column the rows are sorted, grouped or told apart.
fn has_ordinals(select: &p::SelectStmt) -> bool {
    let clauses = [
        &select.group_clause,
        &select.sort_clause,
        &select.distinct_clause,
    ];
    let mut pending: Vec<&Node> = clauses.into_iter().flatten().collect();
    while let Some(node) = pending.pop() {
        match &node.node {
            Some(NodeEnum::AConst(_)) => return true,
            Some(NodeEnum::SortBy(sort)) => pending.extend(sort.node.as_deref()),
            Some(NodeEnum::GroupingSet(set)) => pending.extend(&set.content),
            Some(NodeEnum::RowExpr(row)) => pending.extend(&row.args),
            Some(NodeEnum::List(list)) => pending.extend(&list.items),
            Some(_) | None => {}
        }
    }
    false
}

/// Whether the walker says the same of a call whatever its arguments are.
fn reads_no_argument(call: &p::FuncCall) -> bool {
    name_of(&call.funcname).is_some_and(|name| matches!(built_in(&name), None | Some(Call::Read)))
}

/// Nodes of which the walker reads names and structure alone.
fn is_passed_through(node: NodeRef<'_>) -> bool {
    matches!(
        node,
        NodeRef::SelectStmt(_)
            | NodeRef::InsertStmt(_)
            | NodeRef::UpdateStmt(_)
            | NodeRef::DeleteStmt(_)
            | NodeRef::WithClause(_)
            | NodeRef::CommonTableExpr(_)
            | NodeRef::ResTarget(_)
            | NodeRef::MultiAssignRef(_)
            | NodeRef::ReturningClause(_)
            | NodeRef::OnConflictClause(_)
            | NodeRef::JoinExpr(_)
            | NodeRef::RangeSubselect(_)
            | NodeRef::RangeFunction(_)
            | NodeRef::SubLink(_)
            | NodeRef::AExpr(_)
            | NodeRef::BoolExpr(_)
            | NodeRef::NullTest(_)
            | NodeRef::BooleanTest(_)
            | NodeRef::CaseExpr(_)
            | NodeRef::CaseWhen(_)
            | NodeRef::CoalesceExpr(_)
            | NodeRef::MinMaxExpr(_)
            | NodeRef::RowExpr(_)
            | NodeRef::AArrayExpr(_)
            | NodeRef::AIndirection(_)
            | NodeRef::AIndices(_)
            | NodeRef::List(_)
            | NodeRef::NamedArgExpr(_)
            | NodeRef::SortBy(_)
            | NodeRef::WindowDef(_)
            | NodeRef::GroupingSet(_)
            | NodeRef::CollateClause(_)
    )
}

/// A negative constant begins at its sign.
fn is_each_found(text: &str, literals: &[Range<usize>], constants: Vec<usize>) -> bool {
    let mut constants = constants.into_iter().peekable();
    literals.iter().all(|literal| {
        // What begins before it and is not it comes from a keyword, as in EXTRACT(year FROM x).
        while let Some(start) = constants.next_if(|start| *start <= literal.start) {
            let between = text.get(start..literal.start).unwrap_or("x");
            let is_sign = |c: char| c == '-' || c.is_ascii_whitespace();
            if between.chars().all(is_sign) {
                return true;
            }
        }
        false
    })
}
