//! What is of channels only: how a session comes about, what is no call, and what bulk costs.

use std::sync::Arc;
use std::time::Duration;

use lrpc::Interface;
use rpc_fastpath::endpoint::{
    self, Connection, ConnectionOptions, Doubt, Failure, How, OpenError, Refusal, Rejection,
    SessionEnd,
};
use rpc_fastpath::service::{
    Caller, Outcome, Reason, Remote, RemoteServer, Running, UnknownReason, id_of, service,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unet::Address;

use crate::carrying::{
    Carrier, Channels, LARGEST, LOSSY, SHM, SIM, Scene, UDP, of_client, of_server,
};
use crate::service::{EverywhereClient, EverywhereService, Handler, Seen, until};

pub mod version {
    #[rpc_fastpath::service::service(name = "everywhere", version = 2)]
    pub trait Everywhere {
        fn double(&self, number: u64) -> u64;
    }
}
mod layout {
    #[rpc_fastpath::service::service(name = "everywhere", version = 1)]
    pub trait Everywhere {
        fn double(&self, number: u64) -> u64;
    }
}
mod name {
    #[rpc_fastpath::service::service(name = "elsewhere", version = 1)]
    pub trait Everywhere {
        fn double(&self, number: u64) -> u64;
    }
}

fn serve(address: &Address) -> Running {
    let handler = Handler::new(&Arc::new(Seen::default()));
    Channels("").try_serve(address, handler).expect("a free name")
}

#[test]
fn a_client_of_another_service_is_told_what_differs() {
    fn refused<S: rpc_fastpath::service::Service>(address: &Address) -> OpenError {
        Remote::<S>::open(std::slice::from_ref(address), of_client()).expect_err("another service")
    }
    for form in [SHM, UDP, SIM, LOSSY] {
        let address = Channels(form).address();
        let _running = serve(&address);
        let told = |why| OpenError::Session(SessionEnd::Rejected(why));
        let error = refused::<version::EverywhereService>(&address);
        assert_eq!(error, told(Rejection::ServiceVersion), "{form}");
        let error = refused::<layout::EverywhereService>(&address);
        assert_eq!(error, told(Rejection::Layout), "{form}");
        let error = refused::<name::EverywhereService>(&address);
        assert_eq!(error, told(Rejection::Service), "{form}");
        let client = EverywhereClient::new(Channels(form).try_connect(&address).expect("a server"));
        assert_eq!(client.double(1), Outcome::Executed(2));
    }
    assert_eq!(id_of::<EverywhereService>().version, EverywhereService::VERSION);
}

#[test]
fn the_first_address_that_gives_a_session_is_taken() {
    let [nobody, other, right] = [SHM, SHM, UDP].map(|form| Channels(form).address());
    struct Twice;
    impl version::Everywhere for Twice {
        fn double(&self, number: u64) -> u64 {
            number * 2
        }
    }
    let addresses = std::slice::from_ref(&other);
    let of_another =
        RemoteServer::<version::EverywhereService>::listen(addresses, Twice, of_server());
    let _other = of_another.expect("a free name").spawn();
    let running = serve(&right);
    let all = [nobody.clone(), other.clone(), right.clone()];
    let remote = Remote::<EverywhereService>::open(&all, of_client()).expect("the third");
    let client = EverywhereClient::new(remote);
    assert_eq!(client.double(1), Outcome::Executed(2));
    drop((client, running));
    // Of those that are left, one says why.
    let error = Remote::<EverywhereService>::open(&[nobody.clone(), other], of_client());
    let told = OpenError::Session(SessionEnd::Rejected(Rejection::ServiceVersion));
    assert_eq!(error.expect_err("of another version"), told);
    let error = Remote::<EverywhereService>::open(&[nobody], of_client()).expect_err("nobody");
    assert!(matches!(error, OpenError::Connect(_)), "{error:?}");
    let error = Remote::<EverywhereService>::open(&[], of_client()).expect_err("nowhere");
    assert!(matches!(error, OpenError::Connect(_)), "{error:?}");
}

#[test]
fn what_is_called_before_there_is_a_server_waits_for_it() {
    let address = Channels(SHM).address();
    let addresses = [address.clone()];
    let remote = Remote::<EverywhereService>::begin(&addresses, of_client()).expect("a connection");
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        serve(&address)
    });
    let client = EverywhereClient::new(remote);
    assert_eq!(client.double(1), Outcome::Executed(2));
    drop(late.join().expect("no panic"));
    let mut options = of_client();
    options.connection.timers.patience = 100_000_000;
    let nobody = [Channels(SHM).address()];
    let client = EverywhereClient::new(Remote::begin(&nobody, options).expect("a connection"));
    assert_eq!(client.double(1), Outcome::Refused(Reason::NoSession));
    // Nothing is in doubt, so that an idempotent call is not repeated either.
    assert_eq!(client.look(1), Outcome::Refused(Reason::NoSession));
}

