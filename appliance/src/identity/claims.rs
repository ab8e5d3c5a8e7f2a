//! From an issuer's claims to the fields of a `Principal`, by that issuer's mapping.
//!
//! It runs on claims whose signature was verified and judges their shape only; times, audience and
//! issuer are checked in `token`.

use std::collections::BTreeMap;

use policy::Actor;
use serde_json::{Map, Value};

use super::ProofFailure;

/// Longest subject, name, group, token id or issuer of an actor, in bytes. Names travel into
/// upstream settings and recordings; real ones stay under 128.
pub(super) const NAME_BYTES_MAX: usize = 512;

/// Most groups of one principal. Entra ID stops at 200 and Google at 200.
const GROUPS_MAX: usize = 1024;

/// Longest delegation chain. Each link is one service acting for the one before; chains in
/// practice have one or two.
const DELEGATION_DEPTH_MAX: usize = 8;

/// Where a claim stands: member names from the outside in.
///
/// Shape as written: names joined by dots; a name that itself holds a dot stands in double quotes,
/// for example `"https://example.com/groups"` or `"kubernetes.io".namespace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

/// Why a text is not a claim path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimPathError {
    #[error("a claim path has an empty name")]
    EmptyName,
    #[error("a claim path has an unfinished or misplaced double quote")]
    Quote,
}

impl ClaimPath {
    /// Reads a path as written.
    ///
    /// # Errors
    /// Empty names and quotes that do not enclose exactly one whole name.
    pub fn parse(text: &str) -> Result<Self, ClaimPathError> {
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let (name, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or(ClaimPathError::Quote)?,
                None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
            };
            if name.is_empty() {
                return Err(ClaimPathError::EmptyName);
            }
            if name.contains('"') {
                return Err(ClaimPathError::Quote);
            }
            names.push(name.to_owned());
            if after.is_empty() {
                return Ok(Self(names));
            }
            rest = after.strip_prefix('.').ok_or(ClaimPathError::Quote)?;
        }
    }

    /// The claim of that name at the top.
    pub(super) fn of_name(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let (first, inner) = self.0.split_first()?;
        let outermost = claims.get(first)?;
        inner
            .iter()
            .try_fold(outermost, |value, name| value.as_object()?.get(name))
    }

    fn outermost(&self) -> Option<&str> {
        self.0.first().map(String::as_str)
    }
}

/// How one issuer's claims become groups and a display name.
#[derive(Debug, Clone)]
pub struct ClaimMapping {
    /// Where the groups stand: a list of strings, or one string.
    pub groups: ClaimPath,
    /// Put before each group that `group_map` does not name.
    pub group_prefix: String,
    /// Groups under other names, as issuers that send identifiers need. Taken as they are.
    pub group_map: BTreeMap<String, String>,
    /// Where the display name stands; the subject serves when it is absent.
    pub name: ClaimPath,
}

impl ClaimMapping {
    /// The groups, mapped and without repetition. A token without the claim has none.
    pub(super) fn groups(&self, claims: &Map<String, Value>) -> Result<Vec<String>, ProofFailure> {
        let malformed = ProofFailure::MalformedClaim { claim: "groups" };
        // Entra ID leaves the list out when it is long and says so here. Going on with fewer
        // groups would also lose those that a deny rule names.
        let elsewhere = claims.get("_claim_names").and_then(Value::as_object);
        if elsewhere.is_some_and(|names| {
            self.groups
                .outermost()
                .is_some_and(|claim| names.contains_key(claim))
        }) {
            return Err(ProofFailure::GroupsLeftOut);
        }
        let listed: Vec<&str> = match self.groups.find(claims) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => {
                if many.len() > GROUPS_MAX {
                    return Err(ProofFailure::TooManyGroups { count: many.len() });
                }
                let texts: Option<Vec<&str>> = many.iter().map(Value::as_str).collect();
                texts.ok_or_else(|| malformed.clone())?
            }
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => return Err(malformed),
        };
        let mut groups: Vec<String> = Vec::with_capacity(listed.len());
        for group in listed {
            if !is_name(group) {
                return Err(malformed);
            }
            let group = match self.group_map.get(group) {
                Some(mapped) => mapped.clone(),
                None => format!("{}{group}", self.group_prefix),
            };
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        Ok(groups)
    }

    /// The display name, if the token has a usable one.
    pub(super) fn name(&self, claims: &Map<String, Value>) -> Option<String> {
        let name = self.name.find(claims)?.as_str()?;
        is_name(name).then(|| name.to_owned())
    }
}

/// A required or optional claim that names something.
pub(super) fn text(
    claims: &Map<String, Value>,
    claim: &'static str,
) -> Result<Option<String>, ProofFailure> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::String(text)) if is_name(text) => Ok(Some(text.clone())),
        Some(_) => Err(ProofFailure::MalformedClaim { claim }),
    }
}

/// Who acts for the subject, the current actor first.
///
/// Spec: RFC 8693, "act" (Actor) Claim.
pub(super) fn delegation(
    claims: &Map<String, Value>,
    issuer: &str,
) -> Result<Vec<Actor>, ProofFailure> {
    let mut chain = Vec::new();
    let mut next = claims.get("act");
    while let Some(value) = next {
        let malformed = ProofFailure::MalformedClaim { claim: "act" };
        if chain.len() == DELEGATION_DEPTH_MAX {
            return Err(ProofFailure::DelegationTooDeep);
        }
        let act = value.as_object().ok_or_else(|| malformed.clone())?;
        let subject = text(act, "sub")
            .ok()
            .flatten()
            .ok_or_else(|| malformed.clone())?;
        let issuer = match text(act, "iss") {
            Ok(named) => named.unwrap_or_else(|| issuer.to_owned()),
            Err(_) => return Err(malformed),
        };
        chain.push(Actor { issuer, subject });
        next = act.get("act");
    }
    Ok(chain)
}

