//! What a policy says of direct mode: whose queues are whose.

use driver_af_xdp::Way;
use serde::Deserialize;
use toml::Spanned;
use unet::Credentials;

use super::Policy;
use crate::direct::{Permission, Permissions, Request};

/// Direct mode: where it is asked for, and of which interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The name at which queues are asked for.
    pub name: String,
    interfaces: Vec<(String, Way)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DirectTable {
    name: Spanned<String>,
    interfaces: Vec<Spanned<String>>,
}

/// A queue of an interface; all of them, if it names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    interface: String,
    queue: Option<u32>,
}

impl Direct {
    pub(super) fn read(table: &DirectTable) -> Result<Self, String> {
        let name = table.name.get_ref().clone();
        if !segment::control::is_valid_name(&name) {
            return Err("a name has 1 to 64 letters, digits or -_. characters".to_owned());
        }
        let mut interfaces = Vec::new();
        for text in &table.interfaces {
            let text = text.get_ref();
            let (interface, mode) = text.split_once("?mode=").unwrap_or((text, "auto"));
            let way = match mode {
                "auto" => Way::Auto,
                "generic" => Way::Generic,
                "native" => Way::Native,
                "zero-copy" => Way::ZeroCopy,
                _ => return Err(format!("{text:?}: a mode is auto, generic, native or zero-copy")),
            };
            if interface.is_empty() || interface.len() > 15 || interface.contains(['/', '?']) {
                return Err(format!(
                    "{text:?} is no interface, as in \"eth0\" or \"eth0?mode=native\""
                ));
            }
            interfaces.push((interface.to_owned(), way));
        }
        Ok(Self { name, interfaces })
    }
}

impl Queue {
    /// Reads `eth0` or `eth0/1`.
    pub fn parse(text: &str, direct: Option<&Direct>) -> Result<Self, String> {
        let (interface, queue) = match text.split_once('/') {
            None => (text, None),
            Some((interface, queue)) => {
                let number =
                    queue.parse().map_err(|_| format!("{queue:?} is no queue's number"))?;
                (interface, Some(number))
            }
        };
        let known = |direct: &Direct| direct.interfaces.iter().any(|(name, _)| name == interface);
        if !direct.is_some_and(known) {
            return Err(format!("interfaces of [direct] has no {interface:?}"));
        }
        Ok(Self { interface: interface.to_owned(), queue })
    }

    fn covers(&self, interface: &str, queue: u32) -> bool {
        self.interface == interface && self.queue.is_none_or(|only| only == queue)
    }
}

impl Permissions for Policy {
    fn permission(&self, who: Credentials, request: &Request) -> Option<Permission> {
        let (name, queue) = (&request.interface, request.queue?);
        let (_, way) = self.direct.as_ref()?.interfaces.iter().find(|(it, _)| it == name)?;
        let rule = self.rule(who)?;
        let has_queue = rule.direct.iter().any(|it| it.covers(name, queue));
        // Any free one is as good as another process's of the same user, whose is not known either.
        let has_port = request.port == 0 || rule.listen.covers(request.port);
        (has_queue && has_port).then_some(Permission {
            way: *way,
            queues: rule.queues,
            bytes: rule.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [direct]
        name = "unetd-direct"
        interfaces = ["eth0?mode=native", "eth1"]

        [[allow]]
        user = 1000
        direct = ["eth0/1", "eth1"]
        listen = ["9000-9010"]
        queues = 2
        bytes = "8MiB"

        [[allow]]
        user = 1001
        listen = ["*"]
    "#;

    fn asked(interface: &str, queue: u32, port: u16) -> Request {
        Request {
            interface: interface.into(),
            queue: Some(queue),
            port,
            buffers: 64,
            buffer_bytes: 2048,
            way: Way::Auto,
            several: false,
        }
    }

    #[test]
    fn a_rule_gives_queues_with_the_ports_that_it_lets_listen_at() {
        let policy = Policy::parse(GOOD).expect("it is valid");
        let ask = |uid, interface, queue, port| {
            let who = Credentials { pid: 1, uid, gid: uid };
            policy.permission(who, &asked(interface, queue, port))
        };
        let given = |way| Some(Permission { way, queues: 2, bytes: 8 << 20 });
        assert_eq!(ask(1000, "eth0", 1, 9000), given(Way::Native));
        assert_eq!(ask(1000, "eth1", 7, 0), given(Way::Auto));
        for (uid, interface, queue, port) in [
            (1000, "eth0", 0, 9000),
            (1000, "eth0", 1, 8999),
            (1000, "eth2", 0, 9000),
            (1001, "eth1", 0, 9000),
            (1002, "eth1", 0, 9000),
            (0, "eth1", 0, 9000),
        ] {
            assert_eq!(ask(uid, interface, queue, port), None, "{uid} {interface}/{queue} {port}");
        }
        let any = Request { queue: None, ..asked("eth1", 0, 9000) };
        assert_eq!(policy.permission(Credentials { pid: 1, uid: 1000, gid: 1 }, &any), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, what) in [
            ("[direct]\nname = \"a/b\"\ninterfaces = []", "a name has"),
            ("[direct]\nname = \"a\"\ninterfaces = [\"eth0?mode=fast\"]", "a mode is"),
            ("[direct]\nname = \"a\"\ninterfaces = [\"eth0/1\"]", "is no interface"),
            ("[direct]\nname = \"a\"", "interfaces"),
            ("[[allow]]\nuser = 1\ndirect = [\"eth0\"]", "has no \"eth0\""),
        ] {
            let error = Policy::parse(text).expect_err(text);
            assert!(error.what.contains(what), "{text}: {error}");
        }
    }
}
