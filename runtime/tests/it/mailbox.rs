//! Messages between threads.

use runtime::{TrySendError, mailbox, reply};

use crate::on_a_shard;

#[test]
fn a_full_mailbox_gives_the_message_back() {
    let (sender, mut receiver) = mailbox(2);
    assert_eq!(sender.try_send(1), Ok(()));
    assert_eq!(sender.try_send(2), Ok(()));
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!(receiver.try_recv(), Some(1));
    assert_eq!(sender.try_send(3), Ok(()));
}

#[test]
fn a_closed_mailbox_gives_the_message_back_and_keeps_what_it_holds() {
    let (sender, mut receiver) = mailbox(2);
    assert_eq!(sender.try_send(1), Ok(()));
    receiver.close();
    assert_eq!(sender.try_send(2), Err(TrySendError::Closed(2)));
    assert_eq!(receiver.try_recv(), Some(1));
    on_a_shard(|| async {
        let (sender, mut receiver) = mailbox::<u8>(1);
        drop(sender);
        assert_eq!(receiver.recv().await, None);
    });
}

#[test]
fn a_sleeping_shard_is_woken_by_another_thread() {
    let (to_shard, inbox) = mailbox(1);
    let (to_test, mut outbox) = mailbox(1);
    let inbox = std::sync::Mutex::new(Some(inbox));
    let shards = runtime::start_shards(
        runtime::ShardsConfig {
            count: std::num::NonZeroUsize::new(1),
        },
        {
            let inbox = std::sync::Arc::new(inbox);
            move |_| {
                let mut inbox = inbox.lock().unwrap().take().unwrap();
                let to_test = to_test.clone();
                async move {
                    while let Some(message) = inbox.recv().await {
                        to_test.try_send(message + 1).unwrap();
                    }
                }
            }
        },
    )
    .unwrap();
    for round in 0..1000_u32 {
        to_shard.try_send(round).unwrap();
        assert_eq!(block_on(outbox.recv()), Some(round + 1));
    }
    drop(to_shard);
    shards.join().unwrap();
}

#[test]
fn a_dropped_reply_is_no_answer() {
    let (sender, receiver) = reply::<u8>();
    drop(sender);
    assert_eq!(block_on(receiver), None);
    let (sender, receiver) = reply();
    sender.send(7).unwrap();
    assert_eq!(block_on(receiver), Some(7));
    let (sender, receiver) = reply();
    drop(receiver);
    assert!(sender.is_closed());
    assert_eq!(sender.send(7), Err(7));
}

/// Parks this thread until the future is ready.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        std::thread::park_timeout(std::time::Duration::from_secs(30));
    }
}