/// Whether a text can stand for a name: not empty, bounded, nothing that a terminal or a log line
/// would interpret.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(path: &str) -> ClaimMapping {
        ClaimMapping {
            groups: ClaimPath::parse(path).unwrap(),
            group_prefix: "corp:".into(),
            group_map: BTreeMap::from([("0f3a".to_owned(), "analysts".to_owned())]),
            name: ClaimPath::parse("name").unwrap(),
        }
    }

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn paths_are_read_with_quotes_around_names_that_hold_dots() {
        let path = |names: &[&str]| Ok(ClaimPath(names.iter().map(|n| (*n).to_owned()).collect()));
        let cases = [
            ("groups", path(&["groups"])),
            ("realm_access.roles", path(&["realm_access", "roles"])),
            ("cognito:groups", path(&["cognito:groups"])),
            (
                "\"https://a.example/groups\"",
                path(&["https://a.example/groups"]),
            ),
            (
                "\"kubernetes.io\".namespace",
                path(&["kubernetes.io", "namespace"]),
            ),
            ("", Err(ClaimPathError::EmptyName)),
            ("a.", Err(ClaimPathError::EmptyName)),
            ("a..b", Err(ClaimPathError::EmptyName)),
            ("\"a", Err(ClaimPathError::Quote)),
            ("\"a\"b", Err(ClaimPathError::Quote)),
            ("a\"b", Err(ClaimPathError::Quote)),
        ];
        for (text, expected) in cases {
            assert_eq!(ClaimPath::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn groups_come_from_the_path_with_prefix_map_and_no_repetition() {
        let groups = |path: &str, claims: Value| mapping(path).groups(&members(claims));
        let cases = [
            ("groups", json!({}), Ok(vec![])),
            ("groups", json!({"groups": "one"}), Ok(vec!["corp:one"])),
            (
                "groups",
                json!({"groups": ["a", "b", "a"]}),
                Ok(vec!["corp:a", "corp:b"]),
            ),
            ("groups", json!({"groups": ["0f3a"]}), Ok(vec!["analysts"])),
            ("a.b", json!({"a": {"b": ["x"]}}), Ok(vec!["corp:x"])),
            ("a.b", json!({"a": ["x"]}), Ok(vec![])),
            ("groups", json!({"groups": 5}), Err("groups")),
            ("groups", json!({"groups": ["a", 5]}), Err("groups")),
            ("groups", json!({"groups": [""]}), Err("groups")),
            ("groups", json!({"groups": ["a\nb"]}), Err("groups")),
        ];
        for (path, claims, expected) in cases {
            let expected = expected
                .map(|names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>())
                .map_err(|claim| ProofFailure::MalformedClaim { claim });
            assert_eq!(groups(path, claims.clone()), expected, "{path} {claims}");
        }
    }

    #[test]
    fn groups_that_the_issuer_left_out_refuse_the_token() {
        let claims = json!({"_claim_names": {"groups": "src1"}});
        assert_eq!(
            mapping("groups").groups(&members(claims)),
            Err(ProofFailure::GroupsLeftOut)
        );
        let claims = json!({"_claim_names": {"other": "src1"}, "groups": ["a"]});
        assert_eq!(
            mapping("groups").groups(&members(claims)),
            Ok(vec!["corp:a".to_owned()])
        );
    }

    #[test]
    fn groups_are_bounded_in_number_and_length() {
        let of = |count: usize| json!({"groups": (0..count).map(|i| format!("g{i}")).collect::<Vec<_>>()});
        assert_eq!(
            mapping("groups")
                .groups(&members(of(1024)))
                .map(|g| g.len()),
            Ok(1024)
        );
        assert_eq!(
            mapping("groups").groups(&members(of(1025))),
            Err(ProofFailure::TooManyGroups { count: 1025 })
        );
        assert!(
            mapping("groups")
                .groups(&members(json!({"groups": "g".repeat(512)})))
                .is_ok()
        );
        assert!(
            mapping("groups")
                .groups(&members(json!({"groups": "g".repeat(513)})))
                .is_err()
        );
    }

    #[test]
    fn delegation_is_read_outermost_first_and_bounded() {
        let actor = |issuer: &str, subject: &str| Actor {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        };
        let chain = |value: Value| delegation(&members(value), "https://idp");
        assert_eq!(chain(json!({})), Ok(vec![]));
        assert_eq!(
            chain(json!({"act": {"sub": "tool", "act": {"sub": "agent", "iss": "https://other"}}})),
            Ok(vec![
                actor("https://idp", "tool"),
                actor("https://other", "agent")
            ])
        );
        for bad in [
            json!({"act": "tool"}),
            json!({"act": {}}),
            json!({"act": {"sub": 1}}),
        ] {
            assert_eq!(
                chain(bad),
                Err(ProofFailure::MalformedClaim { claim: "act" })
            );
        }
        let nested = |depth: usize| {
            (1..depth).fold(
                json!({"sub": "a"}),
                |inner, _| json!({"sub": "a", "act": inner}),
            )
        };
        assert_eq!(chain(json!({"act": nested(8)})).map(|c| c.len()), Ok(8));
        assert_eq!(
            chain(json!({"act": nested(9)})),
            Err(ProofFailure::DelegationTooDeep)
        );
    }
}
