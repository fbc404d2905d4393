//! What the kernel of a host counts, and what is attached there.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{File, read_to_string};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A host of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Where the clients are.
    A,
    /// Where the server is.
    B,
}

/// What its kernel counted. Of IPv4 only, which all channels go by: neighbours and routers that IPv6 looks for
/// on its own, at moments of its choice, are nobody's packets here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// Of its interface: frames received, dropped on their way in, sent, dropped on their way out.
    pub interface: [u64; 4],
    /// UDP datagrams that its IP received, whatever became of them, and that its UDP sent, which leaves out those
    /// that something below refused.
    pub datagrams: [u64; 2],
    /// UDP datagrams that had no room below, as an interface without a carrier has none: some of them the kernel
    /// refused, and of the others it told the sender that they were sent.
    pub no_room: u64,
    /// UDP datagrams for a port where nobody is, and those that a socket had no room for or that were wrong.
    pub udp: [u64; 2],
    /// Ports of its UDP sockets.
    pub ports: Vec<u16>,
}

impl Host {
    pub fn name(self) -> &'static str {
        match self {
            Host::A => "lab-a",
            Host::B => "lab-b",
        }
    }

    pub fn interface(self) -> String {
        format!("{}0", self.name())
    }

    /// Does something on a thread in this host.
    fn inside<T: Send>(
        self,
        work: impl FnOnce() -> std::io::Result<T> + Send,
    ) -> std::io::Result<T> {
        let entered = || {
            let namespace = File::open(format!("/run/netns/{}", self.name()))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        thread::scope(|scope| scope.spawn(entered).join()).expect("the thread does not panic")
    }

    pub fn counts(self) -> std::io::Result<KernelCounts> {
        let net = |name| read_to_string(format!("/proc/thread-self/net/{name}"));
        let said = self.inside(|| Ok([net("dev")?, net("snmp")?, net("udp")?]));
        let [dev, snmp, udp] = said?;
        let four = Named::of_pairs(&snmp);
        Ok(KernelCounts {
            interface: interface(&dev, &self.interface()),
            // Beside them there are but ICMP's messages, its own to itself among them.
            datagrams: [
                four.get("Ip:InReceives").saturating_sub(four.get("Icmp:InMsgs")),
                four.get("Udp:OutDatagrams"),
            ],
            no_room: four.get("Udp:SndbufErrors"),
            udp: [four.get("Udp:NoPorts"), four.get("Udp:InErrors")],
            ports: udp.lines().filter_map(port).collect(),
        })
    }

    /// `ip` in this host.
    pub fn ip(self, words: &str) -> Result<String, Box<dyn Error>> {
        let said = Command::new("ip").args(["-n", self.name()]).args(words.split(' ')).output()?;
        if !said.status.success() {
            return Err(format!("ip {words}: {}", String::from_utf8_lossy(&said.stderr)).into());
        }
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// Whether an XDP program is on its interface.
    pub fn has_program(self) -> Result<bool, Box<dyn Error>> {
        Ok(self.ip(&format!("link show dev {}", self.interface()))?.contains("xdp"))
    }
}

/// Waits until nothing is on its way between the hosts, and answers what they counted.
pub fn settle() -> std::io::Result<[KernelCounts; 2]> {
    let both = || Ok::<_, std::io::Error>([Host::A.counts()?, Host::B.counts()?]);
    let mut before = both()?;
    loop {
        thread::sleep(Duration::from_millis(5));
        let now = both()?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
}

fn interface(dev: &str, name: &str) -> [u64; 4] {
    let line = dev.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
    let words: Vec<u64> =
        line.unwrap_or("").split_whitespace().filter_map(|word| word.parse().ok()).collect();
    [1, 3, 9, 11].map(|place| words.get(place).copied().unwrap_or(0))
}

fn port(line: &str) -> Option<u16> {
    let local = line.split_whitespace().nth(1)?;
    u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()
}

/// Counts by their names.
struct Named(HashMap<String, u64>);

impl Named {
    /// Of a line of names and one of values, both behind the same word.
    fn of_pairs(text: &str) -> Self {
        let mut named = HashMap::new();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let (names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
            let group = names.clone().next().unwrap_or("");
            for (name, value) in names.zip(values).skip(1) {
                named.insert(format!("{group}{name}"), value.parse().unwrap_or(0));
            }
        }
        Self(named)
    }

    fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}
