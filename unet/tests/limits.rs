//! Every limit is a documented error with a name, and a channel that meets one goes on.

mod support;

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use segment::control::BindError;
use segment::memory::CreateError;
use support::role::{self, Role};
use support::{
    PATIENCE, WAITS, accept, address, connect_options, event, eventually, join, listen_options,
    listening, small,
};
use unet::{
    Address, AllocError, Channel, Class, CloseReason, ConnectError, ConnectOptions, Counter,
    Endpoint, EndpointError, EndpointOptions, Event, Geometry, ListenError, ListenOptions, Offer,
    Policy, Refusal, SendError, Snapshot, Wait,
};

/// A user that every system has, and that is not root.
const NOBODY: u32 = 65_534;

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

// ---------------------------------------------------------------------------------------------
// Names.

#[test]
fn a_name_that_is_taken_is_refused_and_free_again_afterwards() {
    let address = address("taken");
    let first = listening(&address, Wait::Park);
    let mut second = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let refused = second.listen(&address, ListenOptions::default());
    assert_eq!(refused, Err(ListenError::Bind(BindError::NameTaken)));
    drop(first);
    // Another test that starts a process has, for a moment, a copy of everything here.
    eventually("the name is free", || second.listen(&address, ListenOptions::default()).is_ok());
}

#[test]
fn a_name_that_nobody_has_is_refused_at_once() {
    let outcome = Channel::connect(&address("nobody"), connect_options(Wait::Park));
    assert_eq!(outcome.expect_err("nobody listens"), ConnectError::NobodyListens);
}

#[test]
fn a_client_may_be_ready_to_wait_for_ever() {
    let options = ConnectOptions { timeout: Duration::MAX, ..ConnectOptions::default() };
    let refused = Channel::connect(&address("for-ever"), options).map(drop);
    assert_eq!(refused, Err(ConnectError::NobodyListens));
}

#[test]
fn a_listener_that_does_not_answer_is_given_up_in_time() {
    let address = address("mute");
    let mut endpoint = listening(&address, Wait::Park);
    let mut options = connect_options(Wait::Park);
    options.timeout = Duration::from_millis(50);
    let outcome = Channel::connect(&address, options);
    assert_eq!(outcome.expect_err("nobody accepts"), ConnectError::TimedOut);
    // It finds the client gone.
    let Event::Incoming(incoming) = event(&mut endpoint) else { panic!("it had asked") };
    match endpoint.accept(incoming, b"") {
        Err(error) => {
            assert_eq!(error, unet::AcceptError::PeerGone);
            assert_eq!(endpoint.counters().get(Counter::HandshakeFailed), 1);
        }
        // A process that another test was just starting held the socket for a moment.
        Ok(_) => assert!(matches!(event(&mut endpoint), Event::Closed(..))),
    }
}

/// Listens at an address as whoever runs this, for everyone; serves one client.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_other_user() {
    let Some(arguments) = role::arguments() else { return };
    let address: Address = arguments[1].parse().expect("an address");
    let allowed: u32 = arguments[2].parse().expect("a user");
    let policy = Policy::Users(vec![allowed]);
    match arguments[0].as_str() {
        "listen" => {
            let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
            let options = ListenOptions { policy, ..listen_options() };
            endpoint.listen(&address, options).expect("the name is free");
            role::say("listening");
            loop {
                match event(&mut endpoint) {
                    Event::Incoming(incoming) => {
                        let uid = incoming.credentials().uid;
                        endpoint.accept(incoming, &uid.to_ne_bytes()).expect("accepted");
                    }
                    Event::Message(id, message) => {
                        let channel = endpoint.channel_mut(id).expect("it just spoke");
                        channel
                            .send(&message.to_vec().expect("nothing was revoked"))
                            .expect("the client is there");
                    }
                    Event::Closed(..) => {}
                    other => panic!("not to happen: {other:?}"),
                }
            }
        }
        _ => {
            let options = ConnectOptions { policy, ..connect_options(Wait::Park) };
            match Channel::connect(&address, options) {
                Ok(mut channel) => {
                    channel.send(b"from another user").expect("connected");
                    channel.recv().expect("it answers");
                    role::say("served");
                }
                Err(error) => role::say(&format!("{error:?}")),
            }
        }
    }
}

