//! The interfaces: what AF_XDP can do there.

use std::path::Path;

use driver_af_xdp::Interface;

use super::{Check, line};

/// Drivers whose interfaces read and write the buffers of AF_XDP sockets themselves.
const ZERO_COPY: &[&str] = &[
    "i40e",
    "ice",
    "ixgbe",
    "igb",
    "igc",
    "mlx5_core",
    "stmmac",
    "bnxt_en",
    "virtio_net",
    "gve",
    "idpf",
];
/// Drivers that run XDP programs themselves, and copy.
const NATIVE: &[&str] = &[
    "veth",
    "tun",
    "ena",
    "hv_netvsc",
    "nfp",
    "qede",
    "sfc",
    "mvneta",
    "bonding",
    "vmxnet3",
    "cpsw-switch",
    "mlx4_core",
    "thunder-nic",
    "tsnep",
    "xen-netfront",
];
/// How many interfaces are looked at.
const MOST: usize = 32;

pub(super) fn checks() -> Vec<Check> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name != "lo" && name != "bonding_masters");
    names.sort();
    names.iter().take(MOST).map(|name| interface(name)).collect()
}

fn interface(name: &str) -> Check {
    let folder = format!("/sys/class/net/{name}");
    let driver = driver(&folder);
    let queues = |kind: &str| {
        let entries = std::fs::read_dir(format!("{folder}/queues")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(kind)).count()
    };
    let mode = match driver.as_deref() {
        Some(driver) if ZERO_COPY.contains(&driver) => "zero-copy",
        Some(driver) if NATIVE.contains(&driver) => "native",
        Some(_) => "generic",
        None => "generic at least",
    };
    let (receive, state) = (queues("rx-"), line(&format!("{folder}/operstate")));
    let program = attached(name);
    let shown = driver.as_deref().unwrap_or("a driver that is not named here");
    let found = format!(
        "{state}, MTU {}, {receive} receive queues, {shown}: AF_XDP {mode}{}",
        line(&format!("{folder}/mtu")),
        match program {
            Some(true) => ", an XDP program is attached",
            Some(false) => "",
            None => ", attached programs unknown",
        }
    );
    let what = format!("interface {name}");
    if program == Some(true) {
        return Check::new(what, false, found).otherwise(
            "AF_XDP devices are refused there unless the program is the agent's own",
            "see whose it is (ip link show dev NAME; bpftool net), and take it off, or use another",
        );
    }
    Check::new(what, !mode.starts_with("generic"), found).otherwise(
        "each packet passes the kernel's buffers first, and is copied",
        "take an interface whose driver has XDP; generic works everywhere",
    )
}

/// The driver, as the kernel's device tree says it, or as the kind of a virtual interface.
fn driver(folder: &str) -> Option<String> {
    let link = std::fs::read_link(format!("{folder}/device/driver")).ok();
    let name =
        link.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.or_else(|| {
        let is_tun = Path::new(&format!("{folder}/tun_flags")).exists();
        let index = line(&format!("{folder}/ifindex"));
        // Both ends of a veth pair name each other; an interface over another has a link of that name.
        let paired = line(&format!("{folder}/iflink")) != index
            && !std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .any(|entry| entry.file_name().to_string_lossy().starts_with("lower_"));
        if is_tun { Some("tun".to_owned()) } else { paired.then(|| "veth".to_owned()) }
    })
}

/// Whether a program is attached; `None` where the kernel does not say.
fn attached(name: &str) -> Option<bool> {
    Some(!Interface::find(name).ok()?.programs.is_empty())
}
