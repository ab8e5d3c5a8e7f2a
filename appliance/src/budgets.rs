//! What principals have used of their budgets, over all sessions and shards.
//!
//! It says whether something is left; what happens to a statement that has none is decided in
//! `protocols`. Usage is kept in memory alone: a restart of the appliance begins anew.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use policy::{BudgetRule, Per, Permit, Policy, Principal, quantity};

/// Accounts above which those that nobody uses are looked for.
///
/// Count. Each is a budget of a principal who was here since the start; 4096 of them are under
/// a MiB, and looking through them is done at a login.
const ACCOUNTS_KEPT: usize = 4096;

const DAY_SECONDS: u64 = 24 * 60 * 60;
const MINUTE_SECONDS: u64 = 60;

/// Who used what: per process.
///
/// A session finds its accounts when it begins, under the lock, and from then on adds to them
/// without one.
#[derive(Default)]
pub struct Ledger {
    accounts: Mutex<HashMap<Account, Arc<Usage>>>,
    accounts_kept: usize,
}

/// One budget of one principal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Account {
    budget: String,
    issuer: String,
    subject: String,
}

/// What was used of one budget. Counted by several shards, so that it has no owner.
#[derive(Debug, Default)]
struct Usage {
    rows: Meter<DAYS>,
    bytes: Meter<DAYS>,
    statements: Meter<MINUTES>,
    sessions: AtomicU64,
}

impl Usage {
    /// Something was used that has not been refilled.
    fn counts(&self, unix_time: u64) -> bool {
        let (day, minute) = (unix_time / DAY_SECONDS, unix_time / MINUTE_SECONDS);
        self.rows.used(day) + self.bytes.used(day) + self.statements.used(minute) > 0
    }
}

/// Bits of the count in a meter that begins anew each day: the number of the day has 16, which
/// last beyond the year 2140.
const DAYS: u32 = 48;

/// The same, for each minute: its number has 28 bits, which last beyond the year 2470.
const MINUTES: u32 = 36;

/// A count that begins anew with each period: the number of the period, and the count, in one
/// word, so that no addition is lost between two of them.
#[derive(Debug, Default)]
struct Meter<const COUNT_BITS: u32>(AtomicU64);

impl<const COUNT_BITS: u32> Meter<COUNT_BITS> {
    const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

    fn count_in(word: u64, period: u64) -> u64 {
        if word >> COUNT_BITS == period {
            word & Self::COUNT_MAX
        } else {
            0
        }
    }

    fn used(&self, period: u64) -> u64 {
        Self::count_in(self.0.load(Ordering::Relaxed), period)
    }

    /// The count with `amount` added. It stops at the largest that it can hold.
    fn add(&self, period: u64, amount: u64) -> u64 {
        let after = |word| {
            let count = Self::count_in(word, period).saturating_add(amount);
            (period << COUNT_BITS) | count.min(Self::COUNT_MAX)
        };
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                Some(after(word))
            });
        // Invariant: the closure always has a value, so that the update happens.
        let (Ok(word) | Err(word)) = before;
        Self::count_in(after(word), period)
    }
}

/// A session's place among those of its principal; given back on drop.
struct Seat(Arc<Usage>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One budget as it applies to a session.
struct Metered {
    rule: BudgetRule,
    usage: Arc<Usage>,
    seat: Seat,
}

/// The budgets of one session.
pub(crate) struct Budgets {
    ledger: Arc<Ledger>,
    metered: Vec<Metered>,
    /// As of the last turn. Seconds since the Unix epoch.
    unix_time: u64,
    /// The message at hand was counted; it is shown again where it had to wait.
    is_counted: bool,
}

/// Which limit of which budget is used up, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) budget: String,
    limit: Limit,
    /// `None`: when a session ends.
    refills_in: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Rows(u64),
    Bytes(u64),
    Statements(u64),
    Sessions(u64),
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the budget \"{}\" is used up: ", self.budget)?;
        match self.limit {
            Limit::Rows(rows) => write!(f, "{rows} rows in a day"),
            Limit::Bytes(bytes) => write!(f, "{} in a day", quantity::show_bytes(bytes)),
            Limit::Statements(count) => write!(f, "{count} statements in a minute"),
            Limit::Sessions(count) => write!(f, "{count} sessions at once"),
        }
    }
}

