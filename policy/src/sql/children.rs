//! The children of each node that PostgreSQL's raw parser makes, in field order.
//!
//! Written by `policy/tools/children.py`; says nothing about what a node means.

use pg_query::{NodeRef, protobuf as p};

/// Appends the direct children of `node` to `children`.
///
/// Nodes that only parse analysis makes have none here: the walker refuses them.
pub(super) fn append_children<'a>(node: NodeRef<'a>, children: &mut Vec<NodeRef<'a>>) {
    match node {
        NodeRef::Alias(p::Alias {
            aliasname: _,
            colnames,
        }) => {
            children.extend(colnames.iter().filter_map(node_ref));
        }
        NodeRef::RangeVar(p::RangeVar {
            catalogname: _,
            schemaname: _,
            relname: _,
            inh: _,
            relpersistence: _,
            alias,
            location: _,
        }) => {
            children.extend(alias.as_ref().map(NodeRef::Alias));
        }
        NodeRef::IntoClause(p::IntoClause {
            rel,
            col_names,
            access_method: _,
            options,
            on_commit: _,
            table_space_name: _,
            view_query,
            skip_data: _,
        }) => {
            children.extend(rel.as_ref().map(NodeRef::RangeVar));
            children.extend(col_names.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
            children.extend(view_query.as_deref().map(NodeRef::Query));
        }
        NodeRef::GroupingFunc(p::GroupingFunc {
            xpr,
            args,
            refs,
            agglevelsup: _,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(args.iter().filter_map(node_ref));
            children.extend(refs.iter().filter_map(node_ref));
        }
        NodeRef::MergeSupportFunc(p::MergeSupportFunc {
            xpr,
            msftype: _,
            msfcollid: _,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
        }
        NodeRef::NamedArgExpr(p::NamedArgExpr {
            xpr,
            arg,
            name: _,
            argnumber: _,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(arg.as_deref().and_then(node_ref));
        }
        NodeRef::BoolExpr(p::BoolExpr {
            xpr,
            boolop: _,
            args,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(args.iter().filter_map(node_ref));
        }
        NodeRef::SubLink(p::SubLink {
            xpr,
            sub_link_type: _,
            sub_link_id: _,
            testexpr,
            oper_name,
            subselect,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(testexpr.as_deref().and_then(node_ref));
            children.extend(oper_name.iter().filter_map(node_ref));
            children.extend(subselect.as_deref().and_then(node_ref));
        }
        NodeRef::CaseExpr(p::CaseExpr {
            xpr,
            casetype: _,
            casecollid: _,
            arg,
            args,
            defresult,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(arg.as_deref().and_then(node_ref));
            children.extend(args.iter().filter_map(node_ref));
            children.extend(defresult.as_deref().and_then(node_ref));
        }
        NodeRef::CaseWhen(p::CaseWhen {
            xpr,
            expr,
            result,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(expr.as_deref().and_then(node_ref));
            children.extend(result.as_deref().and_then(node_ref));
        }
        NodeRef::RowExpr(p::RowExpr {
            xpr,
            args,
            row_typeid: _,
            row_format: _,
            colnames,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(args.iter().filter_map(node_ref));
            children.extend(colnames.iter().filter_map(node_ref));
        }
        NodeRef::CoalesceExpr(p::CoalesceExpr {
            xpr,
            coalescetype: _,
            coalescecollid: _,
            args,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(args.iter().filter_map(node_ref));
        }
        NodeRef::MinMaxExpr(p::MinMaxExpr {
            xpr,
            minmaxtype: _,
            minmaxcollid: _,
            inputcollid: _,
            op: _,
            args,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(args.iter().filter_map(node_ref));
        }
        NodeRef::SqlvalueFunction(p::SqlValueFunction {
            xpr,
            op: _,
            r#type: _,
            typmod: _,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
        }
        NodeRef::XmlExpr(p::XmlExpr {
            xpr,
            op: _,
            name: _,
            named_args,
            arg_names,
            args,
            xmloption: _,
            indent: _,
            r#type: _,
            typmod: _,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(named_args.iter().filter_map(node_ref));
            children.extend(arg_names.iter().filter_map(node_ref));
            children.extend(args.iter().filter_map(node_ref));
        }
        NodeRef::JsonFormat(p::JsonFormat {
            format_type: _,
            encoding: _,
            location: _,
        }) => {}
        NodeRef::JsonReturning(p::JsonReturning {
            format,
            typid: _,
            typmod: _,
        }) => {
            children.extend(format.as_ref().map(NodeRef::JsonFormat));
        }
        NodeRef::JsonValueExpr(p::JsonValueExpr {
            raw_expr,
            formatted_expr,
            format,
        }) => {
            children.extend(raw_expr.as_deref().and_then(node_ref));
            children.extend(formatted_expr.as_deref().and_then(node_ref));
            children.extend(format.as_ref().map(NodeRef::JsonFormat));
        }
        NodeRef::JsonIsPredicate(p::JsonIsPredicate {
            expr,
            format,
            item_type: _,
            unique_keys: _,
            location: _,
        }) => {
            children.extend(expr.as_deref().and_then(node_ref));
            children.extend(format.as_ref().map(NodeRef::JsonFormat));
        }
        NodeRef::JsonBehavior(p::JsonBehavior {
            btype: _,
            expr,
            coerce: _,
            location: _,
        }) => {
            children.extend(expr.as_deref().and_then(node_ref));
        }
        NodeRef::NullTest(p::NullTest {
            xpr,
            arg,
            nulltesttype: _,
            argisrow: _,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(arg.as_deref().and_then(node_ref));
        }
        NodeRef::BooleanTest(p::BooleanTest {
            xpr,
            arg,
            booltesttype: _,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
            children.extend(arg.as_deref().and_then(node_ref));
        }
        NodeRef::SetToDefault(p::SetToDefault {
            xpr,
            type_id: _,
            type_mod: _,
            collation: _,
            location: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
        }
        NodeRef::CurrentOfExpr(p::CurrentOfExpr {
            xpr,
            cvarno: _,
            cursor_name: _,
            cursor_param: _,
        }) => {
            children.extend(xpr.as_deref().and_then(node_ref));
        }
        NodeRef::JoinExpr(p::JoinExpr {
            jointype: _,
            is_natural: _,
            larg,
            rarg,
            using_clause,
            join_using_alias,
            quals,
            alias,
            rtindex: _,
        }) => {
            children.extend(larg.as_deref().and_then(node_ref));
            children.extend(rarg.as_deref().and_then(node_ref));
            children.extend(using_clause.iter().filter_map(node_ref));
            children.extend(join_using_alias.as_ref().map(NodeRef::Alias));
            children.extend(quals.as_deref().and_then(node_ref));
            children.extend(alias.as_ref().map(NodeRef::Alias));
        }
        NodeRef::TypeName(p::TypeName {
            names,
            type_oid: _,
            setof: _,
            pct_type: _,
            typmods,
            typemod: _,
            array_bounds,
            location: _,
        }) => {
            children.extend(names.iter().filter_map(node_ref));
            children.extend(typmods.iter().filter_map(node_ref));
            children.extend(array_bounds.iter().filter_map(node_ref));
        }
        NodeRef::ColumnRef(p::ColumnRef {
            fields,
            location: _,
        }) => {
            children.extend(fields.iter().filter_map(node_ref));
        }
        NodeRef::ParamRef(p::ParamRef {
            number: _,
            location: _,
        }) => {}
        NodeRef::AExpr(p::AExpr {
            kind: _,
            name,
            lexpr,
            rexpr,
            rexpr_list_start: _,
            rexpr_list_end: _,
            location: _,
        }) => {
            children.extend(name.iter().filter_map(node_ref));
            children.extend(lexpr.as_deref().and_then(node_ref));
            children.extend(rexpr.as_deref().and_then(node_ref));
        }
        NodeRef::TypeCast(p::TypeCast {
            arg,
            type_name,
            location: _,
        }) => {
            children.extend(arg.as_deref().and_then(node_ref));
            children.extend(type_name.as_ref().map(NodeRef::TypeName));
        }
        NodeRef::CollateClause(p::CollateClause {
            arg,
            collname,
            location: _,
        }) => {
            children.extend(arg.as_deref().and_then(node_ref));
            children.extend(collname.iter().filter_map(node_ref));
        }
        NodeRef::RoleSpec(p::RoleSpec {
            roletype: _,
            rolename: _,
            location: _,
        }) => {}
        NodeRef::FuncCall(p::FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group: _,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat: _,
            location: _,
        }) => {
            children.extend(funcname.iter().filter_map(node_ref));
            children.extend(args.iter().filter_map(node_ref));
            children.extend(agg_order.iter().filter_map(node_ref));
            children.extend(agg_filter.as_deref().and_then(node_ref));
            children.extend(over.as_deref().map(NodeRef::WindowDef));
        }
        NodeRef::AStar(p::AStar {}) => {}
        NodeRef::AIndices(p::AIndices {
            is_slice: _,
            lidx,
            uidx,
        }) => {
            children.extend(lidx.as_deref().and_then(node_ref));
            children.extend(uidx.as_deref().and_then(node_ref));
        }
        NodeRef::AIndirection(p::AIndirection { arg, indirection }) => {
            children.extend(arg.as_deref().and_then(node_ref));
            children.extend(indirection.iter().filter_map(node_ref));
        }
        NodeRef::AArrayExpr(p::AArrayExpr {
            elements,
            list_start: _,
            list_end: _,
            location: _,
        }) => {
            children.extend(elements.iter().filter_map(node_ref));
        }
        NodeRef::ResTarget(p::ResTarget {
            name: _,
            indirection,
            val,
            location: _,
        }) => {
            children.extend(indirection.iter().filter_map(node_ref));
            children.extend(val.as_deref().and_then(node_ref));
        }
        NodeRef::MultiAssignRef(p::MultiAssignRef {
            source,
            colno: _,
            ncolumns: _,
        }) => {
            children.extend(source.as_deref().and_then(node_ref));
        }
        NodeRef::SortBy(p::SortBy {
            node,
            sortby_dir: _,
            sortby_nulls: _,
            use_op,
            location: _,
        }) => {
            children.extend(node.as_deref().and_then(node_ref));
            children.extend(use_op.iter().filter_map(node_ref));
        }
        NodeRef::WindowDef(p::WindowDef {
            name: _,
            refname: _,
            partition_clause,
            order_clause,
            frame_options: _,
            start_offset,
            end_offset,
            location: _,
        }) => {
            children.extend(partition_clause.iter().filter_map(node_ref));
            children.extend(order_clause.iter().filter_map(node_ref));
            children.extend(start_offset.as_deref().and_then(node_ref));
            children.extend(end_offset.as_deref().and_then(node_ref));
        }
        NodeRef::RangeSubselect(p::RangeSubselect {
            lateral: _,
            subquery,
            alias,
        }) => {
            children.extend(subquery.as_deref().and_then(node_ref));
            children.extend(alias.as_ref().map(NodeRef::Alias));
        }
        NodeRef::RangeFunction(p::RangeFunction {
            lateral: _,
            ordinality: _,
            is_rowsfrom: _,
            functions,
            alias,
            coldeflist,
        }) => {
            children.extend(functions.iter().filter_map(node_ref));
            children.extend(alias.as_ref().map(NodeRef::Alias));
            children.extend(coldeflist.iter().filter_map(node_ref));
        }
        NodeRef::RangeTableFunc(p::RangeTableFunc {
            lateral: _,
            docexpr,
            rowexpr,
            namespaces,
            columns,
            alias,
            location: _,
        }) => {
            children.extend(docexpr.as_deref().and_then(node_ref));
            children.extend(rowexpr.as_deref().and_then(node_ref));
            children.extend(namespaces.iter().filter_map(node_ref));
            children.extend(columns.iter().filter_map(node_ref));
            children.extend(alias.as_ref().map(NodeRef::Alias));
        }
        NodeRef::RangeTableFuncCol(p::RangeTableFuncCol {
            colname: _,
            type_name,
            for_ordinality: _,
            is_not_null: _,
            colexpr,
            coldefexpr,
            location: _,
        }) => {
            children.extend(type_name.as_ref().map(NodeRef::TypeName));
            children.extend(colexpr.as_deref().and_then(node_ref));
            children.extend(coldefexpr.as_deref().and_then(node_ref));
        }
        NodeRef::RangeTableSample(p::RangeTableSample {
            relation,
            method,
            args,
            repeatable,
            location: _,
        }) => {
            children.extend(relation.as_deref().and_then(node_ref));
            children.extend(method.iter().filter_map(node_ref));
            children.extend(args.iter().filter_map(node_ref));
            children.extend(repeatable.as_deref().and_then(node_ref));
        }
        NodeRef::ColumnDef(p::ColumnDef {
            colname: _,
            type_name,
            compression: _,
            inhcount: _,
            is_local: _,
            is_not_null: _,
            is_from_type: _,
            storage: _,
            storage_name: _,
            raw_default,
            cooked_default,
            identity: _,
            identity_sequence,
            generated: _,
            coll_clause,
            coll_oid: _,
            constraints,
            fdwoptions,
            location: _,
        }) => {
            children.extend(type_name.as_ref().map(NodeRef::TypeName));
            children.extend(raw_default.as_deref().and_then(node_ref));
            children.extend(cooked_default.as_deref().and_then(node_ref));
            children.extend(identity_sequence.as_ref().map(NodeRef::RangeVar));
            children.extend(coll_clause.as_deref().map(NodeRef::CollateClause));
            children.extend(constraints.iter().filter_map(node_ref));
            children.extend(fdwoptions.iter().filter_map(node_ref));
        }
        NodeRef::TableLikeClause(p::TableLikeClause {
            relation,
            options: _,
            relation_oid: _,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
        }
        NodeRef::IndexElem(p::IndexElem {
            name: _,
            expr,
            indexcolname: _,
            collation,
            opclass,
            opclassopts,
            ordering: _,
            nulls_ordering: _,
        }) => {
            children.extend(expr.as_deref().and_then(node_ref));
            children.extend(collation.iter().filter_map(node_ref));
            children.extend(opclass.iter().filter_map(node_ref));
            children.extend(opclassopts.iter().filter_map(node_ref));
        }
        NodeRef::DefElem(p::DefElem {
            defnamespace: _,
            defname: _,
            arg,
            defaction: _,
            location: _,
            arg_location: _,
        }) => {
            children.extend(arg.as_deref().and_then(node_ref));
        }
        NodeRef::LockingClause(p::LockingClause {
            locked_rels,
            strength: _,
            wait_policy: _,
        }) => {
            children.extend(locked_rels.iter().filter_map(node_ref));
        }
        NodeRef::XmlSerialize(p::XmlSerialize {
            xmloption: _,
            expr,
            type_name,
            indent: _,
            location: _,
        }) => {
            children.extend(expr.as_deref().and_then(node_ref));
            children.extend(type_name.as_ref().map(NodeRef::TypeName));
        }
        NodeRef::PartitionElem(p::PartitionElem {
            name: _,
            expr,
            collation,
            opclass,
            location: _,
        }) => {
            children.extend(expr.as_deref().and_then(node_ref));
            children.extend(collation.iter().filter_map(node_ref));
            children.extend(opclass.iter().filter_map(node_ref));
        }
        NodeRef::PartitionSpec(p::PartitionSpec {
            strategy: _,
            part_params,
            location: _,
        }) => {
            children.extend(part_params.iter().filter_map(node_ref));
        }
        NodeRef::PartitionBoundSpec(p::PartitionBoundSpec {
            strategy: _,
            is_default: _,
            modulus: _,
            remainder: _,
            listdatums,
            lowerdatums,
            upperdatums,
            location: _,
        }) => {
            children.extend(listdatums.iter().filter_map(node_ref));
            children.extend(lowerdatums.iter().filter_map(node_ref));
            children.extend(upperdatums.iter().filter_map(node_ref));
        }
        NodeRef::PartitionRangeDatum(p::PartitionRangeDatum {
            kind: _,
            value,
            location: _,
        }) => {
            children.extend(value.as_deref().and_then(node_ref));
        }
        NodeRef::PartitionCmd(p::PartitionCmd {
            name,
            bound,
            concurrent: _,
        }) => {
            children.extend(name.as_ref().map(NodeRef::RangeVar));
            children.extend(bound.as_ref().map(NodeRef::PartitionBoundSpec));
        }
        NodeRef::GroupingSet(p::GroupingSet {
            kind: _,
            content,
            location: _,
        }) => {
            children.extend(content.iter().filter_map(node_ref));
        }
        NodeRef::WithClause(p::WithClause {
            ctes,
            recursive: _,
            location: _,
        }) => {
            children.extend(ctes.iter().filter_map(node_ref));
        }
        NodeRef::InferClause(p::InferClause {
            index_elems,
            where_clause,
            conname: _,
            location: _,
        }) => {
            children.extend(index_elems.iter().filter_map(node_ref));
            children.extend(where_clause.as_deref().and_then(node_ref));
        }
        NodeRef::OnConflictClause(p::OnConflictClause {
            action: _,
            infer,
            target_list,
            where_clause,
            location: _,
        }) => {
            children.extend(infer.as_deref().map(NodeRef::InferClause));
            children.extend(target_list.iter().filter_map(node_ref));
            children.extend(where_clause.as_deref().and_then(node_ref));
        }
        NodeRef::CtesearchClause(p::CteSearchClause {
            search_col_list,
            search_breadth_first: _,
            search_seq_column: _,
            location: _,
        }) => {
            children.extend(search_col_list.iter().filter_map(node_ref));
        }
        NodeRef::CtecycleClause(p::CteCycleClause {
            cycle_col_list,
            cycle_mark_column: _,
            cycle_mark_value,
            cycle_mark_default,
            cycle_path_column: _,
            location: _,
            cycle_mark_type: _,
            cycle_mark_typmod: _,
            cycle_mark_collation: _,
            cycle_mark_neop: _,
        }) => {
            children.extend(cycle_col_list.iter().filter_map(node_ref));
            children.extend(cycle_mark_value.as_deref().and_then(node_ref));
            children.extend(cycle_mark_default.as_deref().and_then(node_ref));
        }
        NodeRef::CommonTableExpr(p::CommonTableExpr {
            ctename: _,
            aliascolnames,
            ctematerialized: _,
            ctequery,
            search_clause,
            cycle_clause,
            location: _,
            cterecursive: _,
            cterefcount: _,
            ctecolnames,
            ctecoltypes,
            ctecoltypmods,
            ctecolcollations,
        }) => {
            children.extend(aliascolnames.iter().filter_map(node_ref));
            children.extend(ctequery.as_deref().and_then(node_ref));
            children.extend(search_clause.as_ref().map(NodeRef::CtesearchClause));
            children.extend(cycle_clause.as_deref().map(NodeRef::CtecycleClause));
            children.extend(ctecolnames.iter().filter_map(node_ref));
            children.extend(ctecoltypes.iter().filter_map(node_ref));
            children.extend(ctecoltypmods.iter().filter_map(node_ref));
            children.extend(ctecolcollations.iter().filter_map(node_ref));
        }
        NodeRef::MergeWhenClause(p::MergeWhenClause {
            match_kind: _,
            command_type: _,
            r#override: _,
            condition,
            target_list,
            values,
        }) => {
            children.extend(condition.as_deref().and_then(node_ref));
            children.extend(target_list.iter().filter_map(node_ref));
            children.extend(values.iter().filter_map(node_ref));
        }
        NodeRef::ReturningOption(p::ReturningOption {
            option: _,
            value: _,
            location: _,
        }) => {}
        NodeRef::ReturningClause(p::ReturningClause { options, exprs }) => {
            children.extend(options.iter().filter_map(node_ref));
            children.extend(exprs.iter().filter_map(node_ref));
        }
        NodeRef::TriggerTransition(p::TriggerTransition {
            name: _,
            is_new: _,
            is_table: _,
        }) => {}
        NodeRef::JsonOutput(p::JsonOutput {
            type_name,
            returning,
        }) => {
            children.extend(type_name.as_ref().map(NodeRef::TypeName));
            children.extend(returning.as_ref().map(NodeRef::JsonReturning));
        }
        NodeRef::JsonArgument(p::JsonArgument { val, name: _ }) => {
            children.extend(val.as_deref().map(NodeRef::JsonValueExpr));
        }
        NodeRef::JsonFuncExpr(p::JsonFuncExpr {
            op: _,
            column_name: _,
            context_item,
            pathspec,
            passing,
            output,
            on_empty,
            on_error,
            wrapper: _,
            quotes: _,
            location: _,
        }) => {
            children.extend(context_item.as_deref().map(NodeRef::JsonValueExpr));
            children.extend(pathspec.as_deref().and_then(node_ref));
            children.extend(passing.iter().filter_map(node_ref));
            children.extend(output.as_ref().map(NodeRef::JsonOutput));
            children.extend(on_empty.as_deref().map(NodeRef::JsonBehavior));
            children.extend(on_error.as_deref().map(NodeRef::JsonBehavior));
        }
        NodeRef::JsonTablePathSpec(p::JsonTablePathSpec {
            string,
            name: _,
            name_location: _,
            location: _,
        }) => {
            children.extend(string.as_deref().and_then(node_ref));
        }
        NodeRef::JsonTable(p::JsonTable {
            context_item,
            pathspec,
            passing,
            columns,
            on_error,
            alias,
            lateral: _,
            location: _,
        }) => {
            children.extend(context_item.as_deref().map(NodeRef::JsonValueExpr));
            children.extend(pathspec.as_deref().map(NodeRef::JsonTablePathSpec));
            children.extend(passing.iter().filter_map(node_ref));
            children.extend(columns.iter().filter_map(node_ref));
            children.extend(on_error.as_deref().map(NodeRef::JsonBehavior));
            children.extend(alias.as_ref().map(NodeRef::Alias));
        }
        NodeRef::JsonTableColumn(p::JsonTableColumn {
            coltype: _,
            name: _,
            type_name,
            pathspec,
            format,
            wrapper: _,
            quotes: _,
            columns,
            on_empty,
            on_error,
            location: _,
        }) => {
            children.extend(type_name.as_ref().map(NodeRef::TypeName));
            children.extend(pathspec.as_deref().map(NodeRef::JsonTablePathSpec));
            children.extend(format.as_ref().map(NodeRef::JsonFormat));
            children.extend(columns.iter().filter_map(node_ref));
            children.extend(on_empty.as_deref().map(NodeRef::JsonBehavior));
            children.extend(on_error.as_deref().map(NodeRef::JsonBehavior));
        }
        NodeRef::JsonKeyValue(p::JsonKeyValue { key, value }) => {
            children.extend(key.as_deref().and_then(node_ref));
            children.extend(value.as_deref().map(NodeRef::JsonValueExpr));
        }
        NodeRef::JsonParseExpr(p::JsonParseExpr {
            expr,
            output,
            unique_keys: _,
            location: _,
        }) => {
            children.extend(expr.as_deref().map(NodeRef::JsonValueExpr));
            children.extend(output.as_ref().map(NodeRef::JsonOutput));
        }
        NodeRef::JsonScalarExpr(p::JsonScalarExpr {
            expr,
            output,
            location: _,
        }) => {
            children.extend(expr.as_deref().and_then(node_ref));
            children.extend(output.as_ref().map(NodeRef::JsonOutput));
        }
        NodeRef::JsonSerializeExpr(p::JsonSerializeExpr {
            expr,
            output,
            location: _,
        }) => {
            children.extend(expr.as_deref().map(NodeRef::JsonValueExpr));
            children.extend(output.as_ref().map(NodeRef::JsonOutput));
        }
        NodeRef::JsonObjectConstructor(p::JsonObjectConstructor {
            exprs,
            output,
            absent_on_null: _,
            unique: _,
            location: _,
        }) => {
            children.extend(exprs.iter().filter_map(node_ref));
            children.extend(output.as_ref().map(NodeRef::JsonOutput));
        }
        NodeRef::JsonArrayConstructor(p::JsonArrayConstructor {
            exprs,
            output,
            absent_on_null: _,
            location: _,
        }) => {
            children.extend(exprs.iter().filter_map(node_ref));
            children.extend(output.as_ref().map(NodeRef::JsonOutput));
        }
        NodeRef::JsonArrayQueryConstructor(p::JsonArrayQueryConstructor {
            query,
            output,
            format,
            absent_on_null: _,
            location: _,
        }) => {
            children.extend(query.as_deref().and_then(node_ref));
            children.extend(output.as_ref().map(NodeRef::JsonOutput));
            children.extend(format.as_ref().map(NodeRef::JsonFormat));
        }
        NodeRef::JsonAggConstructor(p::JsonAggConstructor {
            output,
            agg_filter,
            agg_order,
            over,
            location: _,
        }) => {
            children.extend(output.as_ref().map(NodeRef::JsonOutput));
            children.extend(agg_filter.as_deref().and_then(node_ref));
            children.extend(agg_order.iter().filter_map(node_ref));
            children.extend(over.as_deref().map(NodeRef::WindowDef));
        }
        NodeRef::JsonObjectAgg(p::JsonObjectAgg {
            constructor,
            arg,
            absent_on_null: _,
            unique: _,
        }) => {
            children.extend(constructor.as_deref().map(NodeRef::JsonAggConstructor));
            children.extend(arg.as_deref().map(NodeRef::JsonKeyValue));
        }
        NodeRef::JsonArrayAgg(p::JsonArrayAgg {
            constructor,
            arg,
            absent_on_null: _,
        }) => {
            children.extend(constructor.as_deref().map(NodeRef::JsonAggConstructor));
            children.extend(arg.as_deref().map(NodeRef::JsonValueExpr));
        }
        NodeRef::RawStmt(p::RawStmt {
            stmt,
            stmt_location: _,
            stmt_len: _,
        }) => {
            children.extend(stmt.as_deref().and_then(node_ref));
        }
        NodeRef::InsertStmt(p::InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(cols.iter().filter_map(node_ref));
            children.extend(select_stmt.as_deref().and_then(node_ref));
            children.extend(on_conflict_clause.as_deref().map(NodeRef::OnConflictClause));
            children.extend(returning_clause.as_ref().map(NodeRef::ReturningClause));
            children.extend(with_clause.as_ref().map(NodeRef::WithClause));
        }
        NodeRef::DeleteStmt(p::DeleteStmt {
            relation,
            using_clause,
            where_clause,
            returning_clause,
            with_clause,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(using_clause.iter().filter_map(node_ref));
            children.extend(where_clause.as_deref().and_then(node_ref));
            children.extend(returning_clause.as_ref().map(NodeRef::ReturningClause));
            children.extend(with_clause.as_ref().map(NodeRef::WithClause));
        }
        NodeRef::UpdateStmt(p::UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(target_list.iter().filter_map(node_ref));
            children.extend(where_clause.as_deref().and_then(node_ref));
            children.extend(from_clause.iter().filter_map(node_ref));
            children.extend(returning_clause.as_ref().map(NodeRef::ReturningClause));
            children.extend(with_clause.as_ref().map(NodeRef::WithClause));
        }
        NodeRef::MergeStmt(p::MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(source_relation.as_deref().and_then(node_ref));
            children.extend(join_condition.as_deref().and_then(node_ref));
            children.extend(merge_when_clauses.iter().filter_map(node_ref));
            children.extend(returning_clause.as_ref().map(NodeRef::ReturningClause));
            children.extend(with_clause.as_ref().map(NodeRef::WithClause));
        }
        NodeRef::SelectStmt(p::SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        }) => {
            children.extend(distinct_clause.iter().filter_map(node_ref));
            children.extend(into_clause.as_deref().map(NodeRef::IntoClause));
            children.extend(target_list.iter().filter_map(node_ref));
            children.extend(from_clause.iter().filter_map(node_ref));
            children.extend(where_clause.as_deref().and_then(node_ref));
            children.extend(group_clause.iter().filter_map(node_ref));
            children.extend(having_clause.as_deref().and_then(node_ref));
            children.extend(window_clause.iter().filter_map(node_ref));
            children.extend(values_lists.iter().filter_map(node_ref));
            children.extend(sort_clause.iter().filter_map(node_ref));
            children.extend(limit_offset.as_deref().and_then(node_ref));
            children.extend(limit_count.as_deref().and_then(node_ref));
            children.extend(locking_clause.iter().filter_map(node_ref));
            children.extend(with_clause.as_ref().map(NodeRef::WithClause));
            children.extend(larg.as_deref().map(NodeRef::SelectStmt));
            children.extend(rarg.as_deref().map(NodeRef::SelectStmt));
        }
        NodeRef::ReturnStmt(p::ReturnStmt { returnval }) => {
            children.extend(returnval.as_deref().and_then(node_ref));
        }
        NodeRef::CreateSchemaStmt(p::CreateSchemaStmt {
            schemaname: _,
            authrole,
            schema_elts,
            if_not_exists: _,
        }) => {
            children.extend(authrole.as_ref().map(NodeRef::RoleSpec));
            children.extend(schema_elts.iter().filter_map(node_ref));
        }
        NodeRef::AlterTableStmt(p::AlterTableStmt {
            relation,
            cmds,
            objtype: _,
            missing_ok: _,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(cmds.iter().filter_map(node_ref));
        }
        NodeRef::AlterTableCmd(p::AlterTableCmd {
            subtype: _,
            name: _,
            num: _,
            newowner,
            def,
            behavior: _,
            missing_ok: _,
            recurse: _,
        }) => {
            children.extend(newowner.as_ref().map(NodeRef::RoleSpec));
            children.extend(def.as_deref().and_then(node_ref));
        }
        NodeRef::AtalterConstraint(p::AtAlterConstraint {
            conname: _,
            alter_enforceability: _,
            is_enforced: _,
            alter_deferrability: _,
            deferrable: _,
            initdeferred: _,
            alter_inheritability: _,
            noinherit: _,
        }) => {}
        NodeRef::ReplicaIdentityStmt(p::ReplicaIdentityStmt {
            identity_type: _,
            name: _,
        }) => {}
        NodeRef::AlterCollationStmt(p::AlterCollationStmt { collname }) => {
            children.extend(collname.iter().filter_map(node_ref));
        }
        NodeRef::AlterDomainStmt(p::AlterDomainStmt {
            subtype: _,
            type_name,
            name: _,
            def,
            behavior: _,
            missing_ok: _,
        }) => {
            children.extend(type_name.iter().filter_map(node_ref));
            children.extend(def.as_deref().and_then(node_ref));
        }
        NodeRef::GrantStmt(p::GrantStmt {
            is_grant: _,
            targtype: _,
            objtype: _,
            objects,
            privileges,
            grantees,
            grant_option: _,
            grantor,
            behavior: _,
        }) => {
            children.extend(objects.iter().filter_map(node_ref));
            children.extend(privileges.iter().filter_map(node_ref));
            children.extend(grantees.iter().filter_map(node_ref));
            children.extend(grantor.as_ref().map(NodeRef::RoleSpec));
        }
        NodeRef::ObjectWithArgs(p::ObjectWithArgs {
            objname,
            objargs,
            objfuncargs,
            args_unspecified: _,
        }) => {
            children.extend(objname.iter().filter_map(node_ref));
            children.extend(objargs.iter().filter_map(node_ref));
            children.extend(objfuncargs.iter().filter_map(node_ref));
        }
        NodeRef::AccessPriv(p::AccessPriv { priv_name: _, cols }) => {
            children.extend(cols.iter().filter_map(node_ref));
        }
        NodeRef::GrantRoleStmt(p::GrantRoleStmt {
            granted_roles,
            grantee_roles,
            is_grant: _,
            opt,
            grantor,
            behavior: _,
        }) => {
            children.extend(granted_roles.iter().filter_map(node_ref));
            children.extend(grantee_roles.iter().filter_map(node_ref));
            children.extend(opt.iter().filter_map(node_ref));
            children.extend(grantor.as_ref().map(NodeRef::RoleSpec));
        }
        NodeRef::AlterDefaultPrivilegesStmt(p::AlterDefaultPrivilegesStmt { options, action }) => {
            children.extend(options.iter().filter_map(node_ref));
            children.extend(action.as_ref().map(NodeRef::GrantStmt));
        }
        NodeRef::CopyStmt(p::CopyStmt {
            relation,
            query,
            attlist,
            is_from: _,
            is_program: _,
            filename: _,
            options,
            where_clause,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(query.as_deref().and_then(node_ref));
            children.extend(attlist.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
            children.extend(where_clause.as_deref().and_then(node_ref));
        }
        NodeRef::VariableSetStmt(p::VariableSetStmt {
            kind: _,
            name: _,
            args,
            jumble_args: _,
            is_local: _,
            location: _,
        }) => {
            children.extend(args.iter().filter_map(node_ref));
        }
        NodeRef::VariableShowStmt(p::VariableShowStmt { name: _ }) => {}
        NodeRef::CreateStmt(p::CreateStmt {
            relation,
            table_elts,
            inh_relations,
            partbound,
            partspec,
            of_typename,
            constraints,
            nnconstraints,
            options,
            oncommit: _,
            tablespacename: _,
            access_method: _,
            if_not_exists: _,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(table_elts.iter().filter_map(node_ref));
            children.extend(inh_relations.iter().filter_map(node_ref));
            children.extend(partbound.as_ref().map(NodeRef::PartitionBoundSpec));
            children.extend(partspec.as_ref().map(NodeRef::PartitionSpec));
            children.extend(of_typename.as_ref().map(NodeRef::TypeName));
            children.extend(constraints.iter().filter_map(node_ref));
            children.extend(nnconstraints.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::Constraint(p::Constraint {
            contype: _,
            conname: _,
            deferrable: _,
            initdeferred: _,
            is_enforced: _,
            skip_validation: _,
            initially_valid: _,
            is_no_inherit: _,
            raw_expr,
            cooked_expr: _,
            generated_when: _,
            generated_kind: _,
            nulls_not_distinct: _,
            keys,
            without_overlaps: _,
            including,
            exclusions,
            options,
            indexname: _,
            indexspace: _,
            reset_default_tblspc: _,
            access_method: _,
            where_clause,
            pktable,
            fk_attrs,
            pk_attrs,
            fk_with_period: _,
            pk_with_period: _,
            fk_matchtype: _,
            fk_upd_action: _,
            fk_del_action: _,
            fk_del_set_cols,
            old_conpfeqop,
            old_pktable_oid: _,
            location: _,
        }) => {
            children.extend(raw_expr.as_deref().and_then(node_ref));
            children.extend(keys.iter().filter_map(node_ref));
            children.extend(including.iter().filter_map(node_ref));
            children.extend(exclusions.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
            children.extend(where_clause.as_deref().and_then(node_ref));
            children.extend(pktable.as_ref().map(NodeRef::RangeVar));
            children.extend(fk_attrs.iter().filter_map(node_ref));
            children.extend(pk_attrs.iter().filter_map(node_ref));
            children.extend(fk_del_set_cols.iter().filter_map(node_ref));
            children.extend(old_conpfeqop.iter().filter_map(node_ref));
        }
        NodeRef::CreateTableSpaceStmt(p::CreateTableSpaceStmt {
            tablespacename: _,
            owner,
            location: _,
            options,
        }) => {
            children.extend(owner.as_ref().map(NodeRef::RoleSpec));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::DropTableSpaceStmt(p::DropTableSpaceStmt {
            tablespacename: _,
            missing_ok: _,
        }) => {}
        NodeRef::AlterTableSpaceOptionsStmt(p::AlterTableSpaceOptionsStmt {
            tablespacename: _,
            options,
            is_reset: _,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterTableMoveAllStmt(p::AlterTableMoveAllStmt {
            orig_tablespacename: _,
            objtype: _,
            roles,
            new_tablespacename: _,
            nowait: _,
        }) => {
            children.extend(roles.iter().filter_map(node_ref));
        }
        NodeRef::CreateExtensionStmt(p::CreateExtensionStmt {
            extname: _,
            if_not_exists: _,
            options,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterExtensionStmt(p::AlterExtensionStmt {
            extname: _,
            options,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterExtensionContentsStmt(p::AlterExtensionContentsStmt {
            extname: _,
            action: _,
            objtype: _,
            object,
        }) => {
            children.extend(object.as_deref().and_then(node_ref));
        }
        NodeRef::CreateFdwStmt(p::CreateFdwStmt {
            fdwname: _,
            func_options,
            options,
        }) => {
            children.extend(func_options.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterFdwStmt(p::AlterFdwStmt {
            fdwname: _,
            func_options,
            options,
        }) => {
            children.extend(func_options.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::CreateForeignServerStmt(p::CreateForeignServerStmt {
            servername: _,
            servertype: _,
            version: _,
            fdwname: _,
            if_not_exists: _,
            options,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterForeignServerStmt(p::AlterForeignServerStmt {
            servername: _,
            version: _,
            options,
            has_version: _,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::CreateForeignTableStmt(p::CreateForeignTableStmt {
            base_stmt,
            servername: _,
            options,
        }) => {
            children.extend(base_stmt.as_ref().map(NodeRef::CreateStmt));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::CreateUserMappingStmt(p::CreateUserMappingStmt {
            user,
            servername: _,
            if_not_exists: _,
            options,
        }) => {
            children.extend(user.as_ref().map(NodeRef::RoleSpec));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterUserMappingStmt(p::AlterUserMappingStmt {
            user,
            servername: _,
            options,
        }) => {
            children.extend(user.as_ref().map(NodeRef::RoleSpec));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::DropUserMappingStmt(p::DropUserMappingStmt {
            user,
            servername: _,
            missing_ok: _,
        }) => {
            children.extend(user.as_ref().map(NodeRef::RoleSpec));
        }
        NodeRef::ImportForeignSchemaStmt(p::ImportForeignSchemaStmt {
            server_name: _,
            remote_schema: _,
            local_schema: _,
            list_type: _,
            table_list,
            options,
        }) => {
            children.extend(table_list.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::CreatePolicyStmt(p::CreatePolicyStmt {
            policy_name: _,
            table,
            cmd_name: _,
            permissive: _,
            roles,
            qual,
            with_check,
        }) => {
            children.extend(table.as_ref().map(NodeRef::RangeVar));
            children.extend(roles.iter().filter_map(node_ref));
            children.extend(qual.as_deref().and_then(node_ref));
            children.extend(with_check.as_deref().and_then(node_ref));
        }
        NodeRef::AlterPolicyStmt(p::AlterPolicyStmt {
            policy_name: _,
            table,
            roles,
            qual,
            with_check,
        }) => {
            children.extend(table.as_ref().map(NodeRef::RangeVar));
            children.extend(roles.iter().filter_map(node_ref));
            children.extend(qual.as_deref().and_then(node_ref));
            children.extend(with_check.as_deref().and_then(node_ref));
        }
        NodeRef::CreateAmStmt(p::CreateAmStmt {
            amname: _,
            handler_name,
            amtype: _,
        }) => {
            children.extend(handler_name.iter().filter_map(node_ref));
        }
        NodeRef::CreateTrigStmt(p::CreateTrigStmt {
            replace: _,
            isconstraint: _,
            trigname: _,
            relation,
            funcname,
            args,
            row: _,
            timing: _,
            events: _,
            columns,
            when_clause,
            transition_rels,
            deferrable: _,
            initdeferred: _,
            constrrel,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(funcname.iter().filter_map(node_ref));
            children.extend(args.iter().filter_map(node_ref));
            children.extend(columns.iter().filter_map(node_ref));
            children.extend(when_clause.as_deref().and_then(node_ref));
            children.extend(transition_rels.iter().filter_map(node_ref));
            children.extend(constrrel.as_ref().map(NodeRef::RangeVar));
        }
        NodeRef::CreateEventTrigStmt(p::CreateEventTrigStmt {
            trigname: _,
            eventname: _,
            whenclause,
            funcname,
        }) => {
            children.extend(whenclause.iter().filter_map(node_ref));
            children.extend(funcname.iter().filter_map(node_ref));
        }
        NodeRef::AlterEventTrigStmt(p::AlterEventTrigStmt {
            trigname: _,
            tgenabled: _,
        }) => {}
        NodeRef::CreatePlangStmt(p::CreatePLangStmt {
            replace: _,
            plname: _,
            plhandler,
            plinline,
            plvalidator,
            pltrusted: _,
        }) => {
            children.extend(plhandler.iter().filter_map(node_ref));
            children.extend(plinline.iter().filter_map(node_ref));
            children.extend(plvalidator.iter().filter_map(node_ref));
        }
        NodeRef::CreateRoleStmt(p::CreateRoleStmt {
            stmt_type: _,
            role: _,
            options,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterRoleStmt(p::AlterRoleStmt {
            role,
            options,
            action: _,
        }) => {
            children.extend(role.as_ref().map(NodeRef::RoleSpec));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterRoleSetStmt(p::AlterRoleSetStmt {
            role,
            database: _,
            setstmt,
        }) => {
            children.extend(role.as_ref().map(NodeRef::RoleSpec));
            children.extend(setstmt.as_ref().map(NodeRef::VariableSetStmt));
        }
        NodeRef::DropRoleStmt(p::DropRoleStmt {
            roles,
            missing_ok: _,
        }) => {
            children.extend(roles.iter().filter_map(node_ref));
        }
        NodeRef::CreateSeqStmt(p::CreateSeqStmt {
            sequence,
            options,
            owner_id: _,
            for_identity: _,
            if_not_exists: _,
        }) => {
            children.extend(sequence.as_ref().map(NodeRef::RangeVar));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterSeqStmt(p::AlterSeqStmt {
            sequence,
            options,
            for_identity: _,
            missing_ok: _,
        }) => {
            children.extend(sequence.as_ref().map(NodeRef::RangeVar));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::DefineStmt(p::DefineStmt {
            kind: _,
            oldstyle: _,
            defnames,
            args,
            definition,
            if_not_exists: _,
            replace: _,
        }) => {
            children.extend(defnames.iter().filter_map(node_ref));
            children.extend(args.iter().filter_map(node_ref));
            children.extend(definition.iter().filter_map(node_ref));
        }
        NodeRef::CreateDomainStmt(p::CreateDomainStmt {
            domainname,
            type_name,
            coll_clause,
            constraints,
        }) => {
            children.extend(domainname.iter().filter_map(node_ref));
            children.extend(type_name.as_ref().map(NodeRef::TypeName));
            children.extend(coll_clause.as_deref().map(NodeRef::CollateClause));
            children.extend(constraints.iter().filter_map(node_ref));
        }
        NodeRef::CreateOpClassStmt(p::CreateOpClassStmt {
            opclassname,
            opfamilyname,
            amname: _,
            datatype,
            items,
            is_default: _,
        }) => {
            children.extend(opclassname.iter().filter_map(node_ref));
            children.extend(opfamilyname.iter().filter_map(node_ref));
            children.extend(datatype.as_ref().map(NodeRef::TypeName));
            children.extend(items.iter().filter_map(node_ref));
        }
        NodeRef::CreateOpClassItem(p::CreateOpClassItem {
            itemtype: _,
            name,
            number: _,
            order_family,
            class_args,
            storedtype,
        }) => {
            children.extend(name.as_ref().map(NodeRef::ObjectWithArgs));
            children.extend(order_family.iter().filter_map(node_ref));
            children.extend(class_args.iter().filter_map(node_ref));
            children.extend(storedtype.as_ref().map(NodeRef::TypeName));
        }
        NodeRef::CreateOpFamilyStmt(p::CreateOpFamilyStmt {
            opfamilyname,
            amname: _,
        }) => {
            children.extend(opfamilyname.iter().filter_map(node_ref));
        }
        NodeRef::AlterOpFamilyStmt(p::AlterOpFamilyStmt {
            opfamilyname,
            amname: _,
            is_drop: _,
            items,
        }) => {
            children.extend(opfamilyname.iter().filter_map(node_ref));
            children.extend(items.iter().filter_map(node_ref));
        }
        NodeRef::DropStmt(p::DropStmt {
            objects,
            remove_type: _,
            behavior: _,
            missing_ok: _,
            concurrent: _,
        }) => {
            children.extend(objects.iter().filter_map(node_ref));
        }
        NodeRef::TruncateStmt(p::TruncateStmt {
            relations,
            restart_seqs: _,
            behavior: _,
        }) => {
            children.extend(relations.iter().filter_map(node_ref));
        }
        NodeRef::CommentStmt(p::CommentStmt {
            objtype: _,
            object,
            comment: _,
        }) => {
            children.extend(object.as_deref().and_then(node_ref));
        }
        NodeRef::SecLabelStmt(p::SecLabelStmt {
            objtype: _,
            object,
            provider: _,
            label: _,
        }) => {
            children.extend(object.as_deref().and_then(node_ref));
        }
        NodeRef::DeclareCursorStmt(p::DeclareCursorStmt {
            portalname: _,
            options: _,
            query,
        }) => {
            children.extend(query.as_deref().and_then(node_ref));
        }
        NodeRef::ClosePortalStmt(p::ClosePortalStmt { portalname: _ }) => {}
        NodeRef::FetchStmt(p::FetchStmt {
            direction: _,
            how_many: _,
            portalname: _,
            ismove: _,
        }) => {}
        NodeRef::IndexStmt(p::IndexStmt {
            idxname: _,
            relation,
            access_method: _,
            table_space: _,
            index_params,
            index_including_params,
            options,
            where_clause,
            exclude_op_names,
            idxcomment: _,
            index_oid: _,
            old_number: _,
            old_create_subid: _,
            old_first_relfilelocator_subid: _,
            unique: _,
            nulls_not_distinct: _,
            primary: _,
            isconstraint: _,
            iswithoutoverlaps: _,
            deferrable: _,
            initdeferred: _,
            transformed: _,
            concurrent: _,
            if_not_exists: _,
            reset_default_tblspc: _,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(index_params.iter().filter_map(node_ref));
            children.extend(index_including_params.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
            children.extend(where_clause.as_deref().and_then(node_ref));
            children.extend(exclude_op_names.iter().filter_map(node_ref));
        }
        NodeRef::CreateStatsStmt(p::CreateStatsStmt {
            defnames,
            stat_types,
            exprs,
            relations,
            stxcomment: _,
            transformed: _,
            if_not_exists: _,
        }) => {
            children.extend(defnames.iter().filter_map(node_ref));
            children.extend(stat_types.iter().filter_map(node_ref));
            children.extend(exprs.iter().filter_map(node_ref));
            children.extend(relations.iter().filter_map(node_ref));
        }
        NodeRef::StatsElem(p::StatsElem { name: _, expr }) => {
            children.extend(expr.as_deref().and_then(node_ref));
        }
        NodeRef::AlterStatsStmt(p::AlterStatsStmt {
            defnames,
            stxstattarget,
            missing_ok: _,
        }) => {
            children.extend(defnames.iter().filter_map(node_ref));
            children.extend(stxstattarget.as_deref().and_then(node_ref));
        }
        NodeRef::CreateFunctionStmt(p::CreateFunctionStmt {
            is_procedure: _,
            replace: _,
            funcname,
            parameters,
            return_type,
            options,
            sql_body,
        }) => {
            children.extend(funcname.iter().filter_map(node_ref));
            children.extend(parameters.iter().filter_map(node_ref));
            children.extend(return_type.as_ref().map(NodeRef::TypeName));
            children.extend(options.iter().filter_map(node_ref));
            children.extend(sql_body.as_deref().and_then(node_ref));
        }
        NodeRef::FunctionParameter(p::FunctionParameter {
            name: _,
            arg_type,
            mode: _,
            defexpr,
            location: _,
        }) => {
            children.extend(arg_type.as_ref().map(NodeRef::TypeName));
            children.extend(defexpr.as_deref().and_then(node_ref));
        }
        NodeRef::AlterFunctionStmt(p::AlterFunctionStmt {
            objtype: _,
            func,
            actions,
        }) => {
            children.extend(func.as_ref().map(NodeRef::ObjectWithArgs));
            children.extend(actions.iter().filter_map(node_ref));
        }
        NodeRef::DoStmt(p::DoStmt { args }) => {
            children.extend(args.iter().filter_map(node_ref));
        }
        NodeRef::CallStmt(p::CallStmt {
            funccall,
            funcexpr,
            outargs,
        }) => {
            children.extend(funccall.as_deref().map(NodeRef::FuncCall));
            children.extend(funcexpr.as_deref().map(NodeRef::FuncExpr));
            children.extend(outargs.iter().filter_map(node_ref));
        }
        NodeRef::RenameStmt(p::RenameStmt {
            rename_type: _,
            relation_type: _,
            relation,
            object,
            subname: _,
            newname: _,
            behavior: _,
            missing_ok: _,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(object.as_deref().and_then(node_ref));
        }
        NodeRef::AlterObjectDependsStmt(p::AlterObjectDependsStmt {
            object_type: _,
            relation,
            object,
            extname,
            remove: _,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(object.as_deref().and_then(node_ref));
            children.extend(extname.as_ref().map(NodeRef::String));
        }
        NodeRef::AlterObjectSchemaStmt(p::AlterObjectSchemaStmt {
            object_type: _,
            relation,
            object,
            newschema: _,
            missing_ok: _,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(object.as_deref().and_then(node_ref));
        }
        NodeRef::AlterOwnerStmt(p::AlterOwnerStmt {
            object_type: _,
            relation,
            object,
            newowner,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(object.as_deref().and_then(node_ref));
            children.extend(newowner.as_ref().map(NodeRef::RoleSpec));
        }
        NodeRef::AlterOperatorStmt(p::AlterOperatorStmt { opername, options }) => {
            children.extend(opername.as_ref().map(NodeRef::ObjectWithArgs));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterTypeStmt(p::AlterTypeStmt { type_name, options }) => {
            children.extend(type_name.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::RuleStmt(p::RuleStmt {
            relation,
            rulename: _,
            where_clause,
            event: _,
            instead: _,
            actions,
            replace: _,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(where_clause.as_deref().and_then(node_ref));
            children.extend(actions.iter().filter_map(node_ref));
        }
        NodeRef::NotifyStmt(p::NotifyStmt {
            conditionname: _,
            payload: _,
            payload_location: _,
        }) => {}
        NodeRef::ListenStmt(p::ListenStmt { conditionname: _ }) => {}
        NodeRef::UnlistenStmt(p::UnlistenStmt { conditionname: _ }) => {}
        NodeRef::TransactionStmt(p::TransactionStmt {
            kind: _,
            options,
            savepoint_name: _,
            gid: _,
            chain: _,
            location: _,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::CompositeTypeStmt(p::CompositeTypeStmt {
            typevar,
            coldeflist,
        }) => {
            children.extend(typevar.as_ref().map(NodeRef::RangeVar));
            children.extend(coldeflist.iter().filter_map(node_ref));
        }
        NodeRef::CreateEnumStmt(p::CreateEnumStmt { type_name, vals }) => {
            children.extend(type_name.iter().filter_map(node_ref));
            children.extend(vals.iter().filter_map(node_ref));
        }
        NodeRef::CreateRangeStmt(p::CreateRangeStmt { type_name, params }) => {
            children.extend(type_name.iter().filter_map(node_ref));
            children.extend(params.iter().filter_map(node_ref));
        }
        NodeRef::AlterEnumStmt(p::AlterEnumStmt {
            type_name,
            old_val: _,
            new_val: _,
            new_val_neighbor: _,
            new_val_is_after: _,
            skip_if_new_val_exists: _,
        }) => {
            children.extend(type_name.iter().filter_map(node_ref));
        }
        NodeRef::ViewStmt(p::ViewStmt {
            view,
            aliases,
            query,
            replace: _,
            options,
            with_check_option: _,
        }) => {
            children.extend(view.as_ref().map(NodeRef::RangeVar));
            children.extend(aliases.iter().filter_map(node_ref));
            children.extend(query.as_deref().and_then(node_ref));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::LoadStmt(p::LoadStmt { filename: _ }) => {}
        NodeRef::CreatedbStmt(p::CreatedbStmt { dbname: _, options }) => {
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterDatabaseStmt(p::AlterDatabaseStmt { dbname: _, options }) => {
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterDatabaseRefreshCollStmt(p::AlterDatabaseRefreshCollStmt { dbname: _ }) => {}
        NodeRef::AlterDatabaseSetStmt(p::AlterDatabaseSetStmt { dbname: _, setstmt }) => {
            children.extend(setstmt.as_ref().map(NodeRef::VariableSetStmt));
        }
        NodeRef::DropdbStmt(p::DropdbStmt {
            dbname: _,
            missing_ok: _,
            options,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterSystemStmt(p::AlterSystemStmt { setstmt }) => {
            children.extend(setstmt.as_ref().map(NodeRef::VariableSetStmt));
        }
        NodeRef::ClusterStmt(p::ClusterStmt {
            relation,
            indexname: _,
            params,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(params.iter().filter_map(node_ref));
        }
        NodeRef::VacuumStmt(p::VacuumStmt {
            options,
            rels,
            is_vacuumcmd: _,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
            children.extend(rels.iter().filter_map(node_ref));
        }
        NodeRef::VacuumRelation(p::VacuumRelation {
            relation,
            oid: _,
            va_cols,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(va_cols.iter().filter_map(node_ref));
        }
        NodeRef::ExplainStmt(p::ExplainStmt { query, options }) => {
            children.extend(query.as_deref().and_then(node_ref));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::CreateTableAsStmt(p::CreateTableAsStmt {
            query,
            into,
            objtype: _,
            is_select_into: _,
            if_not_exists: _,
        }) => {
            children.extend(query.as_deref().and_then(node_ref));
            children.extend(into.as_deref().map(NodeRef::IntoClause));
        }
        NodeRef::RefreshMatViewStmt(p::RefreshMatViewStmt {
            concurrent: _,
            skip_data: _,
            relation,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
        }
        NodeRef::CheckPointStmt(p::CheckPointStmt {}) => {}
        NodeRef::DiscardStmt(p::DiscardStmt { target: _ }) => {}
        NodeRef::LockStmt(p::LockStmt {
            relations,
            mode: _,
            nowait: _,
        }) => {
            children.extend(relations.iter().filter_map(node_ref));
        }
        NodeRef::ConstraintsSetStmt(p::ConstraintsSetStmt {
            constraints,
            deferred: _,
        }) => {
            children.extend(constraints.iter().filter_map(node_ref));
        }
        NodeRef::ReindexStmt(p::ReindexStmt {
            kind: _,
            relation,
            name: _,
            params,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(params.iter().filter_map(node_ref));
        }
        NodeRef::CreateConversionStmt(p::CreateConversionStmt {
            conversion_name,
            for_encoding_name: _,
            to_encoding_name: _,
            func_name,
            def: _,
        }) => {
            children.extend(conversion_name.iter().filter_map(node_ref));
            children.extend(func_name.iter().filter_map(node_ref));
        }
        NodeRef::CreateCastStmt(p::CreateCastStmt {
            sourcetype,
            targettype,
            func,
            context: _,
            inout: _,
        }) => {
            children.extend(sourcetype.as_ref().map(NodeRef::TypeName));
            children.extend(targettype.as_ref().map(NodeRef::TypeName));
            children.extend(func.as_ref().map(NodeRef::ObjectWithArgs));
        }
        NodeRef::CreateTransformStmt(p::CreateTransformStmt {
            replace: _,
            type_name,
            lang: _,
            fromsql,
            tosql,
        }) => {
            children.extend(type_name.as_ref().map(NodeRef::TypeName));
            children.extend(fromsql.as_ref().map(NodeRef::ObjectWithArgs));
            children.extend(tosql.as_ref().map(NodeRef::ObjectWithArgs));
        }
        NodeRef::PrepareStmt(p::PrepareStmt {
            name: _,
            argtypes,
            query,
        }) => {
            children.extend(argtypes.iter().filter_map(node_ref));
            children.extend(query.as_deref().and_then(node_ref));
        }
        NodeRef::ExecuteStmt(p::ExecuteStmt { name: _, params }) => {
            children.extend(params.iter().filter_map(node_ref));
        }
        NodeRef::DeallocateStmt(p::DeallocateStmt {
            name: _,
            isall: _,
            location: _,
        }) => {}
        NodeRef::DropOwnedStmt(p::DropOwnedStmt { roles, behavior: _ }) => {
            children.extend(roles.iter().filter_map(node_ref));
        }
        NodeRef::ReassignOwnedStmt(p::ReassignOwnedStmt { roles, newrole }) => {
            children.extend(roles.iter().filter_map(node_ref));
            children.extend(newrole.as_ref().map(NodeRef::RoleSpec));
        }
        NodeRef::AlterTsdictionaryStmt(p::AlterTsDictionaryStmt { dictname, options }) => {
            children.extend(dictname.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterTsconfigurationStmt(p::AlterTsConfigurationStmt {
            kind: _,
            cfgname,
            tokentype,
            dicts,
            r#override: _,
            replace: _,
            missing_ok: _,
        }) => {
            children.extend(cfgname.iter().filter_map(node_ref));
            children.extend(tokentype.iter().filter_map(node_ref));
            children.extend(dicts.iter().filter_map(node_ref));
        }
        NodeRef::PublicationTable(p::PublicationTable {
            relation,
            where_clause,
            columns,
        }) => {
            children.extend(relation.as_ref().map(NodeRef::RangeVar));
            children.extend(where_clause.as_deref().and_then(node_ref));
            children.extend(columns.iter().filter_map(node_ref));
        }
        NodeRef::PublicationObjSpec(p::PublicationObjSpec {
            pubobjtype: _,
            name: _,
            pubtable,
            location: _,
        }) => {
            children.extend(pubtable.as_deref().map(NodeRef::PublicationTable));
        }
        NodeRef::CreatePublicationStmt(p::CreatePublicationStmt {
            pubname: _,
            options,
            pubobjects,
            for_all_tables: _,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
            children.extend(pubobjects.iter().filter_map(node_ref));
        }
        NodeRef::AlterPublicationStmt(p::AlterPublicationStmt {
            pubname: _,
            options,
            pubobjects,
            for_all_tables: _,
            action: _,
        }) => {
            children.extend(options.iter().filter_map(node_ref));
            children.extend(pubobjects.iter().filter_map(node_ref));
        }
        NodeRef::CreateSubscriptionStmt(p::CreateSubscriptionStmt {
            subname: _,
            conninfo: _,
            publication,
            options,
            conninfo_location: _,
        }) => {
            children.extend(publication.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::AlterSubscriptionStmt(p::AlterSubscriptionStmt {
            kind: _,
            subname: _,
            conninfo: _,
            publication,
            options,
            conninfo_location: _,
        }) => {
            children.extend(publication.iter().filter_map(node_ref));
            children.extend(options.iter().filter_map(node_ref));
        }
        NodeRef::DropSubscriptionStmt(p::DropSubscriptionStmt {
            subname: _,
            missing_ok: _,
            behavior: _,
        }) => {}
        NodeRef::Integer(p::Integer { ival: _ }) => {}
        NodeRef::Float(p::Float { fval: _ }) => {}
        NodeRef::Boolean(p::Boolean { boolval: _ }) => {}
        NodeRef::String(p::String { sval: _ }) => {}
        NodeRef::BitString(p::BitString { bsval: _ }) => {}
        NodeRef::List(p::List { items }) => {
            children.extend(items.iter().filter_map(node_ref));
        }
        NodeRef::IntList(p::IntList { items }) => {
            children.extend(items.iter().filter_map(node_ref));
        }
        NodeRef::OidList(p::OidList { items }) => {
            children.extend(items.iter().filter_map(node_ref));
        }
        NodeRef::AConst(p::AConst {
            isnull: _,
            location: _,
            val: _,
        }) => {}
        NodeRef::TableFunc(_)
        | NodeRef::Var(_)
        | NodeRef::Param(_)
        | NodeRef::Aggref(_)
        | NodeRef::WindowFunc(_)
        | NodeRef::WindowFuncRunCondition(_)
        | NodeRef::SubscriptingRef(_)
        | NodeRef::FuncExpr(_)
        | NodeRef::OpExpr(_)
        | NodeRef::DistinctExpr(_)
        | NodeRef::NullIfExpr(_)
        | NodeRef::ScalarArrayOpExpr(_)
        | NodeRef::SubPlan(_)
        | NodeRef::AlternativeSubPlan(_)
        | NodeRef::FieldSelect(_)
        | NodeRef::FieldStore(_)
        | NodeRef::RelabelType(_)
        | NodeRef::CoerceViaIo(_)
        | NodeRef::ArrayCoerceExpr(_)
        | NodeRef::ConvertRowtypeExpr(_)
        | NodeRef::CollateExpr(_)
        | NodeRef::CaseTestExpr(_)
        | NodeRef::ArrayExpr(_)
        | NodeRef::RowCompareExpr(_)
        | NodeRef::JsonConstructorExpr(_)
        | NodeRef::JsonExpr(_)
        | NodeRef::JsonTablePath(_)
        | NodeRef::JsonTablePathScan(_)
        | NodeRef::JsonTableSiblingJoin(_)
        | NodeRef::MergeAction(_)
        | NodeRef::CoerceToDomain(_)
        | NodeRef::CoerceToDomainValue(_)
        | NodeRef::NextValueExpr(_)
        | NodeRef::InferenceElem(_)
        | NodeRef::ReturningExpr(_)
        | NodeRef::TargetEntry(_)
        | NodeRef::RangeTblRef(_)
        | NodeRef::FromExpr(_)
        | NodeRef::OnConflictExpr(_)
        | NodeRef::Query(_)
        | NodeRef::RangeTblEntry(_)
        | NodeRef::RtepermissionInfo(_)
        | NodeRef::RangeTblFunction(_)
        | NodeRef::TableSampleClause(_)
        | NodeRef::WithCheckOption(_)
        | NodeRef::SortGroupClause(_)
        | NodeRef::WindowClause(_)
        | NodeRef::RowMarkClause(_)
        | NodeRef::SetOperationStmt(_)
        | NodeRef::PlassignStmt(_)
        | NodeRef::InlineCodeBlock(_)
        | NodeRef::CallContext(_) => {}
    }
}

pub(super) fn node_ref(node: &pg_query::Node) -> Option<NodeRef<'_>> {
    node.node.as_ref().map(pg_query::NodeEnum::to_ref)
}
