//! Tests of journals and recorders without a journal thread.
