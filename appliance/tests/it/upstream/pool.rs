//! Pools: reset, caps, queues, lost servers.
