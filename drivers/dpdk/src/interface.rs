//! The kernel's interface under a port, where there is one (`net_af_xdp`, `net_tap`): DPDK's drivers do not see that
//! it goes down or away.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::net::netdevice::index_to_name;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use unet::device::DeviceError;

/// `SIOCGIFFLAGS` and `SIOCGIFMTU`, of `linux/sockios.h`.
const FLAGS: Opcode = 0x8913;
const MTU: Opcode = 0x8921;
/// `IFF_UP` and `IFF_RUNNING`, of `linux/if.h`.
const UP_AND_RUNNING: u16 = 0x1 | 0x40;

/// `struct ifreq` of `linux/if.h`, of which the requests here use the first bytes.
#[repr(C)]
struct Request {
    name: [u8; 16],
    value: [u8; 4],
    rest: [u8; 20],
}

const _: () = assert!(size_of::<Request>() == 40);

/// An interface, in the network namespace in which the port was opened.
pub(crate) struct Interface {
    socket: OwnedFd,
    index: u32,
}

impl Interface {
    /// By its number, which is zero where a port has none.
    pub fn of(index: u32) -> Result<Option<Self>, Errno> {
        if index == 0 {
            return Ok(None);
        }
        let (kind, flags) = (SocketType::DGRAM, SocketFlags::CLOEXEC);
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
        Ok(Some(Self { socket, index }))
    }

    /// Its MTU, or why it carries nothing.
    pub fn look(&self) -> Result<usize, DeviceError> {
        let name = index_to_name(&self.socket, self.index).map_err(gone)?;
        let [first, second, ..] = self.ask::<FLAGS>(&name)?;
        if u16::from_ne_bytes([first, second]) & UP_AND_RUNNING != UP_AND_RUNNING {
            return Err(DeviceError::Down);
        }
        let mtu = i32::from_ne_bytes(self.ask::<MTU>(&name)?);
        Ok(usize::try_from(mtu).unwrap_or_default())
    }

    fn ask<const WHAT: Opcode>(&self, name: &str) -> Result<[u8; 4], DeviceError> {
        let mut request = Request { name: [0; 16], value: [0; 4], rest: [0; 20] };
        let len = name.len().min(15);
        request.name[..len].copy_from_slice(&name.as_bytes()[..len]);
        // SAFETY: both requests read the name and write at most four bytes behind it, within the structure.
        let asked = unsafe { ioctl(&self.socket, Updater::<WHAT, _>::new(&mut request)) };
        asked.map_err(gone)?;
        Ok(request.value)
    }
}

/// Whether it is gone: its name may go between two questions.
fn gone(errno: Errno) -> DeviceError {
    match errno {
        Errno::NODEV | Errno::NXIO => DeviceError::Gone,
        errno => DeviceError::Kernel(errno),
    }
}
