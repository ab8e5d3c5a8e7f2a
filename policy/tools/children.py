#!/usr/bin/env python3
"""Writes policy/src/sql/children.rs from pg_query's generated protobuf.rs.

    python3 policy/tools/children.py ~/.cargo/registry/src/*/pg_query-18.1.0/src/protobuf.rs \
        > policy/src/sql/children.rs && rustfmt --edition 2024 policy/src/sql/children.rs

The output destructures every message that the raw parser makes, without `..`,
so a release of pg_query with a new node or a new field does not compile until
this script has run again and the result was looked at.
"""
import re
import sys

source = open(sys.argv[1]).read()

# Made by parse analysis or planning only, never by the raw parser.
ANALYSED = set("""
TableFunc Var Param Aggref WindowFunc WindowFuncRunCondition SubscriptingRef FuncExpr OpExpr
DistinctExpr NullIfExpr ScalarArrayOpExpr SubPlan AlternativeSubPlan FieldSelect FieldStore RelabelType
CoerceViaIo ArrayCoerceExpr ConvertRowtypeExpr CollateExpr CaseTestExpr ArrayExpr RowCompareExpr
JsonConstructorExpr JsonExpr JsonTablePath JsonTablePathScan JsonTableSiblingJoin MergeAction CoerceToDomain
CoerceToDomainValue NextValueExpr InferenceElem ReturningExpr TargetEntry RangeTblRef FromExpr OnConflictExpr
Query RangeTblEntry RtepermissionInfo RangeTblFunction TableSampleClause WithCheckOption SortGroupClause
WindowClause RowMarkClause SetOperationStmt InlineCodeBlock CallContext PlassignStmt
""".split())

structs = {}
for match in re.finditer(r'pub struct (\w+) \{(.*?)\n?\}', source, re.S):
    fields = re.findall(r'pub (r#)?(\w+): (.*?),(?=\n    #|\s*$)', match.group(2), re.S)
    structs[match.group(1)] = [(raw + name, re.sub(r'\s+', '', kind).replace(',>', '>')) for raw, name, kind in fields]
for name in re.findall(r'pub struct (\w+) \{\}', source):
    structs[name] = []

oneof = re.search(r'pub mod node \{.*?pub enum Node \{(.*?)\n    \}', source, re.S).group(1)
variants = re.findall(r'(\w+)\(\s*(?:::prost::alloc::boxed::Box<)?super::(\w+)', oneof)
variant_of = {message: variant for variant, message in variants}

BOX = r'(?:::prost::alloc::boxed::Box<)?'
print('//! The children of each node that PostgreSQL\'s raw parser makes, in field order.')
print('//!')
print('//! Written by `policy/tools/children.py`; says nothing about what a node means.')
print()
print('use pg_query::{NodeRef, protobuf as p};')
print()
print('/// Appends the direct children of `node` to `children`.')
print('///')
print('/// Nodes that only parse analysis makes have none here: the walker refuses them.')
print("pub(super) fn append_children<'a>(node: NodeRef<'a>, children: &mut Vec<NodeRef<'a>>) {")
print('    match node {')
skipped = []
for variant, message in variants:
    if variant in ANALYSED:
        skipped.append(variant)
        continue
    fields = structs[message]
    body, names = [], []
    for name, kind in fields:
        target = None
        many = re.fullmatch(r'::prost::alloc::vec::Vec<(\w+)>', kind)
        one = re.fullmatch(r'::core::option::Option<' + BOX + r'(\w+)>+', kind)
        if many and many.group(1) == 'Node':
            target = f'children.extend({name}.iter().filter_map(node_ref));'
        elif one and one.group(1) == 'Node':
            target = f'children.extend({name}.as_deref().and_then(node_ref));'
        elif one and one.group(1) in variant_of:
            v = variant_of[one.group(1)]
            if v in ANALYSED:
                # Filled by parse analysis; empty in a raw tree.
                target = f'children.extend({name}.as_deref().map(NodeRef::{v}));'
            else:
                deref = 'as_deref' if 'Box<' in kind else 'as_ref'
                target = f'children.extend({name}.{deref}().map(NodeRef::{v}));'
        elif many and many.group(1) in variant_of:
            raise SystemExit(f'{message}.{name}: repeated {many.group(1)}')
        elif 'Option' in kind and 'a_const' not in kind:
            raise SystemExit(f'{message}.{name}: {kind}')
        names.append(name if target else f'{name}: _')
        if target:
            body.append(target)
    pattern = f'p::{message} {{ {", ".join(names)} }}' if names else f'p::{message} {{}}'
    print(f'        NodeRef::{variant}({pattern}) => {{ {" ".join(body)} }}')
print('        ' + ' | '.join(f'NodeRef::{v}(_)' for v in skipped) + ' => {}')
print('    }')
print('}')
print()
print("pub(super) fn node_ref(node: &pg_query::Node) -> Option<NodeRef<'_>> {")
print('    node.node.as_ref().map(pg_query::NodeEnum::to_ref)')
print('}')