#[test]
fn what_is_no_call_is_refused() {
    let address = Channels(SHM).address();
    let _running = serve(&address);
    let service = id_of::<EverywhereService>();
    let options = ConnectionOptions { service, ..ConnectionOptions::default() };
    let mut connection = Connection::open(&address, options).expect("a session");
    let methods = <EverywhereService as rpc_fastpath::service::Service>::METHODS;
    let number = |name: &str| {
        methods.iter().position(|method| method.name == name).expect("it is there") as u16
    };
    let unknown = methods.len() as u16;
    let invalid = endpoint::Outcome::Refused(Refusal::InvalidArguments);
    let slow = "\u{10}".repeat(9);
    for (method, bytes, expected) in [
        (unknown, &b""[..], endpoint::Outcome::Refused(Refusal::UnknownMethod)),
        (u16::MAX, b"", endpoint::Outcome::Refused(Refusal::UnknownMethod)),
        (number("double"), b"7 bytes", invalid.clone()),
        (number("double"), b"nine byte", invalid.clone()),
        (number("find"), b"\x05four", invalid.clone()),
        (number("find"), b"\x02\xff\xfe", invalid.clone()),
        (number("slowly"), slow.as_bytes(), invalid.clone()),
        // The head's length is missing, or says too much.
        (number("sum"), b"", invalid.clone()),
        (number("sum"), b"\x03key\x05\0\0\0", invalid.clone()),
        (number("sum"), b"\xff\xff\xff\xff", invalid.clone()),
        (
            number("sum"),
            b"\x01\x03key\x04\0\0\0",
            endpoint::Outcome::Executed(4u64.to_le_bytes().into()),
        ),
    ] {
        assert_eq!(connection.call(method, bytes, How::default()), expected, "{method} {bytes:?}");
    }
    let how = How { max_reply: 10, ..How::default() };
    let zeros = connection.call(number("zeros"), &100u32.to_le_bytes(), how);
    assert_eq!(zeros, endpoint::Outcome::Failed(Failure::ReplyTooLarge));
}

#[test]
fn reasons_have_the_same_words_everywhere() {
    for why in Refusal::ALL {
        // None of them is taken for another one's.
        let same = Refusal::ALL.iter().filter(|other| Reason::from(**other) == Reason::from(*why));
        assert_eq!(same.count(), 1, "{why:?}");
    }
    for doubt in [Doubt::NoAnswer, Doubt::DeadlinePassed, Doubt::SessionLost] {
        assert_ne!(UnknownReason::from(doubt), UnknownReason::Failed);
    }
    let too_large = UnknownReason::from(Failure::ReplyTooLarge);
    assert_eq!(too_large, UnknownReason::ResultsTooLarge);
}

#[test]
fn long_bulk_stays_in_its_buffers_where_it_can() {
    for (form, sizes) in
        [(SHM, [60_000, 1 << 20, 4 << 20, 9 << 20]), (UDP, [1_000, 60_000, 1 << 20, 9 << 20])]
    {
        let (address, seen) = (Channels(form).address(), Arc::new(Seen::default()));
        let addresses = [address];
        let mut options = of_server();
        options.service.limits.max_message = 16 << 20;
        let server =
            RemoteServer::<EverywhereService>::listen(&addresses, Handler::new(&seen), options);
        let _running = server.expect("a free name").spawn();
        let mut options = of_client();
        options.connection.limits.max_message = 16 << 20;
        let client = EverywhereClient::new(Remote::open(&addresses, options).expect("a session"));
        for len in sizes {
            let mut buffer = client.caller().alloc(len).expect("a buffer");
            buffer.fill(3);
            let outcome = client.sum("key", buffer.freeze().into());
            assert_eq!(outcome, Outcome::Executed(3 + 3 * len as u64), "{form}");
            let made = client.make(len as u32, 5).executed().expect("executed").expect("made");
            let is_lent = made.parts().iter().all(|part| matches!(part, fbufs::Part::Peer(_)));
            // More than one packet of the channel is put together.
            assert_eq!(is_lent, form == SHM && len < 4 << 20, "{form} {len}");
            assert!(made.to_vec().expect("it was not revoked") == vec![5; len], "{form} {len}");
        }
        // Nobody holds anything, so there is always another one.
        for _ in 0..50 {
            let made = client.make(1 << 20, 5).executed().expect("executed").expect("made");
            assert_eq!(made.len(), 1 << 20);
        }
    }
}

