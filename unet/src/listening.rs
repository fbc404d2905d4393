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
use crate::mediated::Introduction;
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
    names: Vec<Option<Name>>,
    handshakes: Vec<Option<Handshake>>,
}

struct Name {
    name: String,
    /// Whether an agent introduces the clients that ask here.
    introduces: bool,
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
    introduces: bool,
    since: Instant,
}

impl Listening {
    pub fn add(
        &mut self,
        listener: Listener,
        (name, introduces): (String, bool),
        options: ListenOptions,
        readiness: &Readiness,
    ) -> Result<(), Errno> {
        let vacant = self.names.iter().position(Option::is_none);
        let index = vacant.unwrap_or(self.names.len());
        readiness.watch(listener.as_fd(), Source::Listener(index as u32))?;
        let name = Name { name, introduces, listener, options, paused: None };
        match vacant {
            Some(place) => self.names[place] = Some(name),
            None => self.names.push(Some(name)),
        }
        Ok(())
    }

    /// Frees a name. `false` if there is no such.
    pub fn remove(&mut self, name: &str, readiness: &Readiness) -> bool {
        let is_it = |place: &&mut Option<Name>| place.as_ref().is_some_and(|it| it.name == name);
        let Some(found) = self.names.iter_mut().find(is_it).and_then(Option::take) else {
            return false;
        };
        readiness.forget(found.listener.as_fd());
        true
    }

    fn name(&mut self, index: u32) -> Option<&mut Name> {
        self.names.get_mut(index as usize)?.as_mut()
    }

    /// How long the endpoint may sleep without looking after clients; `None` if there are none.
    pub fn patience(&self) -> Option<Duration> {
        if self.names.iter().flatten().any(|name| name.paused.is_some()) {
            return Some(PAUSE);
        }
        self.handshakes.iter().flatten().next().map(|_| PATIENCE)
    }

    fn undecided_of(&self, uid: u32) -> usize {
        self.handshakes.iter().flatten().filter(|other| other.credentials.uid == uid).count()
    }

    fn undecided(&self) -> usize {
        self.handshakes.iter().flatten().count()
    }
}

impl Endpoint {
    pub(crate) fn accept_connections(&mut self, name: u32) {
        for _ in 0..BURST {
            let Some(listening) = self.listening.name(name) else { return };
            let accepted = listening.listener.accept();
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
        let Some(name) = self.listening.name(index) else { return };
        // Once: to ask for changes tells at once of those that wait.
        if name.paused.replace(Instant::now()).is_none() {
            let source = Source::Listener(index);
            // It fails only if it is not watched, and it is from the first day to the last.
            let _ = self.readiness.watch_changes(name.listener.as_fd(), source, true);
        }
    }

    fn resume(&mut self, index: u32) {
        let Some(name) = self.listening.name(index) else { return };
        if name.paused.take().is_some() {
            let source = Source::Listener(index);
            // As above.
            let _ = self.readiness.watch_changes(name.listener.as_fd(), source, false);
        }
    }

    fn resume_names(&mut self) {
        for index in 0..self.listening.names.len() {
            let paused = self.listening.name(index as u32).and_then(|name| name.paused);
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
        let Some(listening) = self.listening.name(name) else { return };
        let introduces = listening.introduces;
        let ListenOptions { channel, policy, regions, undecided_per_user, .. } =
            listening.options.clone();
        if !policy.allows(credentials.uid) {
            return self.turn_away(&socket, Refusal::Policy, Counter::RefusedByPolicy);
        }
        let waiting =
            self.events.iter().filter(|event| matches!(event, Event::Incoming(_))).count();
        let undecided = self.listening.undecided() + waiting;
        let of_user = self.listening.undecided_of(credentials.uid);
        let too_many =
            undecided >= MAX_UNDECIDED || of_user >= undecided_per_user.unwrap_or(usize::MAX);
        if too_many || !self.has_space(undecided) {
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
        let (options, since) = (channel, Instant::now());
        let handshake = Handshake { socket, credentials, options, regions, introduces, since };
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
                let Handshake { socket, credentials, options, introduces, .. } = handshake;
                let introduced = match Introduction::decode(hello.private()) {
                    _ if !introduces => None,
                    Ok(introduced) => Some(introduced),
                    Err(_) => return self.counters.add(Counter::HandshakeFailed, 1),
                };
                let incoming =
                    Incoming::new(socket, credentials, hello, descriptors, options, introduced);
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
