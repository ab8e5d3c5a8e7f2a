//! Which computations never fail by the value that they are given.
//!
//! Whether one failed is an answer of its own: `1 / (length(card) - 16)` tells by an error what it
//! does not show. What is not listed may fail. Running out of memory is not counted.

/// Built-in functions that take any value of their arguments' types.
const FUNCTIONS: &[&str] = &[
    "array_agg",
    "array_to_json",
    "bit_length",
    "bool_and",
    "bool_or",
    "btrim",
    "char_length",
    "character_length",
    "concat",
    "concat_ws",
    "count",
    "every",
    "first_value",
    "format",
    "hashtext",
    "initcap",
    "json_agg",
    "jsonb_agg",
    "lag",
    "last_value",
    "lead",
    "left",
    "length",
    "lower",
    "ltrim",
    "max",
    "md5",
    "min",
    "octet_length",
    "pg_column_size",
    "pg_typeof",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "replace",
    "reverse",
    "right",
    "row_to_json",
    "rtrim",
    "string_agg",
    "strpos",
    "to_json",
    "to_jsonb",
    "translate",
    "upper",
];

/// Built-in operators that take any value.
const OPERATORS: &[&str] = &[
    "!=", "#>", "#>>", "->", "->>", "<", "<=", "<>", "=", ">", ">=", "||",
];

/// Built-in types that any value can be cast to.
const TYPES: &[&str] = &["bpchar", "text", "varchar"];

pub(super) fn function_may_fail(name: &str) -> bool {
    FUNCTIONS.binary_search(&name).is_err()
}

pub(super) fn operator_may_fail(name: &str) -> bool {
    OPERATORS.binary_search(&name).is_err()
}

pub(super) fn cast_may_fail(type_name: &str) -> bool {
    TYPES.binary_search(&type_name).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_order_and_of_built_in_functions() {
        for list in [FUNCTIONS, OPERATORS, TYPES] {
            assert!(list.is_sorted());
        }
        for name in FUNCTIONS {
            assert!(crate::sql::functions::built_in(name).is_some(), "{name}");
        }
    }
}
