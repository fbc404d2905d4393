//! The policy's file: TOML, in which nothing may stand that has no meaning.

use nix::unistd::{Group, User};
use serde::Deserialize;
use toml::Spanned;
use unet::Address;

use super::direct::{Direct, DirectTable, Queue};
use super::{Device, Policy, Ports, Remote, Rule};

/// What is wrong with a policy's file, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct PolicyError {
    /// The line, counted from one.
    pub line: usize,
    /// A sentence.
    pub what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "names")]
    names: Vec<Spanned<String>>,
    #[serde(default)]
    device: Vec<DeviceTable>,
    direct: Option<Spanned<DirectTable>>,
    #[serde(default)]
    allow: Vec<Spanned<AllowTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceTable {
    open: Spanned<String>,
    #[serde(default = "buffers")]
    buffers: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowTable {
    user: Option<Spanned<Who>>,
    group: Option<Spanned<Who>>,
    #[serde(default)]
    everyone: bool,
    #[serde(default)]
    devices: Vec<Spanned<String>>,
    #[serde(default)]
    direct: Vec<Spanned<String>>,
    #[serde(default = "one")]
    queues: Spanned<u32>,
    #[serde(default)]
    listen: Vec<Spanned<PortText>>,
    #[serde(default)]
    connect: Vec<Spanned<String>>,
    #[serde(default = "channels")]
    channels: u32,
    #[serde(default = "bytes")]
    bytes: Spanned<String>,
    #[serde(default = "one")]
    weight: Spanned<u32>,
    messages_per_second: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Who {
    Number(u32),
    Name(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PortText {
    Number(u16),
    Text(String),
}

fn names() -> Vec<Spanned<String>> {
    vec![Spanned::new(0..0, "unetd".to_owned())]
}

fn buffers() -> Spanned<u32> {
    Spanned::new(0..0, 256)
}

fn channels() -> u32 {
    16
}

fn bytes() -> Spanned<String> {
    Spanned::new(0..0, "64MiB".to_owned())
}

fn one() -> Spanned<u32> {
    Spanned::new(0..0, 1)
}

/// A place in the file, to say what is wrong there.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn wrong(&self, at: usize, what: impl Into<String>) -> PolicyError {
        let before = self.0.get(..at.min(self.0.len())).unwrap_or(self.0);
        PolicyError { line: 1 + before.matches('\n').count(), what: what.into() }
    }

    fn at<T>(&self, spanned: &Spanned<T>, what: impl Into<String>) -> PolicyError {
        self.wrong(spanned.span().start, what)
    }

    fn device(&self, table: &DeviceTable) -> Result<Device, PolicyError> {
        let text = table.open.get_ref();
        let (name, options) = text.split_once('?').unwrap_or((text, ""));
        let form = "a device is written SCHEME:[DEVICE][?KEY=VALUE&…], as in \"udp:\" or \"xdp:eth0?mode=native\"";
        let wrong = || self.at(&table.open, format!("{text:?} names no device: {form}"));
        let (scheme, device) = name.split_once(':').ok_or_else(wrong)?;
        let host = if device.is_empty() { "0.0.0.0".to_owned() } else { format!("{device}@") };
        let parsed = format!("{scheme}:{host}:1?{options}").parse();
        let Ok(Address::Network(address)) = parsed else { return Err(wrong()) };
        if address.via().is_some() {
            return Err(wrong());
        }
        let buffers = *table.buffers.get_ref() as usize;
        if !(16..=65_536).contains(&buffers) {
            return Err(self.at(&table.buffers, "a device has 16 to 65536 buffers"));
        }
        Ok(Device {
            scheme: address.scheme,
            device: address.device,
            options: address.options,
            buffers,
        })
    }

    fn user(&self, who: &Spanned<Who>) -> Result<u32, PolicyError> {
        let name = match who.get_ref() {
            Who::Number(uid) => return Ok(*uid),
            Who::Name(name) => name,
        };
        let found = User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
        found
            .ok_or_else(|| self.at(who, format!("there is no user {name:?} here: give its number")))
    }

    /// A group's number, and those of its members.
    fn group(&self, who: &Spanned<Who>) -> Result<(u32, Vec<u32>), PolicyError> {
        let found = match who.get_ref() {
            Who::Number(gid) => match Group::from_gid((*gid).into()).ok().flatten() {
                None => return Ok((*gid, Vec::new())),
                found => found,
            },
            Who::Name(name) => Group::from_name(name).ok().flatten(),
        };
        let group =
            found.ok_or_else(|| self.at(who, "there is no such group here: give its number"))?;
        let member = |name: &String| User::from_name(name).ok().flatten();
        let members = group.mem.iter().filter_map(member).map(|user| user.uid.as_raw());
        Ok((group.gid.as_raw(), members.collect()))
    }

    fn rule(
        &self,
        table: &Spanned<AllowTable>,
        devices: &[Device],
        direct: Option<&Direct>,
    ) -> Result<Rule, PolicyError> {
        let allow = table.get_ref();
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        if let Some(user) = &allow.user {
            users.push(self.user(user)?);
        }
        if let Some(group) = &allow.group {
            let (gid, members) = self.group(group)?;
            groups.push(gid);
            users.extend(members);
        }
        if users.is_empty() && groups.is_empty() && !allow.everyone {
            return Err(self.at(table, "whom does it allow? Give user, group, or everyone = true"));
        }
        let mut listen = Ports::default();
        for port in &allow.listen {
            let text = match port.get_ref() {
                PortText::Number(port) => port.to_string(),
                PortText::Text(text) => text.clone(),
            };
            let wrong = || {
                self.at(port, format!("{text:?} is no port, as in 9000, \"9000-9010\" or \"*\""))
            };
            listen.add(&text).ok_or_else(wrong)?;
        }
        let mut connect = Vec::new();
        for remote in &allow.connect {
            let wrong = || {
                let text = remote.get_ref();
                self.at(remote, format!("{text:?} is no prefix with ports, as in \"10.0.0.0/24:9000\" or \"[fd00::]/64:*\""))
            };
            connect.push(Remote::parse(remote.get_ref()).ok_or_else(wrong)?);
        }
        for name in &allow.devices {
            if !devices.iter().any(|device| device.is(name.get_ref())) {
                let what = format!("no [[device]] opens {:?}", name.get_ref());
                return Err(self.at(name, what));
            }
        }
        let bytes = size(allow.bytes.get_ref()).ok_or_else(|| {
            self.at(&allow.bytes, "a size is written as in \"64MiB\" or \"512KiB\"")
        })?;
        if !(1..=1000).contains(allow.weight.get_ref()) {
            return Err(self.at(&allow.weight, "a weight is a number from 1 to 1000"));
        }
        if let Some(rate) = allow.messages_per_second.as_ref().filter(|rate| *rate.get_ref() == 0) {
            return Err(self.at(rate, "a rate is at least 1: who may send nothing needs no rule"));
        }
        let mut queues = Vec::new();
        for text in &allow.direct {
            let queue = Queue::parse(text.get_ref(), direct);
            queues.push(queue.map_err(|what| self.at(text, what))?);
        }
        Ok(Rule {
            direct: queues,
            queues: *allow.queues.get_ref() as usize,
            users,
            groups,
            everyone: allow.everyone,
            devices: allow.devices.iter().map(|name| name.get_ref().clone()).collect(),
            listen,
            connect,
            channels: allow.channels as usize,
            bytes,
            weight: *allow.weight.get_ref(),
            messages_per_second: allow.messages_per_second.as_ref().map(|rate| *rate.get_ref()),
        })
    }
}

/// A number of bytes.
fn size(text: &str) -> Option<u64> {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
        .unwrap_or((text, 0));
    number.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl Policy {
    /// Reads a policy's file.
    ///
    /// # Errors
    /// [`PolicyError`]: the first thing that is wrong, also what has no meaning.
    ///
    /// # Cost
    /// Asks the system for the users and groups that are named; not for every client.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let reader = Reader(text);
        let file: File = toml::from_str(text).map_err(|error| {
            reader.wrong(error.span().map_or(0, |span| span.start), error.message())
        })?;
        for name in &file.names {
            if !matches!(format!("shm:{}", name.get_ref()).parse(), Ok(Address::Shm(_))) {
                return Err(reader.at(name, "a name has 1 to 64 letters, digits or -_. characters"));
            }
        }
        if file.names.is_empty() {
            return Err(reader.wrong(0, "names is empty: nobody could ask"));
        }
        let devices: Vec<Device> =
            file.device.iter().map(|table| reader.device(table)).collect::<Result<_, _>>()?;
        for (place, device) in devices.iter().enumerate() {
            let same =
                |other: &Device| other.scheme == device.scheme && other.device == device.device;
            if devices[..place].iter().any(same) {
                return Err(reader.at(&file.device[place].open, "the device is there twice"));
            }
        }
        let direct = file
            .direct
            .as_ref()
            .map(|table| Direct::read(table.get_ref()).map_err(|what| reader.at(table, what)));
        let direct = direct.transpose()?;
        let rules = file.allow.iter().map(|table| reader.rule(table, &devices, direct.as_ref()));
        let rules = rules.collect::<Result<_, _>>()?;
        let names = file.names.into_iter().map(Spanned::into_inner).collect();
        Ok(Self { names, devices, direct, rules })
    }
}

#[cfg(test)]
mod tests {
    use unet::Credentials;

    use super::*;

    const GOOD: &str = r#"
        names = ["unetd"]

        [[device]]
        open = "udp:?path=sockets"

        [[device]]
        open = "xdp:lab-a0?mode=generic"
        buffers = 512

        [[allow]]
        user = 1000
        devices = ["udp:"]
        listen = [9000, "9100-9199"]
        connect = ["10.0.0.0/24:9000"]
        weight = 3
        bytes = "1MiB"
        messages_per_second = 1000

        [[allow]]
        group = 0
        devices = ["udp:", "xdp:lab-a0"]
        listen = ["*"]
    "#;

    fn who(uid: u32, gid: u32) -> Credentials {
        Credentials { pid: 1, uid, gid }
    }

    fn network(text: &str) -> unet::NetworkAddress {
        match text.parse() {
            Ok(Address::Network(address)) => address,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_rule_that_names_a_user_decides_and_nobody_else_may_do_anything() {
        let policy = Policy::parse(GOOD).expect("it is valid");
        assert!(policy.may_connect(who(1000, 0), &network("udp:10.0.0.7:9000")).is_some());
        assert!(policy.may_connect(who(1001, 0), &network("udp:10.0.0.7:9000")).is_none());
        assert!(policy.may_connect(who(1001, 7), &network("udp:10.0.0.7:9000")).is_none());
        for to in [
            "udp:10.0.1.7:9000",
            "udp:10.0.0.7:9001",
            "udp:localhost:9000",
            "xdp:lab-a0@10.0.0.7:9000",
            "udp:10.0.0.7:9000?path=io-uring",
            "sim:10.0.0.7:9000",
        ] {
            assert!(policy.may_connect(who(1000, 0), &network(to)).is_none(), "{to}");
        }
        let at = network("udp:0.0.0.0:9100");
        let (rule, device) = policy.may_listen(who(1000, 0), &at).expect("it may");
        assert_eq!((rule.weight, rule.bytes, rule.channels), (3, 1 << 20, 16));
        assert_eq!(device.address("10.0.0.1", 7).to_string(), "udp:10.0.0.1:7?path=sockets");
        assert!(policy.may_listen(who(1000, 0), &network("udp:0.0.0.0:9200")).is_none());
        assert!(policy.may_listen(who(1000, 0), &network("udp:0.0.0.0:0")).is_none());
        assert!(policy.may_listen(who(5, 0), &network("xdp:lab-a0@:22")).is_some());
        assert!(policy.may_listen(who(5, 5), &network("xdp:lab-a0@:22")).is_none());
        let none = Policy::parse("").expect("an empty one is valid");
        assert!(none.rule(who(0, 0)).is_none(), "nothing is allowed by default, not even to root");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, what) in [
            ("nams = []", 1, "unknown field `nams`"),
            ("\n\n[[device]]\nopen = \"udp\"", 4, "names no device"),
            ("[[device]]\nopen = \"udp:\"\nmode = 1", 3, "unknown field `mode`"),
            ("[[device]]\nopen = \"udp:\"\n[[device]]\nopen = \"udp:?path=sockets\"", 4, "twice"),
            ("\n[[allow]]\nlisten = [1]", 2, "whom does it allow"),
            ("[[allow]]\nuser = 1\nlisten = [0]", 3, "is no port"),
            ("[[allow]]\nuser = 1\nlisten = [\"9-8\"]", 3, "is no port"),
            ("[[allow]]\nuser = 1\nconnect = [\n\"10.0.0.1/8:1\"]", 4, "is no prefix"),
            ("[[allow]]\nuser = \"no-such-user-here\"", 2, "there is no user"),
            ("[[allow]]\nuser = 1\ndevices = [\"udp:\"]", 3, "no [[device]] opens"),
            ("[[allow]]\nuser = 1\nbytes = \"much\"", 3, "a size is written"),
            ("[[allow]]\nuser = 1\nweight = 0", 3, "a weight is"),
            ("[[allow]]\nuser = 1\nmessages_per_second = 0", 3, "a rate is"),
            ("names = [\"a/b\"]", 1, "a name has"),
            ("names = []", 1, "nobody could ask"),
            ("names = [", 1, ""),
        ] {
            let error = Policy::parse(text).expect_err(text);
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.what.contains(what), "{text}: {error}");
        }
    }
}
