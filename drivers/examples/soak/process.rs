//! A process that is watched: stopped, read, killed.

use std::error::Error;
use std::fs::{read_dir, read_link, read_to_string};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_domain, xdp_statistics};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open,
};
use unet::Snapshot;

use crate::account::{Ledger, Line};
use crate::host::Host;

/// A server or a client.
pub struct Watched {
    pub host: Host,
    child: Child,
    words: Vec<String>,
    /// How many descriptors it has that are no page of a channel, once that is known.
    descriptors: Option<usize>,
}

impl Watched {
    /// Starts this program with these words in a host. It ends with this one.
    pub fn start(host: Host, words: Vec<String>) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", host.name()));
        command.args(["setpriv", "--pdeathsig", "KILL"]).arg(std::env::current_exe()?).args(&words);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        Ok(Self { host, child, words, descriptors: None })
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Has a client pause, or go on.
    pub fn tell(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.child.stdin.as_mut().ok_or("its input was piped")?.write_all(b".")?)
    }

    /// Waits until a client says that it pauses and has taken what there was.
    pub fn await_pause(&mut self) -> Result<(), Box<dyn Error>> {
        let said = self.child.stdout.as_mut().ok_or("its output was piped")?;
        let mut fds = [PollFd::new(said, PollFlags::IN)];
        let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
        if poll(&mut fds, Some(&patience))? == 0 || said.read(&mut [0])? == 0 {
            return Err(format!("{} does not pause", self.words.join(" ")).into());
        }
        Ok(())
    }

    /// Stops it at whatever instruction it is.
    pub fn stop(&mut self) -> Result<(), Box<dyn Error>> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("{} ended by itself with {status}", self.words.join(" ")).into());
        }
        Ok(kill_process(self.pid(), Signal::STOP)?)
    }

    /// Waits until every thread of it stands still.
    pub fn await_stop(&self) -> std::io::Result<()> {
        for task in read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = task?.path().join("stat");
            let stands = || {
                let said = read_to_string(&stat).unwrap_or_default();
                said.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
            };
            while !stands() {
                sleep(Duration::from_micros(100));
            }
        }
        Ok(())
    }

    pub fn go_on(&self) -> Result<(), Box<dyn Error>> {
        Ok(kill_process(self.pid(), Signal::CONT)?)
    }

    /// Kills it where it stands, and starts another.
    pub fn kill(mut self) -> Result<Vec<String>, Box<dyn Error>> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.words)
    }

    /// What it has counted; it stands still.
    pub fn ledger(&self) -> Result<Ledger, Box<dyn Error>> {
        let mut ledger = Ledger::default();
        for page in Snapshot::pages_of(self.child.id())? {
            if let Ok(page) = Snapshot::read(std::os::fd::AsFd::as_fd(&page)) {
                ledger.add_page(&page);
            }
        }
        let process = pidfd_open(self.pid(), PidfdFlags::empty())?;
        for entry in read_dir(format!("/proc/{}/fd", self.child.id()))? {
            let entry = entry?;
            let is_socket = read_link(entry.path())?.to_string_lossy().starts_with("socket:");
            let number = entry.file_name().to_string_lossy().parse()?;
            if !is_socket {
                continue;
            }
            let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?;
            if socket_domain(&socket) != Ok(AddressFamily::XDP) {
                continue;
            }
            match xdp_statistics(&socket) {
                Ok(counts) => {
                    ledger[Line::QueueDrops] +=
                        counts.rx_dropped + counts.rx_ring_full.unwrap_or(0);
                    ledger[Line::Queues] += 1;
                }
                Err(Errno::NOPROTOOPT | Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(ledger)
    }

    /// Checks that it has not more descriptors than when it was looked at first, but for channels' pages.
    pub fn check_descriptors(&mut self) -> Result<(), Box<dyn Error>> {
        let (mut pages, mut others) = (0, 0);
        for entry in read_dir(format!("/proc/{}/fd", self.child.id()))? {
            let target = read_link(entry?.path()).unwrap_or_default();
            let is_page = target.to_string_lossy().starts_with("/memfd:unet-counters");
            *(if is_page { &mut pages } else { &mut others }) += 1;
        }
        let first = *self.descriptors.get_or_insert(others);
        if others > first || pages > 64 {
            return Err(format!(
                "{} has {others} descriptors and {pages} pages; it had {first}",
                self.words.join(" ")
            )
            .into());
        }
        Ok(())
    }
}
