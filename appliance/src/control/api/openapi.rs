//! The OpenAPI document, made from the table of routes and the annotations of the handlers.

use axum::Json;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, ResponseBuilder};

use super::super::roles::Role;
use super::Refused;
use super::routes::{self, Access, paths};

/// What no route says. The rest comes from the table.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Sallyport admin API",
        description = "Asked at the admin socket, and at `listen.console`. \
                       docs/api.md says how."
    ),
    components(schemas(Refused))
)]
struct Outline;

/// Names of the ways to be somebody, as in `security`.
const SOCKET: &str = "admin_socket";
const BEARER: &str = "bearer";

/// The whole document.
#[must_use]
pub fn document() -> OpenApi {
    let mut document = Outline::openapi();
    if let Some(components) = &mut document.components {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some(
                "A token of a configured issuer; its groups give roles (`[roles]`). The scope named \
                 at an operation is the role that it takes.",
            ))
            .build();
        components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
        components.add_security_scheme(
            SOCKET,
            SecurityScheme::MutualTls {
                description: Some(
                    "The admin socket: the operator, by the credentials of the process that \
                     connects. No TLS is involved; OpenAPI has no word for it."
                        .to_owned(),
                ),
                deprecated: None,
                extensions: None,
            },
        );
    }
    for route in routes::table() {
        if let Some(components) = &mut document.components {
            let mut schemas = Vec::new();
            (route.schemas)(&mut schemas);
            components.schemas.extend(schemas);
        }
        let mut operation = with_access((route.operation)(), route.access);
        operation.tags = Some(vec![tag(route.path)]);
        let item = document.paths.paths.entry(route.path.to_owned());
        item.or_default()
            .merge_operations(PathItem::new(route.method, operation));
    }
    document
}

/// What the path is about: `sessions` for `/v1/sessions/{id}/events`.
fn tag(path: &str) -> String {
    let subject = path.split('/').nth(2).unwrap_or(path);
    subject.trim_end_matches(".json").to_owned()
}

/// Adds what holds for every route of that access.
fn with_access(mut operation: Operation, access: Access) -> Operation {
    operation.security = Some(requirements(access));
    let mut refusals = vec![
        ("429", "Too many requests"),
        ("503", "The appliance is stopping"),
    ];
    if access != Access::Open {
        refusals.push(("401", "Nobody, or a token that proves nothing"));
        refusals.push(("403", "Somebody who may not"));
    }
    for (status, description) in refusals {
        let body = Content::new(Some(Ref::from_schema_name("Refused")));
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/json", body)
            .build();
        let responses = &mut operation.responses.responses;
        responses
            .entry(status.to_owned())
            .or_insert_with(|| response.into());
    }
    operation
}

fn requirements(access: Access) -> Vec<SecurityRequirement> {
    let socket = || SecurityRequirement::new(SOCKET, [] as [&str; 0]);
    let bearer = |role: Role| SecurityRequirement::new(BEARER, [role.name()]);
    match access {
        Access::Open => vec![SecurityRequirement::default()],
        Access::Known => vec![socket(), SecurityRequirement::new(BEARER, [] as [&str; 0])],
        Access::Operator => vec![socket()],
        Access::Role(role) => vec![socket(), bearer(role)],
        Access::Person(role) => vec![bearer(role)],
    }
}

/// This document
#[utoipa::path(
    get,
    path = paths::OPENAPI,
    operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(super) async fn openapi() -> Json<OpenApi> {
    Json(document())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use utoipa::openapi::path::HttpMethod;

    use super::*;

    fn word(method: &HttpMethod) -> String {
        serde_json::to_value(method)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn the_document_has_every_route_with_its_access_and_no_other() {
        let document = serde_json::to_value(document()).unwrap();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                documented.insert((method.clone(), path.clone()));
                for said in ["summary", "operationId", "security", "tags"] {
                    assert!(!operation[said].is_null(), "{method} {path}: {said}");
                }
                let id = |name: &str| path.contains(&format!("{{{name}}}"));
                let parameters = operation["parameters"].as_array();
                for parameter in parameters.into_iter().flatten() {
                    let name = parameter["name"].as_str().unwrap();
                    assert!(parameter["in"] == "query" || id(name), "{path}: {name}");
                }
            }
        }
        let table: BTreeSet<_> = routes::table()
            .iter()
            .map(|route| (word(&route.method), route.path.to_owned()))
            .collect();
        assert_eq!(documented, table);
        assert_eq!(table.len(), routes::table().len(), "a route is there twice");
    }

    #[test]
    fn annotations_and_table_name_the_same_method_and_path() {
        for route in routes::table() {
            let (path, methods) = (route.annotated)();
            assert_eq!(path, route.path);
            let methods: Vec<String> = methods.iter().map(word).collect();
            assert_eq!(methods, [word(&route.method)], "{path}");
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(target)) = members.get("$ref") {
                        let pointer = target.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{target}");
                    }
                    members.values().for_each(|value| check(value, document));
                }
                Value::Array(items) => items.iter().for_each(|value| check(value, document)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = serde_json::to_value(document()).unwrap();
        check(&document, &document);
    }
}
