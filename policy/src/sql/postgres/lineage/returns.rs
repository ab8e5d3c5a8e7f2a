//! What built-in functions return, as far as the columns of a row depend on it.
//!
//! The lists of names are of PostgreSQL 14 to 18 (`pg_proc.prorettype`); a name has all of the
//! types that its overloads have.

/// Built-in functions that return a set, outside of FROM.
const SETS: &[&str] = &[
    "_pg_expandarray",
    "aclexplode",
    "generate_series",
    "generate_subscripts",
    "json_array_elements",
    "json_array_elements_text",
    "json_each",
    "json_each_text",
    "json_object_keys",
    "json_populate_recordset",
    "json_to_recordset",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_each",
    "jsonb_each_text",
    "jsonb_object_keys",
    "jsonb_path_query",
    "jsonb_path_query_tz",
    "jsonb_populate_recordset",
    "jsonb_to_recordset",
    "pg_mcv_list_items",
    "regexp_matches",
    "regexp_split_to_table",
    "string_to_table",
    "ts_debug",
    "ts_parse",
    "ts_stat",
    "ts_token_type",
    "unnest",
];

/// Built-in functions in FROM, and the columns that they have on every server.
const COMPOSITES: &[(&str, &[&str])] = &[
    ("json_each", &["key", "value"]),
    ("json_each_text", &["key", "value"]),
    ("jsonb_each", &["key", "value"]),
    ("jsonb_each_text", &["key", "value"]),
    (
        "aclexplode",
        &["grantor", "grantee", "privilege_type", "is_grantable"],
    ),
    ("_pg_expandarray", &["x", "n"]),
    ("pg_options_to_table", &["option_name", "option_value"]),
    ("ts_parse", &["tokid", "token"]),
    ("ts_token_type", &["tokid", "alias", "description"]),
    ("ts_stat", &["word", "ndoc", "nentry"]),
    (
        "pg_get_keywords",
        &["word", "catcode", "barelabel", "catdesc", "baredesc"],
    ),
];

/// One column that is named `value`.
const ELEMENTS: &[&str] = &[
    "json_array_elements",
    "json_array_elements_text",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
];

/// Functions whose result has the type of an argument, or of its elements, or an array of it.
const FOLLOWING: &[&str] = &[
    "any_value",
    "array_agg",
    "array_append",
    "array_cat",
    "array_fill",
    "array_larger",
    "array_prepend",
    "array_remove",
    "array_replace",
    "array_reverse",
    "array_sample",
    "array_shuffle",
    "array_smaller",
    "array_sort",
    "enum_first",
    "enum_last",
    "enum_range",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "lower",
    "max",
    "min",
    "mode",
    "multirange",
    "nth_value",
    "percentile_disc",
    "range_agg",
    "range_intersect",
    "range_intersect_agg",
    "range_merge",
    "range_minus",
    "range_union",
    "trim_array",
    "unnest",
    "upper",
];

