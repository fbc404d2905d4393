//! The suite that every device passes, by both paths.

mod boxed;
#[path = "../devices/mod.rs"]
mod devices;

use boxed::Boxed;
use devices::*;
use driver_udp::Path;
use unet::conformance::{self, Bench, OverDatagrams};

by_both_paths!(every_behaviour_is_shown);

struct Loopback {
    path: Path,
    at: &'static str,
}

impl Bench for Loopback {
    type End = OverDatagrams<Boxed>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let one = || {
            let at = self.at.parse().map_err(|_| "an address".to_owned())?;
            let opened = driver_udp::open(at, options(self.path));
            opened.map(Boxed).map_err(|error| error.to_string())
        };
        Ok((OverDatagrams::new(one()?), OverDatagrams::new(one()?)))
    }
}

fn every_behaviour_is_shown(path: Path) {
    for at in [V4, V6] {
        let report = conformance::datagrams(&mut Loopback { path, at });
        println!("{report}");
        assert!(report.is_ok());
    }
}

/// Two hosts with a link between them, which can be taken down.
#[cfg(feature = "lab")]
struct Linked {
    path: Path,
    a: devices::namespace::Namespace,
    b: devices::namespace::Namespace,
}

#[cfg(feature = "lab")]
impl Bench for Linked {
    type End = OverDatagrams<Boxed>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let a = Boxed(self.a.device("10.9.1.1:0", self.path));
        let b = Boxed(self.b.device("10.9.1.2:0", self.path));
        Ok((OverDatagrams::new(a), OverDatagrams::new(b)))
    }

    fn set_link(&mut self, up: bool) -> Result<bool, String> {
        self.a.run(&format!("ip link set v0 {}", if up { "up" } else { "down" }));
        Ok(true)
    }
}

#[cfg(feature = "lab")]
fn every_behaviour_is_shown_over_a_link(path: Path) {
    use devices::namespace::Namespace;
    let (a, b) = (Namespace::new(), Namespace::new());
    a.run(&format!("ip link add v0 type veth peer name v1 netns {}", b.pid()));
    for (host, link, address) in [(&a, "v0", "10.9.1.1/24"), (&b, "v1", "10.9.1.2/24")] {
        host.run(&format!("ip addr add {address} dev {link}"));
        host.run(&format!("ip link set {link} up"));
    }
    let report = conformance::datagrams(&mut Linked { path, a, b });
    println!("{report}");
    assert!(report.is_ok());
}

#[cfg(feature = "lab")]
mod over_a_link {
    use driver_udp::Path;

    #[test]
    fn sockets() {
        super::every_behaviour_is_shown_over_a_link(Path::Sockets);
    }

    #[test]
    fn io_uring() {
        super::every_behaviour_is_shown_over_a_link(Path::IoUring);
    }
}
