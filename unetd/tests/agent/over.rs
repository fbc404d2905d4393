//! What the agents' devices are. These tests are two programs: in `agent` they are the kernel's UDP on the loopback
//! interface; in `agent_dpdk` each agent owns a port of DPDK, on whose far side is a TAP interface of the kernel's,
//! which also routes between the agents. Peers without an agent go by the kernel's UDP in both.
//!
//! What a test says of the first is read here as what it is of the second: `udp:` as the agent's device, addresses of
//! the loopback interface as the peers', and `OWN` as the agent's own.

use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};

use unet::Address;

use crate::IS_DPDK;

/// Where peers without an agent are.
pub const HOST: &str = if IS_DPDK { "10.66.0.1" } else { "127.0.0.1" };
/// Where all of them are.
const EVERYBODY: &str = if IS_DPDK { "10.66.0.0/16" } else { "127.0.0.0/8" };

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).status().expect("iproute2 is there");
    assert!(done.success(), "ip {words}: this wants the lab, and root there");
}

/// The kernel as the agents' peer, and as the router between them; once.
fn furnish() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        ip(&format!("addr replace {HOST}/32 dev lo"));
        ip("link set lo up");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("this wants root in the lab");
    });
}

/// A device that an agent may own.
#[derive(Debug)]
pub struct Over {
    number: u8,
    owned: bool,
}

impl Over {
    /// A new one.
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let over = Self { number: NEXT.fetch_add(1, Ordering::Relaxed), owned: true };
        if IS_DPDK {
            furnish();
            let Self { number, .. } = over;
            // It stays when the agent closes its port, or is killed.
            ip(&format!("tuntap add dev agent{number} mode tap multi_queue"));
            ip(&format!("addr add 10.66.{number}.1/24 dev agent{number}"));
            ip(&format!("link set agent{number} up"));
        }
        over
    }

    /// The one of this number, which another process has made.
    pub fn of(number: &str) -> Self {
        Self { number: number.parse().expect("a number"), owned: false }
    }

    pub fn number(&self) -> String {
        self.number.to_string()
    }

    /// Where the agent's own ports are.
    pub fn host(&self) -> String {
        if IS_DPDK { format!("10.66.{}.2", self.number) } else { HOST.to_owned() }
    }

    fn device(&self) -> String {
        let Self { number, .. } = self;
        if IS_DPDK { format!("dpdk:net_tap{number},iface=agent{number}") } else { "udp:".into() }
    }

    /// A policy's rules.
    pub fn rules(&self, text: &str) -> String {
        let Self { number, .. } = self;
        let device = self.device();
        let open = match IS_DPDK {
            true => format!(
                "{device}?ip=10.66.{number}.2/24&gateway=10.66.{number}.1&shared=yes&memory=256"
            ),
            false => device.clone(),
        };
        text.replace("open = \"udp:\"", &format!("open = {open:?}"))
            .replace("\"udp:\"", &format!("{device:?}"))
            .replace("127.0.0.0/8", EVERYBODY)
            .replace("127.0.0.1", HOST)
            .replace("OWN", &self.host())
    }

    /// An address by way of the agent of this name.
    pub fn address(&self, text: &str, agent: &str) -> Address {
        let by_device = match text.strip_prefix("udp:").filter(|_| IS_DPDK) {
            Some(rest) => format!("{}@{rest}", self.device()),
            None => text.to_owned(),
        };
        format!("{by_device}?via={agent}").parse().expect("it is valid")
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        if IS_DPDK && self.owned && !std::thread::panicking() {
            ip(&format!("link del agent{}", self.number));
        }
    }
}
