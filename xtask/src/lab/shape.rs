//! What a lab is like, its hosts' names and addresses, and the commands that make it.
//!
//! Two hosts are the two ends of one pair of virtual Ethernet devices; more of them hang on a bridge
//! in a namespace `lab-switch`. Everything lies in the lab's namespaces from the first moment on, so
//! what a killed set-up leaves is named in `/run/netns` and goes with it. What a lab was made for
//! stands in the alias of its devices, which is given last: where it is missing, the lab is half made.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser as _;

/// As many hosts as there may be.
const MOST: u8 = 8;
/// The namespace of the bridge, and with a 0 the bridge.
pub const SWITCH: &str = "lab-switch";

/// What a lab is like.
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many hosts; more than two are joined by a bridge
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=i64::from(MOST)))]
    pub hosts: u8,
    /// How many queues each host's device has, in each direction
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub queues: u16,
    /// The longest packet, in bytes
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=65535))]
    pub mtu: u32,
    /// The kernels write whole checksums, which they else leave to a device that has none to write
    /// (`ethtool -K tx off`): for whoever receives by AF_XDP what a socket sent
    #[arg(long)]
    pub tx_off: bool,
    /// The kernels merge what they receive (`ethtool -K gro on`): needed at the far end of a device
    /// that an XDP program redirects to
    #[arg(long)]
    pub gro_on: bool,
}

/// Only so that a `Shape` can be read back.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Written {
    #[command(flatten)]
    shape: Shape,
}

/// The arguments that ask for it.
impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Shape { hosts, queues, mtu, tx_off, gro_on } = self;
        write!(f, "--hosts={hosts} --queues={queues} --mtu={mtu}")?;
        f.write_str(if *tx_off { " --tx-off" } else { "" })?;
        f.write_str(if *gro_on { " --gro-on" } else { "" })
    }
}

impl Shape {
    /// What such arguments ask for; without any, the usual lab.
    pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Shape> {
        Ok(Written::try_parse_from(words)?.shape)
    }

    /// The names of the hosts.
    pub fn names(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.hosts).map(name)
    }

    /// All that makes the lab out of nothing, in order, a command each.
    pub fn steps(&self) -> Vec<String> {
        let Shape { queues, mtu, .. } = *self;
        let end = format!("mtu {mtu} numtxqueues {queues} numrxqueues {queues}");
        let mut steps = Vec::new();
        for host in self.names() {
            steps.push(format!("ip netns add {host}"));
            steps.push(format!("ip -n {host} link set lo up"));
        }
        let far = |number: u8| {
            let (host, link) = (name(number), link(number));
            format!("type veth peer name {host}0 address {link} {end} netns {host}")
        };
        if self.hosts == 2 {
            let address = link(0);
            steps.push(format!("ip -n lab-a link add lab-a0 address {address} {end} {}", far(1)));
        } else {
            // Groups are few here and nobody asks for members: everyone gets everything.
            let bridge = "type bridge mcast_snooping 0";
            steps.push(format!("ip netns add {SWITCH}"));
            steps.push(format!("ip -n {SWITCH} link add {SWITCH}0 mtu {mtu} {bridge}"));
            for (number, host) in self.names().enumerate() {
                let far = far(number as u8);
                let port = format!("master {SWITCH}0 addrgenmode none up");
                steps.push(format!("ip -n {SWITCH} link add to-{host} {end} {far}"));
                steps.push(format!("ip -n {SWITCH} link set to-{host} {port}"));
            }
            steps.push(format!("ip -n {SWITCH} link set {SWITCH}0 addrgenmode none up"));
        }
        for (number, host) in self.names().enumerate() {
            // An address that is looked for elsewhere first cannot be used for a second.
            let set = format!("ip -n {host} link set {host}0");
            steps.push(format!("{set} addrgenmode none"));
            for (address, prefix) in addresses(number as u8) {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                steps.push(format!(
                    "ip -n {host} address add {address}/{prefix} dev {host}0{nodad}"
                ));
            }
            let features = [(self.tx_off, "tx off"), (self.gro_on, "gro on")];
            for (_, feature) in features.iter().filter(|(wanted, _)| *wanted) {
                let enter = format!("nsenter --net={}", place(&host).display());
                steps.push(format!("{enter} ethtool -K {host}0 {feature}"));
            }
            steps.push(format!("{set} up"));
        }
        let alias = self.to_string().replace(' ', ",");
        steps.extend(
            self.names().map(|host| format!("ip -n {host} link set {host}0 alias {alias}")),
        );
        steps
    }
}

/// Where a namespace of that name can be opened.
pub fn place(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// A host's addresses: IPv4, IPv6 and the one that is valid on the link only, with their prefixes.
pub fn addresses(number: u8) -> [(String, u8); 3] {
    let last = number + 1;
    [
        (format!("10.77.0.{last}"), 24),
        (format!("fd77::{last}"), 64),
        (format!("fe80::ff:fe4d:{last}"), 64),
    ]
}

/// A host's link address.
pub fn link(number: u8) -> String {
    format!("02:00:00:4d:00:{:02x}", number + 1)
}

/// The name of a host, and with a 0 that of its device.
pub fn name(number: u8) -> String {
    format!("lab-{}", char::from(b'a' + number))
}

/// Every name that a lab may have made.
pub fn everything() -> impl Iterator<Item = String> {
    (0..MOST).map(name).chain([SWITCH.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_as_it_was_written_and_has_defaults() {
        let usual = Shape::read([]).expect("nothing asks for nothing special");
        assert_eq!((usual.hosts, usual.queues, usual.mtu), (2, 2, 1500));
        let other = Shape { hosts: 5, queues: 7, mtu: 9000, tx_off: true, gro_on: true };
        for shape in [usual, other] {
            assert_eq!(Shape::read(shape.to_string().split(' ')).expect("its own words"), shape);
        }
    }

    #[test]
    fn shapes_that_cannot_be_made_are_refused() {
        for words in
            ["--hosts=1", "--hosts=9", "--queues=0", "--queues=65", "--mtu=1279", "--mtu=65536"]
        {
            assert!(Shape::read([words]).is_err(), "{words}");
        }
    }

    #[test]
    fn everything_is_made_in_a_namespace_of_the_lab_and_marked_last() {
        for hosts in 2..=MOST {
            let steps = Shape { hosts, ..Shape::read([]).expect("defaults") }.steps();
            for step in &steps {
                let inside =
                    step.starts_with("ip -n lab-") || step.starts_with("ip netns add lab-");
                assert!(inside, "{step}");
            }
            let marks = &steps[steps.len() - usize::from(hosts)..];
            assert!(marks.iter().all(|step| step.contains(" alias --hosts=")), "{marks:?}");
            assert!(steps.iter().all(|step| !step.contains("neighbour")), "resolution is tested");
        }
    }
}
