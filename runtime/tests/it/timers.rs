//! Deadlines and timers that are moved.

use std::time::Duration;

use runtime::{DeadlinePassed, Timer, now, with_deadline};

use crate::{on_a_shard, soon};

#[test]
fn a_deadline_ends_a_wait_and_not_what_is_ready() {
    on_a_shard(|| async {
        let start = now();
        let deadline = start + Duration::from_millis(20);
        let waited = with_deadline(deadline, std::future::pending::<()>()).await;
        assert_eq!(waited, Err(DeadlinePassed));
        assert!(now() >= deadline);
        assert_eq!(with_deadline(start, async { 7 }).await, Ok(7));
    });
}

#[test]
fn a_timer_expires_at_its_latest_deadline() {
    on_a_shard(|| async {
        let start = now();
        let mut timer = Timer::at(start + Duration::from_millis(5));
        with_deadline(start, timer.expired()).await.unwrap_err();
        let deadline = start + Duration::from_millis(40);
        timer.reset(deadline);
        with_deadline(soon(), timer.expired()).await.unwrap();
        assert!(now() >= deadline);
    });
}

#[test]
fn a_timer_that_is_moved_forward_expires_early() {
    on_a_shard(|| async {
        let mut timer = Timer::at(now() + Duration::from_secs(3600));
        with_deadline(now(), timer.expired()).await.unwrap_err();
        timer.reset(now() + Duration::from_millis(5));
        with_deadline(soon(), timer.expired()).await.unwrap();
        with_deadline(soon(), timer.expired()).await.unwrap();
        timer.reset(now() + Duration::from_millis(5));
        with_deadline(soon(), timer.expired()).await.unwrap();
    });
}

#[test]
fn a_timer_that_is_moved_a_million_times_expires_once() {
    on_a_shard(|| async {
        let mut timer = Timer::at(now() + Duration::from_millis(1));
        with_deadline(now(), timer.expired()).await.unwrap_err();
        for _ in 0..1_000_000 {
            timer.reset(now() + Duration::from_millis(10));
        }
        let deadline = timer.deadline();
        with_deadline(soon(), timer.expired()).await.unwrap();
        assert!(now() >= deadline);
    });
}

#[test]
fn timers_expire_in_the_order_of_their_deadlines() {
    on_a_shard(|| async {
        let start = now();
        let (sender, mut receiver) = runtime::mailbox(100);
        for step in (1..=100_u64).rev() {
            let sender = sender.clone();
            runtime::spawn(async move {
                Timer::at(start + Duration::from_millis(step))
                    .expired()
                    .await;
                sender.try_send((step, now())).unwrap();
            });
        }
        drop(sender);
        let mut seen = 0;
        while let Some((step, at)) = receiver.recv().await {
            assert!(at >= start + Duration::from_millis(step));
            seen += 1;
        }
        assert_eq!(seen, 100);
    });
}

#[test]
fn a_busy_task_that_yields_starves_neither_sockets_nor_timers_nor_mailboxes() {
    on_a_shard(|| async {
        let busy = std::rc::Rc::new(std::cell::Cell::new(true));
        for _ in 0..3 {
            let busy = std::rc::Rc::clone(&busy);
            runtime::spawn(async move {
                while busy.get() {
                    runtime::yield_if_needed().await;
                }
            });
        }
        let (mut here, mut there) = crate::tcp_pair().await;
        let (to_shard, mut inbox) = runtime::mailbox(1);
        let thread = std::thread::spawn(move || {
            for message in 0..10 {
                crate::mailbox::block_on(to_shard.send(message)).unwrap();
            }
        });
        for round in 0..10 {
            there.append(b"x");
            there.flush(soon()).await.unwrap();
            assert_eq!(crate::recv_up_to(&mut here, 1).await, b"x");
            crate::pause(1).await;
            assert_eq!(inbox.recv().await, Some(round));
        }
        busy.set(false);
        thread.join().unwrap();
    });
}
