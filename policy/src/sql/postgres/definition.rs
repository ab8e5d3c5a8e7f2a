//! The walk over statements that define, change and remove objects, roles and privileges.
//!
//! What a definition is made of (queries, functions, other tables) counts besides.

use pg_query::protobuf as p;
use pg_query::protobuf::ObjectType as Kind;
use pg_query::{Node, NodeEnum, NodeRef};

use super::setting::is_secret;
use super::walker::{Via, Walker, name_of, relation_name, string_of};
use crate::class::Class;
use crate::sql::functions;
use crate::sql::profile::{FunctionName, Name, Object, Reason, Schema, Scope};

/// Options of CREATE AGGREGATE, OPERATOR, TYPE and others whose value names a function.
const FUNCTION_OPTIONS: &[&str] = &[
    "sfunc",
    "finalfunc",
    "combinefunc",
    "serialfunc",
    "deserialfunc",
    "msfunc",
    "minvfunc",
    "mfinalfunc",
    "sfunc1",
    "sfunc2",
    "procedure",
    "function",
    "restrict",
    "join",
    "input",
    "output",
    "receive",
    "send",
    "typmod_in",
    "typmod_out",
    "analyze",
    "subscript",
    "canonical",
    "subtype_diff",
    "handler",
    "validator",
    "inline",
    "start",
    "gettoken",
    "end",
    "headline",
    "lextypes",
    "init",
    "lexize",
];

