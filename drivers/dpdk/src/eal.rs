//! DPDK's environment abstraction layer (EAL): begun once in a process, by the first port. It cannot be begun again
//! in the same process, so it is never ended.
//!
//! # Invariants
//!
//! 1. `rte_eal_init` is called once, under the lock of [`BEGUN`].
//! 2. DPDK keeps its arguments: they are leaked.
//! 3. [`take`] is called from any thread at any time; it touches what its lock guards.

use std::ffi::{CString, c_char};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use dpdk_sys as sys;
use rustix::io::Errno;
use rustix::thread::sched_getaffinity;

use crate::error::{Error, Said};

/// Where DPDK has its own tables: rings, mbufs, what its drivers need. Frames are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// So many megabytes of plain memory: for virtual devices, and for laptops.
    Plain(u32),
    /// So many megabytes of huge pages, which an administrator has set aside.
    Huge(u32),
}

impl Default for Memory {
    /// Enough for a dozen ports.
    fn default() -> Self {
        Self::Plain(64)
    }
}

/// What DPDK was begun with.
#[derive(Clone, Copy)]
struct Begun {
    memory: Memory,
    /// Whether it looks for network cards.
    cards: bool,
}

/// What DPDK was begun with, or why it was not: it cannot be tried again.
static BEGUN: Mutex<Option<Result<Begun, Error>>> = Mutex::new(None);
/// An address that no card has: the last one of the last domain.
const NO_CARD: &str = "ffff:ff:1f.7";
/// The most megabytes: more ends the process in DPDK's hands.
const MOST: u32 = 65_536;
/// What it said since it was asked last.
static SAID: Mutex<String> = Mutex::new(String::new());
/// More of it is not kept.
const MOST_SAID: usize = 400;

/// Begins DPDK, unless it has; with a look for network cards, if a card is asked for.
pub(crate) fn begin(memory: Memory, cards: bool) -> Result<(), Error> {
    let (Memory::Plain(megabytes) | Memory::Huge(megabytes)) = memory;
    if !(1..=MOST).contains(&megabytes) {
        return Err(Error::Unsupported("its memory is not from 1 to 65,536 megabytes"));
    }
    let mut begun = lock(&BEGUN);
    let with = Begun { memory, cards };
    match begun.get_or_insert_with(|| try_to_begin(with).map(|()| with)) {
        Ok(before) if before.memory != memory => Err(Error::OtherMemory),
        Ok(before) if cards && !before.cards => Err(Error::WithoutCards),
        Ok(_) => Ok(()),
        Err(error) => Err(error.clone()),
    }
}

fn try_to_begin(with: Begun) -> Result<(), Error> {
    listen();
    let memory = with.memory;
    let arguments = arguments(with);
    // It binds the thread that calls it to a core, and takes it for the first of its own.
    let thread = thread::Builder::new().name("dpdk".into());
    let thread = thread.spawn(move || init(arguments)).map_err(|error| Error::Environment {
        errno: Errno::from_io_error(&error).unwrap_or(Errno::AGAIN),
        said: Said::default(),
    })?;
    match thread.join().unwrap_or(Err(Errno::NOTRECOVERABLE)) {
        Ok(()) => Ok(()),
        Err(Errno::ALREADY) => Err(Error::Begun),
        Err(Errno::NOMEM | Errno::ACCESS | Errno::NOENT) if matches!(memory, Memory::Huge(_)) => {
            Err(Error::HugePages)
        }
        Err(errno) => Err(Error::Environment { errno, said: said() }),
    }
}

fn arguments(Begun { memory, cards }: Begun) -> Vec<String> {
    let plain = |text: &str| text.to_owned();
    let mut all = vec![
        plain("unet"),
        plain("--no-telemetry"),
        plain("--iova-mode=va"),
        plain("--log-level=error"),
        // Nothing of it is shared: the folder of that name is all that is left.
        plain("--file-prefix=unet"),
        // One thread of DPDK's, which may run wherever this process may.
        format!("--lcores=0@({})", cpus()),
    ];
    match cards {
        false => all.push(plain("--no-pci")),
        // It begins with those that are allowed: with none, so that it binds what it is asked for, later, and no other.
        true => all.extend([plain("-a"), plain(NO_CARD)]),
    }
    match memory {
        Memory::Plain(megabytes) => {
            all.extend(["--no-huge", "--no-shconf"].map(plain));
            all.push(format!("-m{megabytes}"));
        }
        Memory::Huge(megabytes) => {
            all.push(plain("--in-memory"));
            all.push(format!("-m{megabytes}"));
        }
    }
    all
}

fn cpus() -> String {
    let Ok(set) = sched_getaffinity(None) else { return "0".to_owned() };
    let cpus: Vec<String> =
        (0..1024).filter(|cpu| set.is_set(*cpu)).map(|it| it.to_string()).collect();
    cpus.join(",")
}

fn init(arguments: Vec<String>) -> Result<(), Errno> {
    let of = |text: String| CString::new(text).unwrap_or_default().into_raw();
    let arguments: Vec<*mut c_char> = arguments.into_iter().map(of).collect();
    let count = arguments.len() as i32;
    // SAFETY: invariants 1 and 2.
    if unsafe { sys::rte_eal_init(count, arguments.leak().as_mut_ptr()) } >= 0 {
        Ok(())
    } else {
        Err(errno())
    }
}

/// The calling thread's last error in DPDK.
pub(crate) fn errno() -> Errno {
    // SAFETY: it reads a number of this thread's.
    Errno::from_raw_os_error(unsafe { sys::unet_errno() })
}

/// The error that a function of DPDK returned.
pub(crate) fn check(returned: i32) -> Result<i32, Errno> {
    if returned < 0 { Err(Errno::from_raw_os_error(-returned)) } else { Ok(returned) }
}

/// What DPDK said, the beginning of it; the next answer begins anew.
pub(crate) fn said() -> Said {
    Said(std::mem::take(&mut *lock(&SAID)).trim().replace('\n', "; "))
}

fn listen() {
    // SAFETY: invariant 3.
    unsafe { sys::unet_log_to(Some(take)) };
}

/// Takes what DPDK says.
unsafe extern "C" fn take(text: *const c_char, len: usize) {
    // SAFETY: DPDK hands over so many bytes, for the time of the call.
    let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    let text = String::from_utf8_lossy(text);
    tracing::debug!(text = text.trim_end(), "DPDK");
    let mut said = lock(&SAID);
    if said.len() + text.len() <= MOST_SAID {
        said.push_str(&text);
    }
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
