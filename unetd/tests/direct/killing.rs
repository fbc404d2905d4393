//! Clients that are killed at any time: what they had is free again, each time.

use rustix::process::Signal;

use super::*;

/// A generator of numbers (xorshift), so that a run can be repeated.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn a_client_killed_at_any_time_leaves_queue_and_port_free() {
    let (_ours, _theirs) = joined(1);
    let agency = Agency::start();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    // How long one takes until it has the queue.
    let begun = Instant::now();
    echo(0, 0, 7000).expect("ready");
    let whole = begun.elapsed().as_micros() as u64;
    agency.until_free();
    for round in 0..50 {
        let mut client = echo(0, 0, 7000);
        // From before it has connected until a while after it has the queue.
        std::thread::sleep(Duration::from_micros(numbers.below(whole * 5 / 4)));
        client.signal(Signal::KILL);
        client.wait_killed();
        let free = ask(NAME, "va", Some(0), &options(7000));
        let device = free.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!((device.binding().queue, device.port()), (0, 7000));
    }
    agency.until_free();
    agency.with(|service| {
        let counts = service.counts();
        assert_eq!(counts.granted, counts.released);
        // One that was waited for, and one of this process a round: of the killed ones, some.
        let killed = counts.granted - 51;
        assert!((1..50).contains(&killed), "{killed} of 50 had the queue when they were killed");
    });
}

#[test]
fn a_queue_whose_socket_outlives_the_connection_is_refused_until_it_is_closed() {
    let (_ours, _theirs) = joined(1);
    let agency = Agency::start();
    let (socket, bound) = hostility::granted(7000);
    drop(socket);
    agency.until_free();
    let busy = ask(NAME, "va", Some(0), &options(7000)).expect_err("its socket is still bound");
    assert!(matches!(busy, OpenError::Busy(_)));
    drop(bound);
    ask(NAME, "va", Some(0), &options(7000)).expect("it is free");
}
