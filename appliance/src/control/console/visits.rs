//! Browsers that are signed in, and links that sign one in.
//!
//! Time is an argument. It holds digests of cookies and links, never what a browser sends.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::recorder::NoRandomness;

/// Visits at once. A company's whole staff on call stays below; a visit takes about 1 KiB.
const VISITS_MAX: usize = 1024;

/// Visits of one person at once: some browsers and a telephone. The one that was idle longest ends
/// for the next.
const VISITS_PER_PERSON_MAX: usize = 8;

/// A browser that asks for nothing for this long is signed out: somebody left it open.
/// Seconds. What the page asks for by itself does not count.
const IDLE_SECONDS_MAX: u64 = 30 * 60;

/// A visit ends after this long, whoever it is: a shift. Seconds.
const VISIT_SECONDS_MAX: u64 = 12 * 60 * 60;

/// How long a one-time link waits for its browser. Seconds.
const LINK_SECONDS_MAX: u64 = 60;

/// Links that wait at once. Only the operator makes them; the oldest goes for the next.
const LINKS_MAX: usize = 64;

/// Random bytes of a cookie, a link and a form's token. 256 bits cannot be guessed.
const SECRET_BYTES: usize = 32;

/// Who signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guest<W> {
    pub(super) who: W,
    /// The same for all visits of one person.
    pub(super) name: String,
    /// No visit goes on after this: seconds since 1970.
    pub(super) until: u64,
}

/// A signed-in browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visit<W> {
    pub(super) guest: Guest<W>,
    /// What each form of its pages has to bring back.
    pub(super) form_token: Arc<str>,
    seen: u64,
    ends: u64,
}

impl<W> Visit<W> {
    fn is_over(&self, now: u64) -> bool {
        now >= self.ends || now >= self.seen.saturating_add(IDLE_SECONDS_MAX)
    }
}

type Digest = [u8; 32];

/// The visits of one process. A restart signs everybody out.
#[derive(Debug)]
pub(super) struct Visits<W> {
    by_cookie: HashMap<Digest, Visit<W>>,
    links: HashMap<Digest, Link<W>>,
}

#[derive(Debug)]
struct Link<W> {
    guest: Guest<W>,
    expires: u64,
}

impl<W: Clone> Visits<W> {
    pub(super) fn new() -> Self {
        Self {
            by_cookie: HashMap::new(),
            links: HashMap::new(),
        }
    }

    /// Signs a browser in; gives back its cookie's value.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn begin(&mut self, guest: Guest<W>, now: u64) -> Result<String, NoRandomness> {
        self.by_cookie.retain(|_, visit| !visit.is_over(now));
        let own = |visit: &Visit<W>| visit.guest.name == guest.name;
        if self.by_cookie.values().filter(|visit| own(visit)).count() >= VISITS_PER_PERSON_MAX {
            self.end_idlest(own);
        }
        if self.by_cookie.len() >= VISITS_MAX {
            self.end_idlest(|_| true);
        }
        let cookie = secret()?;
        let visit = Visit {
            ends: now.saturating_add(VISIT_SECONDS_MAX).min(guest.until),
            guest,
            form_token: Arc::from(secret()?),
            seen: now,
        };
        self.by_cookie.insert(digest_of(&cookie), visit);
        Ok(cookie)
    }

    /// The visit of a browser that somebody uses at `now`.
    pub(super) fn find(&mut self, cookie: &str, now: u64) -> Option<Visit<W>> {
        let key = digest_of(cookie);
        let visit = self.by_cookie.get_mut(&key)?;
        if visit.is_over(now) {
            self.by_cookie.remove(&key);
            return None;
        }
        visit.seen = now;
        Some(visit.clone())
    }

    /// The same for what a page asks by itself: it keeps nobody signed in.
    pub(super) fn peek(&self, cookie: &str, now: u64) -> Option<Visit<W>> {
        let visit = self.by_cookie.get(&digest_of(cookie))?;
        (!visit.is_over(now)).then(|| visit.clone())
    }

    /// Signs a browser out.
    pub(super) fn end(&mut self, cookie: &str) {
        self.by_cookie.remove(&digest_of(cookie));
    }

    /// Makes a link that signs one browser in, within a minute: its secret.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn link(&mut self, guest: Guest<W>, now: u64) -> Result<String, NoRandomness> {
        self.links.retain(|_, link| link.expires > now);
        if self.links.len() >= LINKS_MAX {
            let oldest = self.links.iter().min_by_key(|(_, link)| link.expires);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.links.remove(&key);
            }
        }
        let made = secret()?;
        let link = Link {
            guest,
            expires: now.saturating_add(LINK_SECONDS_MAX),
        };
        self.links.insert(digest_of(&made), link);
        Ok(made)
    }

    /// Takes a link: it serves once.
    pub(super) fn follow(&mut self, link: &str, now: u64) -> Option<Guest<W>> {
        let link = self.links.remove(&digest_of(link))?;
        (link.expires > now).then_some(link.guest)
    }

    fn end_idlest(&mut self, among: impl Fn(&Visit<W>) -> bool) {
        let visits = self.by_cookie.iter().filter(|(_, visit)| among(visit));
        let idlest = visits.min_by_key(|(_, visit)| visit.seen);
        if let Some(key) = idlest.map(|(key, _)| *key) {
            self.by_cookie.remove(&key);
        }
    }
}

