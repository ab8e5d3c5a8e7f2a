//! What the operator is told when a shard cannot start.

use std::num::NonZeroUsize;

use runtime::{ShardsConfig, StartError, start_shards};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::in_a_process_of_its_own;

#[test]
fn too_little_lockable_memory_is_said() {
    in_a_process_of_its_own("limits::too_little_lockable_memory_is_said", || {
        let limit = 512 * 1024 - 1;
        setrlimit(
            Resource::Memlock,
            Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            },
        )
        .unwrap();
        let error = start_shards(ShardsConfig::default(), |_| async {}).unwrap_err();
        assert!(
            matches!(error, StartError::MemoryLock { limit: l, needed } if l == limit && needed == limit + 1),
            "{error:?}"
        );
        assert!(error.to_string().contains("LimitMEMLOCK=infinity"));
    });
}

#[test]
fn more_shards_than_can_be_numbered_are_refused() {
    let config = ShardsConfig {
        count: NonZeroUsize::new(65_536),
    };
    let error = start_shards(config, |_| async {}).unwrap_err();
    assert!(matches!(
        error,
        StartError::TooManyShards {
            requested: 65_536,
            limit: 65_535
        }
    ));
}

#[test]
fn shards_are_named_and_pinned_in_turn() {
    let cpus = runtime::allowed_cpus().unwrap();
    let (told, mut seen) = runtime::mailbox(10);
    let config = ShardsConfig {
        count: NonZeroUsize::new(cpus.len() + 1),
    };
    let shards = start_shards(config, move |shard| {
        let told = told.clone();
        async move {
            let name = std::thread::current().name().unwrap().to_owned();
            let worker_cpus = runtime::run_blocking(|| runtime::allowed_cpus().unwrap()).await;
            let pinned = runtime::allowed_cpus().unwrap();
            told.try_send((shard.0, name, pinned, worker_cpus.unwrap()))
                .unwrap();
        }
    })
    .unwrap();
    shards.join().unwrap();
    let mut all = Vec::new();
    while let Some(shard) = seen.try_recv() {
        all.push(shard);
    }
    all.sort();
    assert_eq!(all.len(), cpus.len() + 1);
    for (shard, name, pinned, worker_cpus) in all {
        assert_eq!(name, format!("shard-{shard}"));
        assert_eq!(pinned, [cpus[usize::from(shard) % cpus.len()]]);
        assert_eq!(worker_cpus, cpus, "workers may use every CPU");
    }
}