impl Spent {
    /// When there will be something again.
    pub(crate) fn hint(&self) -> String {
        match self.refills_in {
            Some(wait) => format!("It refills in {}.", quantity::show_duration(wait)),
            None => "It refills when another session of yours ends.".to_owned(),
        }
    }
}

impl Ledger {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            accounts: Mutex::default(),
            accounts_kept: ACCOUNTS_KEPT,
        })
    }

    fn usage(&self, account: Account, unix_time: u64) -> Arc<Usage> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= self.accounts_kept && !accounts.contains_key(&account) {
            // What somebody used today counts on, whether or not a session is open.
            accounts.retain(|_, usage| Arc::strong_count(usage) > 1 || usage.counts(unix_time));
        }
        Arc::clone(accounts.entry(account).or_default())
    }
}

impl Budgets {
    /// The budgets of a session that begins.
    ///
    /// # Errors
    /// [`Spent`] when the principal has all the sessions that it may have.
    pub(crate) fn open(
        ledger: &Arc<Ledger>,
        policy: &Policy,
        permit: &Permit,
        principal: &Principal,
        unix_time: u64,
    ) -> Result<Self, Spent> {
        let budgets = Self {
            ledger: Arc::clone(ledger),
            metered: metered(ledger, &[], policy, permit, principal, unix_time),
            unix_time,
            is_counted: false,
        };
        for metered in &budgets.metered {
            let open = metered.seat.0.sessions.load(Ordering::Relaxed);
            if let Some(limit) = metered.rule.sessions
                && open > limit
            {
                return Err(metered.spent(Limit::Sessions(limit), None));
            }
        }
        Ok(budgets)
    }

    /// Takes the budgets of another policy or permit. What was used of one of the same name stays
    /// used; sessions beyond a limit that became smaller stay open.
    pub(crate) fn renew(&mut self, policy: &Policy, permit: &Permit, principal: &Principal) {
        self.metered = metered(
            &self.ledger,
            &self.metered,
            policy,
            permit,
            principal,
            self.unix_time,
        );
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.metered.is_empty()
    }

    pub(crate) fn set_time(&mut self, unix_time: u64) {
        self.unix_time = unix_time;
    }

    /// The longest that a statement may run, and whose limit that is.
    pub(crate) fn statement_time(&self) -> Option<(Duration, &str)> {
        let limits = self.metered.iter().filter_map(|metered| {
            let limit = metered.rule.statement_time?;
            Some((limit, metered.rule.name.as_str()))
        });
        limits.min()
    }

    /// Counts one statement that is about to run, once for each message.
    ///
    /// # Errors
    /// [`Spent`]: it may not.
    pub(crate) fn count_statement(&mut self) -> Result<(), Spent> {
        if self.is_counted {
            return Ok(());
        }
        for metered in &self.metered {
            metered.has_some_left(self.unix_time)?;
        }
        for metered in &self.metered {
            if metered.rule.statements_per_minute.is_some() {
                let minute = self.unix_time / MINUTE_SECONDS;
                metered.usage.statements.add(minute, 1);
            }
        }
        self.is_counted = true;
        Ok(())
    }

    /// The message at hand is done with.
    pub(crate) fn message_taken(&mut self) {
        self.is_counted = false;
    }

    /// Counts what is about to be answered.
    ///
    /// # Errors
    /// [`Spent`]: it may not.
    pub(crate) fn count_answer(&self, rows: u64, bytes: u64) -> Result<(), Spent> {
        let day = self.unix_time / DAY_SECONDS;
        for metered in &self.metered {
            if let Some(limit) = metered.rule.rows
                && metered.usage.rows.add(day, rows) > limit
            {
                return Err(metered.spent(Limit::Rows(limit), self.until(DAY_SECONDS)));
            }
            if let Some(limit) = metered.rule.bytes
                && metered.usage.bytes.add(day, bytes) > limit
            {
                return Err(metered.spent(Limit::Bytes(limit), self.until(DAY_SECONDS)));
            }
        }
        Ok(())
    }

