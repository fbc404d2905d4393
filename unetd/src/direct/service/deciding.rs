//! What becomes of a request: checks first, then a socket over the client's memory, then a queue. The answer
//! is the point of no return, and what it needs to be taken back is known to the keeper before.

use std::os::fd::{AsFd, OwnedFd};

use driver_af_xdp::lent::message::{Answer, Refused, Request};
use driver_af_xdp::program::MAX_QUEUES;
use driver_af_xdp::socket::Binding;
use driver_af_xdp::{Interface, Way};
use segment::control::Sent;
use unet::Credentials;
use unet::device::Mode;

use super::{MAX_GRANTS, Outcome, Service};
use crate::direct::asking::{Asking, Opened, Wants};
use crate::direct::grant::Grant;
use crate::direct::memory;
use crate::direct::permission::{Permission, Permissions};
use crate::direct::store::{KeeperGone, Of};

impl<P: Permissions> Service<P> {
    /// Does as much of what somebody wants as can be done now.
    pub(super) fn try_to_give(&mut self, asking: &mut Asking) -> Result<Outcome, Refused> {
        asking.wants = match asking.wants.take() {
            Some(Wants::Program(request, file)) => {
                match self.open(asking.who, request.clone(), &file) {
                    Ok(opened) => Some(Wants::Queue(Box::new(opened))),
                    Err(Refused::HookTaken) => {
                        asking.wants = Some(Wants::Program(request, file));
                        return Ok(Outcome::Later(Some(Refused::HookTaken)));
                    }
                    Err(why) => return Err(why),
                }
            }
            wants => wants,
        };
        let Some(Wants::Queue(opened)) = &mut asking.wants else { return Ok(Outcome::Later(None)) };
        Ok(match self.bind(opened)? {
            Some((queue, mode)) => Outcome::Bound(queue, mode),
            None => Outcome::Later(Some(opened.late())),
        })
    }

    /// Checks all that a client says, and opens a socket over its memory.
    fn open(
        &mut self,
        who: Credentials,
        request: Request,
        file: &OwnedFd,
    ) -> Result<Opened, Refused> {
        let bytes = memory::bytes(&request)?;
        let interface = Interface::find(&request.interface).map_err(|_| Refused::NoInterface)?;
        let (queues, permission) = self.permitted(who, &request, &interface)?;
        let way = match (request.way, permission.way) {
            (Way::Auto, way) | (way, Way::Auto) => way,
            (asked, way) if asked == way => way,
            _ => return Err(Refused::Way),
        };
        self.check_quota(who, bytes, permission)?;
        if queues.iter().all(|queue| self.is_taken(interface.index, *queue)) {
            return Err(Refused::QueueTaken);
        }
        let same_port =
            |it: &Grant| it.interface == interface.index && it.request.port == request.port;
        if self.grants.values().any(same_port) {
            return Err(Refused::PortTaken);
        }
        if interface.mac == [0; 6] {
            return Err(Refused::NoInterface);
        }
        memory::check(file.as_fd(), bytes)?;
        let (key, store) = (&mut self.key, self.store.as_ref());
        let program = self.hooks.attach(&interface, permission.way, key, store)?;
        if request.several && !program.frags() {
            return Err(Refused::Way);
        }
        Opened::new(request, interface, queues, way, file)
    }

    /// The queues that the user may have, of those that were asked for and that there are.
    fn permitted(
        &self,
        who: Credentials,
        request: &Request,
        interface: &Interface,
    ) -> Result<(Vec<u32>, Permission), Refused> {
        let there = interface.queues.min(MAX_QUEUES);
        let asked = match request.queue {
            Some(queue) => queue..queue.saturating_add(1),
            None => 0..there,
        };
        let (mut queues, mut permission) = (Vec::new(), None);
        for queue in asked {
            let request = Request { queue: Some(queue), ..request.clone() };
            if let Some(permitted) = self.permissions.permission(who, &request) {
                permission.get_or_insert(permitted);
                queues.push(queue);
            }
        }
        let permission = permission.ok_or(Refused::Forbidden)?;
        queues.retain(|queue| *queue < there);
        if queues.is_empty() { Err(Refused::NoQueue) } else { Ok((queues, permission)) }
    }

    fn check_quota(
        &self,
        who: Credentials,
        bytes: u64,
        permission: Permission,
    ) -> Result<(), Refused> {
        let opened = |it: &Asking| memory::bytes(&it.opened()?.request).ok();
        let asking = self.asking.iter().filter(|it| it.who.uid == who.uid).filter_map(opened);
        let lent = self.grants.values().filter(|it| it.who.uid == who.uid).map(Grant::bytes);
        let all: Vec<u64> = asking.chain(lent).collect();
        let pinned = all.iter().sum::<u64>().saturating_add(bytes);
        if all.len() >= permission.queues || pinned > permission.bytes {
            return Err(Refused::Quota);
        }
        if self.grants.len() >= MAX_GRANTS { Err(Refused::Crowded) } else { Ok(()) }
    }

    fn is_taken(&self, interface: u32, queue: u32) -> bool {
        self.grants.values().any(|it| it.interface == interface && it.queue == queue)
    }

    /// Reserves the port and binds the socket, if port and queue are free now.
    fn bind(&self, opened: &mut Opened) -> Result<Option<(u32, Mode)>, Refused> {
        let interface = opened.interface.index;
        let program = self.hooks.get(interface).ok_or(Refused::NoInterface)?;
        opened.bind(program, |queue| self.is_taken(interface, queue))
    }

    /// Steers packets, and answers.
    pub(super) fn grant(
        &mut self,
        asking: Asking,
        (queue, mode): (u32, Mode),
    ) -> Result<(), KeeperGone> {
        let Asking { socket, who, wants: Some(Wants::Queue(opened)), .. } = asking else {
            return Ok(());
        };
        let (index, pieces) = (opened.interface.index, opened.pieces());
        let Some(reservation) = opened.reservation else { return Ok(()) };
        let port = reservation.port();
        let binding = Binding {
            interface: index,
            queue,
            mac: opened.interface.mac,
            mtu: opened.interface.mtu,
            mode,
            pieces,
            rings: opened.rings,
            port,
        };
        let request = Request { queue: Some(queue), port, ..opened.request };
        let bound = opened.socket.into_bound();
        let grant = Grant { socket, who, request, interface: index, queue, reservation };
        self.key += 1;
        let key = self.key;
        if let (Some(store), Some(about)) = (&self.store, grant.about()) {
            store.put(key, Of::Grant, &about, &grant.descriptors())?;
        }
        let steered = match self.hooks.get(index) {
            Some(program) => program.steer(queue, port, bound.as_fd()).map_err(Refused::from),
            None => Err(Refused::NoInterface),
        };
        let sent = match (steered, Answer(binding).frame()) {
            (Err(why), _) => {
                self.counts.refuse(why);
                grant.socket.send(&why.frame(), &[]);
                false
            }
            (Ok(()), Some(frame)) => grant.socket.send(&frame, &[bound.as_fd()]) == Sent::Yes,
            (Ok(()), None) => false,
        };
        drop(bound);
        self.grants.insert(key, grant);
        self.counts.granted += 1;
        if !sent {
            return self.release(key);
        }
        tracing::info!(uid = who.uid, pid = who.pid, queue, port, "a queue is lent");
        Ok(())
    }
}