fn as_nobody(what: &str, address: &Address, allowed: u32) -> Role {
    let arguments = [what, &address.to_string(), &allowed.to_string()];
    role::start(role::command("role_other_user", &arguments).uid(NOBODY).gid(NOBODY))
}

/// What a process of another user is told, and tells. Only root can start one.
#[test]
fn processes_of_different_users_meet_only_where_both_policies_allow_it() {
    if own_uid() != 0 {
        // The refusals need no other user: this one is not among those that are allowed.
        eprintln!("NOT ROOT: no process of another user can be started, only refusals are tested");
        return refusals_without_another_user();
    }
    // A client of another user.
    for (policy, expected) in [
        (Policy::SameUser, "Refused(Policy)"),
        (Policy::Users(vec![0, 1]), "Refused(Policy)"),
        (Policy::Users(vec![NOBODY]), "served"),
        (Policy::AnyUser, "served"),
    ] {
        let address = support::address("users");
        let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
        let options = ListenOptions { policy: policy.clone(), ..listen_options() };
        endpoint.listen(&address, options).expect("the name is free");
        let mut client = as_nobody("connect", &address, 0);
        let mut said = None;
        eventually("the client is served or refused", || {
            match endpoint.recv_timeout(Duration::from_millis(1)) {
                Some(Event::Incoming(incoming)) => {
                    assert_eq!(incoming.credentials().uid, NOBODY, "{policy:?}");
                    endpoint.accept(incoming, b"").expect("accepted");
                }
                Some(Event::Message(id, message)) => {
                    let channel = endpoint.channel_mut(id).expect("it just spoke");
                    assert_eq!(channel.credentials().uid, NOBODY);
                    channel
                        .send(&message.to_vec().expect("nothing was revoked"))
                        .expect("it is there");
                }
                _ => {}
            }
            said = client.word_within(Duration::from_millis(1));
            said.is_some()
        });
        assert_eq!(said.as_deref(), Some(expected), "{policy:?}");
        let refused = u64::from(expected != "served");
        assert_eq!(endpoint.counters().get(Counter::RefusedByPolicy), refused, "{policy:?}");
        client.wait_success();
    }
    // Its own policy refuses us.
    let address = address("users");
    let mut endpoint = listening(&address, Wait::Park);
    let mut client = as_nobody("connect", &address, NOBODY);
    let mut said = None;
    eventually("the client has decided", || {
        let _ = endpoint.recv_timeout(Duration::from_millis(1));
        said = client.word_within(Duration::from_millis(1));
        said.is_some()
    });
    assert_eq!(said.as_deref(), Some("NameOfAnotherUser(0)"));
    client.wait_success();
    drop(endpoint);

    // A listener of another user.
    let address = support::address("users");
    let server = as_nobody("listen", &address, 0);
    server.expect("listening");
    let connect = |policy| {
        let options = ConnectOptions { policy, ..connect_options(Wait::Park) };
        Channel::connect(&address, options)
    };
    for policy in [Policy::SameUser, Policy::Users(vec![0, 1])] {
        let outcome = connect(policy).expect_err("it is another's name");
        assert_eq!(outcome, ConnectError::NameOfAnotherUser(NOBODY));
    }
    for policy in [Policy::Users(vec![NOBODY]), Policy::AnyUser] {
        let mut channel = connect(policy).expect("both allow it");
        assert_eq!(channel.private(), 0u32.to_ne_bytes(), "it saw who we are");
        assert_eq!(channel.credentials().uid, NOBODY);
        channel.send(b"hello").expect("connected");
        assert_eq!(channel.recv().expect("it answers").inline(), b"hello");
    }
    // Its name is refused by its name.
    let mut second = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let refused = second.listen(&address, ListenOptions::default());
    assert_eq!(refused, Err(ListenError::Bind(BindError::NameOfAnotherUser(NOBODY))));
}

