//! The socket at which the server of a memory interface (`net_memif`) listens. DPDK (22.11) leaves it open when its port
//! is closed, with a handler over memory that it has freed: the name stays taken, and whoever connects there has DPDK's
//! interrupt thread go astray. So once no port of the process uses it, it is replaced by something that never speaks.
//!
//! # Invariants
//!
//! 1. The last port at a socket is closed, and DPDK's interrupt thread stands ([`crate::guard::Hold`]), when
//!    [`Listener::silence`] looks for it.
//! 2. The descriptor is DPDK's, which neither closes nor uses it any more, but for watching it: it is not closed, since
//!    DPDK ends the process where it cannot watch a descriptor.

use std::collections::HashMap;
use std::fs;
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{SocketAddrUnix, getsockname};

/// How many open ports use a socket.
static USED: Mutex<Option<HashMap<Listener, usize>>> = Mutex::new(None);

/// A server's socket, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Listener {
    name: String,
    is_abstract: bool,
}

fn lock() -> MutexGuard<'static, Option<HashMap<Listener, usize>>> {
    USED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener {
    /// Of a port of `net_memif`, by its arguments: `None` of a client's.
    pub fn of(arguments: &str) -> Option<Self> {
        let value = |key: &str| {
            let mut pairs = arguments.split(',').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
        };
        matches!(value("role"), Some("server" | "master")).then_some(())?;
        let name = value("socket").unwrap_or("/run/memif.sock").to_owned();
        Some(Self { name, is_abstract: value("socket-abstract") != Some("no") })
    }

    /// A port uses it.
    pub fn enter(&self) {
        *lock().get_or_insert_default().entry(self.clone()).or_default() += 1;
    }

    /// A port does not any more; the last one silences it.
    pub fn leave(self) {
        let mut used = lock();
        let used = used.get_or_insert_default();
        if let Some(count) = used.get_mut(&self) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        used.remove(&self);
        self.silence();
    }

    fn silence(&self) {
        let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
        for number in numbers.collect::<Vec<_>>() {
            // SAFETY: whatever this is, it is only asked what it is.
            if !self.is_at(unsafe { BorrowedFd::borrow_raw(number) }) {
                continue;
            }
            let Ok(silent) = eventfd(0, EventfdFlags::CLOEXEC) else { continue };
            // SAFETY: invariants 1 and 2.
            let mut listening = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
            if let Err(errno) = rustix::io::dup2(&silent, &mut listening) {
                tracing::warn!(%errno, socket = self.name, "DPDK's listener stays");
            }
        }
        if !self.is_abstract {
            // Nobody listens there any more, and the next server needs the name.
            let _ = fs::remove_file(&self.name);
        }
    }

    /// Whether a descriptor listens there.
    fn is_at(&self, descriptor: BorrowedFd<'_>) -> bool {
        let address = getsockname(descriptor).ok().map(SocketAddrUnix::try_from);
        let Some(Ok(address)) = address else { return false };
        let wanted = self.name.as_bytes();
        let is_here = if self.is_abstract {
            // DPDK's name goes on with zeros.
            let rest = address.abstract_name().and_then(|name| name.strip_prefix(wanted));
            rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
        } else {
            address.path_bytes() == Some(wanted)
        };
        is_here && socket_acceptconn(descriptor).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_one_and_a_client_has_none() {
        let of = |arguments| Listener::of(arguments).map(|it| (it.name, it.is_abstract));
        assert_eq!(of("net_memif0,role=client,socket=a"), None);
        assert_eq!(of("net_memif0"), None);
        assert_eq!(of("net_memif0,role=server,socket=a"), Some(("a".into(), true)));
        assert_eq!(of("net_memif0,role=master"), Some(("/run/memif.sock".into(), true)));
        let file = "net_memif0,socket=/run/a,role=server,socket-abstract=no";
        assert_eq!(of(file), Some(("/run/a".into(), false)));
    }
}
