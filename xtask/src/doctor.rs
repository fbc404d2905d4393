//! `cargo xtask doctor`: the facts about this machine that decide what works on it and how fast.

use std::fs;

use anyhow::Result;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{Errno, pwrite};
use rustix::process::{Resource, Rlimit, getrlimit};
use rustix::thread::{MembarrierCommand, membarrier, membarrier_query};

/// A fact, and what it means where it is not what one would wish.
struct Fact {
    name: &'static str,
    value: String,
    advice: Option<&'static str>,
}

fn fact(name: &'static str, value: impl Into<String>, advice: Option<&'static str>) -> Fact {
    Fact { name, value: value.into(), advice }
}

/// Prints the facts. Never fails for what it finds: a machine is as it is.
pub fn run() -> Result<()> {
    for Fact { name, value, advice } in facts() {
        println!("{name:<18} {value}");
        if let Some(advice) = advice {
            println!("{:<18} note: {advice}", "");
        }
    }
    Ok(())
}

fn facts() -> Vec<Fact> {
    vec![
        kernel(),
        processor(),
        cores(),
        clock(),
        membarriers(),
        seals(),
        huge_pages(),
        limit(
            "memlock",
            Resource::Memlock,
            8 << 20,
            "memory for devices is locked: ask for a higher `ulimit -l`",
        ),
        limit(
            "nofile",
            Resource::Nofile,
            4096,
            "each channel holds descriptors: raise `ulimit -n` for many channels",
        ),
    ]
}

/// A one-line file of /proc or /sys, or why it cannot be read.
fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(|error| format!("unknown ({path}: {error})"))
}

fn either(text: Result<String, String>) -> String {
    text.unwrap_or_else(|why| why)
}

fn kernel() -> Fact {
    let release = either(read("/proc/sys/kernel/osrelease"));
    let old = version(&release).is_some_and(|version| version < (5, 4));
    fact(
        "kernel",
        release,
        old.then_some("pidfds and sealed read-only mappings need Linux 5.4 or newer"),
    )
}

/// The first two numbers of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn processor() -> Fact {
    let info = read("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        info.lines().find(|line| line.starts_with(name)).and_then(|line| line.split(": ").nth(1))
    };
    let guest =
        field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let note =
        "a virtual machine: waking a sleeper is dear, and the distance between cores may change";
    fact("processor", field("model name").unwrap_or("unknown"), guest.then_some(note))
}

fn cores() -> Fact {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let online = either(read("/sys/devices/system/cpu/online"));
    let note = "client and server share a core: only the same-core figures can be measured";
    fact("cores", format!("{allowed} usable, online {online}"), (allowed < 2).then_some(note))
}

fn clock() -> Fact {
    let source = either(read("/sys/devices/system/clocksource/clocksource0/current_clocksource"));
    let slow = !matches!(
        source.as_str(),
        "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "arch_sys_counter"
    );
    fact(
        "clock source",
        source,
        slow.then_some("reading it may be a system call: time stamps will cost more"),
    )
}

fn membarriers() -> Fact {
    let listed = membarrier_query().contains_command(MembarrierCommand::GlobalExpedited);
    let works = listed && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
    let note = "senders to a process that may sleep pay for a full fence";
    fact(
        "membarrier",
        if works { "global, expedited" } else { "not available" },
        (!works).then_some(note),
    )
}

/// Makes a sealed memfd and tries to break the seals, which says more than a version number.
fn seals() -> Fact {
    let outcome = sealed_memfd_refuses_writes();
    let note =
        "shared memory cannot have one writer by the kernel's word: connections will be refused";
    match outcome {
        Ok(true) => fact("memfd seals", "size and future writes are refused", None),
        Ok(false) => fact("memfd seals", "a sealed memfd could be written", Some(note)),
        Err(error) => fact("memfd seals", format!("not available ({error})"), Some(note)),
    }
}

fn sealed_memfd_refuses_writes() -> rustix::io::Result<bool> {
    let memory = memfd_create("doctor", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC)?;
    ftruncate(&memory, 4096)?;
    fcntl_add_seals(
        &memory,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL,
    )?;
    Ok(pwrite(&memory, b"x", 0) == Err(Errno::PERM) && ftruncate(&memory, 8192) == Err(Errno::PERM))
}

fn huge_pages() -> Fact {
    let info = read("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let total = field("HugePages_Total").unwrap_or_else(|| "0".into());
    let free = field("HugePages_Free").unwrap_or_else(|| "0".into());
    let size = field("Hugepagesize").unwrap_or_else(|| "unknown size".into());
    let none = (total == "0")
        .then_some("none reserved: segments use ordinary pages; root may set vm.nr_hugepages");
    fact("huge pages", format!("{free} free of {total}, {size} each"), none)
}

fn limit(name: &'static str, resource: Resource, enough: u64, advice: &'static str) -> Fact {
    let Rlimit { current, maximum } = getrlimit(resource);
    let show = |value: Option<u64>| {
        value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
    };
    let low = current.is_some_and(|current| current < enough);
    fact(name, format!("{}, at most {}", show(current), show(maximum)), low.then_some(advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kernel_versions_as_numbers() {
        assert_eq!(version("6.18.5-amd64"), Some((6, 18)));
        assert_eq!(version("5.4-rc1"), Some((5, 4)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn every_fact_has_a_value_here() {
        for Fact { name, value, .. } in facts() {
            assert!(!value.is_empty(), "{name} is empty");
        }
    }
}
