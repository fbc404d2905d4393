//! The scheme `xdp`: `xdp:IFACE[/QUEUE]@[HOST]:PORT?mode=…&frames=…`.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use std::num::NonZeroU16;

use unet::device::{Datagrams, Driver, Framed, FramedOptions, OpenError, Opening, UdpChecksum};

use crate::interface::Interface;
use crate::open::attach;
use crate::options::{Options, interface_and_queue};
use crate::program::Program;
use crate::{AfXdp, KernelRoutes};

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
        let (interface, _) = interface_and_queue(opening.device)?;
        let routes = KernelRoutes::open(interface)?;
        let device = self.frames(opening)?;
        let port = NonZeroU16::new(device.port()).ok_or(OpenError::AddressInUse)?;
        // What U-Net sends has a checksum of its own, end to end; over IPv6 UDP's is sent all the same.
        let checksum = UdpChecksum::Omit;
        let options = FramedOptions { local: opening.local, checksum, ..FramedOptions::at(port) };
        Ok(Box::new(Framed::new(device, routes, options)))
    }
}

impl Xdp {
    /// The scheme.
    pub const SCHEME: &'static str = "xdp";

    /// Opens the device of an address, for frames.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn frames(&self, opening: &Opening<'_>) -> Result<AfXdp, OpenError> {
        let options = Options::of(opening)?;
        let (name, queue) = interface_and_queue(opening.device)?;
        let interface = Interface::find(name)?;
        let program = self.program(&interface, queue, &options)?;
        AfXdp::open_with(&program, &interface, queue, &options)
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
