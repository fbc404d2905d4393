//! Which users may be on the other side.

/// Which users a listener accepts, or a client lets a listener run as.
///
/// Checked against the kernel's word (`SO_PEERCRED`) before anything the peer says is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The effective user of this process.
    #[default]
    SameUser,
    /// The effective user of this process, and root: whom a client lets its agent run as.
    SameUserOrRoot,
    /// These users, by number.
    Users(Vec<u32>),
    /// Everyone on this host. The application decides by the credentials it is shown.
    AnyUser,
}

impl Policy {
    /// Whether a user may.
    pub fn allows(&self, uid: u32) -> bool {
        match self {
            Self::SameUser => uid == rustix::process::geteuid().as_raw(),
            Self::SameUserOrRoot => uid == 0 || Self::SameUser.allows(uid),
            Self::Users(users) => users.contains(&uid),
            Self::AnyUser => true,
        }
    }
}