fn refusals_without_another_user() {
    let address = address("users");
    let foreign = Policy::Users(vec![own_uid() + 1]);
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let options = ListenOptions { policy: foreign.clone(), ..listen_options() };
    endpoint.listen(&address, options).expect("the name is free");
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(&address, connect_options(Wait::Park)));
        eventually("it is refused", || {
            let _ = endpoint.recv_timeout(Duration::from_millis(1));
            endpoint.counters().get(Counter::RefusedByPolicy) == 1
        });
        let outcome = client.join().expect("no panic").expect_err("refused");
        assert_eq!(outcome, ConnectError::Refused(Refusal::Policy));
    });
    let options = ConnectOptions { policy: foreign, ..connect_options(Wait::Park) };
    let outcome = Channel::connect(&address, options).expect_err("it is another's name");
    assert_eq!(outcome, ConnectError::NameOfAnotherUser(own_uid()));
}

// ---------------------------------------------------------------------------------------------
// A channel that is full, or closed, or asked for too much.

#[test]
fn an_endpoint_that_closes_while_its_peer_sends_ends_the_sending() {
    for wait in WAITS {
        let address = address("closing");
        let mut endpoint = listening(&address, wait);
        let (id, mut client) = join(&mut endpoint, &address, wait);
        let (sent, reason) = std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let mut sent = 0;
                loop {
                    match client.send(b"on and on") {
                        Ok(()) => sent += 1,
                        Err(error) => break (sent, error),
                    }
                }
            });
            for _ in 0..100 {
                assert!(matches!(event(&mut endpoint), Event::Message(from, _) if from == id));
            }
            drop(endpoint);
            sender.join().expect("the sender does not panic")
        });
        assert_eq!(reason, SendError::Closed(CloseReason::PeerClosed), "{wait:?}");
        assert!(sent >= 100, "{wait:?}: {sent} were sent");
    }
}

#[test]
fn a_closed_channel_refuses_everything_and_counts_it() {
    let address = address("closed");
    let mut endpoint = listening(&address, Wait::Park);
    let (id, mut client) = join(&mut endpoint, &address, Wait::Park);
    endpoint.close(id);
    let closed = CloseReason::PeerClosed;
    assert_eq!(client.recv().expect_err("it is closed"), closed);
    assert_eq!(client.try_recv().expect_err("it is closed"), closed);
    assert_eq!(client.send(b"x"), Err(closed.into()));
    assert_eq!(client.send(&[0; 1000]), Err(closed.into()));
    let fbuf = client.alloc(10).expect("its buffers are its own").freeze();
    assert_eq!(client.send_fbuf(0, fbuf, b""), Err(closed.into()));
    assert_eq!(client.counters().get(Counter::Closed), 3);
    let (free, lent, total) = client.buffers();
    assert_eq!((free, lent), (total, 0));
}

#[test]
fn what_nobody_took_is_counted_as_lost() {
    let address = address("lost");
    let mut endpoint = listening(&address, Wait::Park);
    let (id, mut client) = join(&mut endpoint, &address, Wait::Park);
    for _ in 0..7 {
        client.send(b"in vain").expect("there is room");
    }
    endpoint.close(id);
    assert_eq!(endpoint.counters().get(Counter::LostAtClose), 7);
}

