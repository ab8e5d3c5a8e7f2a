//! A panic ends its task and nothing else.

use runtime::{ShardDied, ShardsConfig, contain, reply};

use crate::on_a_shard_with_panics;

#[test]
fn a_panic_in_a_task_leaves_the_shard_running() {
    on_a_shard_with_panics(1, || async {
        let (done, answer) = reply::<()>();
        runtime::spawn(async move {
            let _never_sent = done;
            panic!("planned");
        });
        assert_eq!(answer.await, None);
        let (done, answer) = reply();
        runtime::spawn(async move { done.send(7).unwrap() });
        assert_eq!(answer.await, Some(7));
    });
}

#[test]
fn a_contained_panic_is_a_value() {
    on_a_shard_with_panics(1, || async {
        assert_eq!(contain(async { 1 }).await, Ok(1));
        assert!(contain(async { panic!("planned") }).await.is_err());
    });
}

#[test]
fn a_panic_in_a_destructor_is_contained() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("planned");
        }
    }
    on_a_shard_with_panics(1, || async {
        let bomb = Bomb;
        let waits_for_ever = async move {
            let _bomb = &bomb;
            std::future::pending::<()>().await;
        };
        let ends_with_bomb = contain(async {
            runtime::with_deadline(runtime::now(), waits_for_ever)
                .await
                .unwrap_err();
        });
        assert!(ends_with_bomb.await.is_err());
    });
}

#[test]
fn a_panic_on_a_worker_thread_is_a_value() {
    on_a_shard_with_panics(1, || async {
        assert_eq!(runtime::run_blocking(|| 7).await, Ok(7));
        assert!(runtime::run_blocking(|| panic!("planned")).await.is_err());
        assert_eq!(runtime::run_blocking(|| 8).await, Ok(8));
    });
}

#[test]
fn work_that_takes_much_memory_has_one_thread() {
    on_a_shard_with_panics(1, || async {
        let name = || std::thread::current().name().map(str::to_owned);
        let (told, mut seen) = runtime::mailbox(16);
        for _ in 0..16 {
            let told = told.clone();
            runtime::spawn(async move {
                let ran_on = runtime::run_blocking_alone(name).await;
                told.try_send(ran_on).unwrap();
            });
        }
        for _ in 0..16 {
            let ran_on = seen.recv().await.unwrap();
            assert_eq!(ran_on, Ok(Some("worker-alone-0".to_owned())));
        }
        assert!(
            runtime::run_blocking_alone(|| panic!("planned"))
                .await
                .is_err()
        );
        assert_eq!(runtime::run_blocking_alone(|| 8).await, Ok(8));
    });
}

#[test]
fn a_panic_in_main_is_reported_while_other_shards_run() {
    let config = ShardsConfig {
        count: std::num::NonZeroUsize::new(2),
    };
    let shards = runtime::start_shards(config, |shard| async move {
        if shard.0 == 1 {
            panic!("planned");
        }
        std::future::pending().await
    })
    .unwrap();
    assert_eq!(shards.count(), 2);
    let died = shards.join().unwrap_err();
    assert!(matches!(died, ShardDied::Panicked { shard, .. } if shard.0 == 1));
}
