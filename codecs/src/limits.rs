//! Every bound that a peer can push against, with its unit, default and reason.

/// Bounds for one connection.
///
/// Lengths of PostgreSQL messages count the length field but not the tag, as PostgreSQL counts.
/// Scope: copied into each decoder; a reload reaches new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest start-up packet. Default 10,000, the server's own `MAX_STARTUP_PACKET_LENGTH`:
    /// whatever is longer no PostgreSQL would have read.
    pub startup_packet_bytes: u32,

    /// Most parameters in one start-up packet. Default 64: drivers send fewer than ten, and the
    /// search for duplicates is quadratic.
    pub startup_parameters: usize,

    /// Longest message before authentication is complete. Default 65,535, the server's
    /// `PG_MAX_AUTH_TOKEN_LENGTH`: a token with many groups fits.
    pub password_message_bytes: u32,

    /// Longest Query, Parse, Bind or FunctionCall. Default 16 MiB: it is held whole to be judged
    /// and recorded, so it must fit the memory of a shard many times over. A longer one is refused
    /// before its body is read.
    pub frontend_message_bytes: u32,

    /// Longest Bind. Default 1 GiB, what PostgreSQL takes. One that is longer than
    /// `frontend_message_bytes` is not held, where the decoder announces it.
    pub bind_bytes: u32,

    /// Longest of the other messages of a client. Default 10,000, the server's own
    /// `PQ_SMALL_MESSAGE_LIMIT`.
    pub frontend_small_message_bytes: u32,

    /// Longest message of a server that is held whole: RowDescription, errors, notices,
    /// notifications. Default 16 MiB: `RAISE NOTICE` can be as long as its author likes.
    pub backend_message_bytes: u32,

    /// Longest of the server's short messages (tags, statuses, keys). Default 30,000, where libpq
    /// draws the line as well.
    pub backend_small_message_bytes: u32,

    /// Longest DataRow, CopyData or FunctionCallResponse, in either direction. Default 1 GiB: the
    /// server cannot make a longer one (`MaxAllocSize`). Above `stream_above_bytes` they are not held.
    pub streamed_message_bytes: u32,

    /// DataRow, CopyData and FunctionCallResponse longer than this arrive in fragments. Default
    /// 64 KiB, one read: a longer one would have to be put together in memory.
    pub stream_above_bytes: u32,

    /// Fewest iterations that a server may ask of SCRAM. Default 4096, PostgreSQL's own default and the
    /// minimum of RFC 7677: fewer would make the exchange worth recording for whoever plays the server.
    pub scram_iterations_min: u32,

    /// Most iterations that a server may ask of SCRAM. Default 600,000 (about 0.2 s of one core): a
    /// hostile server could otherwise stop a shard with one number.
    pub scram_iterations_max: u32,

    /// Longest PROXY header, counting its signature. Default 4096: senders are told to stay within one
    /// packet, and the TLVs of the known ones (a connection's id, a certificate's name, a cloud's
    /// endpoint) take a few hundred bytes.
    pub proxy_header_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            startup_packet_bytes: 10_000,
            startup_parameters: 64,
            password_message_bytes: 65_535,
            frontend_message_bytes: 16 << 20,
            bind_bytes: 1 << 30,
            frontend_small_message_bytes: 10_000,
            backend_message_bytes: 16 << 20,
            backend_small_message_bytes: 30_000,
            streamed_message_bytes: 1 << 30,
            stream_above_bytes: 64 << 10,
            scram_iterations_min: 4096,
            scram_iterations_max: 600_000,
            proxy_header_bytes: 4096,
        }
    }
}