#[test]
fn a_full_queue_takes_nothing_and_says_so() {
    let address = address("full");
    let mut endpoint = listening(&address, Wait::Park);
    let (id, mut client) = join(&mut endpoint, &address, Wait::Park);
    for number in 0..16u64 {
        assert_eq!(client.try_send(&number.to_ne_bytes()), Ok(Offer::Taken));
    }
    for refused in 1..=3 {
        assert_eq!(client.try_send(b"no room"), Ok(Offer::Full(())));
        assert_eq!(client.counters().get(Counter::QueueFull), refused);
    }
    let late = client.send_timeout(b"no room", Duration::from_millis(5));
    assert_eq!(late, Err(SendError::TimedOut));
    let fbuf = client.alloc(10).expect("a buffer is free").freeze();
    match client.try_send_fbuf(0, fbuf, b"").expect("the channel is open") {
        Offer::Full(fbuf) => assert_eq!(fbuf.len(), 10, "it is given back"),
        Offer::Taken => panic!("there was no room"),
    }
    // Nothing was lost, nothing was taken twice.
    for number in 0..16u64 {
        match event(&mut endpoint) {
            Event::Message(from, message) => {
                assert_eq!((from, message.inline()), (id, &number.to_ne_bytes()[..]));
            }
            other => panic!("message {number} was sent: {other:?}"),
        }
    }
    assert!(endpoint.recv_timeout(Duration::from_millis(5)).is_none());
    assert_eq!(client.try_send(b"room again"), Ok(Offer::Taken));
}

#[test]
fn a_message_that_no_buffer_can_hold_is_refused_for_good() {
    let address = address("large");
    let mut endpoint = listening(&address, Wait::Park);
    let (_, mut client) = join(&mut endpoint, &address, Wait::Park);
    let refused = client.try_send(&[0; 65_537]);
    assert_eq!(refused, Err(SendError::TooLarge { len: 65_537, limit: 65_536 }));
    assert_eq!(client.send(&[0; 70_000]).err(), refused_as(70_000));
    let refused = client.alloc(65_537).expect_err("it is too large");
    assert_eq!(refused, AllocError::TooLarge { asked: 65_537, largest: 65_536 });
    assert_eq!(client.counters().get(Counter::TooLarge), 3);
    let fbuf = client.alloc(10).expect("a buffer is free").freeze();
    let refused = client.try_send_fbuf(0, fbuf, &[0; 41]).expect_err("41 do not fit beside it");
    assert_eq!(refused, SendError::TooLarge { len: 41, limit: 40 });
    assert_eq!(client.try_send(&[0; 65_536]), Ok(Offer::Taken), "the largest goes");
    let (free, lent, total) = client.buffers();
    assert_eq!((free, lent), (total - 1, 1));
}

fn refused_as(len: usize) -> Option<SendError> {
    Some(SendError::TooLarge { len, limit: 65_536 })
}

#[test]
fn a_channel_without_buffers_carries_what_fits_into_a_slot() {
    let address = address("poor");
    let mut endpoint = listening(&address, Wait::Park);
    let mut options = connect_options(Wait::Park);
    options.channel.geometry.classes = Default::default();
    let mut client = std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(&address, options));
        accept(&mut endpoint);
        client.join().expect("no panic").expect("connected")
    });
    assert_eq!(client.try_send(&[1; 56]), Ok(Offer::Taken));
    assert_eq!(client.try_send(&[1; 57]), Err(SendError::TooLarge { len: 57, limit: 56 }));
}

#[test]
fn a_long_message_finds_the_buffers_that_came_back() {
    let address = address("come-back");
    let mut endpoint = listening(&address, Wait::Park);
    let mut options = connect_options(Wait::Park);
    options.channel.geometry.classes = Default::default();
    options.channel.geometry.classes[0] = Class { buffer_bytes: 4096, buffers: 8 };
    let mut client = std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(&address, options));
        accept(&mut endpoint);
        client.join().expect("no panic").expect("connected")
    });
    // Half of the buffers are with the peer, and come back; who only sends takes no note of that.
    let half = client.message(0, 4 * 4096, |_| {}).expect("all are free");
    client.send_message(0, half, b"").expect("the peer is there");
    let Event::Message(_, delivery) = event(&mut endpoint) else { panic!("it was sent") };
    drop(delivery);
    let five = client.message(0, 5 * 4096, |_| {}).expect("they are back");
    assert_eq!((five.parts().len(), client.lent().0), (1, 0));
    assert_eq!(client.message(0, 5 * 4096, |_| {}).err(), Some(AllocError::Exhausted));
    assert_eq!(client.counters().get(Counter::NoBuffer), 1);
    let never = client.message(0, 9 * 4096, |_| {}).err();
    assert_eq!(never, Some(AllocError::TooLarge { asked: 9 * 4096, largest: 4096 }));
    assert_eq!(client.counters().get(Counter::TooLarge), 1);
}

