//! Tests of the codecs through their public doors: bytes in, values out.
#![cfg(test)]

mod dialogues;
mod malformed;
mod mutation;
mod roundtrip;
mod streams;
mod transcripts;
