//! How a client comes by a channel, and by another one when that has ended.

use std::net::IpAddr;

use unet::{Address, AttemptId, ChannelId, ConnectError, ConnectOptions, Endpoint, NetworkAddress};

/// The first time to wait before trying again, and the longest, in nanoseconds.
const SHORTEST: u64 = 1_000_000;
const LONGEST: u64 = 1_000_000_000;

/// Where a service may be, and how it stands with going there.
#[derive(Debug)]
pub(super) struct Binding {
    /// In the order in which they are tried.
    addresses: Vec<Address>,
    options: ConnectOptions,
    turn: usize,
    pub channel: Option<ChannelId>,
    attempt: Option<AttemptId>,
    /// When to try again.
    due: u64,
    /// In vain, one after the other.
    failures: u32,
    /// Addresses, one after the other, that gave no session.
    vain: usize,
    pub error: Option<ConnectError>,
    chance: u64,
}

impl Binding {
    /// The service is at any of these addresses: those of this host first. Names of hosts are looked up here,
    /// which may take its time; what has no address then is left away.
    pub fn new(addresses: &[Address], options: ConnectOptions, chance: u64) -> Self {
        let mut addresses: Vec<Address> = addresses.iter().flat_map(resolved).collect();
        addresses.sort_by_key(|address| !matches!(address, Address::Shm(_)));
        Self {
            error: addresses.is_empty().then_some(ConnectError::UnknownHost),
            addresses,
            options,
            turn: 0,
            channel: None,
            attempt: None,
            due: 0,
            failures: 0,
            vain: 0,
            chance: chance | 1,
        }
    }

    /// When there is something to do; the end of time if there is nothing.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        if self.channel.is_some() || self.attempt.is_some() { u64::MAX } else { self.due }
    }

    /// Begins to connect if it is time.
    pub fn advance(&mut self, now: u64, endpoint: &mut Endpoint) {
        if now < self.next() {
            return;
        }
        let Some(address) = self.addresses.get(self.turn % self.addresses.len().max(1)) else {
            return self.due = u64::MAX;
        };
        match endpoint.begin_connect(address, self.options.clone()) {
            Ok(attempt) => self.attempt = Some(attempt),
            Err(error) => self.failed(now, error),
        }
    }

    /// An attempt has succeeded. `false` if nobody waits for it any more.
    pub fn connected(&mut self, attempt: AttemptId, channel: ChannelId) -> bool {
        let is_ours = self.attempt == Some(attempt);
        if is_ours {
            (self.attempt, self.error) = (None, None);
            self.channel = Some(channel);
        }
        is_ours
    }

    /// An attempt has failed: another address, and later. Once all have failed, later still.
    pub fn failed(&mut self, now: u64, error: ConnectError) {
        (self.attempt, self.error) = (None, Some(error));
        self.vain += 1;
        self.turn = (self.turn + 1) % self.addresses.len().max(1);
        self.due = if self.turn == 0 { now.saturating_add(self.pause()) } else { now };
    }

    /// The channel has ended: at once to where it led, then elsewhere.
    pub fn ended(&mut self, now: u64) {
        self.channel = None;
        self.due = now.saturating_add(self.pause_again());
    }

    /// No session comes by this address: another one at that time. Its channel, if it has one and there is another
    /// address, is to be closed.
    pub fn turn_away(&mut self, due: u64) -> Option<ChannelId> {
        // While there is no channel, the attempt to make one tells.
        self.channel?;
        self.vain += 1;
        if self.addresses.len() < 2 {
            return None;
        }
        let channel = self.channel.take()?;
        self.turn = (self.turn + 1) % self.addresses.len();
        self.due = due;
        Some(channel)
    }

    /// As [`Binding::pause`], but none after the first failure.
    pub fn pause_again(&mut self) -> u64 {
        if self.failures > 0 {
            return self.pause();
        }
        self.failures = 1;
        0
    }

    /// All is well: the next failure is the first one.
    #[inline(always)]
    pub fn succeeded(&mut self) {
        (self.failures, self.vain) = (0, 0);
    }

    /// How long to wait after another failure: twice as long each time, and anything from half of that on, so
    /// that those who failed together do not come back together.
    pub fn pause(&mut self) -> u64 {
        let longest = SHORTEST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        longest / 2 + (self.chance >> 16) % (longest / 2)
    }

    /// Whether no address gave a session, each of which was tried since one did.
    pub fn is_in_vain(&self) -> bool {
        self.vain >= self.addresses.len()
    }
}

/// The addresses that an address means.
fn resolved(address: &Address) -> Vec<Address> {
    let Address::Network(network) = address else { return vec![address.clone()] };
    if network.via().is_some() || network.host.parse::<IpAddr>().is_ok() {
        return vec![address.clone()];
    }
    let at = |found: std::net::SocketAddr| {
        let host = found.ip().to_string();
        Address::Network(NetworkAddress { host, port: found.port(), ..network.clone() })
    };
    network.resolve().into_iter().flatten().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(addresses: &[&str]) -> Binding {
        let addresses: Vec<Address> =
            addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Binding::new(&addresses, ConnectOptions::default(), 7)
    }

    #[test]
    fn this_host_comes_first_and_every_address_has_its_turn() {
        let mut it = binding(&["udp:127.0.0.1:9", "shm:here"]);
        assert!(matches!(it.addresses[..], [Address::Shm(_), Address::Network(_)]));
        it.failed(5, ConnectError::NobodyListens);
        assert_eq!((it.next(), it.turn, it.is_in_vain()), (5, 1, false));
        it.failed(5, ConnectError::NobodyListens);
        assert!(it.next() > 5 && it.turn == 0 && it.is_in_vain());
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_differ() {
        let mut it = binding(&["shm:here"]);
        let pauses: Vec<u64> = (0..14).map(|_| it.pause()).collect();
        for (at, pause) in pauses.iter().enumerate() {
            let longest = (SHORTEST << at).min(LONGEST);
            assert!((longest / 2..longest).contains(pause), "{pauses:?}");
        }
        it.succeeded();
        assert!(it.pause() < SHORTEST);
        assert_ne!(
            binding(&["shm:a"]).pause(),
            Binding { chance: 99, ..binding(&["shm:a"]) }.pause()
        );
    }
}