#[test]
fn no_free_buffer_is_back_pressure_and_counted() {
    let address = address("dry");
    let mut endpoint = listening(&address, Wait::Park);
    let (id, mut client) = join(&mut endpoint, &address, Wait::Park);
    let held: Vec<_> = (0..2).map(|_| client.alloc(60_000).expect("one is free")).collect();
    assert_eq!(client.alloc(60_000).expect_err("none is free"), AllocError::Exhausted);
    assert_eq!(client.try_send(&[0; 60_000]), Ok(Offer::Full(())));
    assert_eq!(client.counters().get(Counter::NoBuffer), 2);
    let late = client.alloc_timeout(60_000, Duration::from_millis(5));
    assert!(matches!(late, Ok(None)), "{late:?}");
    drop(held);
    assert_eq!(client.try_send(&[0; 60_000]), Ok(Offer::Taken), "they are free again");
    // The receiver's buffer comes back when it is done with it.
    let Event::Message(from, message) = event(&mut endpoint) else { panic!("it was sent") };
    assert_eq!((from, message.len()), (id, 60_000));
    assert_eq!(client.buffers(), (9, 1, 10));
    drop(message);
    assert_eq!(client.buffers(), (10, 0, 10));
}

#[test]
fn a_buffer_of_another_channel_is_refused() {
    let address = address("foreign");
    let mut endpoint = listening(&address, Wait::Park);
    let (_, mut one) = join(&mut endpoint, &address, Wait::Park);
    let (_, mut other) = join(&mut endpoint, &address, Wait::Park);
    let fbuf = one.alloc(10).expect("a buffer is free").freeze();
    assert_eq!(other.try_send_fbuf(0, fbuf, b"").err(), Some(SendError::ForeignBuffer));
    assert_eq!((one.buffers(), other.buffers()), ((10, 0, 10), (10, 0, 10)));
}

// ---------------------------------------------------------------------------------------------
// Resources that run out, in a process of their own.

fn limit(resource: Resource, value: u64) {
    let hard = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: Some(value), maximum: hard }).expect("it may be lowered");
}

/// Allows this process so many more descriptors than it has.
fn leave_descriptors(left: u64) {
    // The limit is on the number, and what was inherited may leave gaps.
    let free = |number: &u64| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err();
    let limits = (0..).filter(free).nth(left as usize);
    limit(Resource::Nofile, limits.expect("there are many numbers"));
}

/// Lowers a limit and says what becomes of a connection, and of an endpoint.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_poor() {
    let Some(arguments) = role::arguments() else { return };
    let address: Address = arguments[1].parse().expect("an address");

    // Root starts it as another user, where the limit is not for root.
    let mut options = ConnectOptions { policy: Policy::AnyUser, ..connect_options(Wait::Park) };
    match arguments[0].as_str() {
        "memory" => {
            options.channel.geometry = Geometry::default();
            limit(Resource::As, 64 << 20);
        }
        "memlock" => {
            options.channel.locked = true;
            limit(Resource::Memlock, 16 << 10);
        }
        "huge" => options.channel.geometry.huge_pages = true,
        // A number of descriptors that are left.
        left => {
            let left: u64 = left.parse().expect("a number");
            leave_descriptors(left);
            role::say(&format!("{:?}", Endpoint::new(EndpointOptions::default()).err()));
        }
    }
    role::say(&format!("{:?}", Channel::connect(&address, options).err()));
}