/// 256 random bits as text for a cookie, a URL or a form.
pub(super) fn secret() -> Result<String, NoRandomness> {
    let mut bytes = [0; SECRET_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn digest_of(text: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_800_000_000;

    fn guest(name: &str, until: u64) -> Guest<String> {
        Guest {
            who: name.to_owned(),
            name: name.to_owned(),
            until,
        }
    }

    fn ann() -> Guest<String> {
        guest("ann", u64::MAX)
    }

    #[test]
    fn a_cookie_finds_its_own_visit_only() {
        let mut visits = Visits::new();
        let ann = visits.begin(ann(), NOON).unwrap();
        let ben = visits.begin(guest("ben", u64::MAX), NOON).unwrap();
        let found = visits.find(&ann, NOON).unwrap();
        assert_eq!(found.guest.who, "ann");
        let other = visits.find(&ben, NOON).unwrap();
        assert_eq!(other.guest.who, "ben");
        assert_ne!(found.form_token, other.form_token);
        assert!(visits.find("", NOON).is_none());
        assert!(visits.find(&found.form_token, NOON).is_none());
    }

    #[test]
    fn a_visit_ends_when_it_is_idle_and_only_people_keep_it_awake() {
        let mut visits = Visits::new();
        let cookie = visits.begin(ann(), NOON).unwrap();
        let almost = NOON + IDLE_SECONDS_MAX - 1;
        assert!(visits.find(&cookie, almost).is_some());
        let later = almost + IDLE_SECONDS_MAX - 1;
        assert!(visits.peek(&cookie, later).is_some());
        assert!(visits.find(&cookie, later + 1).is_none());
        assert!(visits.peek(&cookie, later).is_none(), "it is forgotten");
    }

    #[test]
    fn a_visit_ends_with_the_shift_and_with_the_token() {
        let mut visits = Visits::new();
        let long = visits.begin(ann(), NOON).unwrap();
        let short = visits.begin(guest("ann", NOON + 600), NOON).unwrap();
        assert!(visits.find(&short, NOON + 599).is_some());
        assert!(visits.find(&short, NOON + 600).is_none());
        let mut now = NOON;
        while now + 600 < NOON + VISIT_SECONDS_MAX {
            now += 600;
            assert!(visits.find(&long, now).is_some());
        }
        assert!(visits.find(&long, NOON + VISIT_SECONDS_MAX).is_none());
    }

    #[test]
    fn who_signs_out_is_out() {
        let mut visits = Visits::new();
        let cookie = visits.begin(ann(), NOON).unwrap();
        visits.end(&cookie);
        assert!(visits.find(&cookie, NOON).is_none());
    }

    #[test]
    fn one_person_has_so_many_visits_and_takes_none_from_others() {
        let mut visits = Visits::new();
        let ben = visits.begin(guest("ben", u64::MAX), NOON).unwrap();
        let mut cookies = Vec::new();
        for n in 0..=VISITS_PER_PERSON_MAX as u64 {
            cookies.push(visits.begin(ann(), NOON + 1 + n).unwrap());
        }
        let now = NOON + 60;
        let living = cookies
            .iter()
            .filter(|cookie| visits.peek(cookie, now).is_some());
        assert_eq!(living.count(), VISITS_PER_PERSON_MAX);
        assert!(visits.peek(&cookies[0], now).is_none(), "the idlest");
        assert!(visits.peek(&ben, now).is_some());
    }

    #[test]
    fn all_visits_together_are_bounded() {
        let mut visits = Visits::new();
        let first = visits.begin(guest("first", u64::MAX), NOON).unwrap();
        for n in 0..VISITS_MAX {
            let next = guest(&format!("person {n}"), u64::MAX);
            visits.begin(next, NOON + 1).unwrap();
        }
        assert_eq!(visits.by_cookie.len(), VISITS_MAX);
        assert!(visits.peek(&first, NOON + 1).is_none());
    }

    #[test]
    fn a_link_serves_once_and_for_a_minute() {
        let mut visits = Visits::new();
        let link = visits.link(ann(), NOON).unwrap();
        assert!(visits.follow("another", NOON).is_none());
        assert_eq!(visits.follow(&link, NOON + 59), Some(ann()));
        assert!(visits.follow(&link, NOON + 59).is_none());
        let late = visits.link(ann(), NOON).unwrap();
        assert!(visits.follow(&late, NOON + LINK_SECONDS_MAX).is_none());
    }

    #[test]
    fn links_that_wait_are_bounded() {
        let mut visits = Visits::new();
        for n in 0..2 * LINKS_MAX as u64 {
            visits.link(ann(), NOON + n / 8).unwrap();
        }
        assert!(visits.links.len() <= LINKS_MAX);
    }

    #[test]
    fn nothing_that_a_browser_sends_is_kept() {
        let mut visits = Visits::new();
        let cookie = visits.begin(ann(), NOON).unwrap();
        let link = visits.link(ann(), NOON).unwrap();
        let kept = format!("{visits:?}");
        assert!(!kept.contains(&cookie) && !kept.contains(&link));
        assert_eq!(cookie.len(), 43, "256 bits in base64");
    }
}
