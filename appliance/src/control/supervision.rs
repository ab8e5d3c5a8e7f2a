//! What the service manager hears while the appliance runs: that it is ready, how it is, and that all
//! of it is alive.
//!
//! The watchdog is told so only after every shard has answered, by a task of the control thread. A shard
//! or control thread that is stuck therefore ends the process, and the manager starts it again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::next_step::next_step_of;
use super::observe::Observer;
use crate::recorder::RecordingSettings;
use crate::service::Notifier;
use crate::telemetry::metrics::ShardObservation;

/// How often the state is looked at where nobody waits for a sign of life.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Signs of life within the time that the manager allows: two may be late.
const SIGNS_WITHIN: u32 = 3;

/// Who is told, and how often they want to hear.
#[derive(Debug, Clone)]
pub struct Supervision {
    pub notifier: Notifier,
    /// Without a sign of life for so long, the manager ends the process.
    pub watchdog: Option<Duration>,
}

/// What came of the last attempt to reload: nothing to say, or why it was refused.
pub(super) type LastReload = Option<String>;

impl Supervision {
    /// Says it again and again, from the moment that the shards were started.
    pub(super) async fn attend(
        self,
        observer: Observer,
        recording: Arc<RecordingSettings>,
        started: oneshot::Receiver<()>,
        mut last_reload: watch::Receiver<LastReload>,
    ) {
        // An error says that the shards could not be started: there is nothing to be said.
        if !self.notifier.is_heard() || started.await.is_err() {
            return;
        }
        let every = self.watchdog.map(|within| within / SIGNS_WITHIN);
        let mut ticks = interval(every.unwrap_or(LOOK_EVERY).min(LOOK_EVERY));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = String::new();
        let mut is_ready = false;
        let mut next_step = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = last_reload.changed() => {
                    if changed.is_err() {
                        // The control plane's task has ended.
                        return;
                    }
                    is_ready = false;
                }
            }
            let snapshot = observer.snapshot.load();
            let targets = snapshot.targets.iter().count();
            // Once agents can work, only another configuration changes that.
            if !is_ready || next_step.is_some() {
                let recording = Arc::clone(&recording);
                let look = move || next_step_of(&snapshot, &recording);
                // A panic there costs a word in the status.
                next_step = tokio::task::spawn_blocking(look).await.unwrap_or_default();
            }
            let seen = Seen {
                shards: observer.shards().await,
                targets,
                next_step: next_step.as_ref().map(ToString::to_string),
                is_journal_in_trouble: observer.recorder.status().trouble.is_some(),
                draining: observer.directory.is_draining(),
                last_reload: last_reload.borrow().clone(),
            };
            let status = seen.status();
            if seen.is_alive() {
                if self.watchdog.is_some() {
                    self.notifier.alive();
                }
                if !is_ready && !seen.draining {
                    is_ready = true;
                    said.clone_from(&status);
                    self.notifier.ready(&status);
                }
            }
            if status != said {
                self.notifier.status(&status);
                said = status;
            }
        }
    }
}

/// How it is at one moment.
#[derive(Default)]
struct Seen {
    /// `None` for one that did not answer in time.
    shards: Vec<Option<ShardObservation>>,
    targets: usize,
    next_step: Option<String>,
    is_journal_in_trouble: bool,
    draining: bool,
    last_reload: LastReload,
}

impl Seen {
    /// Whether every shard has answered. While it stops, those without sessions have ended.
    fn is_alive(&self) -> bool {
        self.draining || self.shards.iter().all(Option::is_some)
    }

    /// The line of `systemctl status`.
    fn status(&self) -> String {
        let shards = self.shards.iter().flatten();
        let sessions = match shards.map(|shard| shard.sessions).sum() {
            1 => "1 session".to_owned(),
            count => format!("{count} sessions"),
        };
        if self.draining {
            return format!("stopping: {sessions} left");
        }
        let mut status = match self.targets {
            1 => format!("ready: {sessions}, 1 target"),
            count => format!("ready: {sessions}, {count} targets"),
        };
        if let Some(number) = self.shards.iter().position(Option::is_none) {
            status.push_str(&format!("; shard {number} does not answer"));
        }
        if self.is_journal_in_trouble {
            status.push_str("; what is recorded cannot reach the disk");
        }
        if let Some(why) = &self.last_reload {
            status.push_str(&format!("; the last reload was refused: {why}"));
        }
        if let Some(step) = &self.next_step {
            status.push_str(&format!("; {step}"));
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(shards: &[Option<u64>], targets: usize) -> Seen {
        let shards = shards.iter().map(|sessions| {
            sessions.map(|sessions| ShardObservation {
                sessions,
                ..ShardObservation::default()
            })
        });
        Seen {
            shards: shards.collect(),
            targets,
            ..Seen::default()
        }
    }

    #[test]
    fn the_status_says_how_it_is_and_what_to_do_next() {
        assert_eq!(
            seen(&[Some(1), Some(2)], 2).status(),
            "ready: 3 sessions, 2 targets"
        );
        let troubled = Seen {
            last_reload: Some("policy.d/a.toml:1:2: no such class".into()),
            ..seen(&[Some(1), None], 1)
        };
        assert_eq!(
            troubled.status(),
            "ready: 1 session, 1 target; shard 1 does not answer; \
             the last reload was refused: policy.d/a.toml:1:2: no such class"
        );
        let empty = Seen {
            next_step: Some("next: sallyport targets add".into()),
            ..seen(&[Some(0)], 0)
        };
        assert_eq!(
            empty.status(),
            "ready: 0 sessions, 0 targets; next: sallyport targets add"
        );
        let stopping = Seen {
            draining: true,
            ..seen(&[None, Some(1)], 2)
        };
        assert_eq!(stopping.status(), "stopping: 1 session left");
    }

    #[test]
    fn a_silent_shard_is_not_alive_unless_it_has_ended() {
        assert!(seen(&[Some(0), Some(0)], 1).is_alive());
        assert!(!seen(&[Some(0), None], 1).is_alive());
        let stopping = Seen {
            draining: true,
            ..seen(&[Some(0), None], 1)
        };
        assert!(stopping.is_alive());
    }
}
