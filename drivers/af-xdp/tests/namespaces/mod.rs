//! Two network namespaces joined by a veth, for one test.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, and the process that holds it.
pub struct Namespace(Child);

impl Namespace {
    /// A new one.
    pub fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "--kill-child", "sh", "-c", "echo ready; exec sleep 120"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is there");
        let mut line = String::new();
        let out = holder.stdout.take().expect("it is a pipe");
        BufReader::new(out).read_line(&mut line).expect("it is read");
        assert_eq!(line, "ready\n", "root is needed");
        Self(holder)
    }

    /// The process that holds it.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Moves this thread into it.
    pub fn enter(&self) {
        let link = File::open(format!("/proc/{}/ns/net", self.0.id())).expect("it is there");
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(link.as_fd(), kind).expect("root is needed");
    }

    /// Runs a shell's command there.
    pub fn run(&self, command: &str) {
        let net = format!("--net=/proc/{}/ns/net", self.0.id());
        let status = Command::new("nsenter").arg(net).args(["sh", "-c", command]).status();
        assert!(status.expect("nsenter is there").success(), "{command}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may be gone already.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// This thread's namespace, with `va` of a veth, and the other one, with `vb`.
pub fn joined() -> (Namespace, Namespace) {
    let (ours, theirs) = (Namespace::new(), Namespace::new());
    ours.enter();
    ours.run(&format!(
        "ip link add name va address 02:00:00:00:00:0a type veth peer name vb address 02:00:00:00:00:0b &&
         ip link set vb netns {} &&
         ip addr add 192.0.2.1/24 dev va && ip addr add 2001:db8::1/64 dev va nodad && ip link set va up",
        theirs.id()
    ));
    theirs.run(
        "ip addr add 192.0.2.2/24 dev vb && ip addr add 2001:db8::2/64 dev vb nodad &&
         ip link set vb up",
    );
    (ours, theirs)
}
