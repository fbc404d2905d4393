//! The examples do what their first lines say.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("this program has a path");
    let target = tests.parent().and_then(|folder| folder.parent()).expect("it lies in deps");
    let program = target.join("examples").join(name);
    assert!(program.exists(), "the examples are not built: type `cargo test -p lrpc`, all of it");
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

fn add(address: &str, a: u64, b: u64) -> Output {
    let mut command = Command::new(program("adder"));
    command.args(["add", address, &a.to_string(), &b.to_string()]).output().expect("it was built")
}

#[test]
fn adder_adds_declines_and_says_that_nobody_serves() {
    let address = format!("shm:example-adder-{}", std::process::id());
    assert!(String::from_utf8_lossy(&add(&address, 1, 2).stderr).contains("NobodyListens"));

    let mut command = Command::new(program("adder"));
    command.args(["serve", &address]).stdout(Stdio::piped());
    let mut server = Server(command.spawn().expect("it was built"));
    let mut line = String::new();
    let output = server.0.stdout.take().expect("it was piped");
    BufReader::new(output).read_line(&mut line).expect("it writes text");
    assert_eq!(line, format!("serving at {address}\n"));

    let said = add(&address, 2, 3);
    assert!(said.status.success() && said.stdout.starts_with(b"5 ("), "{said:?}");
    let said = add(&address, u64::MAX, 1);
    assert_eq!(said.stdout, b"not added: the handler declined with code 1\n", "{said:?}");
}
