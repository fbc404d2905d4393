//! Parts of a test that run in a process of their own.
//!
//! A part is an ignored test of the same file. [`spawn`] runs this test binary again and asks for
//! that one test. The two talk by lines: the parent writes to the child's standard input, the child
//! says `@word` on its standard output.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Where a role finds its arguments.
const ARGUMENTS: &str = "UNET_TEST_ROLE";

/// The arguments of this process's role; `None` if it is not one: then a part was run by hand.
pub fn arguments() -> Option<Vec<String>> {
    Some(std::env::var(ARGUMENTS).ok()?.split(' ').map(str::to_owned).collect())
}

/// Says a word to the parent.
pub fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    // If the parent is gone there is nobody to tell.
    let _ = writeln!(out, "\n@{word}").and_then(|()| out.flush());
}

/// Waits for a line from the parent; false if it is gone.
pub fn hear() -> bool {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok_and(|len| len > 0)
}

/// A running part. Killed when dropped.
pub struct Role {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<String>,
}

/// A command that runs the ignored test `role` of this file.
pub fn command(role: &str, arguments: &[&str]) -> Command {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["--exact", role, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ARGUMENTS, arguments.join(" "));
    command
}

/// Starts the ignored test `role` of this file in a process of its own.
pub fn spawn(role: &str, arguments: &[&str]) -> Role {
    start(&mut command(role, arguments))
}

/// Starts a role that was prepared.
pub fn start(command: &mut Command) -> Role {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test binary can be run again");
    let out = BufReader::new(child.stdout.take().expect("it was piped"));
    let (tell, said) = channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if let Some(word) = line.strip_prefix('@')
                && tell.send(word.to_owned()).is_err()
            {
                return;
            }
        }
    });
    Role { stdin: child.stdin.take(), child, said }
}

impl Role {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next word the child says. `None` if it ends, or is silent for long.
    pub fn word(&self) -> Option<String> {
        self.said.recv_timeout(super::PATIENCE).ok()
    }

    /// As [`Role::word`], without waiting long.
    pub fn word_within(&self, timeout: Duration) -> Option<String> {
        self.said.recv_timeout(timeout).ok()
    }

    /// Waits until the child says exactly this.
    pub fn expect(&self, word: &str) {
        assert_eq!(self.word().as_deref(), Some(word), "the other process was to say so");
    }

    /// Lets the child go on.
    pub fn tell(&mut self) {
        let stdin = self.stdin.as_mut().expect("it is open");
        writeln!(stdin).and_then(|()| stdin.flush()).expect("the other process listens");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process has a number");
        kill_process(pid, signal).expect("it has not been waited for");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_some()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it is a child")
    }

    /// Waits for its end, which must be that it was killed.
    pub fn wait_killed(&mut self) {
        let status = self.wait();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it was to be killed: {status}");
    }

    /// Waits for its end, which must be a success.
    pub fn wait_success(&mut self) {
        let status = self.wait();
        assert!(status.success(), "the other process failed: {status}");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended, and been waited for, long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