/// What a poor process says, while an endpoint serves it.
fn poor(command: &mut std::process::Command, address: &Address, words: usize) -> Vec<String> {
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let options = ListenOptions { policy: Policy::AnyUser, ..listen_options() };
    endpoint.listen(address, options).expect("the name is free");
    let mut child = role::start(command);
    let mut said = Vec::new();
    eventually("it says what it found", || {
        if let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(Duration::from_millis(1)) {
            // It may have given up by now.
            let _ = endpoint.accept(incoming, b"");
        }
        said.extend(child.word_within(Duration::from_millis(1)));
        said.len() == words
    });
    child.wait_success();
    said
}

#[test]
fn a_process_without_memory_is_told_so() {
    let address = address("memory");
    let mut command = role::command("role_poor", &["memory", &address.to_string()]);
    // Its own threads shall not need much.
    command.env("RUST_MIN_STACK", "1048576");
    let said = poor(&mut command, &address, 1);
    assert_eq!(said, [format!("{:?}", Some(ConnectError::Create(CreateError::OutOfMemory)))]);
}

#[test]
fn a_process_without_descriptors_is_told_so_wherever_they_run_out() {
    let short = format!("{:?}", Some(ConnectError::Create(CreateError::OutOfDescriptors)));
    let no_endpoint = format!("{:?}", Some(EndpointError::Create(CreateError::OutOfDescriptors)));
    // A channel has four: the socket, a handle on the peer, its segment, and for a moment the peer's.
    for left in 0..=4 {
        let address = address("descriptors");
        let arguments = [left.to_string(), address.to_string()];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = poor(&mut role::command("role_poor", &arguments), &address, 2);
        let connected = if left < 4 { short.as_str() } else { "None" };
        let made = if left < 2 { no_endpoint.as_str() } else { "None" };
        assert_eq!(said, [made, connected], "{left} descriptors left");
    }
}

#[test]
fn a_process_that_may_not_lock_memory_is_told_so() {
    let address = address("memlock");
    let mut command = role::command("role_poor", &["memlock", &address.to_string()]);
    if own_uid() == 0 {
        // Root is above this limit.
        command.uid(NOBODY).gid(NOBODY);
    }
    let said = poor(&mut command, &address, 1);
    assert_eq!(said, [format!("{:?}", Some(ConnectError::Create(CreateError::MemoryLockLimit)))]);
}

#[test]
fn without_huge_pages_who_asks_for_them_is_told_so() {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free: u64 = free.map_or(0, |text| text.trim().parse().expect("a number"));
    let address = address("huge");
    let mut command = role::command("role_poor", &["huge", &address.to_string()]);
    let said = poor(&mut command, &address, 1);
    let expected = match free {
        0 => format!("{:?}", Some(ConnectError::Create(CreateError::NoHugePages))),
        // They are there, and work.
        _ => "None".to_owned(),
    };
    assert_eq!(said, [expected], "{free} huge pages are free");
}

#[test]
fn a_listener_without_descriptors_goes_on_and_serves_when_it_has_some() {
    let address = address("starved");
    let server = role::spawn("role_starved_server", &[&address.to_string()]);
    server.expect("listening");
    // Clients up to the limit are served; one more waits or is refused, and nobody is lost.
    let mut clients = Vec::new();
    let refused = loop {
        let mut options = connect_options(Wait::Park);
        options.timeout = Duration::from_millis(500);
        match Channel::connect(&address, options) {
            Ok(channel) => clients.push(channel),
            Err(error) => break error,
        }
        assert!(clients.len() < 100, "the limit was to be met");
    };
    let expected = [
        ConnectError::TimedOut,
        ConnectError::Refused(Refusal::Resources),
        ConnectError::Refused(Refusal::Busy),
    ];
    assert!(expected.contains(&refused), "{refused:?}");
    assert!(!clients.is_empty());
    // Clients that cannot be taken do not keep it awake: it looks at them ten times a second.
    let counted: u64 = Snapshot::pages_of(server.pid())
        .expect("it is this user's")
        .iter()
        .map(|page| Snapshot::read(page.as_fd()).expect("a page of counters"))
        .map(|page| page.get(Counter::RefusedResources))
        .sum();
    assert!(counted < 100, "it was kept awake: {counted} refusals");
    for client in &mut clients {
        client.send(b"still there?").expect("it is open");
        assert_eq!(client.recv().expect("it answers").inline(), b"still there?");
    }
    clients.truncate(1);
    eventually("there is space again", || {
        let mut options = connect_options(Wait::Park);
        options.timeout = Duration::from_millis(500);
        Channel::connect(&address, options).is_ok()
    });
}

