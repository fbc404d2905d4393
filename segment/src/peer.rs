//! Who is on the other side of a control socket, and whether it still lives.
//!
//! Liveness is the operating system's word: a pidfd, readable once the process has ended
//! (pidfd_open(2)), and the socket's hang-up. A stopped process is alive.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};

/// The kernel's word on who connected, or listens: taken when that happened (unix(7),
/// `SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Process, as this process's namespace numbers it; 0 if it is not visible in it.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Credentials {
    /// No user's: of a peer that no kernel vouches for.
    pub const NOBODY: Self = Self { pid: 0, uid: u32::MAX, gid: u32::MAX };

    /// Those of a socket's other end.
    ///
    /// # Errors
    /// The kernel's, for a socket that is not connected.
    pub fn of(socket: BorrowedFd<'_>) -> Result<Self, Errno> {
        let none = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let ucred = socket_option(socket, libc::SO_PEERCRED, none)?;
        Ok(Self { pid: ucred.pid.unsigned_abs(), uid: ucred.uid, gid: ucred.gid })
    }
}

/// A handle on the peer's process.
#[derive(Debug)]
pub struct Liveness {
    pidfd: Option<OwnedFd>,
}

impl Liveness {
    /// Takes a pidfd of the socket's other end; from the socket itself where the kernel can
    /// (`SO_PEERPIDFD`, Linux 6.5), else by the number in `credentials`. Without either, the
    /// socket's hang-up alone tells.
    ///
    /// # Errors
    /// `EMFILE` and the like when no descriptor is left.
    pub fn of(socket: BorrowedFd<'_>, credentials: Credentials) -> Result<Self, Errno> {
        match peer_pidfd(socket) {
            Ok(pidfd) => return Ok(Self { pidfd: Some(pidfd) }),
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => return Err(errno),
            Err(_) => {}
        }
        let pid = i32::try_from(credentials.pid).ok().and_then(rustix::process::Pid::from_raw);
        let pidfd = match pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Some(Ok(pidfd)) => Some(pidfd),
            Some(Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM))) => return Err(errno),
            Some(Err(_)) | None => None,
        };
        Ok(Self { pidfd })
    }

    /// The pidfd, to wait on.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Whether the process has ended.
    ///
    /// # Cost
    /// One system call.
    pub fn has_ended(&self) -> bool {
        let Some(pidfd) = &self.pidfd else { return false };
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }
}

fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const SO_PEERPIDFD: i32 = 77;
    let fd: i32 = socket_option(socket, SO_PEERPIDFD, -1)?;
    if fd < 0 {
        return Err(Errno::INVAL);
    }
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads a socket option into `value`, which must be plain data of the size the kernel knows.
fn socket_option<T: Copy>(socket: BorrowedFd<'_>, option: i32, mut value: T) -> Result<T, Errno> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: both pointers are to locals, of the sizes that are passed; the two options asked for
    // in this file fill them with integers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        return Ok(value);
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    Err(Errno::from_raw_os_error(errno))
}
