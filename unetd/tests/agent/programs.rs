//! The programs: what they say, and how they end.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use unet::CloseReason;

use super::*;

/// A policy in a file, removed at the end.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("{}.toml", fresh_name())));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        let mut file = std::fs::File::create(&self.0).expect("there is space");
        file.write_all(text.as_bytes()).expect("there is space");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("it is text")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A running daemon, and its log.
struct Daemon {
    child: Child,
    log: std::sync::mpsc::Receiver<String>,
}

impl Daemon {
    fn start(config: &File) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_unetd"))
            .args(["--foreground", "--config", config.path()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let log = BufReader::new(child.stderr.take().expect("it was piped"));
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, log: told }
    }

    fn says(&self, what: &str) {
        loop {
            let line = self.log.recv_timeout(LONG).unwrap_or_else(|_| panic!("never said: {what}"));
            if line.contains(what) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process has a number");
        kill_process(pid, signal).expect("it runs");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unetctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_unetctl")).args(arguments).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn named(name: &str, over: &Over) -> String {
    format!("names = [{name:?}]\n{}", over.rules(OPEN))
}

#[test]
fn a_policy_is_checked_without_starting() {
    let check = |text: &str| {
        let config = File::new(text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_unetd"));
        command.args(["--check", "--config", config.path()]).output().expect("it starts")
    };
    let good = check(&named("whatever", &Over::new()));
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    let bad = check("\n[[allow]]\nusr = 1");
    assert_eq!(bad.status.code(), Some(2));
    let said = text(&bad.stderr);
    assert!(said.contains("line 3") && said.contains("usr"), "{said}");
}

#[test]
fn a_second_agent_is_refused_and_says_why_and_the_first_ends_when_told() {
    let (name, over) = (fresh_name(), Over::new());
    let config = File::new(&named(&name, &over));
    let mut first = Daemon::start(&config);
    first.says("ready");
    let second = Command::new(env!("CARGO_BIN_EXE_unetd"))
        .args(["--config", config.path()])
        .output()
        .expect("it starts");
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(said.contains(&name) && said.contains("another agent"), "{said}");

    let plain = plain();
    let mut server = listening(&plain);
    let by_agent = over.address(&plain.to_string(), &name);
    let (_, mut near) = join(&mut server, &by_agent, client());
    first.signal(Signal::TERM);
    assert_eq!(near.recv_timeout(LONG).err(), Some(CloseReason::PeerClosed));
    assert_eq!(first.child.wait().expect("it ends").code(), Some(0));
    let told = server.recv_timeout(LONG);
    assert!(matches!(told, Some(Event::Closed(_, CloseReason::PeerClosed))), "{told:?}");
}

#[test]
fn a_hang_up_signal_brings_a_new_policy_and_a_bad_one_changes_nothing() {
    let (name, over) = (fresh_name(), Over::new());
    let config = File::new(&named(&name, &over));
    let daemon = Daemon::start(&config);
    daemon.says("ready");
    let plain = plain();
    let mut server = listening(&plain);
    let by_agent = over.address(&plain.to_string(), &name);
    let (id, mut near) = join(&mut server, &by_agent, client());

    config.write("names = [\"x\"]\nnonsense = 1");
    daemon.signal(Signal::HUP);
    daemon.says("the old policy stays in force");
    near.send(b"still").expect("it is open");
    assert_eq!(message(&mut server), (id, b"still".to_vec()));

    config.write(&format!("names = [{name:?}]"));
    daemon.signal(Signal::HUP);
    daemon.says("the new policy is in force");
    assert_eq!(near.recv_timeout(LONG).err(), Some(CloseReason::Forbidden));
}

#[test]
fn unetctl_shows_what_there_is_and_its_exit_code_says_how_it_went() {
    let agent = Agency::start(OPEN);
    let plain = plain();
    let mut server = listening(&plain);
    let (id, mut near) = join(&mut server, &agent.address(&plain.to_string()), client());
    near.send(b"one").expect("it is open");
    assert_eq!(message(&mut server).0, id);
    let near_name = ["--name", &agent.name];
    let list = unetctl(&[&["list", "--interval", "10"], &near_name[..]].concat());
    assert_eq!(list.status.code(), Some(0), "{}", text(&list.stderr));
    let shown = text(&list.stdout);
    assert!(shown.contains(&std::process::id().to_string()), "{shown}");
    assert!(shown.contains("channel") && shown.contains(HOST), "{shown}");
    let json =
        unetctl(&[&["list", "--interval", "0", "--format", "json"], &near_name[..]].concat());
    let rows: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(rows[0]["sent"], 1, "{rows}");
    let status = unetctl(&[&["status"], &near_name[..]].concat());
    assert!(text(&status.stdout).contains("channels   1 open"), "{}", text(&status.stdout));
    let options = ConnectOptions { timeout: LONG, ..client() };
    let _ = Channel::connect(&agent.address("udp:10.0.0.1:1"), options);
    let drops = unetctl(&[&["drops"], &near_name[..]].concat());
    assert!(text(&drops.stdout).contains("refused-forbidden"), "{}", text(&drops.stdout));
    let nobody = unetctl(&["status", "--name", "nobody-has-this-name"]);
    assert_eq!(nobody.status.code(), Some(3));
    assert!(text(&nobody.stderr).contains("nobody listens"), "{}", text(&nobody.stderr));
    assert_eq!(unetctl(&["nonsense"]).status.code(), Some(2));
    let help = text(&unetctl(&["--help"]).stdout);
    assert!(help.contains("Examples:") && help.contains("Exit codes"), "{help}");
}

#[test]
fn unetctl_shows_what_a_process_counts_in_its_own_pages() {
    let counters = unet::Counters::of_endpoint().expect("memory");
    // So that it is none of the pages of other tests.
    let (foreign, refused) = (7_000_003, 7_000_001);
    counters.set(unet::Counter::RpcForeign, foreign);
    counters.set(unet::Counter::RefusedByPolicy, refused);
    counters.fault(unet::Fault::Protocol);
    let pid = std::process::id().to_string();
    let json = unetctl(&["counters", &pid, "--format", "json"]);
    assert_eq!(json.status.code(), Some(0), "{}", text(&json.stderr));
    let rows: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    let rows = rows.as_array().expect("a list");
    let ours = rows.iter().find(|row| row["count"] == foreign).expect("it is there");
    let of_page: Vec<_> = rows
        .iter()
        .filter(|row| row["page"] == ours["page"])
        .map(|row| (row["counter"].as_str().expect("a name"), row["count"].as_u64()))
        .collect();
    let counts = [("refused-by-policy", refused), ("rpc-foreign", foreign), ("protocol", 1)];
    assert_eq!(of_page, counts.map(|(name, count)| (name, Some(count))));
    assert_eq!((&ours["kind"], &ours["peer"]), (&"endpoint".into(), &0.into()));
    let shown = text(&unetctl(&["counters", &pid]).stdout);
    assert!(shown.starts_with("PAGE") && shown.contains("rpc-foreign"), "{shown}");
    // No process has that number.
    let nobody = unetctl(&["counters", "4294967295"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", text(&nobody.stdout));
}

#[test]
fn the_doctor_says_what_is_missing_and_how_to_mend_it_without_colour_for_programs() {
    let doctor = unetctl(&["doctor", "--name", "nobody-has-this-name"]);
    let shown = text(&doctor.stdout);
    for what in ["kernel", "capabilities", "memory that may be locked", "huge pages", "io_uring"] {
        assert!(shown.contains(what), "{what}: {shown}");
    }
    assert!(shown.contains("systemctl start unetd"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colour where nobody looks");
    let json = unetctl(&["doctor", "--format", "json", "--name", "nobody-has-this-name"]);
    let checks: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert!(checks.as_array().is_some_and(|checks| checks.len() >= 7), "{checks}");
}
