//! What the system says of this process and of its files.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use crate::store::{DataDir, Sizes};

/// As it was at a moment; none of what the system does not tell.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) sizes: Sizes,
}

impl Process {
    /// Asks the file system, which may take its time.
    pub(super) fn look(data: &DataDir) -> Process {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = fs::read_to_string("/proc/self/status").ok();
        Process {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: status.and_then(|status| resident_bytes(&status)),
            // Without the one that looks.
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| (files.count() as u64).saturating_sub(1)),
            sizes: data.sizes(),
        }
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_process_table() {
        let status = "Name:\tkonsen\nVmHWM:\t  9000 kB\nVmRSS:\t    4096 kB\nThreads:\t9\n";
        assert_eq!(resident_bytes(status), Some(4096 * 1024));
        assert_eq!(resident_bytes("Name:\tkthreadd\n"), None);
    }
}
