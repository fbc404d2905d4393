//! The suite that every device passes, over a link between two hosts that can be taken down. Needs root:
//! each test has network namespaces of its own, which end with it.

#[path = "conformance/boxed.rs"]
mod boxed;
mod devices;

use boxed::Boxed;
use devices::namespace::Namespace;
use driver_udp::Path;
use unet::conformance::{self, Bench, OverDatagrams};

by_both_paths!(every_behaviour_is_shown_over_a_link);

/// Two hosts with a link between them, which can be taken down.
struct Linked {
    path: Path,
    a: Namespace,
    b: Namespace,
}

impl Bench for Linked {
    type End = OverDatagrams<Boxed>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let boxed = |device| Boxed { device, attended: false };
        let a = boxed(self.a.device("10.9.1.1:0", self.path));
        let b = boxed(self.b.device("10.9.1.2:0", self.path));
        Ok((OverDatagrams::new(a), OverDatagrams::new(b)))
    }

    fn set_link(&mut self, up: bool) -> Result<bool, String> {
        self.a.run(&format!("ip link set v0 {}", if up { "up" } else { "down" }));
        Ok(true)
    }
}

fn every_behaviour_is_shown_over_a_link(path: Path) {
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
