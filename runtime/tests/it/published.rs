//! Snapshots and the wake of their readers.

use std::sync::Arc;

use runtime::{Published, reply};

use crate::on_a_shard;

#[test]
fn a_subscriber_sees_the_latest_and_is_woken_once_for_many() {
    on_a_shard(|| async {
        let published = Published::new(Arc::new(0));
        let mut subscription = published.subscribe();
        assert_eq!(**subscription.current(), 0);
        for snapshot in 1..=3 {
            published.publish(Arc::new(snapshot));
        }
        assert_eq!(**subscription.seen(), 0);
        assert_eq!(*subscription.changed().await, 3);
        assert_eq!(*published.load(), 3);
        let now = runtime::now();
        runtime::with_deadline(now, subscription.changed())
            .await
            .unwrap_err();
    });
}

#[test]
fn a_change_that_was_read_is_not_announced_again() {
    on_a_shard(|| async {
        let published = Published::new(Arc::new(0));
        let mut subscription = published.subscribe();
        published.publish(Arc::new(1));
        assert_eq!(**subscription.current(), 1);
        runtime::with_deadline(runtime::now(), subscription.changed())
            .await
            .unwrap_err();
    });
}

#[test]
fn a_waiting_shard_is_woken_by_a_publication_from_another_thread() {
    on_a_shard(|| async {
        let published = Published::new(Arc::new(0));
        let mut subscription = published.subscribe();
        let (started, start) = reply();
        std::thread::spawn(move || {
            started.send(()).unwrap();
            for snapshot in 1..=1000 {
                published.publish(Arc::new(snapshot));
            }
        });
        start.await.unwrap();
        while *subscription.changed().await < 1000 {}
    });
}

#[test]
fn subscribers_that_come_and_go_are_forgotten() {
    on_a_shard(|| async {
        let published = Published::new(Arc::new(0));
        let mut stays = published.subscribe();
        for _ in 0..10_000 {
            drop(published.subscribe());
        }
        published.publish(Arc::new(1));
        assert_eq!(*stays.changed().await, 1);
    });
}