    fn until(&self, period: u64) -> Option<Duration> {
        Some(until_next(self.unix_time, period))
    }
}

fn until_next(unix_time: u64, period: u64) -> Duration {
    Duration::from_secs(period - unix_time % period)
}

impl Metered {
    fn spent(&self, limit: Limit, refills_in: Option<Duration>) -> Spent {
        Spent {
            budget: self.rule.name.clone(),
            limit,
            refills_in,
        }
    }

    fn has_some_left(&self, unix_time: u64) -> Result<(), Spent> {
        let (day, minute) = (unix_time / DAY_SECONDS, unix_time / MINUTE_SECONDS);
        let (usage, rule) = (&self.usage, &self.rule);
        let tomorrow = Some(until_next(unix_time, DAY_SECONDS));
        if let Some(limit) = rule.rows
            && usage.rows.used(day) >= limit
        {
            return Err(self.spent(Limit::Rows(limit), tomorrow));
        }
        if let Some(limit) = rule.bytes
            && usage.bytes.used(day) >= limit
        {
            return Err(self.spent(Limit::Bytes(limit), tomorrow));
        }
        if let Some(limit) = rule.statements_per_minute
            && usage.statements.used(minute) >= limit
        {
            let next = Some(until_next(unix_time, MINUTE_SECONDS));
            return Err(self.spent(Limit::Statements(limit), next));
        }
        Ok(())
    }
}

