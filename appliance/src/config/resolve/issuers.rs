//! Who may vouch for agents: the configured issuers and the built-in one.

use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::Algorithm;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::reader::{Reader, text_or_default};
use crate::config::console_url::ConsoleUrl;
use crate::config::file::{self, File, Text, span_of};
use crate::config::keys::{self, Key};
use crate::config::state::StateDirectory;
use crate::identity::remote::{self, Place};
use crate::identity::{
    ALGORITHMS, BuiltinIssuer, ClaimMapping, ClaimPath, Issuer, IssuerKeys, JWKS_BYTES_MAX, KeySet,
    RemoteSource,
};

/// Largest file of root certificates, in bytes. The whole web's are below 256 KiB.
const ROOTS_BYTES_MAX: u64 = 1024 * 1024;

/// What holds without `issuer[].algorithms`: one strength of each family, as the common
/// providers use them.
const ALGORITHMS_DEFAULT: [Algorithm; 5] = [
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

pub(super) struct Issuers {
    pub(super) accepted: Vec<Issuer>,
    pub(super) builtin: Option<BuiltinIssuer>,
}

pub(super) fn resolve(
    reader: &mut Reader<'_>,
    written: &File,
    state: &StateDirectory,
    console_url: Option<&ConsoleUrl>,
) -> Option<Issuers> {
    let builtin = builtin(reader, written, state, console_url);
    let mut accepted: Vec<Issuer> = builtin.iter().map(BuiltinIssuer::as_issuer).collect();
    for entry in &written.issuer {
        let Some(issuer) = issuer(reader, entry) else {
            continue;
        };
        if accepted.iter().any(|other| other.name == issuer.name) {
            reader.problem(entry.name.span(), "another issuer has this name");
        }
        if accepted
            .iter()
            .any(|other| other.answers_to(&issuer.issuer))
        {
            reader.problem(entry.issuer.span(), "another issuer has this `issuer`");
        }
        accepted.push(issuer);
    }
    check_prefixes(reader, written, &accepted);
    Some(Issuers { accepted, builtin })
}

fn builtin(
    reader: &mut Reader<'_>,
    written: &File,
    state: &StateDirectory,
    console_url: Option<&ConsoleUrl>,
) -> Option<BuiltinIssuer> {
    let settings = &written.builtin_issuer;
    let lifetime_max = reader.duration(
        settings.token_lifetime_max.as_ref(),
        &keys::BUILTIN_TOKEN_LIFETIME_MAX,
    );
    if settings.enabled == Some(false) {
        return None;
    }
    let prefix = text_or_default(settings.group_prefix.as_ref(), &keys::BUILTIN_GROUP_PREFIX);
    BuiltinIssuer::open(
        state,
        lifetime_max,
        prefix,
        console_url.map(ConsoleUrl::origin),
    )
    .map_err(|error| reader.error(0..0, &error))
    .ok()
}

fn issuer(reader: &mut Reader<'_>, entry: &file::Issuer) -> Option<Issuer> {
    for text in [&entry.name, &entry.issuer] {
        if text.get_ref().is_empty() {
            reader.problem(text.span(), "this must not be empty");
        }
    }
    if entry.audience.get_ref().is_empty() {
        reader.problem(
            entry.audience.span(),
            "without an audience no token is accepted",
        );
    }
    let keys = keys_of(reader, entry);
    let algorithms = algorithms(reader, entry);
    let groups = claim_path(reader, entry.groups.as_ref(), &keys::ISSUER_GROUPS);
    let name = claim_path(
        reader,
        entry.display_name.as_ref(),
        &keys::ISSUER_DISPLAY_NAME,
    );
    let prefix = text_or_default(entry.group_prefix.as_ref(), &keys::ISSUER_GROUP_PREFIX);
    let texts = |list: &[Text]| list.iter().map(|text| text.get_ref().clone()).collect();
    let mapped = entry
        .group_map
        .iter()
        .map(|(from, to)| (from.clone(), to.get_ref().clone()));
    Some(Issuer {
        name: entry.name.get_ref().clone(),
        issuer: entry.issuer.get_ref().clone(),
        alias: None,
        audience: texts(entry.audience.get_ref()),
        algorithms,
        keys: keys?,
        mapping: ClaimMapping {
            groups: groups?,
            group_prefix: prefix.to_owned(),
            group_map: mapped.collect(),
            name: name?,
        },
    })
}

fn keys_of(reader: &mut Reader<'_>, entry: &file::Issuer) -> Option<IssuerKeys> {
    let place = match &entry.jwks {
        Some(jwks) => match jwks.get_ref().strip_prefix("file:") {
            Some(path) => {
                let path = path.to_owned();
                only_when_fetched(reader, entry);
                return key_file(reader, jwks, &path).map(IssuerKeys::Fixed);
            }
            None => remote::address(jwks.get_ref())
                .map(Place::Jwks)
                .map_err(|error| (jwks, error)),
        },
        None => Place::of_issuer(entry.issuer.get_ref()).map_err(|error| (&entry.issuer, error)),
    };
    let place = place
        .map_err(|(text, error)| match &entry.jwks {
            Some(_) => {
                let message =
                    format!("a key set is given as `file:PATH` or `https://...`: {error}");
                reader.problem(text.span(), message);
            }
            None => {
                let message = format!("without `jwks`, keys are found from here: {error}");
                reader.problem(text.span(), message);
            }
        })
        .ok();
    let refresh_min = reader.duration(entry.refresh_min.as_ref(), &keys::ISSUER_REFRESH_MIN);
    let refresh_max = reader.duration(entry.refresh_max.as_ref(), &keys::ISSUER_REFRESH_MAX);
    let stale_max = reader.duration(entry.stale_max.as_ref(), &keys::ISSUER_STALE_MAX);
    if refresh_min > refresh_max {
        let at = span_of(entry.refresh_min.as_ref().or(entry.refresh_max.as_ref()));
        reader.problem(at, "`refresh_min` is longer than `refresh_max`");
    }
    if refresh_max >= stale_max {
        let at = span_of(entry.stale_max.as_ref().or(entry.refresh_max.as_ref()));
        reader.problem(at, "`stale_max` must be longer than `refresh_max`");
    }
    let roots = match &entry.ca {
        Some(ca) => roots(reader, ca)?,
        None => Arc::default(),
    };
    Some(IssuerKeys::remote(RemoteSource {
        name: entry.name.get_ref().clone(),
        issuer: entry.issuer.get_ref().clone(),
        place: place?,
        roots,
        refresh_min,
        refresh_max,
        stale_max,
    }))
}

/// Notes keys that mean nothing for a file.
fn only_when_fetched(reader: &mut Reader<'_>, entry: &file::Issuer) {
    let written = [
        &entry.ca,
        &entry.refresh_min,
        &entry.refresh_max,
        &entry.stale_max,
    ];
    for text in written.into_iter().flatten() {
        reader.problem(
            text.span(),
            "this is for keys that are fetched, not for a file",
        );
    }
}

fn key_file(reader: &mut Reader<'_>, jwks: &Text, path: &str) -> Option<KeySet> {
    let path = reader
        .source
        .file
        .parent()
        .unwrap_or_else(|| Path::new(""))
        .join(path);
    let bytes = reader.contents(&path, jwks.span(), JWKS_BYTES_MAX)?;
    KeySet::from_jwks(&bytes)
        .map_err(|error| reader.problem(jwks.span(), format!("{}: {error}", path.display())))
        .ok()
}

/// The certificates of a PEM file, each of which must be usable as a root.
fn roots(reader: &mut Reader<'_>, ca: &Text) -> Option<Arc<[CertificateDer<'static>]>> {
    let path = reader.path(ca);
    let bytes = reader.contents(&path, ca.span(), ROOTS_BYTES_MAX)?;
    let found: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.unwrap_or_default();
    let mut store = RootCertStore::empty();
    if found.is_empty() || found.iter().any(|root| store.add(root.clone()).is_err()) {
        let message = format!("{} does not hold root certificates in PEM", path.display());
        reader.problem(ca.span(), message);
        return None;
    }
    Some(found.into())
}

fn algorithms(reader: &mut Reader<'_>, entry: &file::Issuer) -> Vec<Algorithm> {
    let Some(written) = &entry.algorithms else {
        return ALGORITHMS_DEFAULT.to_vec();
    };
    if written.get_ref().is_empty() {
        reader.problem(written.span(), "without an algorithm no token is accepted");
    }
    let mut algorithms = Vec::new();
    for name in written.get_ref() {
        let named = reader.one_of(name.span(), name.get_ref(), "an algorithm", &ALGORITHMS);
        algorithms.extend(named);
    }
    algorithms
}

fn claim_path(reader: &mut Reader<'_>, value: Option<&Text>, key: &Key) -> Option<ClaimPath> {
    ClaimPath::parse(text_or_default(value, key))
        .map_err(|error| reader.error(span_of(value), &error))
        .ok()
}

/// With several issuers, a group must say which of them gave it: otherwise whoever controls one
/// could hand out the groups of another.
fn check_prefixes(reader: &mut Reader<'_>, written: &File, accepted: &[Issuer]) {
    for (index, issuer) in accepted.iter().enumerate() {
        let prefix = issuer.mapping.group_prefix.as_str();
        let others = accepted
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let clash = others
            .map(|(_, other)| other)
            .find(|other| other.mapping.group_prefix.starts_with(prefix));
        let Some(other) = clash else { continue };
        let entry = written
            .issuer
            .iter()
            .find(|entry| *entry.name.get_ref() == issuer.name);
        let (at, key) = match entry {
            Some(entry) => (
                span_of(entry.group_prefix.as_ref().or(Some(&entry.name))),
                "`group_prefix`",
            ),
            None => (
                span_of(written.builtin_issuer.group_prefix.as_ref()),
                "`builtin_issuer.group_prefix`",
            ),
        };
        let message = if prefix.is_empty() {
            format!(
                "with several issuers each needs its own {key}, so that none can give the groups \
                 of another; `{}` has none",
                issuer.name
            )
        } else {
            format!(
                "groups of issuer `{}` could begin like those of `{}`: {key} must differ",
                other.name, issuer.name
            )
        };
        reader.problem(at, message);
    }
}
