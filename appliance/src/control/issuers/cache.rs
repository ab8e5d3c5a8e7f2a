//! Fetched keys on disk, so that a restart serves while their issuer is down.
//!
//! A file holds what one source published and when. It is believed for as long as the keys in it
//! would have served without the restart, and not at all when its time lies in the future.

use std::fs;
use std::io::Read;
use std::sync::Arc;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::config::{Audience, StateDirectory, StateError};
use crate::identity::remote::{Endpoints, address};
use crate::identity::{JWKS_BYTES_MAX, KeySet, SourceId};

/// Files of this kind begin with this; the rest is the source's id.
const PREFIX: &str = "issuer-keys-";
const SUFFIX: &str = ".json";

/// Largest file, in bytes: a key set whose every byte is escaped.
const FILE_BYTES_MAX: u64 = 6 * JWKS_BYTES_MAX;

/// What was published once.
pub(super) struct Kept {
    pub(super) keys: Arc<KeySet>,
    pub(super) jwks: String,
    pub(super) endpoints: Option<Arc<Endpoints>>,
    /// Seconds since 1970.
    pub(super) fetched: u64,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    fetched: u64,
    endpoints: Option<Places>,
    jwks: String,
}

#[derive(Serialize, Deserialize)]
struct Places {
    authorization: Option<String>,
    token: Option<String>,
    device_authorization: Option<String>,
    jwks: String,
}

const VERSION: u32 = 1;

fn name(id: SourceId) -> String {
    format!("{PREFIX}{id}{SUFFIX}")
}

/// What is kept of a source. A file that is damaged, or of another version, is as none.
pub(super) fn read(state: &StateDirectory, id: SourceId, now: u64) -> Option<Kept> {
    let mut bytes = Vec::new();
    fs::File::open(state.file(&name(id)))
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .ok()?;
    let written: Written = serde_json::from_slice(&bytes).ok()?;
    if written.version != VERSION || written.fetched > now {
        return None;
    }
    let endpoints = match written.endpoints {
        Some(places) => Some(Arc::new(places.read()?)),
        None => None,
    };
    Some(Kept {
        keys: Arc::new(KeySet::from_jwks(written.jwks.as_bytes()).ok()?),
        jwks: written.jwks,
        endpoints,
        fetched: written.fetched,
    })
}

/// Keeps it in place of what was kept of the same source.
pub(super) fn write(state: &StateDirectory, id: SourceId, kept: &Kept) -> Result<(), StateError> {
    let written = Written {
        version: VERSION,
        fetched: kept.fetched,
        endpoints: kept.endpoints.as_deref().map(Places::of),
        jwks: kept.jwks.clone(),
    };
    // Texts and numbers always make JSON.
    let bytes = serde_json::to_vec(&written).unwrap_or_default();
    state.replace(&name(id), Audience::Owner, &bytes)
}

/// Removes what is kept of sources that are not configured any more.
pub(super) fn sweep(state: &StateDirectory, configured: impl Iterator<Item = SourceId>) {
    let names: Vec<String> = configured.map(name).collect();
    // A directory that cannot be read has been complained about by others.
    for entry in fs::read_dir(state.path()).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let ours = file
            .to_str()
            .is_some_and(|file| file.starts_with(PREFIX) && !names.iter().any(|n| n == file));
        if ours && let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(%error, "keys of an issuer that is not configured stay on disk");
        }
    }
}

impl Places {
    fn of(endpoints: &Endpoints) -> Self {
        let text = |url: &Option<Url>| url.as_ref().map(Url::to_string);
        Self {
            authorization: text(&endpoints.authorization),
            token: text(&endpoints.token),
            device_authorization: text(&endpoints.device_authorization),
            jwks: endpoints.jwks.to_string(),
        }
    }

    fn read(self) -> Option<Endpoints> {
        let url = |text: Option<String>| match text {
            Some(text) => address(&text).map(Some),
            None => Ok(None),
        };
        Some(Endpoints {
            authorization: url(self.authorization).ok()?,
            token: url(self.token).ok()?,
            device_authorization: url(self.device_authorization).ok()?,
            jwks: address(&self.jwks).ok()?,
        })
    }
}