/// A server without descriptors in an event loop of its own, until another thread frees some.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_starved_loop() {
    let Some(arguments) = role::arguments() else { return };
    let address: Address = arguments[0].parse().expect("an address");
    let mut endpoint = listening(&address, Wait::Park);
    let spare: Vec<_> = (0..8).map(|_| endpoint.as_fd().try_clone_to_owned()).collect();
    std::thread::spawn(move || {
        assert!(role::hear(), "the clients are there");
        drop(spare);
        role::say("freed");
    });
    leave_descriptors(0);
    role::say("listening");
    loop {
        while let Some(event) = endpoint.try_recv() {
            if let Event::Incoming(incoming) = event {
                let _ = endpoint.accept(incoming, b"");
            }
        }
        if endpoint.arm() {
            let mut fds = [PollFd::new(&endpoint, PollFlags::IN)];
            poll(&mut fds, None).expect("it waits");
        }
    }
}

#[test]
fn a_listener_in_an_event_loop_goes_on_when_descriptors_are_free_again() {
    let address = address("starved-loop");
    let mut server = role::spawn("role_starved_loop", &[&address.to_string()]);
    server.expect("listening");
    let connect = |timeout| {
        let mut options = connect_options(Wait::Park);
        options.timeout = timeout;
        Channel::connect(&address, options).map(drop)
    };
    assert_eq!(connect(Duration::from_millis(300)), Err(ConnectError::TimedOut));
    server.tell();
    server.expect("freed");
    assert_eq!(connect(PATIENCE), Ok(()));
}

/// An echo server with few descriptors.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_starved_server() {
    let Some(arguments) = role::arguments() else { return };
    let address: Address = arguments[0].parse().expect("an address");
    let mut endpoint = listening(&address, Wait::Park);
    leave_descriptors(18);
    role::say("listening");
    loop {
        match event(&mut endpoint) {
            // Whether it works is what the clients see.
            Event::Incoming(incoming) => drop(endpoint.accept(incoming, b"")),
            Event::Message(id, message) => {
                let channel = endpoint.channel_mut(id).expect("it just spoke");
                channel
                    .send(&message.to_vec().expect("nothing was revoked"))
                    .expect("the client is there");
            }
            Event::Closed(..) => {}
            other => panic!("not to happen: {other:?}"),
        }
    }
}

// ---------------------------------------------------------------------------------------------
// What can be seen, and what it costs.

/// Connects, lets a send be refused, and waits to be killed.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_counted() {
    let Some(arguments) = role::arguments() else { return };
    let address: Address = arguments[0].parse().expect("an address");
    let mut channel = Channel::connect(&address, connect_options(Wait::Park)).expect("connected");
    while channel.try_send(b"x").expect("it is open") == Offer::Taken {}
    assert!(channel.send(&[0; 100_000]).is_err());
    role::say("counted");
    std::thread::sleep(PATIENCE);
}

#[test]
fn the_counters_of_a_process_can_be_read_when_it_has_crashed() {
    let address = address("counted");
    let mut endpoint = listening(&address, Wait::Park);
    let mut child = role::spawn("role_counted", &[&address.to_string()]);
    accept(&mut endpoint);
    child.expect("counted");
    let pages = Snapshot::pages_of(child.pid()).expect("it is this user's");
    child.signal(Signal::KILL);
    child.wait_killed();
    assert!(Snapshot::pages_of(child.pid()).is_err(), "it is gone");
    let snapshots: Vec<Snapshot> =
        pages.iter().filter_map(|page| Snapshot::read(page.as_fd()).ok()).collect();
    let own = snapshots.iter().find(|page| page.get(Counter::OwnPid) == u64::from(child.pid()));
    let own = own.expect("its channel's page is among them");
    assert!(own.of_channel);
    assert_eq!(own.get(Counter::QueueFull), 1);
    assert_eq!(own.get(Counter::TooLarge), 1);
    assert_eq!(own.get(Counter::PeerPid), u64::from(std::process::id()));
    assert_eq!(own.get(Counter::PeerUid), u64::from(own_uid()));
}

