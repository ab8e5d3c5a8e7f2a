//! Tests of journal files.
