//! Network namespaces as `ip netns` names them.

use std::fs::File;
use std::os::fd::AsFd;
use std::{io, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::fault::Failure;

/// The name for the namespace that the program was started in.
pub const HERE: &str = "-";

/// Checks a name, so that it can be put into a path.
pub fn name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = (1..=64).contains(&text.len()) && text.chars().all(allowed);
    let fits = fits && text != "." && text != "..";
    fits.then(|| text.to_owned()).ok_or_else(|| {
        "a namespace has a name as `ip netns list` shows it, or - for this one".to_owned()
    })
}

/// Moves the calling thread, and what it starts from now on, into a namespace.
pub fn enter(name: &str) -> Result<(), Failure> {
    if name == HERE {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| {
        Failure::Run(format!("The network namespace {name} cannot be entered: {error}."))
    };
    let file = File::open(format!("/run/netns/{name}")).map_err(|error| failed(&error))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| failed(&error))
}

/// The calling thread's namespace.
#[derive(Debug)]
pub struct Home(File);

impl Home {
    /// Keeps it, to go back to.
    pub fn new() -> Result<Self, Failure> {
        let file = File::open("/proc/thread-self/ns/net").map_err(|error| {
            Failure::Run(format!("This network namespace cannot be opened: {error}."))
        })?;
        Ok(Self(file))
    }

    /// Does something there, in a thread of its own; the calling thread stays where it is.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(act())
            });
            there.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        assert_eq!(name("lab-a"), Ok("lab-a".to_owned()));
        assert_eq!(name(HERE), Ok("-".to_owned()));
        for text in ["", "..", "a/b", "a b", &"x".repeat(65)] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