/// The budgets that apply, each with what was used of it. A session's own usage of one that it
/// had `before` stays.
fn metered(
    ledger: &Ledger,
    before: &[Metered],
    policy: &Policy,
    permit: &Permit,
    principal: &Principal,
    unix_time: u64,
) -> Vec<Metered> {
    let budgets = policy.budgets(permit);
    budgets
        .map(|rule| {
            let account = Account {
                budget: rule.name.clone(),
                issuer: principal.issuer.clone(),
                subject: principal.subject.clone(),
            };
            let account = ledger.usage(account, unix_time);
            let own = || {
                let mut before = before.iter();
                let known = before
                    .find(|known| known.rule.name == rule.name && known.rule.per == Per::Session);
                known.map_or_else(Arc::default, |known| Arc::clone(&known.usage))
            };
            account.sessions.fetch_add(1, Ordering::Relaxed);
            Metered {
                rule: rule.clone(),
                usage: match rule.per {
                    Per::Principal => Arc::clone(&account),
                    Per::Session => own(),
                },
                seat: Seat(account),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 20_783 * DAY_SECONDS + DAY_SECONDS / 2;

    fn principal(subject: &str) -> Principal {
        Principal {
            issuer: "https://issuer.example".to_owned(),
            subject: subject.to_owned(),
            name: subject.to_owned(),
            groups: vec!["a".to_owned()],
            delegation: Vec::new(),
            token_id: None,
            expires: 0,
            proof: policy::Proof::Password,
        }
    }

    fn policy_of(budget: &str) -> Policy {
        let source = policy::Source {
            file: "p.toml".to_owned(),
            text: format!(
                "[[rule]]\nname = \"all\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nallow = {{ statements = [\"*\"] }}\n\
                 [[budget]]\nname = \"b\"\ntargets = [\"*\"]\n{budget}\n"
            ),
        };
        let compiled = Policy::compile(&[source], &policy::Known::default());
        compiled.unwrap().policy
    }

    fn open(ledger: &Arc<Ledger>, policy: &Policy, subject: &str) -> Result<Budgets, Spent> {
        let principal = principal(subject);
        let target = policy::Target::named("orders");
        let permit = policy
            .admit(&principal, &target, policy::Occasion::default())
            .unwrap();
        Budgets::open(ledger, policy, &permit, &principal, NOON)
    }

    fn run(budgets: &mut Budgets) -> Result<(), Spent> {
        let counted = budgets.count_statement();
        budgets.message_taken();
        counted
    }

    #[test]
    fn a_meter_counts_within_its_period_and_stops_at_its_end() {
        let meter = Meter::<4>::default();
        assert_eq!((meter.add(7, 3), meter.used(7)), (3, 3));
        assert_eq!(meter.add(7, 100), 15);
        assert_eq!((meter.used(8), meter.add(8, 2)), (0, 2));
    }

    #[test]
    fn rows_of_all_sessions_of_a_principal_count_together_up_to_the_limit() {
        let (ledger, policy) = (Ledger::new(), policy_of("rows = 10"));
        let one = open(&ledger, &policy, "ada").unwrap();
        let mut two = open(&ledger, &policy, "ada").unwrap();
        let mut other = open(&ledger, &policy, "bob").unwrap();
        assert!(one.count_answer(6, 0).is_ok() && two.count_answer(4, 0).is_ok());
        let spent = run(&mut two).unwrap_err();
        assert_eq!(
            spent.to_string(),
            "the budget \"b\" is used up: 10 rows in a day"
        );
        assert_eq!(spent.hint(), "It refills in 12h.");
        assert!(one.count_answer(1, 0).is_err());
        assert!(other.count_answer(10, 0).is_ok() && other.count_answer(1, 0).is_err());
        two.set_time(NOON + DAY_SECONDS);
        assert!(run(&mut two).is_ok());
        assert!(run(&mut other).is_err());
    }

    #[test]
    fn a_session_has_a_budget_of_its_own_where_it_is_said_so() {
        let ledger = Ledger::new();
        let policy = policy_of("bytes = \"10B\"\nper = \"session\"");
        let mut one = open(&ledger, &policy, "ada").unwrap();
        let mut two = open(&ledger, &policy, "ada").unwrap();
        assert!(one.count_answer(5, 11).is_err() && run(&mut one).is_err());
        assert!(run(&mut two).is_ok());
        // Also where the same budget is given anew.
        let principal = principal("ada");
        let target = policy::Target::named("orders");
        let permit = policy
            .admit(&principal, &target, policy::Occasion::default())
            .unwrap();
        one.renew(&policy, &permit, &principal);
        assert!(run(&mut one).is_err());
    }

    #[test]
    fn a_statement_counts_once_however_often_its_message_is_shown() {
        let (ledger, policy) = (Ledger::new(), policy_of("statements_per_minute = 2"));
        let mut session = open(&ledger, &policy, "ada").unwrap();
        assert!(session.count_statement().is_ok() && session.count_statement().is_ok());
        session.message_taken();
        assert!(run(&mut session).is_ok());
        let spent = run(&mut session).unwrap_err();
        assert_eq!(spent.hint(), "It refills in 1m.");
        session.set_time(NOON + 60);
        assert!(run(&mut session).is_ok());
    }

    #[test]
    fn a_principal_has_so_many_sessions_at_once() {
        let (ledger, policy) = (Ledger::new(), policy_of("sessions = 1"));
        let first = open(&ledger, &policy, "ada").unwrap();
        assert!(open(&ledger, &policy, "ada").is_err());
        assert!(open(&ledger, &policy, "bob").is_ok());
        drop(first);
        assert!(open(&ledger, &policy, "ada").is_ok());
    }

    #[test]
    fn what_was_used_today_is_remembered_and_the_rest_makes_room() {
        let ledger = Arc::new(Ledger {
            accounts_kept: 2,
            ..Ledger::default()
        });
        let policy = policy_of("rows = 10");
        let mut old = open(&ledger, &policy, "old").unwrap();
        old.set_time(NOON - DAY_SECONDS);
        assert!(old.count_answer(10, 0).is_ok());
        drop(old);
        let used = open(&ledger, &policy, "ada").unwrap();
        assert!(used.count_answer(10, 0).is_ok());
        drop(used);
        drop(open(&ledger, &policy, "eve").unwrap());
        assert_eq!(ledger.accounts.lock().unwrap().len(), 2);
        assert!(run(&mut open(&ledger, &policy, "ada").unwrap()).is_err());
    }
}
