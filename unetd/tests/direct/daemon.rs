//! The daemon: a keeper and a worker, by a policy in a file.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// A policy in a file, removed at the end.
struct File(PathBuf);

impl File {
    fn write(&self, direct: &str) {
        let text = format!(
            "names = [\"mediated\"]\n\
             [direct]\nname = {NAME:?}\ninterfaces = [\"va?mode=native\"]\n\
             [[allow]]\nuser = {}\ndirect = [{direct}]\nlisten = [\"7000-7009\"]\n\
             [[allow]]\nuser = 0\ndirect = [\"va\"]\nlisten = [\"*\"]\nqueues = 2\n",
            USERS[0].0
        );
        std::fs::write(&self.0, text).expect("there is space");
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Killed when dropped.
struct Daemon(Child);

impl Daemon {
    fn signal(&self, to: u32, signal: Signal) {
        kill_process(Pid::from_raw(to as i32).expect("a process"), signal).expect("it lives");
    }

    /// The process that does the work.
    fn worker(&self) -> Option<u32> {
        let id = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        children.ok()?.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_daemon_lends_by_its_policy_survives_a_kill_and_takes_back_by_a_new_policy() {
    let (_ours, theirs) = joined(2);
    let path = std::env::temp_dir().join(format!("unetd-direct-{}.toml", std::process::id()));
    let file = File(path);
    file.write("\"va/1\"");
    let mut daemon = Daemon(
        Command::new(env!("CARGO_BIN_EXE_unetd"))
            .args(["--foreground", "--config", file.0.to_str().expect("text")])
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts"),
    );
    let client = echo(0, 1, 7000);
    client.expect("ready");
    let refused = echo(0, 0, 7001).word();
    assert_eq!(refused, None, "queue 0 is not in the rule");
    let native = Options { way: Way::Native, reserve: false, ..options(7000) };
    let mut peer = peer(&theirs, 1, &native);
    let mut ping = |payload: &[u8]| {
        send(&mut peer, &frame(7000, [192, 0, 2, 2], payload));
        payloads(&mut peer, 1, Duration::from_secs(5)) == [payload]
    };
    assert!(ping(b"before"));
    let worker = daemon.worker().expect("it works");
    daemon.signal(worker, Signal::KILL);
    assert!(ping(b"without"));
    until("another worker begins", || daemon.worker().is_some_and(|it| it != worker));
    assert!(ping(b"with the next"));
    let other = ask(NAME, "va", Some(0), &options(7500)).expect("root may have queue 0");
    // Who has what can be asked, of the worker that took over.
    // The keeper has the name of direct mode all the time; that of the other mode is the worker's, which
    // may have it a moment later.
    let lent = || {
        let bytes = unetd::ctl::ask("mediated", unetd::report::STATUS, PATIENCE).ok()?;
        let status: unetd::report::Status = serde_json::from_slice(&bytes).expect("an answer");
        Some(status.lent)
    };
    until("both queues are told", || lent().is_some_and(|lent| lent.queues.len() == 2));
    let told = lent().expect("it has answered before");
    let client_has = &told.queues[0];
    assert_eq!((client_has.uid, client_has.queue, client_has.port), (USERS[0].0, 1, 7000));
    assert!(told.counts.contains(&("adopted".to_owned(), 1)), "{told:?}");
    // The new policy has nothing for the client.
    file.write("");
    daemon.signal(daemon.0.id(), Signal::HUP);
    client.expect("gone");
    assert!(!ping(b"after"));
    drop(other);
    daemon.signal(daemon.0.id(), Signal::TERM);
    assert!(daemon.0.wait().expect("it is a child").success());
    let programs = || driver_af_xdp::Interface::find("va").expect("it is there").programs;
    until("nothing is left", || programs().is_empty());
}
