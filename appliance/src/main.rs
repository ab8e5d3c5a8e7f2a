//! The program `sallyport`.
fn main() {}
