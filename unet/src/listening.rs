//! The listening half of an endpoint: names, and clients that have not been decided on.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use segment::control::{DecodeError, Kind, Listener, Received, Socket};
use segment::counters::Counter;
use segment::failpoint;
use segment::peer::Credentials;

use crate::endpoint::{Endpoint, Event};
use crate::handshake::{ChannelOptions, ListenOptions, Refusal};
use crate::incoming::Incoming;
use crate::readiness::{Readiness, Source};

/// How many clients may be between connecting and their first word, and how many may wait for the
/// application's decision.
const MAX_UNDECIDED: usize = 64;
/// How long a client may take for its first word.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long clients wait that found no descriptor left, unless another one comes.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted before other work gets its turn.
const BURST: usize = 16;

#[derive(Default)]
pub(crate) struct Listening {
    names: Vec<Name>,
    handshakes: Vec<Option<Handshake>>,
}

struct Name {
    listener: Listener,
    options: ListenOptions,
    /// Since when it is told of new clients only, and not of those that wait, for want of
    /// descriptors.
    paused: Option<Instant>,
}

struct Handshake {
    socket: Socket,
    credentials: Credentials,
    options: ChannelOptions,
    /// How many regions it may offer.
    regions: usize,
    since: Instant,
}

impl Listening {
    pub fn add(
        &mut self,
        listener: Listener,
        options: ListenOptions,
        readiness: &Readiness,
    ) -> Result<(), Errno> {
        readiness.watch(listener.as_fd(), Source::Listener(self.names.len() as u32))?;
        self.names.push(Name { listener, options, paused: None });
        Ok(())
    }

    /// How long the endpoint may sleep without looking after clients; `None` if there are none.
    pub fn patience(&self) -> Option<Duration> {
        if self.names.iter().any(|name| name.paused.is_some()) {
            return Some(PAUSE);
        }
        self.handshakes.iter().flatten().next().map(|_| PATIENCE)
    }

    fn undecided(&self) -> usize {
        self.handshakes.iter().flatten().count()
    }
}

impl Endpoint {
    pub(crate) fn accept_connections(&mut self, name: u32) {
        for _ in 0..BURST {
            let accepted = self.listening.names[name as usize].listener.accept();
            match accepted {
                Ok(Some(socket)) => {
                    self.resume(name);
                    self.begin_handshake(name, socket);
                }
                Ok(None) => return,
                Err(error) => {
                    // Most likely no descriptor is left. The clients stay in the backlog and are
                    // taken when one is, or when another client comes; looking at them all the time
                    // until then would keep this thread awake.
                    tracing::debug!(%error, "a connection could not be accepted");
                    self.counters.add(Counter::RefusedResources, 1);
                    self.pause(name);
                    return;
                }
            }
        }
    }

    fn pause(&mut self, index: u32) {
        let name = &mut self.listening.names[index as usize];
        // Once: to ask for changes tells at once of those that wait.
        if name.paused.replace(Instant::now()).is_none() {
            let source = Source::Listener(index);
            // It fails only if it is not watched, and it is from the first day to the last.
            let _ = self.readiness.watch_changes(name.listener.as_fd(), source, true);
        }
    }

    fn resume(&mut self, index: u32) {
        let name = &mut self.listening.names[index as usize];
        if name.paused.take().is_some() {
            let source = Source::Listener(index);
            // As above.
            let _ = self.readiness.watch_changes(name.listener.as_fd(), source, false);
        }
    }

    fn resume_names(&mut self) {
        for index in 0..self.listening.names.len() {
            let paused = self.listening.names[index].paused;
            if paused.is_some_and(|since| since.elapsed() >= PAUSE) {
                self.resume(index as u32);
            }
        }
    }

    fn begin_handshake(&mut self, name: u32, socket: Socket) {
        let Ok(credentials) = socket.credentials() else {
            self.counters.add(Counter::HandshakeFailed, 1);
            return;
        };
        let options = &self.listening.names[name as usize].options;
        if !options.policy.allows(credentials.uid) {
            return self.turn_away(&socket, Refusal::Policy, Counter::RefusedByPolicy);
        }
        let waiting =
            self.events.iter().filter(|event| matches!(event, Event::Incoming(_))).count();
        let undecided = self.listening.undecided() + waiting;
        if undecided >= MAX_UNDECIDED || !self.has_space(undecided) {
            return self.turn_away(&socket, Refusal::Busy, Counter::RefusedResources);
        }
        let vacant = self.listening.handshakes.iter().position(Option::is_none);
        let index = vacant.unwrap_or_else(|| {
            self.listening.handshakes.push(None);
            self.listening.handshakes.len() - 1
        });
        if self.readiness.watch(socket.as_fd(), Source::Handshake(index as u32)).is_err() {
            return self.turn_away(&socket, Refusal::Resources, Counter::RefusedResources);
        }
        let ListenOptions { channel, regions, .. } = &self.listening.names[name as usize].options;
        let (options, regions, since) = (channel.clone(), *regions, Instant::now());
        let handshake = Handshake { socket, credentials, options, regions, since };
        self.listening.handshakes[index] = Some(handshake);
        // The first word is often there already.
        self.continue_handshake(index as u32);
    }

    fn turn_away(&self, socket: &Socket, refusal: Refusal, counter: Counter) {
        self.counters.add(counter, 1);
        // If the client is gone there is nobody to tell.
        let _ = socket.send(&refusal.to_frame(), &[]);
    }

    pub(crate) fn continue_handshake(&mut self, index: u32) {
        let place = &mut self.listening.handshakes[index as usize];
        let Some(handshake) = place else { return };
        let received = handshake.socket.receive();
        if matches!(received, Received::Nothing) {
            return;
        }
        let Some(handshake) = place.take() else { return };
        self.readiness.forget(handshake.socket.as_fd());
        match received {
            Received::Frame(hello, descriptors) if hello.kind == Kind::Hello => {
                failpoint::hit("accept.2-hello-received");
                // Before they wait for a decision: each is a descriptor of this process.
                if descriptors.len().saturating_sub(1) > handshake.regions {
                    drop(descriptors);
                    let (refusal, counter) = (Refusal::Segment, Counter::RefusedSegment);
                    return self.turn_away(&handshake.socket, refusal, counter);
                }
                let Handshake { socket, credentials, options, .. } = handshake;
                let incoming = Incoming::new(socket, credentials, hello, descriptors, options);
                match incoming {
                    Some(incoming) => self.events.push_back(Event::Incoming(incoming)),
                    None => self.counters.add(Counter::HandshakeFailed, 1),
                }
            }
            Received::Malformed(DecodeError::Version(_)) => {
                self.turn_away(&handshake.socket, Refusal::Version, Counter::RefusedVersion);
            }
            Received::OutOfDescriptors => {
                self.turn_away(&handshake.socket, Refusal::Resources, Counter::RefusedResources);
            }
            _ => self.counters.add(Counter::HandshakeFailed, 1),
        }
    }

    /// Lets go of clients that say nothing, and listens again where it had paused.
    pub(crate) fn expire_handshakes(&mut self) {
        self.resume_names();
        for place in &mut self.listening.handshakes {
            let expired = place.as_ref().is_some_and(|waiting| waiting.since.elapsed() > PATIENCE);
            if expired && let Some(handshake) = place.take() {
                self.readiness.forget(handshake.socket.as_fd());
                self.counters.add(Counter::HandshakeFailed, 1);
            }
        }
    }
}