/// Functions that return a row, or what the call says.
const ROWS: &[&str] = &[
    "aclexplode",
    "any_in",
    "any_value_transfn",
    "anyarray_in",
    "anyarray_recv",
    "anycompatible_in",
    "anycompatiblearray_in",
    "anycompatiblearray_recv",
    "anycompatiblemultirange_in",
    "anycompatiblenonarray_in",
    "anycompatiblerange_in",
    "anyelement_in",
    "anyenum_in",
    "anymultirange_in",
    "anynonarray_in",
    "anyrange_in",
    "array_agg_array_finalfn",
    "array_agg_finalfn",
    "array_in",
    "array_recv",
    "domain_in",
    "domain_recv",
    "enum_in",
    "enum_larger",
    "enum_recv",
    "enum_smaller",
    "json_each",
    "json_each_text",
    "json_populate_record",
    "json_populate_recordset",
    "json_to_record",
    "json_to_recordset",
    "jsonb_each",
    "jsonb_each_text",
    "jsonb_populate_record",
    "jsonb_populate_recordset",
    "jsonb_to_record",
    "jsonb_to_recordset",
    "mode_final",
    "multirange_agg_finalfn",
    "multirange_in",
    "multirange_intersect",
    "multirange_intersect_agg_transfn",
    "multirange_minus",
    "multirange_recv",
    "multirange_union",
    "percentile_disc_final",
    "percentile_disc_multi_final",
    "pg_available_extension_versions",
    "pg_available_extensions",
    "pg_available_wal_summaries",
    "pg_backup_stop",
    "pg_config",
    "pg_control_checkpoint",
    "pg_control_init",
    "pg_control_recovery",
    "pg_control_system",
    "pg_copy_logical_replication_slot",
    "pg_copy_physical_replication_slot",
    "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot",
    "pg_cursor",
    "pg_event_trigger_ddl_commands",
    "pg_event_trigger_dropped_objects",
    "pg_extension_update_paths",
    "pg_get_aios",
    "pg_get_backend_memory_contexts",
    "pg_get_catalog_foreign_keys",
    "pg_get_keywords",
    "pg_get_loaded_modules",
    "pg_get_multixact_members",
    "pg_get_object_address",
    "pg_get_publication_tables",
    "pg_get_replication_slots",
    "pg_get_sequence_data",
    "pg_get_shmem_allocations",
    "pg_get_shmem_allocations_numa",
    "pg_get_wait_events",
    "pg_get_wal_resource_managers",
    "pg_get_wal_summarizer_state",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_identify_object",
    "pg_identify_object_as_address",
    "pg_input_error_info",
    "pg_last_committed_xact",
    "pg_lock_status",
    "pg_logical_slot_get_binary_changes",
    "pg_logical_slot_get_changes",
    "pg_logical_slot_peek_binary_changes",
    "pg_logical_slot_peek_changes",
    "pg_ls_archive_statusdir",
    "pg_ls_logdir",
    "pg_ls_logicalmapdir",
    "pg_ls_logicalsnapdir",
    "pg_ls_replslotdir",
    "pg_ls_summariesdir",
    "pg_ls_tmpdir",
    "pg_ls_waldir",
    "pg_mcv_list_items",
    "pg_options_to_table",
    "pg_partition_tree",
    "pg_prepared_statement",
    "pg_prepared_xact",
    "pg_replication_slot_advance",
    "pg_sequence_parameters",
    "pg_show_all_file_settings",
    "pg_show_all_settings",
    "pg_show_replication_origin_status",
    "pg_split_walfile_name",
    "pg_stat_file",
    "pg_stat_get_activity",
    "pg_stat_get_archiver",
    "pg_stat_get_backend_io",
    "pg_stat_get_backend_subxact",
    "pg_stat_get_backend_wal",
    "pg_stat_get_io",
    "pg_stat_get_progress_info",
    "pg_stat_get_recovery_prefetch",
    "pg_stat_get_replication_slot",
    "pg_stat_get_slru",
    "pg_stat_get_subscription",
    "pg_stat_get_subscription_stats",
    "pg_stat_get_wal",
    "pg_stat_get_wal_receiver",
    "pg_stat_get_wal_senders",
    "pg_stop_backup",
    "pg_timezone_abbrevs",
    "pg_timezone_abbrevs_abbrevs",
    "pg_timezone_abbrevs_zone",
    "pg_timezone_names",
    "pg_wal_summary_contents",
    "pg_walfile_name_offset",
    "pg_xact_commit_timestamp_origin",
    "range_agg_finalfn",
    "range_gist_union",
    "range_in",
    "range_intersect_agg_transfn",
    "range_recv",
    "record_in",
    "record_larger",
    "record_recv",
    "record_smaller",
    "ts_debug",
    "ts_parse",
    "ts_stat",
    "ts_token_type",
    "unknownin",
    "unknownrecv",
];

/// What a built-in function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returns {
    /// Neither a row nor an array of rows.
    Scalar,
    /// That, if it is given nothing else.
    Arguments,
    Row,
}

pub(super) fn returns(name: &str) -> Returns {
    if ROWS.contains(&name) {
        Returns::Row
    } else if FOLLOWING.contains(&name) {
        Returns::Arguments
    } else {
        Returns::Scalar
    }
}

/// Whether it returns a set of values.
pub(super) fn is_set(name: &str) -> bool {
    SETS.contains(&name)
}

/// The columns of a function in FROM, where they are the same on every server.
pub(super) fn columns(name: &str) -> Option<&'static [&'static str]> {
    let known = COMPOSITES.iter().find(|(known, _)| *known == name);
    known.map(|(_, columns)| *columns)
}

/// Whether its only column is named `value`, and not like the function.
pub(super) fn yields_value(name: &str) -> bool {
    ELEMENTS.contains(&name)
}
