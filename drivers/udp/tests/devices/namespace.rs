//! Network namespaces, which end with their tests.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driver_udp::Path;
use unet::device::Datagrams;

/// A namespace that a sleeping process keeps.
pub struct Namespace(Child);

impl Namespace {
    pub fn new() -> Self {
        let sleep = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let (own, pid) = (of("thread-self"), sleep.id().to_string());
        while of(&pid).is_none() || of(&pid) == own {
            std::thread::sleep(Duration::from_millis(1));
        }
        Self(sleep)
    }

    pub fn pid(&self) -> String {
        self.0.id().to_string()
    }

    pub fn run(&self, command: &str) {
        let enter = ["-t", &self.pid(), "-n"].map(str::to_owned);
        let all = enter.into_iter().chain(command.split(' ').map(str::to_owned));
        let status = Command::new("nsenter").args(all).stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "{command}");
    }

    /// Has this thread, and what it opens and starts, be in there.
    fn enter(&self) {
        let file = std::fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind).unwrap();
    }

    /// What a thread in there says.
    pub fn within<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let run = || {
            self.enter();
            run()
        };
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    pub fn device(&self, at: &str, path: Path) -> Box<dyn Datagrams> {
        self.within(|| super::open(at, super::options(path)))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
