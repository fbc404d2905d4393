//! Code of the service's author that panics or cannot be encoded: its caller is told, and nobody else is
//! harmed.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rpc_fastpath::service::{
    Method, Outcome, Pending, Reason, Running, Server, UnknownReason, service,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use support::{address, bind_options, server_options};

/// Not to be read with this in it.
const UNREADABLE: u8 = 13;
/// Not to be written with this in it.
const UNWRITABLE: u8 = 14;

#[derive(Debug, PartialEq)]
struct Bomb(u8);

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, UNWRITABLE, "of the test");
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bomb = Self(u8::deserialize(deserializer)?);
        assert_ne!(bomb.0, UNREADABLE, "of the test");
        Ok(bomb)
    }
}

/// Postcard does not say what comes next, as the reader of this must know.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
}

/// Nor does it write so many things that it has not been told before.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flattened {
    #[serde(flatten)]
    inner: std::collections::BTreeMap<String, u64>,
}

#[service(name = "bombs", version = 1)]
trait Bombs {
    fn take(&self, bomb: Bomb, beside: &[u8]) -> u8;
    fn give(&self, which: u8, beside: u32) -> (Vec<u8>, Bomb);
    #[slow]
    fn take_slowly(&self, bomb: Bomb, beside: &[u8]) -> u8;
    #[slow]
    fn give_slowly(&self, which: u8, beside: u32) -> (Vec<u8>, Bomb);
    fn take_untagged(&self, value: Untagged) -> bool;
    fn give_untagged(&self) -> Untagged;
    fn take_flattened(&self, value: Flattened) -> bool;
    fn give_flattened(&self) -> Flattened;
}

struct Depot;

impl Bombs for Depot {
    fn take(&self, bomb: Bomb, _beside: &[u8]) -> u8 {
        bomb.0
    }

    fn give(&self, which: u8, beside: u32) -> (Vec<u8>, Bomb) {
        (vec![0; beside as usize], Bomb(which))
    }

    fn take_slowly(&self, bomb: Bomb, beside: &[u8]) -> u8 {
        self.take(bomb, beside)
    }

    fn give_slowly(&self, which: u8, beside: u32) -> (Vec<u8>, Bomb) {
        self.give(which, beside)
    }

    fn take_untagged(&self, value: Untagged) -> bool {
        value == Untagged::Number(1)
    }

    fn give_untagged(&self) -> Untagged {
        Untagged::Number(1)
    }

    fn take_flattened(&self, value: Flattened) -> bool {
        value.inner.is_empty()
    }

    fn give_flattened(&self) -> Flattened {
        Flattened { inner: [("a".into(), 1)].into() }
    }
}

fn serve(test: &str) -> (Running, BombsClient) {
    let address = address(test);
    let server = Server::<BombsService>::export(&address, Depot, server_options());
    let running = server.expect("the name is free").spawn();
    (running, BombsClient::bind(&address, bind_options()).expect("bound"))
}

/// In the slot, and in buffers.
const SIZES: [u32; 2] = [0, 5000];

fn nothing_is_held(client: &BombsClient) {
    let (free, lent, total) = client.caller().binding().buffers();
    assert_eq!((free, lent), (total, 0));
}

#[test]
fn arguments_that_cannot_be_read_are_refused() {
    let (_server, client) = serve("unreadable");
    for _ in 0..5 {
        for beside in SIZES.map(|size| vec![0; size as usize]) {
            let refused = Outcome::Refused(Reason::BadArguments);
            assert_eq!(client.take(Bomb(UNREADABLE), &beside), refused);
            assert_eq!(client.take_slowly(Bomb(UNREADABLE), &beside), refused);
            assert_eq!(client.take(Bomb(1), &beside), Outcome::Executed(1));
            assert_eq!(client.take_slowly(Bomb(2), &beside), Outcome::Executed(2));
        }
    }
    nothing_is_held(&client);
}

#[test]
fn results_that_cannot_be_written_fail_their_call() {
    let (_server, client) = serve("unwritable");
    for _ in 0..5 {
        for beside in SIZES {
            let failed = Outcome::Unknown(UnknownReason::Failed);
            assert_eq!(client.give(UNWRITABLE, beside), failed);
            assert_eq!(client.give_slowly(UNWRITABLE, beside), failed);
            let given = |which| Outcome::Executed((vec![0; beside as usize], Bomb(which)));
            assert_eq!(client.give(1, beside), given(1));
            assert_eq!(client.give_slowly(2, beside), given(2));
        }
    }
    nothing_is_held(&client);
}

