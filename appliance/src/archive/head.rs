//! Heads: what the appliance signs about its archive, so that no later change goes unnoticed.
//!
//! A head names the one before, so that one head that is kept elsewhere speaks for all before it.
//! What is signed is a text that is made from the fields, not the bytes of a line: a head may pass
//! through a log or a web hook and stays verifiable.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::chained::{Hash, Tip, from_hex};
use super::key::{PublicKey, SigningKey};

/// Name of the file in the archive.
pub(super) const FILE: &str = "heads.ndjson";

/// Most shards that a head may name: as many as can be configured, over all configurations.
const SHARDS_MAX: usize = 1024;

/// Why a head was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Something was sealed, or the trail grew.
    Sealed,
    /// The appliance stops.
    Stop,
    /// A new key takes over behind this head.
    KeyRotation,
    /// Sessions are about to be removed.
    Retention,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Stop => "stop",
            Self::KeyRotation => "key-rotation",
            Self::Retention => "retention",
        }
    }
}

/// What was sealed with a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedPack {
    pub number: u64,
    pub segments: u64,
    pub records: u64,
    /// Root of the Merkle tree over the pack's table, in hexadecimal.
    pub root: String,
}

/// Where the chain of a shard is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardTip {
    pub shard: u16,
    /// Segments since the archive began.
    pub segments: u64,
    pub chain: String,
    /// The ring that was sealed last, and up to which position.
    pub ring: String,
    pub position: u64,
}

/// How many lines a chained file has, and the hash of the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTip {
    pub count: u64,
    pub hash: String,
}

impl FileTip {
    pub(super) fn of(tip: Tip) -> Self {
        Self {
            count: tip.count,
            hash: tip.hash.to_hex(),
        }
    }
}

/// A signed head, as it stands in a line of `heads.ndjson`, in the log and in web hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Counts from 1.
    pub number: u64,
    /// Microseconds since 1970.
    pub at: u64,
    pub reason: Reason,
    /// Hash of the head before, in hexadecimal; zeroes for the first.
    pub previous: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<SealedPack>,
    pub shards: Vec<ShardTip>,
    pub trail: FileTip,
    pub tombstones: FileTip,
    /// The key that signs the heads behind this one, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key: Option<String>,
    /// Id of the key that signed this one.
    pub key: String,
    /// Ed25519, in base64.
    #[serde(default)]
    pub signature: String,
}

impl Head {
    /// What is signed and hashed.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "sallyport head 1\nnumber {}\nat {}\nreason {}\nprevious {}\nkey {}",
            self.number,
            self.at,
            self.reason.name(),
            self.previous,
            self.key
        );
        if let Some(pack) = &self.pack {
            let _ = writeln!(
                text,
                "pack {} {} {} {}",
                pack.number, pack.segments, pack.records, pack.root
            );
        }
        for tip in &self.shards {
            let _ = writeln!(
                text,
                "shard {} {} {} {} {}",
                tip.shard, tip.segments, tip.chain, tip.ring, tip.position
            );
        }
        let _ = writeln!(text, "trail {} {}", self.trail.count, self.trail.hash);
        let _ = writeln!(
            text,
            "tombstones {} {}",
            self.tombstones.count, self.tombstones.hash
        );
        if let Some(key) = &self.next_key {
            let _ = writeln!(text, "next-key {key}");
        }
        text
    }

    pub(super) fn hash(&self) -> Hash {
        Hash::of(&[self.text().as_bytes()])
    }

    pub(super) fn sign(&mut self, key: &SigningKey) {
        self.key = key.public().id();
        self.signature = STANDARD.encode(key.sign(self.text().as_bytes()));
    }

    pub(super) fn is_signed_by(&self, key: &PublicKey) -> bool {
        let signature = STANDARD.decode(&self.signature);
        self.key == key.id()
            && signature.is_ok_and(|signature| key.verifies(self.text().as_bytes(), &signature))
    }

    /// Whether every field has the one form that its text is made from.
    ///
    /// A text with a line break in a field could be read as two different heads.
    fn is_well_formed(&self) -> bool {
        let is_hash = |text: &str| Hash::from_hex(text).is_some_and(|hash| hash.to_hex() == text);
        let is_hex = |text: &str, bytes: usize| {
            from_hex(text)
                .is_some_and(|found| found.len() == bytes && super::chained::hex(&found) == text)
        };
        is_hash(&self.previous)
            && is_hex(&self.key, 8)
            && self.pack.as_ref().is_none_or(|pack| is_hash(&pack.root))
            && self.shards.len() <= SHARDS_MAX
            && self
                .shards
                .iter()
                .all(|tip| is_hash(&tip.chain) && is_hex(&tip.ring, 16))
            && is_hash(&self.trail.hash)
            && is_hash(&self.tombstones.hash)
            && self.next_key.as_ref().is_none_or(|key| {
                PublicKey::from_base64(key).is_some_and(|found| found.to_base64() == *key)
            })
    }

    /// Reads a line of `heads.ndjson`.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let head: Self = serde_json::from_slice(line).ok()?;
        head.is_well_formed().then_some(head)
    }

    /// Finds a head in what somebody kept: a line of `heads.ndjson`, or a line of the log or the
    /// body of a web hook that carries one in a field `head`.
    pub(super) fn find(text: &[u8]) -> Option<Self> {
        if let Some(head) = Self::parse(text) {
            return Some(head);
        }
        let mut fields: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let inner = fields.remove("head")?;
        match inner.as_str() {
            Some(inner) => Self::parse(inner.as_bytes()),
            None => Self::parse(inner.to_string().as_bytes()),
        }
    }

    pub(super) fn to_line(&self) -> String {
        // Texts and numbers: nothing in it can fail to become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}
