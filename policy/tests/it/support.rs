//! What several tests share: a principal, a target, a short way to write effects.

use policy::sql::postgres::{ProfileLimits, profile};
use policy::sql::{Batch, Object};

pub(crate) fn batch(text: &str) -> Batch {
    profile(text, &ProfileLimits::default())
}

/// The effects of all statements as `class object`, in order; functions end in `()`.
pub(crate) fn effects(text: &str) -> Vec<String> {
    batch(text)
        .statements
        .iter()
        .flat_map(|statement| &statement.effects)
        .map(|effect| {
            if effect.object == Object::Nothing {
                effect.class.to_string()
            } else {
                format!("{} {}", effect.class, effect.object)
            }
        })
        .collect()
}
