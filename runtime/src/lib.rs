//! What the rest of the appliance may rely on: shards, streams, deadlines and mailboxes.
//!
//! It does not know any protocol but TLS, nor policy or configuration, and nothing of the executor beneath
//! (glommio) or of io_uring shows in a type or an error. `docs/decisions/0001-glommio-ng.md` says
//! why that executor, and why it stays behind this door.
//!
//! A *shard* is one pinned thread with one executor. Everything here but the senders of
//! [`mailbox()`], [`Published`] and [`RunningShards`] belongs to the shard that made it and cannot
//! leave it.

mod executor;
mod panics;
mod seat;
mod workers;

mod clock;
mod timer;
mod turn;

mod chunk;
mod send_queue;
mod slab;

mod driver;
mod ring;
mod sockets;

mod listener;
mod passed;
mod stream;

mod mailbox;
mod published;

pub mod transport;

pub mod mapped;

pub use chunk::{CHUNK_BYTES, Chunk, ChunkWriter};
pub use clock::{now, since_boot, unix_time};
pub use executor::{
    KERNEL_OLDEST, MEMLOCK_BYTES_MIN, RingsRefused, RunningShards, ShardDied, ShardId,
    ShardsConfig, StartError, allowed_cpus, kernel_version, spawn, start_shards, try_ring,
};
pub use listener::{
    ListenAddress, Listener, Listening, SocketFile, listen_socket, listen_unix, listening,
    settle_socket_file,
};
pub use mailbox::{
    MailboxClosed, Receiver, ReplyReceiver, ReplySender, Sender, TrySendError, mailbox, reply,
};
pub use panics::{
    Contained, PanicLocation, Panicked, contain, install_panic_hook, panics_contained,
};
pub use passed::take_passed;
pub use published::{Published, Subscription};
pub use stream::{Keepalive, PeerAddress, Stream};
pub use timer::{DeadlinePassed, Timer, with_deadline};
pub use turn::{next_turn, yield_if_needed};
pub use workers::{run_blocking, run_blocking_alone};