impl Walker<'_> {
    /// Every judged node kind that `walker` does not take itself.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "ends in `unknown`; nodes::NODES lists all kinds, and a test that none of its judged kinds ends here"
    )]
    pub(super) fn definition(&mut self, node: NodeRef<'_>) {
        match node {
            NodeRef::IntoClause(into) => self.stores(into),
            NodeRef::CreateStmt(create) => {
                self.relation(Class::Create, create.relation.as_ref());
                self.created_table(create);
            }
            NodeRef::CreateForeignTableStmt(create) => {
                self.relation(
                    Class::Create,
                    create
                        .base_stmt
                        .as_ref()
                        .and_then(|base| base.relation.as_ref()),
                );
                self.other(Class::Admin, "server", &create.servername);
                if let Some(base) = &create.base_stmt {
                    self.created_table(base);
                }
                self.options(&create.options);
            }
            NodeRef::CreateTableAsStmt(create) => {
                match &create.into {
                    Some(into) => self.stores(into),
                    None => self.unknown(Reason::Part),
                }
                self.maybe(create.query.as_deref(), Via::Query);
            }
            NodeRef::ViewStmt(view) => {
                self.relation(Class::Create, view.view.as_ref());
                self.maybe(view.query.as_deref(), Via::Query);
                self.each(&view.options, Via::Query);
            }
            NodeRef::IndexStmt(index) => {
                self.relation(Class::Create, index.relation.as_ref());
                self.each(&index.index_params, Via::Query);
                self.each(&index.index_including_params, Via::Query);
                self.each(&index.options, Via::Query);
                self.maybe(index.where_clause.as_deref(), Via::Query);
                for names in &index.exclude_op_names {
                    self.operator_list(names);
                }
            }
            NodeRef::RuleStmt(rule) => {
                self.relation(Class::Create, rule.relation.as_ref());
                self.relation(Class::Alter, rule.relation.as_ref());
                self.maybe(rule.where_clause.as_deref(), Via::Query);
                self.each(&rule.actions, Via::Query);
            }
            NodeRef::CreateTrigStmt(trigger) => {
                self.relation(Class::Create, trigger.relation.as_ref());
                self.function(Class::Function, &trigger.funcname);
                self.maybe(trigger.when_clause.as_deref(), Via::Query);
                if let Some(referenced) = &trigger.constrrel {
                    self.visit(NodeRef::RangeVar(referenced), Via::Query);
                }
            }
            NodeRef::CreatePolicyStmt(policy) => {
                self.relation(Class::Create, policy.table.as_ref());
                self.relation(Class::Grant, policy.table.as_ref());
                self.maybe(policy.qual.as_deref(), Via::Query);
                self.maybe(policy.with_check.as_deref(), Via::Query);
            }
            NodeRef::AlterPolicyStmt(policy) => {
                self.relation(Class::Alter, policy.table.as_ref());
                self.relation(Class::Grant, policy.table.as_ref());
                self.maybe(policy.qual.as_deref(), Via::Query);
                self.maybe(policy.with_check.as_deref(), Via::Query);
            }
            NodeRef::AlterTableStmt(alter) => {
                self.relation(Class::Alter, alter.relation.as_ref());
                for command in &alter.cmds {
                    match &command.node {
                        Some(NodeEnum::AlterTableCmd(command)) => {
                            self.alter_command(alter.relation.as_ref(), command);
                        }
                        _ => self.unknown(Reason::Part),
                    }
                }
            }
            NodeRef::AlterTableCmd(command) => self.alter_command(None, command),
            NodeRef::AlterTableMoveAllStmt(_) => self.any_table(Class::Alter),
            NodeRef::CreateSeqStmt(create) => {
                self.relation(Class::Create, create.sequence.as_ref());
                self.each(&create.options, Via::Query);
            }
            NodeRef::AlterSeqStmt(alter) => {
                self.relation(Class::Alter, alter.sequence.as_ref());
                self.each(&alter.options, Via::Query);
            }
            NodeRef::CreateStatsStmt(create) => {
                if !create.defnames.is_empty() {
                    self.named(Class::Create, &create.defnames);
                }
                self.each(&create.exprs, Via::Query);
                self.each(&create.relations, Via::Definition(Class::Create));
            }
            NodeRef::AlterStatsStmt(alter) => self.named(Class::Alter, &alter.defnames),
            NodeRef::CreateSchemaStmt(create) => self.create_schema(create),
            NodeRef::DefineStmt(define) => self.define_object(define),
            NodeRef::CompositeTypeStmt(create) => {
                self.relation(Class::Create, create.typevar.as_ref());
                self.each(&create.coldeflist, Via::Query);
            }
            NodeRef::CreateEnumStmt(create) => self.named(Class::Create, &create.type_name),
            NodeRef::CreateRangeStmt(create) => {
                self.named(Class::Create, &create.type_name);
                self.function_options(&create.params);
            }
            NodeRef::CreateDomainStmt(create) => {
                self.named(Class::Create, &create.domainname);
                self.each(&create.constraints, Via::Query);
            }
            NodeRef::AlterDomainStmt(alter) => {
                self.named(Class::Alter, &alter.type_name);
                self.maybe(alter.def.as_deref(), Via::Query);
            }
            NodeRef::AlterTypeStmt(alter) => {
                self.named(Class::Alter, &alter.type_name);
                self.function_options(&alter.options);
            }
            NodeRef::AlterEnumStmt(alter) => self.named(Class::Alter, &alter.type_name),
            NodeRef::AlterCollationStmt(alter) => self.named(Class::Alter, &alter.collname),
            NodeRef::AlterTsdictionaryStmt(alter) => {
                self.named(Class::Alter, &alter.dictname);
                self.each(&alter.options, Via::Query);
            }
            NodeRef::AlterTsconfigurationStmt(alter) => self.named(Class::Alter, &alter.cfgname),
            NodeRef::AlterOperatorStmt(alter) => {
                self.object_with_args(Class::Alter, alter.opername.as_ref());
                self.function_options(&alter.options);
            }
            NodeRef::CreateConversionStmt(create) => {
                self.named(Class::Create, &create.conversion_name);
                self.function(Class::Function, &create.func_name);
            }
            NodeRef::CreateCastStmt(create) => {
                self.other(Class::Create, "cast", "");
                // A cast may run wherever a value changes type.
                self.other(Class::Admin, "cast", "");
                if let Some(function) = &create.func {
                    self.function(Class::Function, &function.objname);
                }
            }
            NodeRef::CreateTransformStmt(create) => {
                self.beyond(Class::Create, "transform", &create.lang);
                for function in [&create.fromsql, &create.tosql].into_iter().flatten() {
                    self.function(Class::Function, &function.objname);
                }
            }
            NodeRef::CreateOpClassStmt(create) => {
                self.named(Class::Create, &create.opclassname);
                self.other(Class::Admin, "operator class", "");
            }
            NodeRef::CreateOpFamilyStmt(create) => {
                self.named(Class::Create, &create.opfamilyname);
                self.other(Class::Admin, "operator family", "");
            }
            NodeRef::AlterOpFamilyStmt(alter) => {
                self.named(Class::Alter, &alter.opfamilyname);
                self.other(Class::Admin, "operator family", "");
            }
            NodeRef::CreateFunctionStmt(create) => self.create_function(create),
            NodeRef::AlterFunctionStmt(alter) => {
                self.object_with_args(Class::Alter, alter.func.as_ref());
                self.function_clauses(&alter.actions);
            }
            NodeRef::DropStmt(drop) => {
                for object in &drop.objects {
                    self.objects(Class::Drop, drop.remove_type(), Some(object));
                }
                self.cascades(drop.behavior());
            }
            NodeRef::CommentStmt(comment) => {
                self.objects(Class::Alter, comment.objtype(), comment.object.as_deref());
            }
            NodeRef::SecLabelStmt(label) => {
                self.objects(Class::Alter, label.objtype(), label.object.as_deref());
                self.objects(Class::Grant, label.objtype(), label.object.as_deref());
            }
            NodeRef::RenameStmt(rename) => self.rename(rename),
            NodeRef::AlterObjectDependsStmt(alter) => self.either(
                Class::Alter,
                alter.object_type(),
                alter.relation.as_ref(),
                alter.object.as_deref(),
            ),
            NodeRef::AlterObjectSchemaStmt(alter) => self.move_object(alter),
            NodeRef::AlterOwnerStmt(alter) => {
                for class in [Class::Alter, Class::Grant] {
                    self.either(
                        class,
                        alter.object_type(),
                        alter.relation.as_ref(),
                        alter.object.as_deref(),
                    );
                }
            }
            NodeRef::GrantStmt(grant) => self.grant(grant),
            NodeRef::AlterDefaultPrivilegesStmt(alter) => {
                self.other(Class::Grant, "default privileges", "");
                self.any_table(Class::Grant);
                self.each(&alter.options, Via::Query);
            }
            NodeRef::GrantRoleStmt(grant) => {
                for role in &grant.granted_roles {
                    let name = match &role.node {
                        Some(NodeEnum::AccessPriv(role)) => role.priv_name.as_str(),
                        _ => "",
                    };
                    self.other(Class::Role, "role", name);
                    self.other(Class::Grant, "role", name);
                }
            }
            NodeRef::CreateRoleStmt(create) => {
                self.other(Class::Role, "role", &create.role);
                self.options(&create.options);
            }
            NodeRef::AlterRoleStmt(alter) => {
                self.other(Class::Role, "role", role_name(alter.role.as_ref()));
                self.options(&alter.options);
            }
            NodeRef::AlterRoleSetStmt(alter) => {
                self.other(Class::Role, "role", role_name(alter.role.as_ref()));
                self.stored_setting(alter.setstmt.as_ref());
            }
            NodeRef::DropRoleStmt(drop) => {
                for role in &drop.roles {
                    let name = match &role.node {
                        Some(NodeEnum::RoleSpec(role)) => role_name(Some(role)),
                        _ => "",
                    };
                    self.other(Class::Role, "role", name);
                    self.other(Class::Drop, "role", name);
                }
            }
            NodeRef::DropOwnedStmt(_) => {
                self.any_table(Class::Drop);
                self.any_table(Class::Grant);
                self.other(Class::Drop, "owned objects", "");
            }
            NodeRef::ReassignOwnedStmt(_) => {
                self.any_table(Class::Alter);
                self.any_table(Class::Grant);
                self.other(Class::Alter, "owned objects", "");
            }
            NodeRef::CreatedbStmt(create) => {
                self.beyond(Class::Create, "database", &create.dbname);
                self.options(&create.options);
            }
            NodeRef::AlterDatabaseStmt(alter) => {
                self.beyond(Class::Alter, "database", &alter.dbname);
            }
            NodeRef::AlterDatabaseRefreshCollStmt(alter) => {
                self.beyond(Class::Alter, "database", &alter.dbname);
            }
            NodeRef::AlterDatabaseSetStmt(alter) => {
                self.beyond(Class::Alter, "database", &alter.dbname);
                self.stored_setting(alter.setstmt.as_ref());
            }
            NodeRef::DropdbStmt(drop) => {
                self.beyond(Class::Drop, "database", &drop.dbname);
                self.any_table(Class::Drop);
            }
            NodeRef::AlterSystemStmt(alter) => {
                self.other(Class::Admin, "system", "");
                self.stored_setting(alter.setstmt.as_ref());
            }
            NodeRef::CreateTableSpaceStmt(create) => {
                self.beyond(Class::Create, "tablespace", &create.tablespacename);
                self.other(Class::File, "directory", "");
            }
            NodeRef::DropTableSpaceStmt(drop) => {
                self.beyond(Class::Drop, "tablespace", &drop.tablespacename);
            }
            NodeRef::AlterTableSpaceOptionsStmt(alter) => {
                self.beyond(Class::Alter, "tablespace", &alter.tablespacename);
            }
            NodeRef::CreateExtensionStmt(create) => {
                self.beyond(Class::Create, "extension", &create.extname);
            }
            NodeRef::AlterExtensionStmt(alter) => {
                self.beyond(Class::Alter, "extension", &alter.extname);
            }
            NodeRef::AlterExtensionContentsStmt(alter) => {
                self.beyond(Class::Alter, "extension", &alter.extname);
                self.objects(Class::Alter, alter.objtype(), alter.object.as_deref());
            }
            NodeRef::CreatePlangStmt(create) => {
                self.beyond(Class::Create, "language", &create.plname);
                for function in [&create.plhandler, &create.plinline, &create.plvalidator] {
                    if !function.is_empty() {
                        self.function(Class::Function, function);
                    }
                }
            }
            NodeRef::CreateAmStmt(create) => {
                self.beyond(Class::Create, "access method", &create.amname);
                self.function(Class::Function, &create.handler_name);
            }
            NodeRef::CreateEventTrigStmt(create) => {
                self.beyond(Class::Create, "event trigger", &create.trigname);
                self.function(Class::Function, &create.funcname);
            }
            NodeRef::AlterEventTrigStmt(alter) => {
                self.beyond(Class::Alter, "event trigger", &alter.trigname);
            }
            NodeRef::CreateFdwStmt(create) => {
                self.beyond(Class::Create, "foreign-data wrapper", &create.fdwname);
                self.function_options(&create.func_options);
                self.options(&create.options);
            }
            NodeRef::AlterFdwStmt(alter) => {
                self.beyond(Class::Alter, "foreign-data wrapper", &alter.fdwname);
                self.function_options(&alter.func_options);
                self.options(&alter.options);
            }
            NodeRef::CreateForeignServerStmt(create) => {
                self.beyond(Class::Create, "server", &create.servername);
                self.options(&create.options);
            }
            NodeRef::AlterForeignServerStmt(alter) => {
                self.beyond(Class::Alter, "server", &alter.servername);
                self.options(&alter.options);
            }
            NodeRef::CreateUserMappingStmt(create) => {
                self.beyond(Class::Create, "user mapping", &create.servername);
                self.all_secret(&create.options);
            }
            NodeRef::AlterUserMappingStmt(alter) => {
                self.beyond(Class::Alter, "user mapping", &alter.servername);
                self.all_secret(&alter.options);
            }
            NodeRef::DropUserMappingStmt(drop) => {
                self.beyond(Class::Drop, "user mapping", &drop.servername);
            }
            NodeRef::ImportForeignSchemaStmt(import) => {
                self.add(
                    Class::Create,
                    Object::Table(in_schema(&import.local_schema)),
                );
                self.other(Class::Admin, "server", &import.server_name);
            }
            NodeRef::CreatePublicationStmt(create) => {
                self.other(Class::Create, "publication", &create.pubname);
                self.other(Class::Replication, "publication", &create.pubname);
                self.published(&create.pubobjects, create.for_all_tables);
            }
            NodeRef::AlterPublicationStmt(alter) => {
                self.other(Class::Alter, "publication", &alter.pubname);
                self.other(Class::Replication, "publication", &alter.pubname);
                self.published(&alter.pubobjects, alter.for_all_tables);
            }
            NodeRef::PublicationObjSpec(_) => self.children(node, Via::Query),
            NodeRef::CreateSubscriptionStmt(create) => {
                self.beyond(Class::Create, "subscription", &create.subname);
                self.other(Class::Replication, "subscription", &create.subname);
                self.secrets
                    .extend(usize::try_from(create.conninfo_location));
            }
            NodeRef::AlterSubscriptionStmt(alter) => {
                self.beyond(Class::Alter, "subscription", &alter.subname);
                self.other(Class::Replication, "subscription", &alter.subname);
                if !alter.conninfo.is_empty() {
                    self.secrets
                        .extend(usize::try_from(alter.conninfo_location));
                }
            }
            NodeRef::DropSubscriptionStmt(drop) => {
                self.beyond(Class::Drop, "subscription", &drop.subname);
                self.other(Class::Replication, "subscription", &drop.subname);
            }
            NodeRef::LoadStmt(load) => {
                self.other(Class::Admin, "library", &load.filename);
                self.other(Class::File, "library", &load.filename);
            }
            NodeRef::CheckPointStmt(_) => self.other(Class::Admin, "checkpoint", ""),
            NodeRef::VacuumStmt(vacuum) => self.vacuum(vacuum),
            NodeRef::ClusterStmt(cluster) => {
                self.relation(Class::Maintenance, cluster.relation.as_ref());
            }
            NodeRef::ReindexStmt(reindex) => match (&reindex.relation, reindex.kind()) {
                (Some(relation), _) => self.relation(Class::Maintenance, Some(relation)),
                (None, p::ReindexObjectType::ReindexObjectSchema) => {
                    self.add(Class::Maintenance, Object::Table(in_schema(&reindex.name)));
                }
                (None, _) => self.any_table(Class::Maintenance),
            },
            NodeRef::RefreshMatViewStmt(refresh) => {
                self.relation(Class::Maintenance, refresh.relation.as_ref());
            }
            _ => self.unknown(Reason::Part),
        }
    }

    /// Something of the whole database or server: its own class, and `admin`.
    fn beyond(&mut self, class: Class, kind: &'static str, name: &str) {
        self.other(class, kind, name);
        self.other(Class::Admin, kind, name);
    }

    fn named(&mut self, class: Class, name: &[Node]) {
        match name_of(name) {
            Some(name) => self.table(class, &name),
            None => self.unknown(Reason::Part),
        }
    }

    fn function_object(&mut self, class: Class, name: Name) {
        let opaque = false;
        self.add(class, Object::Function(FunctionName { name, opaque }));
    }

    fn object_with_args(&mut self, class: Class, object: Option<&p::ObjectWithArgs>) {
        match object.and_then(|object| name_of(&object.objname)) {
            Some(name) => self.function_object(class, name),
            None => self.unknown(Reason::Part),
        }
    }

    fn cascades(&mut self, behavior: p::DropBehavior) {
        if behavior == p::DropBehavior::DropCascade {
            self.any_table(Class::Drop);
        }
    }

    /// Columns, parents, partitions, LIKE, constraints: a table named in them is changed or
    /// becomes readable through the new one.
    fn created_table(&mut self, create: &p::CreateStmt) {
        self.each(&create.inh_relations, Via::Definition(Class::Alter));
        self.each(&create.table_elts, Via::Query);
        self.each(&create.constraints, Via::Query);
        self.each(&create.options, Via::Query);
        if let Some(spec) = &create.partspec {
            self.visit(NodeRef::PartitionSpec(spec), Via::Query);
        }
        if let Some(bound) = &create.partbound {
            self.visit(NodeRef::PartitionBoundSpec(bound), Via::Query);
        }
    }

    fn alter_command(&mut self, relation: Option<&p::RangeVar>, command: &p::AlterTableCmd) {
        use p::AlterTableType as Type;
        let kind = command.subtype();
        if matches!(kind, Type::AtDropColumn | Type::AtDropConstraint) {
            self.relation(Class::Drop, relation);
            self.cascades(command.behavior());
        }
        if matches!(
            kind,
            Type::AtChangeOwner
                | Type::AtEnableRowSecurity
                | Type::AtDisableRowSecurity
                | Type::AtForceRowSecurity
                | Type::AtNoForceRowSecurity
        ) {
            self.relation(Class::Grant, relation);
        }
        self.maybe(command.def.as_deref(), Via::Definition(Class::Alter));
    }

    /// Elements of CREATE SCHEMA are made in the new schema whatever the path says; a schema with
    /// elements is rare and not judged.
    fn create_schema(&mut self, create: &p::CreateSchemaStmt) {
        let name = if create.schemaname.is_empty() {
            role_name(create.authrole.as_ref())
        } else {
            &create.schemaname
        };
        self.add(Class::Create, Object::Table(in_schema(name)));
        if !create.schema_elts.is_empty() {
            self.unknown(Reason::Part);
            self.each(&create.schema_elts, Via::Query);
        }
    }

    fn define_object(&mut self, define: &p::DefineStmt) {
        match (define.kind(), name_of(&define.defnames)) {
            (Kind::ObjectAggregate, Some(name)) => {
                self.shadows(&name);
                self.function_object(Class::Create, name);
            }
            (Kind::ObjectOperator, Some(name)) => {
                if name.name.as_deref().is_some_and(functions::is_operator) {
                    self.unknown(Reason::Shadows);
                }
                self.function_object(Class::Create, name);
            }
            (_, Some(name)) => self.table(Class::Create, &name),
            (_, None) => self.unknown(Reason::Part),
        }
        self.function_options(&define.definition);
        self.each(&define.args, Via::Query);
    }

    /// A function that has a built-in's name may be run in its place by a call that looks built in.
    fn shadows(&mut self, name: &Name) {
        if name
            .name
            .as_deref()
            .is_some_and(|name| functions::built_in(name).is_some())
        {
            self.unknown(Reason::Shadows);
        }
    }

    fn create_function(&mut self, create: &p::CreateFunctionStmt) {
        match name_of(&create.funcname) {
            Some(name) => {
                self.shadows(&name);
                self.function_object(Class::Create, name);
            }
            None => self.unknown(Reason::Part),
        }
        self.each(&create.parameters, Via::Query);
        self.function_clauses(&create.options);
        self.shown_by(&create.options, false);
        self.maybe(create.sql_body.as_deref(), Via::Query);
    }

    /// SET clauses, and languages whose code leaves the database's own rules.
    fn function_clauses(&mut self, options: &[Node]) {
        for option in options {
            let Some(NodeEnum::DefElem(option)) = &option.node else {
                self.unknown(Reason::Part);
                continue;
            };
            match option.arg.as_deref().and_then(|value| value.node.as_ref()) {
                Some(NodeEnum::VariableSetStmt(set)) => self.set_statement(set, Scope::Stored),
                Some(NodeEnum::String(language)) if option.defname == "language" => {
                    let trusted = ["sql", "plpgsql"];
                    if !trusted.contains(&language.sval.to_ascii_lowercase().as_str()) {
                        self.other(Class::Admin, "language", &language.sval);
                    }
                }
                _ => {}
            }
        }
    }

    fn function_options(&mut self, options: &[Node]) {
        for option in options {
            let Some(NodeEnum::DefElem(definition)) = &option.node else {
                self.unknown(Reason::Part);
                continue;
            };
            let is_function =
                FUNCTION_OPTIONS.contains(&definition.defname.to_lowercase().as_str());
            match definition
                .arg
                .as_deref()
                .and_then(|value| value.node.as_ref())
            {
                Some(NodeEnum::TypeName(name)) if is_function => {
                    self.function(Class::Function, &name.names);
                }
                Some(NodeEnum::List(name)) if is_function => {
                    self.function(Class::Function, &name.items);
                }
                Some(NodeEnum::String(_)) if is_function => {
                    if let Some(value) = definition.arg.as_deref() {
                        self.function(Class::Function, std::slice::from_ref(value));
                    }
                }
                _ => self.maybe(Some(option), Via::Query),
            }
        }
    }

    /// Options of roles, servers and the like: values that are secrets are marked.
    fn options(&mut self, options: &[Node]) {
        for option in options {
            if let Some(NodeEnum::DefElem(option)) = &option.node
                && option.arg.is_some()
                && is_secret(&option.defname.to_ascii_lowercase())
            {
                self.secrets.extend(usize::try_from(option.location));
            }
        }
    }

    fn all_secret(&mut self, options: &[Node]) {
        for option in options {
            if let Some(NodeEnum::DefElem(option)) = &option.node
                && option.arg.is_some()
            {
                self.secrets.extend(usize::try_from(option.location));
            }
        }
    }

    fn stored_setting(&mut self, set: Option<&p::VariableSetStmt>) {
        match set {
            Some(set) => self.set_statement(set, Scope::Stored),
            None => self.unknown(Reason::Part),
        }
    }

    fn published(&mut self, objects: &[Node], all: bool) {
        use p::PublicationObjSpecType as Spec;
        if all {
            self.any_table(Class::Select);
        }
        for object in objects {
            match &object.node {
                Some(NodeEnum::PublicationObjSpec(object)) => match object.pubobjtype() {
                    Spec::PublicationobjTable | Spec::PublicationobjContinuation => {
                        self.visit(NodeRef::PublicationObjSpec(object), Via::Query);
                    }
                    Spec::PublicationobjTablesInSchema => {
                        self.add(Class::Select, Object::Table(in_schema(&object.name)));
                    }
                    Spec::PublicationobjTablesInCurSchema | Spec::Undefined => {
                        self.any_table(Class::Select);
                    }
                },
                _ => self.unknown(Reason::Part),
            }
        }
    }

    fn vacuum(&mut self, vacuum: &p::VacuumStmt) {
        if vacuum.rels.is_empty() {
            self.any_table(Class::Maintenance);
        }
        for relation in &vacuum.rels {
            match &relation.node {
                Some(NodeEnum::VacuumRelation(relation)) => {
                    self.relation(Class::Maintenance, relation.relation.as_ref());
                }
                _ => self.unknown(Reason::Part),
            }
        }
    }

    fn rename(&mut self, rename: &p::RenameStmt) {
        let kind = rename.rename_type();
        self.either(
            Class::Alter,
            kind,
            rename.relation.as_ref(),
            rename.object.as_deref(),
        );
        let new = |schema: Schema| Name {
            schema,
            name: Some(rename.newname.clone()),
        };
        if is_relation(kind) {
            // A table stays in its schema under the new name.
            let schema = rename
                .relation
                .as_ref()
                .map_or(Schema::Any, |relation| relation_name(relation).schema);
            self.table(Class::Create, &new(schema));
        } else if kind == Kind::ObjectSchema {
            self.add(Class::Alter, Object::Table(in_schema(&rename.subname)));
            self.add(Class::Create, Object::Table(in_schema(&rename.newname)));
        } else if is_function(kind) {
            let name = new(Schema::Any);
            self.shadows(&name);
            self.function_object(Class::Create, name);
        }
    }

    fn move_object(&mut self, alter: &p::AlterObjectSchemaStmt) {
        let kind = alter.object_type();
        self.either(
            Class::Alter,
            kind,
            alter.relation.as_ref(),
            alter.object.as_deref(),
        );
        self.add(Class::Create, Object::Table(in_schema(&alter.newschema)));
        if let Some(NodeEnum::ObjectWithArgs(object)) = alter
            .object
            .as_ref()
            .and_then(|object| object.node.as_ref())
            && let Some(name) = name_of(&object.objname)
        {
            self.shadows(&name);
        }
    }

    fn grant(&mut self, grant: &p::GrantStmt) {
        use p::GrantTargetType as Target;
        let kind = grant.objtype();
        match grant.targtype() {
            Target::AclTargetObject => {
                for object in &grant.objects {
                    self.objects(Class::Grant, kind, Some(object));
                }
            }
            Target::AclTargetAllInSchema => {
                for schema in &grant.objects {
                    let name = string_of(schema).map_or_else(Name::any, in_schema);
                    if is_function(kind) {
                        self.function_object(Class::Grant, name);
                    } else {
                        self.add(Class::Grant, Object::Table(name));
                    }
                }
            }
            Target::AclTargetDefaults | Target::Undefined => self.any_table(Class::Grant),
        }
        self.cascades(grant.behavior());
    }

    /// Statements of this kind name a relation in one field and anything else in another.
    fn either(
        &mut self,
        class: Class,
        kind: Kind,
        relation: Option<&p::RangeVar>,
        object: Option<&Node>,
    ) {
        match relation {
            Some(relation) => self.relation(class, Some(relation)),
            // RENAME of a schema, role or database has its name in neither; `rename` adds a schema's.
            None if object.is_none() && kind == Kind::ObjectSchema => {}
            None if object.is_none() && kind == Kind::ObjectRole => {
                self.other(Class::Role, "role", "");
            }
            None if object.is_none() => self.beyond(class, word_of(kind), ""),
            None => self.objects(class, kind, object),
        }
    }

    fn objects(&mut self, class: Class, kind: Kind, object: Option<&Node>) {
        let Some(object) = object else {
            self.unknown(Reason::Part);
            return;
        };
        match kind {
            Kind::ObjectTable
            | Kind::ObjectView
            | Kind::ObjectMatview
            | Kind::ObjectSequence
            | Kind::ObjectIndex
            | Kind::ObjectForeignTable
            | Kind::ObjectCollation
            | Kind::ObjectConversion
            | Kind::ObjectStatisticExt
            | Kind::ObjectTsconfiguration
            | Kind::ObjectTsdictionary
            | Kind::ObjectTsparser
            | Kind::ObjectTstemplate
            | Kind::ObjectType
            | Kind::ObjectDomain => self.in_a_schema(class, object, 0),
            // The last name is of something that belongs to the table before it.
            Kind::ObjectColumn
            | Kind::ObjectTabconstraint
            | Kind::ObjectTrigger
            | Kind::ObjectRule
            | Kind::ObjectPolicy
            | Kind::ObjectAttribute => self.in_a_schema(class, object, 1),
            Kind::ObjectDomconstraint => match &object.node {
                Some(NodeEnum::List(list)) => match list.items.first() {
                    Some(domain) => self.in_a_schema(class, domain, 0),
                    None => self.unknown(Reason::Part),
                },
                _ => self.unknown(Reason::Part),
            },
            Kind::ObjectFunction
            | Kind::ObjectProcedure
            | Kind::ObjectRoutine
            | Kind::ObjectAggregate
            | Kind::ObjectOperator => match &object.node {
                Some(NodeEnum::ObjectWithArgs(object)) => {
                    self.object_with_args(class, Some(object));
                }
                _ => self.unknown(Reason::Part),
            },
            Kind::ObjectSchema => match string_of(object) {
                Some(schema) => self.add(class, Object::Table(in_schema(schema))),
                None => self.unknown(Reason::Part),
            },
            Kind::ObjectRole => {
                self.other(Class::Role, "role", string_of(object).unwrap_or_default());
                self.other(class, "role", string_of(object).unwrap_or_default());
            }
            Kind::ObjectLargeobject => self.table(
                class,
                &Name {
                    schema: Schema::Named("pg_catalog".to_owned()),
                    name: Some("pg_largeobject".to_owned()),
                },
            ),
            Kind::ObjectPublication => {
                let name = string_of(object).unwrap_or_default();
                self.other(class, "publication", name);
                self.other(Class::Replication, "publication", name);
            }
            Kind::ObjectAccessMethod
            | Kind::ObjectAmop
            | Kind::ObjectAmproc
            | Kind::ObjectCast
            | Kind::ObjectDatabase
            | Kind::ObjectDefault
            | Kind::ObjectDefacl
            | Kind::ObjectEventTrigger
            | Kind::ObjectExtension
            | Kind::ObjectFdw
            | Kind::ObjectForeignServer
            | Kind::ObjectLanguage
            | Kind::ObjectOpclass
            | Kind::ObjectOpfamily
            | Kind::ObjectParameterAcl
            | Kind::ObjectPublicationNamespace
            | Kind::ObjectPublicationRel
            | Kind::ObjectSubscription
            | Kind::ObjectTablespace
            | Kind::ObjectTransform
            | Kind::ObjectUserMapping => {
                self.beyond(class, word_of(kind), string_of(object).unwrap_or_default());
            }
            Kind::Undefined => self.unknown(Reason::Part),
        }
    }

    /// A name in a schema, given as a list of parts, a relation or a type; the last `own` parts
    /// are not of its name.
    fn in_a_schema(&mut self, class: Class, object: &Node, own: usize) {
        let parts = match &object.node {
            Some(NodeEnum::List(list)) => list.items.as_slice(),
            Some(NodeEnum::TypeName(name)) => name.names.as_slice(),
            Some(NodeEnum::RangeVar(relation)) => {
                self.relation(class, Some(relation));
                return;
            }
            _ => std::slice::from_ref(object),
        };
        let name = parts
            .get(..parts.len().saturating_sub(own))
            .and_then(name_of);
        match name {
            Some(name) => self.table(class, &name),
            None => self.unknown(Reason::Part),
        }
    }

    fn operator_list(&mut self, names: &Node) {
        let built_in = match &names.node {
            Some(NodeEnum::List(list)) => name_of(&list.items)
                .and_then(|name| name.name)
                .is_some_and(|name| functions::is_operator(&name)),
            _ => false,
        };
        if !built_in {
            self.unknown(Reason::Operator);
        }
    }
}

