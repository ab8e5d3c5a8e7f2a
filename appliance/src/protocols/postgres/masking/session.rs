//! The masks that are about one principal at one target, ready to be applied.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use crate::config::TargetMaskKey;
use policy::mask::detect::{
    DetectError, DetectorSet, Format, Masks, Place, REDACTED, Scanner, Wanted, fill,
};
use policy::mask::transform::{write_first, write_last4};
use policy::mask::{Detect, Transform};
use policy::{Permit, Policy, RulesKey, Version};

/// Sets of masks that are kept. Forgetting one costs compiling it again.
const SETS_MAX: usize = 256;

/// Immutable. Per shard, policy and set of rules; shared by the sessions that it is about.
#[derive(Default)]
pub(in crate::protocols::postgres) struct SessionMasks {
    /// Some mask names columns.
    pub(super) by_column: bool,
    /// What the masks are can not be said.
    pub(super) is_of_everything: bool,
    pub(super) detectors: DetectorSet,
    /// For hashes; without one they are redacted.
    pub(super) key: Option<TargetMaskKey>,
    /// What is done to the values that each mask of the detectors finds.
    with: Vec<Transform>,
}

/// Policy, rules and target.
type Whose = (Version, RulesKey, Box<str>);

/// What each set of masks looks for. Per shard.
#[derive(Default)]
pub(in crate::protocols::postgres) struct MaskSets {
    sets: RefCell<HashMap<Whose, Rc<SessionMasks>>>,
}

impl MaskSets {
    /// The masks that apply to who has this permit; `None` where there are none.
    ///
    /// # Errors
    /// When what they look for can not be searched for. Policy that compiles has no such masks.
    pub(in crate::protocols::postgres) fn of(
        &self,
        policy: &Policy,
        permit: &Permit,
        target: &str,
        key: impl FnOnce() -> Option<TargetMaskKey>,
    ) -> Result<Option<Rc<SessionMasks>>, Vec<DetectError>> {
        if policy.masks(permit).next().is_none() {
            return Ok(None);
        }
        let mut sets = self.sets.borrow_mut();
        let place = (policy.version(), permit.rules_key().clone(), target.into());
        if let Some(known) = sets.get(&place) {
            return Ok(Some(Rc::clone(known)));
        }
        let masks = Rc::new(SessionMasks::compile(policy, permit, key())?);
        if sets.len() >= SETS_MAX {
            sets.clear();
        }
        sets.insert(place, Rc::clone(&masks));
        Ok(Some(masks))
    }
}

impl SessionMasks {
    fn compile(
        policy: &Policy,
        permit: &Permit,
        key: Option<TargetMaskKey>,
    ) -> Result<Self, Vec<DetectError>> {
        let mut by_transform: Vec<(&Transform, Detect)> = Vec::new();
        for mask in policy.masks(permit).filter(|mask| !mask.detect.is_empty()) {
            let mut known = by_transform.iter_mut();
            let detect = match known.find(|(with, _)| **with == mask.with) {
                Some((_, detect)) => detect,
                None => {
                    by_transform.push((&mask.with, Detect::default()));
                    let Some((_, detect)) = by_transform.last_mut() else {
                        continue;
                    };
                    detect
                }
            };
            detect.names.extend_from_slice(&mask.detect.names);
            detect.patterns.extend_from_slice(&mask.detect.patterns);
            detect.words.extend_from_slice(&mask.detect.words);
        }
        let words: Vec<[Vec<&str>; 3]> = by_transform
            .iter()
            .map(|(_, detect)| {
                [&detect.names, &detect.patterns, &detect.words]
                    .map(|words| words.iter().map(String::as_str).collect())
            })
            .collect();
        let wanted: Vec<Wanted<'_>> = words
            .iter()
            .map(|[detect, patterns, words]| Wanted {
                detect,
                patterns,
                words,
            })
            .collect();
        Ok(Self {
            is_of_everything: false,
            key,
            by_column: policy.masks(permit).any(|mask| !mask.columns.is_empty()),
            detectors: DetectorSet::compile(&wanted)?,
            with: by_transform
                .into_iter()
                .map(|(with, _)| with.clone())
                .collect(),
        })
    }

    /// Hides every value of every answer.
    pub(in crate::protocols::postgres) fn of_everything() -> Self {
        Self {
            by_column: true,
            is_of_everything: true,
            ..Self::default()
        }
    }

    /// Some mask looks for values.
    pub(super) fn detects(&self) -> bool {
        !self.detectors.is_empty()
    }

    /// Appends `text` with others in the place of the values that are looked for; appends nothing
    /// where there are none.
    pub(super) fn redact(
        &self,
        scanner: &mut Scanner,
        text: &[u8],
        format: Format,
        out: &mut Vec<u8>,
    ) -> bool {
        let found = scanner.find(&self.detectors, text, format);
        if found.is_empty() {
            return false;
        }
        let between = |range: Range<usize>| text.get(range).unwrap_or_default();
        let mut copied = 0;
        for found in found {
            out.extend_from_slice(between(copied..found.span.start));
            let value = between(found.span.clone());
            match found.place {
                Place::Text => self.write(found.masks, value, out),
                Place::JsonNumber => out.extend_from_slice(b"null"),
                Place::Hex => {
                    let start = out.len();
                    out.extend_from_slice(value);
                    fill(out.get_mut(start..).unwrap_or_default(), Place::Hex);
                }
            }
            copied = found.span.end;
        }
        out.extend_from_slice(between(copied..text.len()));
        true
    }

    /// Appends what stands in the place of a value that `masks` look for.
    fn write(&self, masks: Masks, value: &[u8], out: &mut Vec<u8>) {
        let with = masks.iter().filter_map(|mask| self.with.get(mask)).cloned();
        // Security: of several masks the strictest counts, and what names none is redacted.
        match with.reduce(Transform::stricter) {
            Some(Transform::Fixed(text)) => {
                // The text around it may be a string of JSON, or an array's.
                let plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | b'{' | b'}' | b'\'');
                if text.as_bytes().iter().all(plain) {
                    out.extend_from_slice(text.as_bytes());
                } else {
                    out.extend_from_slice(REDACTED.as_bytes());
                }
            }
            Some(Transform::Last4) => write_last4(value, out),
            Some(Transform::First(characters)) => write_first(value, characters, out),
            Some(Transform::Hash) if let Some(key) = &self.key => {
                for byte in key.digest(value) {
                    let digits = [byte >> 4, byte & 0xf].map(|digit| match digit {
                        0..=9 => b'0' + digit,
                        _ => b'a' + digit - 10,
                    });
                    out.extend_from_slice(&digits);
                }
            }
            Some(
                Transform::Redact
                | Transform::Null
                | Transform::Hash
                | Transform::Round(_)
                | Transform::Truncate(_),
            )
            | None => out.extend_from_slice(REDACTED.as_bytes()),
        }
    }
}
