//! Memory of the process.

/// Resident bytes; 0 where the system does not report them.
pub fn resident_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident).unwrap_or(0)
}

/// Parses the line `VmRSS:    1234 kB`, which unlike `statm` needs no page size.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   12 kB\nThreads:\t1\n"), Some(12_288));
        assert_eq!(resident("Name:\tx\n"), None);
        #[cfg(target_os = "linux")]
        assert!(resident_bytes() > 1 << 20);
    }
}
