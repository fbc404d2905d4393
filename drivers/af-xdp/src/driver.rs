//! The scheme `xdp`: `xdp:IFACE[/QUEUE|/all]@[HOST]:PORT?mode=…&frames=…`. With `agent=NAME` the agent of
//! that name opens the queue, for which no privilege is needed; without a queue in the address it is any
//! that is free then.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use std::net::IpAddr;
use std::num::NonZeroU16;

use unet::device::{
    Datagrams, Driver, Framed, FramedOptions, Frames, OpenError, Opening, UdpChecksum,
};

use crate::interface::Interface;
use crate::open::attach;
use crate::options::{Options, Queues, interface_and_queues};
use crate::program::Program;
use crate::{AfXdp, EveryQueue, KernelRoutes, lent};

/// The option that names an agent.
const AGENT: &str = "agent";

/// Opens AF_XDP devices by address. Devices on queues of one interface share its program, if they were
/// opened through the same driver or a clone of it.
#[derive(Clone, Debug, Default)]
pub struct Xdp {
    programs: Arc<Mutex<Vec<Weak<Program>>>>,
}

impl Driver for Xdp {
    fn scheme(&self) -> &'static str {
        Self::SCHEME
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Datagrams>, OpenError> {
        let (name, queues) = interface_and_queues(opening.device)?;
        if let Some(agent) = opening.option(AGENT) {
            let device = lent(opening, agent)?;
            let port = device.port();
            return datagrams(device, name, opening.local, port);
        }
        let options = Options::of(opening)?;
        let interface = Interface::find(name)?;
        match queues {
            Queues::One(queue) => {
                let device = self.frames(&interface, queue, &options)?;
                let port = device.port();
                datagrams(device, name, opening.local, port)
            }
            Queues::Every => {
                let program = self.program(&interface, 0, &options)?;
                let device = EveryQueue::open_with(&program, &interface, &options)?;
                let port = device.port();
                datagrams(device, name, opening.local, port)
            }
        }
    }
}

/// A queue that an agent opens.
fn lent(opening: &Opening<'_>, agent: &str) -> Result<AfXdp, OpenError> {
    let (name, queues) = interface_and_queues(opening.device)?;
    let queue = match queues {
        Queues::One(queue) => opening.device.contains('/').then_some(queue),
        Queues::Every => {
            return Err(OpenError::Unsupported("name one queue where an agent opens it, or none"));
        }
    };
    let others = opening.options.iter().filter(|(key, _)| key != AGENT);
    let others: Vec<_> = others.cloned().collect();
    let options = Options::of(&Opening { options: &others, ..opening.clone() })?;
    lent::ask(agent, name, queue, &options)
}

/// Makes datagrams of a device's frames, by the kernel's routes over its interface.
///
/// # Errors
/// [`OpenError`].
///
/// # Cost
/// Some ten system calls.
pub fn datagrams(
    device: impl Frames + 'static,
    interface: &str,
    local: Option<IpAddr>,
    port: u16,
) -> Result<Box<dyn Datagrams>, OpenError> {
    let routes = KernelRoutes::open(interface)?;
    let port = NonZeroU16::new(port).ok_or(OpenError::AddressInUse)?;
    // What U-Net sends has a checksum of its own, end to end; over IPv6 UDP's is sent all the same.
    let checksum = UdpChecksum::Omit;
    let options = FramedOptions { local, checksum, ..FramedOptions::at(port) };
    Ok(Box::new(Framed::new(device, routes, options)))
}

impl Xdp {
    /// The scheme.
    pub const SCHEME: &'static str = "xdp";

    /// Opens one queue, for frames.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn frames(
        &self,
        interface: &Interface,
        queue: u32,
        options: &Options,
    ) -> Result<AfXdp, OpenError> {
        AfXdp::open_with(&self.program(interface, queue, options)?, interface, queue, options)
    }

    fn program(
        &self,
        interface: &Interface,
        queue: u32,
        options: &Options,
    ) -> Result<Arc<Program>, OpenError> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.retain(|program| program.strong_count() > 0);
        let mut attached = programs.iter().filter_map(Weak::upgrade);
        if let Some(program) = attached.find(|it| it.interface() == interface.index) {
            return Ok(program);
        }
        let program = Arc::new(attach(interface, queue, options)?);
        programs.push(Arc::downgrade(&program));
        Ok(program)
    }
}
