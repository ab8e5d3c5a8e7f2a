//! The console as a client of an issuer.

use super::reader::Reader;
use crate::config::file::{File, Text};
use crate::config::snapshot::ConsoleLogin;
use crate::identity::{Issuer, IssuerKeys};

/// Without which there is no ID token.
const OPENID: &str = "openid";

/// What holds without `console.scopes`.
const SCOPES_DEFAULT: [&str; 2] = [OPENID, "profile"];

pub(super) fn resolve(
    reader: &mut Reader<'_>,
    written: &File,
    accepted: &[Issuer],
) -> Option<ConsoleLogin> {
    let console = &written.console;
    let Some(name) = &console.issuer else {
        let without = [&console.client_id, &console.client_secret];
        for text in without.into_iter().flatten() {
            reader.problem(text.span(), "means nothing without `console.issuer`");
        }
        return None;
    };
    let issuer = accepted
        .iter()
        .find(|issuer| issuer.name == *name.get_ref());
    match issuer.map(|issuer| &issuer.keys) {
        None => reader.problem(name.span(), "no [[issuer]] has this name"),
        Some(IssuerKeys::Fixed(_)) => reader.problem(
            name.span(),
            "nobody can sign in there: it has no discovery document, since its `jwks` is a file",
        ),
        Some(IssuerKeys::Remote(..)) => {}
    }
    let Some(client_id) = &console.client_id else {
        reader.problem(name.span(), "`console.issuer` takes `console.client_id`");
        return None;
    };
    let client_secret = match &console.client_secret {
        Some(secret) => Some(reader.secret(secret)?),
        None => None,
    };
    Some(ConsoleLogin {
        issuer: name.get_ref().clone(),
        client_id: client_id.get_ref().clone(),
        client_secret,
        scopes: scopes(console.scopes.as_ref().map(toml::Spanned::get_ref)),
    })
}

fn scopes(written: Option<&Vec<Text>>) -> Vec<String> {
    let Some(written) = written else {
        return SCOPES_DEFAULT.map(str::to_owned).to_vec();
    };
    let mut scopes: Vec<String> = written.iter().map(|text| text.get_ref().clone()).collect();
    if !scopes.iter().any(|scope| scope == OPENID) {
        scopes.insert(0, OPENID.to_owned());
    }
    scopes
}