/// For refusals: what stands outside any schema.
fn word_of(kind: Kind) -> &'static str {
    const WORDS: &[(Kind, &str)] = &[
        (Kind::ObjectAccessMethod, "access method"),
        (Kind::ObjectCast, "cast"),
        (Kind::ObjectDatabase, "database"),
        (Kind::ObjectEventTrigger, "event trigger"),
        (Kind::ObjectExtension, "extension"),
        (Kind::ObjectFdw, "foreign-data wrapper"),
        (Kind::ObjectForeignServer, "server"),
        (Kind::ObjectLanguage, "language"),
        (Kind::ObjectOpclass, "operator class"),
        (Kind::ObjectOpfamily, "operator family"),
        (Kind::ObjectSubscription, "subscription"),
        (Kind::ObjectTablespace, "tablespace"),
        (Kind::ObjectTransform, "transform"),
        (Kind::ObjectUserMapping, "user mapping"),
    ];
    WORDS
        .iter()
        .find(|(known, _)| *known == kind)
        .map_or("object", |(_, word)| word)
}

fn is_relation(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ObjectTable
            | Kind::ObjectView
            | Kind::ObjectMatview
            | Kind::ObjectSequence
            | Kind::ObjectForeignTable
            | Kind::ObjectIndex
    )
}

fn is_function(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ObjectFunction | Kind::ObjectProcedure | Kind::ObjectRoutine | Kind::ObjectAggregate
    )
}

/// Everything in a schema.
fn in_schema(schema: &str) -> Name {
    let schema = if schema.is_empty() {
        Schema::Any
    } else {
        Schema::Named(schema.to_owned())
    };
    Name { schema, name: None }
}

fn role_name(role: Option<&p::RoleSpec>) -> &str {
    role.map_or("", |role| role.rolename.as_str())
}
