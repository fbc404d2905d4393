//! The kernel, what this process may do, and memory.

use super::{Check, line};

/// Capabilities that a device may need, and their bits.
const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_IPC_LOCK", 14), ("CAP_BPF", 39)];
/// The oldest kernel with all that is used.
const OLDEST: (u32, u32) = (5, 11);
/// What an AF_XDP device of usual size locks.
const LOCKED: u64 = 16 << 20;

pub(super) fn checks() -> Vec<Check> {
    vec![version(), capabilities(), locked_memory(), huge_pages(), io_uring(), unprivileged_bpf()]
}

fn version() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Check::new("kernel", version >= OLDEST, release).needed().otherwise(
        "memory cannot be sealed for one writer, or AF_XDP lacks what is used",
        "run Linux 5.11 or newer",
    )
}

fn capabilities() -> Check {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(_, bit)| bits >> bit & 1 == 0)
        .map(|(name, _)| *name)
        .collect();
    let good = missing.is_empty();
    let found = if good {
        "all that devices need".to_owned()
    } else {
        format!("without {}", missing.join(", "))
    };
    Check::new("capabilities (of this process)", good, found).otherwise(
        "whoever runs with these cannot open AF_XDP devices; the agent can if its unit gives them",
        "start the agent by its unit file, which has AmbientCapabilities; udp: needs none",
    )
}

fn locked_memory() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let found = limit.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
    Check::new("memory that may be locked", limit.is_none_or(|bytes| bytes >= LOCKED), found)
        .otherwise(
            "AF_XDP devices with many buffers are refused, unless CAP_IPC_LOCK is there",
            "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited",
        )
}

fn huge_pages() -> Check {
    let pages: u64 = line("/proc/sys/vm/nr_hugepages").parse().unwrap_or(0);
    Check::new("huge pages", pages > 0, format!("{pages} reserved")).otherwise(
        "large buffers are secured by copying, and the device's table of pages is larger",
        "sysctl vm.nr_hugepages=256",
    )
}

fn io_uring() -> Check {
    let disabled = line("/proc/sys/kernel/io_uring_disabled");
    let (good, found) = match disabled.as_str() {
        "0" => (true, "allowed"),
        "1" => (false, "for a group only"),
        "2" => (false, "disabled"),
        _ => (true, "not restricted by this kernel"),
    };
    Check::new("io_uring", good, found).otherwise(
        "udp: goes by plain sockets: a system call for each look",
        "sysctl kernel.io_uring_disabled=0, if that is your decision to make",
    )
}

fn unprivileged_bpf() -> Check {
    let value = line("/proc/sys/net/core/bpf_jit_enable");
    let good = value != "0";
    let found = if good { "compiled (or always so in this kernel)" } else { "interpreted" };
    Check::new("BPF programs", good, found).otherwise(
        "the XDP program costs several times as much for each packet",
        "sysctl net.core.bpf_jit_enable=1",
    )
}
