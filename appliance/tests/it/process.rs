//! What the kernel says of a running process.

use std::fs;

/// Memory that it has in use.
pub fn resident_bytes(process: u32) -> usize {
    let statistics = fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    let pages: usize = statistics
        .split_whitespace()
        .nth(1)
        .expect("pages")
        .parse()
        .unwrap();
    pages * 4096
}

pub fn open_sockets(process: u32) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}
