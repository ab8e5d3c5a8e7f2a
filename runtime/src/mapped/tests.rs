//! Tests of rings and frames.
