//! The examples do what their first lines say.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("this program has a path");
    let target = tests.parent().and_then(|folder| folder.parent()).expect("it lies in deps");
    let program = target.join("examples").join(name);
    assert!(program.exists(), "the examples are not built: type `cargo test -p rpc-fastpath`");
    program
}

/// A running server. Killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn counter(arguments: &[&str]) -> String {
    let output = Command::new(program("counter")).args(arguments).output().expect("it was built");
    String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr })
        .into_owned()
}

#[test]
fn counter_counts_lists_and_says_that_nobody_serves() {
    let address = format!("shm:example-counter-{}", std::process::id());
    assert!(counter(&["add", &address, "apples", "3"]).contains("NobodyListens"));

    let mut command = Command::new(program("counter"));
    command.args(["serve", &address]).stdout(Stdio::piped());
    let mut server = Server(command.spawn().expect("it was built"));
    let mut line = String::new();
    let output = server.0.stdout.take().expect("it was piped");
    BufReader::new(output).read_line(&mut line).expect("it writes text");
    assert_eq!(line, format!("serving at {address}\n"));

    assert!(counter(&["add", &address, "apples", "3"]).starts_with("3 apples ("));
    assert!(counter(&["add", &address, "pears", "2"]).starts_with("2 pears ("));
    let too_many = counter(&["add", &address, "apples", &u64::MAX.to_string()]);
    assert_eq!(too_many, "not counted: TooMany\n");
    assert_eq!(counter(&["list", &address]), "3 apples\n2 pears\n");

    server.0.kill().expect("it runs");
    server.0.wait().expect("it was started");
    assert!(counter(&["list", &address]).contains("NobodyListens"));
}
