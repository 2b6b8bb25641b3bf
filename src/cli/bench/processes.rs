//! The CPU and the disk that the nodes took, where they run on this machine: what /proc says of the processes that
//! listen where the cluster's members serve clients.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// What processes took so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    /// None where that may not be read.
    pub(super) written_bytes: Option<u64>,
}

/// The processes of the cluster's nodes, but for those that do not run; or why they are not known.
pub(super) fn find(addresses: &[String]) -> Result<Vec<u32>, String> {
    let mut wanted = Vec::new();
    for address in addresses {
        let found = address.to_socket_addrs().ok().and_then(|mut all| all.find(is_here));
        wanted.push(found.ok_or_else(|| format!("{address} is not on this machine"))?);
    }
    let listeners = listeners();
    let mut inodes = BTreeMap::new();
    for (at, place) in wanted.iter().enumerate() {
        let is_it = |(ip, port, _): &&(IpAddr, u16, u64)| {
            *port == place.port() && (*ip == place.ip() || ip.is_unspecified())
        };
        if let Some((.., inode)) = listeners.iter().find(is_it) {
            inodes.insert(*inode, at);
        }
    }
    if inodes.is_empty() {
        return Err("no member of the cluster listens on this machine".to_owned());
    }
    let mut processes: BTreeMap<usize, Option<u32>> =
        inodes.values().map(|at| (*at, None)).collect();
    for process in numbers(Path::new("/proc")) {
        for inode in sockets(process) {
            if let Some(at) = inodes.get(&inode) {
                processes.insert(*at, Some(process));
            }
        }
    }
    let found = processes.into_iter().map(|(at, process)| {
        let place = wanted[at];
        process.ok_or_else(|| format!("the process that listens on {place} is another user's"))
    });
    found.collect()
}

/// What they took, together.
pub(super) fn usage(processes: &[u32]) -> Result<Usage, String> {
    let mut all = Usage { cpu: Duration::ZERO, written_bytes: Some(0) };
    for process in processes {
        let one = usage_of(&process.to_string());
        let one = one.ok_or_else(|| format!("process {process} ended during the run"))?;
        all.cpu += one.cpu;
        all.written_bytes = all.written_bytes.zip(one.written_bytes).map(|(sum, one)| sum + one);
    }
    Ok(all)
}

/// What this process took.
pub(super) fn own_cpu() -> Option<Duration> {
    usage_of("self").map(|usage| usage.cpu)
}

fn usage_of(process: &str) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let ticks = ticks(&stat)?;
    let second = rustix::param::clock_ticks_per_second().max(1);
    let io = fs::read_to_string(format!("/proc/{process}/io"));
    Some(Usage {
        cpu: Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / second)),
        written_bytes: io.ok().and_then(|text| written_bytes(&text)),
    })
}

/// Whether an address is one of this machine.
fn is_here(address: &SocketAddr) -> bool {
    // Where every address is meant, no other machine can tell which: a node's own configuration.
    !address.ip().is_unspecified() && TcpListener::bind((address.ip(), 0)).is_ok()
}

/// User and system time of /proc/PID/stat.
fn ticks(stat: &str) -> Option<u64> {
    // The name may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// What went to the disk, of /proc/PID/io.
fn written_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}

/// Who listens: address, port and the socket's inode.
fn listeners() -> Vec<(IpAddr, u16, u64)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    tables
        .into_iter()
        .flatten()
        .flat_map(|table| table.lines().filter_map(listener).collect::<Vec<_>>())
        .collect()
}

/// A line of /proc/net/tcp or tcp6, if it is of a socket that listens.
fn listener(line: &str) -> Option<(IpAddr, u16, u64)> {
    const LISTENS: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != LISTENS {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    // Words of 32 bits as this machine has them in memory.
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?, fields.get(9)?.parse().ok()?))
}

/// The entries of a directory that are numbers.
fn numbers(directory: &Path) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The inodes of a process's sockets; none where that may not be read.
fn sockets(process: u32) -> Vec<u64> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let inode = |link: &Path| {
        let name = std::str::from_utf8(link.as_os_str().as_bytes()).ok()?;
        name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.filter_map(|entry| inode(&fs::read_link(entry.path()).ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_system_are_understood() {
        let line = "   0: 0100007F:4E21 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31337 1 0";
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // The words are written as this machine has them.
        if cfg!(target_endian = "little") {
            assert_eq!(listener(line), Some((local, 20001, 31337)));
        }
        let six = line.replacen("0100007F", "00000000000000000000000000000000", 1);
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        assert_eq!(listener(&six), Some((any, 20001, 31337)));
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(listener("  sl  local_address rem_address   st tx_queue"), None);

        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20";
        assert_eq!(ticks(stat), Some(150));
        assert_eq!(ticks("12 (a) S 1"), None);
        let io = "rchar: 1\nwchar: 2\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n";
        assert_eq!(written_bytes(io), Some(4096));
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let found = find(std::slice::from_ref(&address));
        assert_eq!(found, Ok(vec![std::process::id()]));
        assert!(usage(&[std::process::id()]).is_ok() && own_cpu().is_some());
        drop(listener);
        assert!(find(std::slice::from_ref(&address)).unwrap_err().contains("no member"));
        // One that is down takes nothing.
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = (other.local_addr().unwrap().to_string(), other);
        assert_eq!(find(&[address, other.0]), Ok(vec![std::process::id()]));
        // Kept for documentation (RFC 5737).
        let elsewhere = find(&["192.0.2.1:20001".to_owned()]).unwrap_err();
        assert_eq!(elsewhere, "192.0.2.1:20001 is not on this machine");
        assert!(find(&["0.0.0.0:20001".to_owned()]).is_err());
    }
}
