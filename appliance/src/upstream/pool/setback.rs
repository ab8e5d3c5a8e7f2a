//! When a target that turned us down is asked again.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::upstream::credentials::Identity;
use crate::upstream::error::UpstreamError;

/// Pause after the first failure. Each further one doubles it.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Longest pause: how late a target that came back is noticed.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Logins whose failures are remembered; the next one takes the place of all.
const LOGINS_MAX: usize = 64;

/// Failed connection attempts of one target.
///
/// While a pause lasts, whoever needs a new connection fails with what the last attempt failed
/// with: a target that is down costs its clients no wait and itself no storm.
#[derive(Default)]
pub(super) struct Setbacks {
    target: Option<Setback>,
    logins: Vec<(LoginKey, Setback)>,
}

/// What a server accepts or refuses as one: an account at a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoginKey {
    pub(super) account: Identity,
    pub(super) database: Rc<str>,
}

struct Setback {
    failures: u32,
    until: Instant,
    error: UpstreamError,
}

impl Setbacks {
    /// The reason not to try now.
    pub(super) fn in_force(&self, login: &LoginKey, now: Instant) -> Option<UpstreamError> {
        self.target
            .iter()
            .chain(
                self.logins
                    .iter()
                    .filter(|(of, _)| of == login)
                    .map(|(_, back)| back),
            )
            .find(|setback| now < setback.until)
            .map(|setback| setback.error.clone())
    }

    /// What the target was last away for, until it is back.
    pub(super) fn target_error(&self) -> Option<&UpstreamError> {
        self.target.as_ref().map(|setback| &setback.error)
    }

    pub(super) fn handle_failure(&mut self, login: &LoginKey, error: &UpstreamError, now: Instant) {
        if error.concerns_target() {
            self.target = Some(Setback::after(self.target.as_ref(), error, now));
        } else if error.concerns_account() {
            let earlier = self.logins.iter().position(|(of, _)| of == login);
            let earlier = earlier.map(|index| self.logins.swap_remove(index).1);
            if self.logins.len() >= LOGINS_MAX {
                self.logins.clear();
            }
            self.logins
                .push((login.clone(), Setback::after(earlier.as_ref(), error, now)));
        }
    }

    pub(super) fn handle_success(&mut self, login: &LoginKey) {
        self.target = None;
        self.logins.retain(|(of, _)| of != login);
    }
}

impl Setback {
    fn after(earlier: Option<&Self>, error: &UpstreamError, now: Instant) -> Self {
        // Attempts that were under way together are one failure.
        let failures = match earlier {
            Some(earlier) if now < earlier.until => earlier.failures,
            Some(earlier) => earlier.failures.saturating_add(1),
            None => 0,
        };
        let pause = PAUSE_FIRST
            .saturating_mul(1 << failures.min(10))
            .min(PAUSE_MAX);
        Self {
            failures,
            until: now + pause,
            error: error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::upstream::error::{AuthenticationFailure, Phase, SqlState};

    fn unreachable() -> UpstreamError {
        UpstreamError::Unreachable {
            kind: io::ErrorKind::ConnectionRefused,
        }
    }

    fn account(name: &str) -> LoginKey {
        LoginKey {
            account: Identity::over([name.as_bytes()]),
            database: "orders".into(),
        }
    }

    #[test]
    fn pauses_double_up_to_two_seconds_and_end_with_a_success() {
        let (mut setbacks, mut now) = (Setbacks::default(), Instant::now());
        for pause in [100, 200, 400, 800, 1600, 2000, 2000] {
            setbacks.handle_failure(&account("a"), &unreachable(), now);
            let end = now + Duration::from_millis(pause);
            let just_before = end - Duration::from_millis(1);
            assert_eq!(
                setbacks.in_force(&account("b"), just_before),
                Some(unreachable())
            );
            assert_eq!(setbacks.in_force(&account("b"), end), None);
            now = end;
        }
        setbacks.handle_success(&account("b"));
        setbacks.handle_failure(&account("a"), &unreachable(), now);
        assert_eq!(
            setbacks.in_force(&account("a"), now + Duration::from_millis(100)),
            None
        );
    }

    #[test]
    fn failures_within_one_pause_count_once() {
        let (mut setbacks, now) = (Setbacks::default(), Instant::now());
        for _ in 0..50 {
            setbacks.handle_failure(&account("a"), &unreachable(), now);
        }
        assert_eq!(
            setbacks.in_force(&account("a"), now + Duration::from_millis(100)),
            None
        );
    }

    #[test]
    fn a_wrong_password_holds_back_its_own_account_only() {
        let (mut setbacks, now) = (Setbacks::default(), Instant::now());
        let error = UpstreamError::AuthenticationFailed(AuthenticationFailure::NoPassword);
        setbacks.handle_failure(&account("a"), &error, now);
        assert_eq!(setbacks.in_force(&account("a"), now), Some(error));
        assert_eq!(setbacks.in_force(&account("b"), now), None);
        assert_eq!(setbacks.target_error(), None);
    }

    #[test]
    fn a_database_that_does_not_exist_holds_back_itself_only() {
        let (mut setbacks, now) = (Setbacks::default(), Instant::now());
        let error = UpstreamError::Refused {
            phase: Phase::Startup,
            sqlstate: SqlState::from_wire(b"3D000").unwrap(),
        };
        let missing = LoginKey {
            database: "missing".into(),
            ..account("a")
        };
        setbacks.handle_failure(&missing, &error, now);
        assert_eq!(setbacks.in_force(&missing, now), Some(error));
        assert_eq!(setbacks.in_force(&account("a"), now), None);
    }

    #[test]
    fn a_setting_that_one_session_brought_holds_back_nobody() {
        let (mut setbacks, now) = (Setbacks::default(), Instant::now());
        let sqlstate = SqlState::from_wire(b"22023").unwrap();
        let error = UpstreamError::Refused {
            phase: Phase::Startup,
            sqlstate,
        };
        setbacks.handle_failure(&account("a"), &error, now);
        assert_eq!(setbacks.in_force(&account("a"), now), None);
    }
}