#[test]
fn what_is_no_page_of_counters_is_refused() {
    let file = std::fs::File::open(std::env::current_exe().expect("a path")).expect("readable");
    let kind = Snapshot::read(file.as_fd()).expect_err("it is none").kind();
    assert_eq!(kind, std::io::ErrorKind::InvalidData);
}

fn resident(channel: &Channel) -> u64 {
    // Blocks of 512 bytes that the kernel has allocated for the memfd.
    rustix::fs::fstat(channel.segment()).expect("it is open").st_blocks as u64 * 512
}

#[test]
fn an_idle_channel_costs_no_more_than_64_kib() {
    let address = address("idle");
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    // The default layout, with buffers of up to 4 MiB.
    endpoint.listen(&address, ListenOptions::default()).expect("the name is free");
    let (id, client) = std::thread::scope(|scope| {
        let client =
            scope.spawn(|| Channel::connect(&address, ConnectOptions::default()).expect("open"));
        let id = accept(&mut endpoint);
        (id, client.join().expect("no panic"))
    });
    let server = endpoint.channel_mut(id).expect("it is open");
    let (near, far) = (resident(&client), resident(server));
    assert!(near > 0 && far > 0, "the measure works");
    assert!(near + far <= 64 << 10, "{near} and {far} bytes");
}

#[test]
fn an_endpoint_holds_a_thousand_channels_and_each_is_heard() {
    let many = 1000;
    // On this side three descriptors a channel, on the clients' in the same process three more.
    let needed = many * 6 + 200;
    let rlimit = getrlimit(Resource::Nofile);
    if rlimit.maximum.is_some_and(|hard| hard < needed) {
        panic!("this test needs {needed} descriptors: raise the hard limit (ulimit -Hn)");
    }
    limit(Resource::Nofile, rlimit.current.unwrap_or(needed).max(needed));
    let address = address("many");
    let options = EndpointOptions { wait: Wait::Adaptive, ..EndpointOptions::default() };
    let mut endpoint = Endpoint::new(options).expect("an endpoint");
    let mut tiny = small();
    tiny.classes = Default::default();
    let mut listen = listen_options();
    listen.channel.geometry = tiny;
    endpoint.listen(&address, listen).expect("the name is free");
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            let mut options = connect_options(Wait::Park);
            options.channel.geometry = tiny;
            let connect = |_| Channel::connect(&address, options.clone()).expect("connected");
            let mut clients: Vec<Channel> = (0..many).map(connect).collect();
            // Backwards, so that no order is the same by chance.
            for (number, client) in clients.iter_mut().enumerate().rev() {
                client.send(&number.to_ne_bytes()).expect("it is open");
            }
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.recv().expect("it answers").inline(), number.to_ne_bytes());
            }
        });
        let mut heard = std::collections::HashSet::new();
        let mut closed = 0;
        while closed < many {
            match event(&mut endpoint) {
                Event::Incoming(incoming) => drop(endpoint.accept(incoming, b"").expect("space")),
                Event::Message(id, message) => {
                    assert!(heard.insert(id), "each says one thing");
                    let channel = endpoint.channel_mut(id).expect("it just spoke");
                    channel.send(message.inline()).expect("it is open");
                }
                Event::Closed(_, reason) => {
                    assert_eq!(reason, CloseReason::PeerClosed);
                    closed += 1;
                }
                other => panic!("not to happen: {other:?}"),
            }
        }
        assert_eq!(heard.len() as u64, many);
        clients.join().expect("the clients do not panic");
    });
    assert_eq!(endpoint.channels(), 0);
}
