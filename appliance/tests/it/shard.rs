//! Runs a test's future where the appliance runs its own: on a shard.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use runtime::{ShardsConfig, start_shards};

/// Runs `test` on a shard of its own; a panic inside fails the test.
pub fn on_shard<F, Fut>(test: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let config = ShardsConfig {
        count: NonZeroUsize::new(1),
    };
    let once = Arc::new(Mutex::new(Some(test)));
    let shards = start_shards(config, move |_| {
        let test = once.lock().unwrap().take().unwrap();
        test()
    });
    shards.unwrap().join().unwrap();
}
