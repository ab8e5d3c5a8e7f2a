//! Every node kind of PostgreSQL's grammar, and how the walker handles it.
//!
//! What a statement's effects are is said in `postgres`.

use pg_query::NodeRef;

/// How the walker treats a node kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handling {
    /// Has effects of its own, found by the walker's code for that kind.
    Judged,
    /// Has no effect of its own; its children are walked.
    Through,
    /// Is made by parse analysis or planning, never by the raw parser: `unknown`.
    Unexpected,
}

macro_rules! nodes {
    ($($handling:ident { $($node:ident)* })*) => {
        /// Node kinds and their handling; the compiler holds that none is missing.
        pub const NODES: &[(&str, Handling)] =
            &[$($((stringify!($node), Handling::$handling),)*)*];

        /// The name of a node's kind, and its handling.
        pub(super) fn kind(node: NodeRef<'_>) -> (&'static str, Handling) {
            match node {
                $($(NodeRef::$node(_) => (stringify!($node), Handling::$handling),)*)*
            }
        }
    };
}

nodes! {
    Judged {
        RangeVar IntoClause AExpr SubLink FuncCall SortBy RangeSubselect RangeTableSample WithClause
        MergeWhenClause
        SelectStmt InsertStmt UpdateStmt DeleteStmt MergeStmt
        CopyStmt VariableSetStmt VariableShowStmt TransactionStmt ConstraintsSetStmt DiscardStmt
        ExplainStmt PrepareStmt ExecuteStmt DeallocateStmt DeclareCursorStmt FetchStmt ClosePortalStmt
        ListenStmt UnlistenStmt NotifyStmt LockStmt DoStmt CallStmt LoadStmt CheckPointStmt
        VacuumStmt ClusterStmt ReindexStmt RefreshMatViewStmt
        TruncateStmt DropStmt CommentStmt SecLabelStmt RenameStmt AlterObjectDependsStmt
        AlterObjectSchemaStmt AlterOwnerStmt
        CreateStmt CreateTableAsStmt ViewStmt IndexStmt RuleStmt CreateTrigStmt CreatePolicyStmt
        AlterPolicyStmt AlterTableStmt AlterTableCmd AlterTableMoveAllStmt CreateSeqStmt AlterSeqStmt
        CreateStatsStmt AlterStatsStmt CreateSchemaStmt
        DefineStmt CompositeTypeStmt CreateEnumStmt CreateRangeStmt CreateDomainStmt AlterDomainStmt
        AlterTypeStmt AlterEnumStmt AlterCollationStmt AlterOperatorStmt AlterTsdictionaryStmt
        AlterTsconfigurationStmt CreateConversionStmt CreateCastStmt CreateTransformStmt
        CreateOpClassStmt CreateOpFamilyStmt AlterOpFamilyStmt
        CreateFunctionStmt AlterFunctionStmt
        GrantStmt GrantRoleStmt AlterDefaultPrivilegesStmt CreateRoleStmt AlterRoleStmt
        AlterRoleSetStmt DropRoleStmt DropOwnedStmt ReassignOwnedStmt
        CreatedbStmt AlterDatabaseStmt AlterDatabaseRefreshCollStmt AlterDatabaseSetStmt DropdbStmt
        AlterSystemStmt CreateTableSpaceStmt DropTableSpaceStmt AlterTableSpaceOptionsStmt
        CreateExtensionStmt AlterExtensionStmt AlterExtensionContentsStmt CreatePlangStmt CreateAmStmt
        CreateEventTrigStmt AlterEventTrigStmt CreateFdwStmt AlterFdwStmt CreateForeignServerStmt
        AlterForeignServerStmt CreateForeignTableStmt CreateUserMappingStmt AlterUserMappingStmt
        DropUserMappingStmt ImportForeignSchemaStmt CreatePublicationStmt AlterPublicationStmt
        PublicationObjSpec CreateSubscriptionStmt AlterSubscriptionStmt DropSubscriptionStmt
    }
    Through {
        Alias GroupingFunc MergeSupportFunc NamedArgExpr BoolExpr CaseExpr CaseWhen RowExpr CoalesceExpr
        MinMaxExpr SqlvalueFunction XmlExpr JsonFormat JsonReturning JsonValueExpr JsonIsPredicate
        JsonBehavior NullTest BooleanTest SetToDefault CurrentOfExpr JoinExpr TypeName ColumnRef ParamRef
        TypeCast CollateClause RoleSpec AStar AIndices AIndirection AArrayExpr ResTarget MultiAssignRef
        WindowDef RangeFunction RangeTableFunc RangeTableFuncCol ColumnDef TableLikeClause IndexElem
        DefElem LockingClause XmlSerialize PartitionElem PartitionSpec PartitionBoundSpec
        PartitionRangeDatum PartitionCmd GroupingSet InferClause OnConflictClause CtesearchClause
        CtecycleClause CommonTableExpr ReturningOption ReturningClause TriggerTransition JsonOutput
        JsonArgument JsonFuncExpr JsonTablePathSpec JsonTable JsonTableColumn JsonKeyValue JsonParseExpr
        JsonScalarExpr JsonSerializeExpr JsonObjectConstructor JsonArrayConstructor
        JsonArrayQueryConstructor JsonAggConstructor JsonObjectAgg JsonArrayAgg RawStmt ReturnStmt
        AtalterConstraint ReplicaIdentityStmt ObjectWithArgs AccessPriv Constraint CreateOpClassItem
        StatsElem FunctionParameter VacuumRelation PublicationTable
        Integer Float Boolean String BitString List IntList OidList AConst
    }
    Unexpected {
        TableFunc Var Param Aggref WindowFunc WindowFuncRunCondition SubscriptingRef FuncExpr OpExpr
        DistinctExpr NullIfExpr ScalarArrayOpExpr SubPlan AlternativeSubPlan FieldSelect FieldStore
        RelabelType CoerceViaIo ArrayCoerceExpr ConvertRowtypeExpr CollateExpr CaseTestExpr ArrayExpr
        RowCompareExpr JsonConstructorExpr JsonExpr JsonTablePath JsonTablePathScan JsonTableSiblingJoin
        MergeAction CoerceToDomain CoerceToDomainValue NextValueExpr InferenceElem ReturningExpr
        TargetEntry RangeTblRef FromExpr OnConflictExpr Query RangeTblEntry RtepermissionInfo
        RangeTblFunction TableSampleClause WithCheckOption SortGroupClause WindowClause RowMarkClause
        SetOperationStmt InlineCodeBlock CallContext PlassignStmt
    }
}
