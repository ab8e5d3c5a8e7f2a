//! Servers that lie, stall or flood.
