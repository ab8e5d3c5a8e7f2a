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

/// The most memory that it ever had in use; 0 once it has ended.
pub fn peak_resident_bytes(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|it| it.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kilobytes.map_or(0, |it| it * 1024)
}

pub fn open_sockets(process: u32) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}