#[test]
fn a_panic_of_the_clients_own_code_leaves_its_client_usable() {
    let (_server, client) = serve("own");
    for _ in 0..20 {
        for beside in SIZES {
            // As it unwinds out of a call, so from a call that was started.
            assert!(catch_unwind(AssertUnwindSafe(|| client.give(UNREADABLE, beside))).is_err());
            let started = client.start_give(UNREADABLE, beside).expect("sent");
            assert!(catch_unwind(AssertUnwindSafe(|| started.wait())).is_err());
            let beside = vec![0; beside as usize];
            let take = AssertUnwindSafe(|| client.take(Bomb(UNWRITABLE), &beside));
            assert!(catch_unwind(take).is_err());
            assert_eq!(client.take(Bomb(1), &beside), Outcome::Executed(1));
        }
    }
    nothing_is_held(&client);
}

#[test]
fn what_needs_a_format_that_describes_itself_does_not_travel() {
    let (_server, client) = serve("self-describing");
    let refused = Outcome::Refused(Reason::BadArguments);
    assert_eq!(client.take_untagged(Untagged::Number(1)), refused);
    assert_eq!(client.give_untagged(), Outcome::Unknown(UnknownReason::BadResults));
    assert_eq!(client.take_flattened(Flattened { inner: [("a".into(), 1)].into() }), refused);
    assert_eq!(client.give_flattened(), Outcome::Unknown(UnknownReason::Failed));
    assert_eq!(client.take(Bomb(1), &[]), Outcome::Executed(1));
}

/// What panics again when it is dropped, with another like it, so many times.
struct Chain(u8);

impl Drop for Chain {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::panic_any(Self(self.0 - 1));
        }
    }
}

/// Panics so when it is read; also when it is written, if it says so.
#[derive(Debug, PartialEq)]
struct Link(bool);

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 {
            std::panic::panic_any(Chain(2));
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        std::panic::panic_any(Chain(2))
    }
}

#[service(name = "chains", version = 1)]
trait Chains {
    fn throw(&self) -> u64;
    #[slow]
    fn throw_slowly(&self) -> u64;
    fn write(&self) -> Link;
    #[slow]
    fn write_slowly(&self) -> Link;
    fn read(&self, what: Link);
    #[slow]
    fn read_slowly(&self, what: Link);
    fn well(&self) -> u64;
    #[slow]
    fn well_slowly(&self) -> u64;
}

impl Chains for Depot {
    fn throw(&self) -> u64 {
        std::panic::panic_any(Chain(2))
    }

    fn throw_slowly(&self) -> u64 {
        self.throw()
    }

    fn write(&self) -> Link {
        Link(true)
    }

    fn write_slowly(&self) -> Link {
        Link(true)
    }

    fn read(&self, _: Link) {}

    fn read_slowly(&self, _: Link) {}

    fn well(&self) -> u64 {
        1
    }

    fn well_slowly(&self) -> u64 {
        2
    }
}

fn soon<M: Method>(call: Result<Pending<'_, M>, Reason>) -> Outcome<M::Output> {
    call.expect("sent").wait_timeout(Duration::from_secs(10))
}

#[test]
fn what_panics_again_when_it_is_dropped_ends_no_thread() {
    let address = address("chain");
    let server = Server::<ChainsService>::export(&address, Depot, server_options());
    let _running = server.expect("the name is free").spawn();
    let client = ChainsClient::bind(&address, bind_options()).expect("bound");
    for _ in 0..3 {
        let failed = UnknownReason::Failed;
        assert_eq!(soon(client.start_throw()), Outcome::Unknown(failed));
        assert_eq!(soon(client.start_throw_slowly()), Outcome::Unknown(failed));
        assert_eq!(soon(client.start_write()), Outcome::Unknown(failed));
        assert_eq!(soon(client.start_write_slowly()), Outcome::Unknown(failed));
        let refused = Outcome::Refused(Reason::BadArguments);
        assert_eq!(soon(client.start_read(Link(false))), refused);
        assert_eq!(soon(client.start_read_slowly(Link(false))), refused);
        assert_eq!(soon(client.start_well()), Outcome::Executed(1));
        assert_eq!(soon(client.start_well_slowly()), Outcome::Executed(2));
    }
}