#[test]
fn an_epoch_that_is_over_is_told_and_the_next_call_is_of_the_new_one() {
    let address = Channels(SHM).address();
    let addresses = [address];
    let seen = Arc::new(Seen::default());
    let mut server =
        RemoteServer::<EverywhereService>::listen(&addresses, Handler::new(&seen), of_server())
            .expect("a free name");
    let client = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let client = Remote::open(&addresses, of_client()).expect("a session");
            EverywhereClient::new(client)
        });
        server.serve_until(|| client.is_finished());
        client.join().expect("no panic")
    });
    server.enter_epoch(2);
    let outcomes = std::thread::scope(|scope| {
        let calls = scope.spawn(move || [client.double(1), client.double(2)]);
        server.serve_until(|| calls.is_finished());
        calls.join().expect("no panic")
    });
    assert_eq!(outcomes, [Outcome::Refused(Reason::WrongEpoch), Outcome::Executed(4)]);
}

/// Not to be read with this in it.
const UNREADABLE: u8 = 13;
/// Not to be written with this in it.
const UNWRITABLE: u8 = 14;
/// Its `Serialize` refuses.
const REFUSED: u8 = 15;

#[derive(Debug, PartialEq)]
struct Bomb(u8);

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, UNWRITABLE, "of the test");
        if self.0 == REFUSED {
            return Err(serde::ser::Error::custom("of the test"));
        }
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

#[service(name = "bombs", version = 1)]
trait Bombs {
    fn take(&self, bomb: Bomb) -> u8;
    fn give(&self, number: u8) -> Bomb;
    #[slow]
    fn give_slowly(&self, number: u8) -> Bomb;
}

struct Hands;

impl Bombs for Hands {
    fn take(&self, bomb: Bomb) -> u8 {
        bomb.0
    }

    fn give(&self, number: u8) -> Bomb {
        Bomb(number)
    }

    fn give_slowly(&self, number: u8) -> Bomb {
        Bomb(number)
    }
}

#[test]
fn code_of_the_author_that_panics_harms_nobody_else() {
    let addresses = [Channels(SHM).address()];
    let server = RemoteServer::<BombsService>::listen(&addresses, Hands, of_server());
    let _running = server.expect("a free name").spawn();
    let client = BombsClient::new(Remote::open(&addresses, of_client()).expect("a session"));
    let panics = |run: &dyn Fn()| {
        let run = std::panic::AssertUnwindSafe(run);
        assert!(std::panic::catch_unwind(run).is_err());
        assert_eq!(client.take(Bomb(1)), Outcome::Executed(1));
    };
    for _ in 0..3 {
        // At the server, where it is read; and written.
        assert_eq!(client.take(Bomb(UNREADABLE)), Outcome::Refused(Reason::BadArguments));
        let failed = Outcome::Unknown(UnknownReason::Failed);
        assert_eq!(client.give(UNWRITABLE), failed);
        assert_eq!(client.give(REFUSED), failed);
        assert_eq!(client.give_slowly(UNWRITABLE), failed);
        // Here.
        panics(&|| assert!(client.take(Bomb(UNWRITABLE)).executed().is_err()));
        panics(&|| drop(client.give(UNREADABLE)));
        assert_eq!(client.take(Bomb(REFUSED)), Outcome::Refused(Reason::BadArguments));
        assert_eq!(client.give(7), Outcome::Executed(Bomb(7)));
    }
    assert_eq!(client.caller().under_way(), 0);
}

#[test]
fn clients_that_come_and_go_leave_nothing() {
    let Scene { client, running: _running, .. } = Channels(SHM).scene();
    drop(client.start_zeros(LARGEST as u32 / 2).expect("sent"));
    drop(client.start_double(1).expect("sent"));
    for by in 0..500 {
        // What is one-way or abandoned ends without being asked for.
        let sent = client.count(by);
        assert!(matches!(sent, Ok(()) | Err(Reason::Overloaded)), "{sent:?}");
    }
    until("all have ended", || {
        client.caller().progress();
        client.caller().under_way() == 0
    });
}
