//! The program that runs over every carrier, over AF_XDP, in both modes, between two hosts of the lab: the
//! server is in one, the client in the other.

#[allow(dead_code)]
#[path = "carriers/carrying.rs"]
mod carrying;
#[path = "carriers/killing.rs"]
mod killing;
#[path = "../../drivers/tests/pair/mod.rs"]
mod pair;
#[macro_use]
#[path = "carriers/parts.rs"]
mod parts;
#[path = "carriers/program.rs"]
mod program;
#[path = "carriers/service.rs"]
mod service;

use std::thread;

use carrying::{Carrier, Channels};
use pair::{enter, in_host};
use rpc_fastpath::service::{Remote, Running};
use service::{EverywhereService, Handler};
use unet::Address;

const GENERIC: Xdp = Xdp("xdp:lab-b0@10.77.0.2:PORT?mode=generic");
const NATIVE: Xdp = Xdp("xdp:lab-b0@10.77.0.2:PORT?mode=native");

/// A server in `lab-b`, at an address of that form, and a client in `lab-a`, where the test's thread is.
#[derive(Clone, Copy)]
struct Xdp(&'static str);

impl Carrier for Xdp {
    type Caller = Remote<EverywhereService>;

    fn address(self) -> Address {
        Channels(self.0).address()
    }

    fn try_serve(self, address: &Address, handler: Handler) -> Option<Running> {
        let in_its_host = || {
            enter("lab-b");
            Channels(self.0).try_serve(address, handler)
        };
        thread::scope(|scope| scope.spawn(in_its_host).join().expect("the lab is there"))
    }

    fn try_connect(self, address: &Address) -> Option<Self::Caller> {
        let by_its_device = address.to_string().replace("lab-b0", "lab-a0");
        Channels(self.0).try_connect(&by_its_device.parse().expect("an address"))
    }
}

macro_rules! over_xdp {
    ($($suite:ident: $($test:ident)*);*) => {
        $($(mod $test {
            #[test]
            fn in_generic_mode() {
                crate::in_host(|| crate::$suite::$test(crate::GENERIC));
            }

            #[test]
            fn in_native_mode() {
                crate::in_host(|| crate::$suite::$test(crate::NATIVE));
            }
        })*)*
    };
}

each_part!(over_xdp);
over_xdp!(killing: an_idempotent_call_outlives_its_server);

/// The program that is killed: see [`killing`].
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child() {
    // The form says what an address is like that nobody has; the child is told one.
    killing::child(Xdp(""));
}
