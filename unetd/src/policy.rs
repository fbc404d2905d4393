//! Who may do what: default deny, and the first rule that names a user or one of its groups decides alone.

mod direct;
mod file;
mod ranges;

pub use direct::Direct;
pub use file::PolicyError;
pub(crate) use ranges::{Ports, Remote};

use std::net::IpAddr;

use unet::{Credentials, NetworkAddress};

/// A device of the agent's, and how it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What stands before the colon, such as `udp`.
    pub scheme: String,
    /// Which one, such as `eth0`; empty where there is only one.
    pub device: String,
    /// What the driver is told.
    pub options: Vec<(String, String)>,
    /// How many buffers each of its ports gets.
    pub buffers: usize,
}

impl Device {
    /// An address by way of this device.
    pub(crate) fn address(&self, host: &str, port: u16) -> NetworkAddress {
        NetworkAddress {
            scheme: self.scheme.clone(),
            device: self.device.clone(),
            host: host.to_owned(),
            port,
            options: self.options.clone(),
        }
    }

    fn is(&self, name: &str) -> bool {
        name.split_once(':') == Some((&self.scheme, &self.device))
    }
}

/// What some users may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    users: Vec<u32>,
    groups: Vec<u32>,
    everyone: bool,
    devices: Vec<String>,
    listen: Ports,
    connect: Vec<Remote>,
    direct: Vec<direct::Queue>,
    /// How many queues of interfaces the user has at most, in direct mode.
    pub queues: usize,
    /// How many channels and ports the user has at most.
    pub channels: usize,
    /// How many bytes of the agent's memory for them.
    pub bytes: u64,
    /// The user's processes' share of the agent, beside others'.
    pub weight: u32,
    /// How many messages a second the user may send; any number, if `None`.
    pub messages_per_second: Option<u32>,
}

/// What the agent may do for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The names at which clients ask.
    pub names: Vec<String>,
    /// The devices that may be used.
    pub devices: Vec<Device>,
    /// Direct mode, where there is one.
    pub direct: Option<Direct>,
    rules: Vec<Rule>,
}

impl Policy {
    /// The rule for a user; `None` where nothing is allowed.
    pub fn rule(&self, who: Credentials) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            rule.everyone || rule.users.contains(&who.uid) || rule.groups.contains(&who.gid)
        })
    }

    /// The device that an address of a client's is about, if the user may use it. The client has no say in how
    /// it is opened.
    pub(crate) fn device(&self, rule: &Rule, address: &NetworkAddress) -> Option<&Device> {
        let device = self
            .devices
            .iter()
            .find(|device| device.scheme == address.scheme && device.device == address.device)?;
        let allowed = rule.devices.iter().any(|name| device.is(name));
        (allowed && address.options.is_empty()).then_some(device)
    }

    /// The device by which a user may connect to an address, and the address.
    pub(crate) fn may_connect(
        &self,
        who: Credentials,
        to: &NetworkAddress,
    ) -> Option<(&Rule, &Device)> {
        let rule = self.rule(who)?;
        let device = self.device(rule, to)?;
        // A name would have to be waited for, and may change its mind between the check and the use.
        let ip: IpAddr = to.host.parse().ok()?;
        let allowed = rule.connect.iter().any(|remote| remote.covers(ip, to.port));
        allowed.then_some((rule, device))
    }

    /// The device on which a user may listen at a port.
    pub(crate) fn may_listen(
        &self,
        who: Credentials,
        at: &NetworkAddress,
    ) -> Option<(&Rule, &Device)> {
        let rule = self.rule(who)?;
        let device = self.device(rule, at)?;
        let local = at.host.is_empty() || at.host.parse::<IpAddr>().is_ok();
        (local && rule.listen.covers(at.port)).then_some((rule, device))
    }
}
