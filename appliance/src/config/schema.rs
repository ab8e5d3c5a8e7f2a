//! JSON Schemas of the configuration and policy files, made from their tables of keys; and the
//! OpenAPI document as it is printed.
//!
//! For editors and pipelines: they know shapes and words, not what names mean. `sallyport check`
//! says whether a file is right.

#![expect(
    clippy::indexing_slicing,
    reason = "by name into objects that are made here, which adds what is missing; the input is a constant, and a test runs all of it"
)]

use serde_json::{Value, json};

use super::keys::{ALL, Absent, Key, Kind};
use policy::Within;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What humantime reads: numbers with units.
const DURATION: &str = r"^\s*(\d+\s*[A-Za-z]+\s*)+$";

const SIZE: &str = r"^\d+\s*(B|KiB|MiB|GiB)$";

/// Of `sallyport.toml`, and of the files in `targets.d`.
#[must_use]
pub(crate) fn configuration() -> Value {
    let mut root = table();
    for key in ALL {
        let mut node = &mut root;
        let (parents, name) = match key.path.rsplit_once('.') {
            Some((parents, name)) => (Some(parents), name),
            None => (None, key.path),
        };
        for segment in parents.into_iter().flat_map(|parents| parents.split('.')) {
            node = descend(node, segment);
        }
        put(
            node,
            name,
            leaf(key),
            matches!(key.default, Absent::Required),
        );
    }
    titled(root, "Configuration of Sallyport")
}

/// Of the files in `policy.d`.
#[must_use]
pub(crate) fn policy() -> Value {
    titled(policy_table(Within::File), "Policy of Sallyport")
}

/// Of the admin API.
#[must_use]
pub(crate) fn openapi() -> Value {
    // A value of ours, of maps with texts as keys, is always JSON.
    serde_json::to_value(crate::control::openapi()).unwrap_or_default()
}

fn titled(mut schema: Value, title: &str) -> Value {
    schema["$schema"] = json!(DIALECT);
    schema["title"] = json!(title);
    schema
}

fn table() -> Value {
    json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

/// The schema of the table that stands under one segment of a path.
fn descend<'v>(node: &'v mut Value, segment: &str) -> &'v mut Value {
    if segment == "*" {
        let entry = &mut node["additionalProperties"];
        if entry.get("properties").is_none() {
            *entry = table();
        }
        return entry;
    }
    let (name, is_list) = match segment.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (segment, false),
    };
    let entry = &mut node["properties"][name];
    if !is_list {
        if entry.is_null() {
            *entry = table();
        }
        return entry;
    }
    if entry.is_null() {
        *entry = json!({ "type": "array", "items": table() });
    }
    let items = &mut entry["items"];
    // Listeners may be texts as well.
    if items.get("anyOf").is_some() {
        return &mut items["anyOf"][1];
    }
    items
}

fn put(node: &mut Value, name: &str, schema: Value, required: bool) {
    if name == "*" {
        node["additionalProperties"] = schema;
        return;
    }
    node["properties"][name] = schema;
    if required {
        let list = &mut node["required"];
        if list.is_null() {
            *list = json!([]);
        }
        if let Some(list) = list.as_array_mut() {
            list.push(json!(name));
        }
    }
}

fn leaf(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Text | Kind::Path => json!({ "type": "string" }),
        Kind::Secret => json!({ "type": "string", "pattern": "^(credential|file|env):" }),
        Kind::TextList => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::TextOrList => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
        ] }),
        Kind::TextMap => json!({
            "type": "object",
            "properties": {},
            "additionalProperties": { "type": "string" },
        }),
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Duration { .. } => json!({ "type": "string", "pattern": DURATION }),
        Kind::Bytes { .. } => json!({ "type": "string", "pattern": SIZE }),
        Kind::Listeners => json!({
            "type": "array",
            "items": { "anyOf": [{ "type": "string" }, table()] },
        }),
    };
    schema["description"] = json!(key.help);
    if let Absent::Value(default) = key.default {
        schema["default"] = match key.kind {
            Kind::Count { .. } => default.parse::<u64>().map_or(Value::Null, Value::from),
            Kind::Switch => json!(default == "true"),
            Kind::TextList | Kind::Listeners | Kind::TextMap => return schema,
            Kind::Text
            | Kind::Path
            | Kind::Secret
            | Kind::TextOrList
            | Kind::Choice(_)
            | Kind::Duration { .. }
            | Kind::Bytes { .. } => json!(default),
        };
        if let Some(object) = schema.as_object_mut() {
            object.retain(|name, value| name != "default" || !value.is_null());
        }
    }
    schema
}

fn policy_table(within: Within) -> Value {
    let mut node = table();
    for key in policy::KEYS.iter().filter(|key| key.within == within) {
        let mut schema = policy_value(key);
        schema["description"] = json!(key.meaning);
        put(&mut node, key.name, schema, key.required);
    }
    if within == Within::Rule {
        let one_of = ["allow", "deny", "hold"].map(|action| json!({ "required": [action] }));
        node["oneOf"] = json!(one_of);
        node["dependentRequired"] = json!({
            "hold": ["approvers"],
            "approvers": ["hold"],
            "approvals": ["hold"],
            "expires": ["hold"],
        });
    }
    node
}

fn policy_value(key: &policy::Key) -> Value {
    let texts = || json!({ "type": "array", "items": { "type": "string", "minLength": 1 } });
    match key.value {
        policy::Value::Tables(within) => {
            json!({ "type": "array", "items": policy_table(within) })
        }
        policy::Value::Table(within) => policy_table(within),
        policy::Value::Text if key.name == "name" => {
            json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,100}$" })
        }
        policy::Value::Text => json!({ "type": "string" }),
        policy::Value::Flag => json!({ "type": "boolean" }),
        policy::Value::Number => json!({ "type": "integer", "minimum": 0 }),
        policy::Value::Duration => json!({ "type": "string", "pattern": DURATION }),
        policy::Value::Size => json!({ "type": "string", "pattern": SIZE }),
        policy::Value::OneOf(words) => json!({ "enum": words }),
        policy::Value::Texts if key.name == "statements" => {
            json!({ "type": "array", "items": { "enum": statement_words() } })
        }
        policy::Value::Texts | policy::Value::Patterns | policy::Value::ColumnPatterns => texts(),
    }
}

fn statement_words() -> Vec<&'static str> {
    let groups = policy::class::GROUPS.iter().map(|(name, _)| *name);
    let classes = policy::class::CLASSES.iter().map(|line| line.name);
    std::iter::once(policy::class::EVERY_CLASS)
        .chain(groups)
        .chain(classes)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn check_generated(name: &str, schema: &Value) {
        let path = root().join("docs/schema").join(name);
        let generated = format!("{schema:#}\n");
        if std::env::var_os("SALLYPORT_GENERATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &generated).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == generated,
            "{} differs from the table of keys or routes: \
             SALLYPORT_GENERATE=1 cargo test -p appliance config::schema",
            path.display()
        );
    }

    #[test]
    fn the_schemas_are_generated() {
        check_generated("configuration.json", &configuration());
        check_generated("policy.json", &policy());
        check_generated("openapi.json", &openapi());
    }
}
