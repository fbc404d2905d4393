//! The program does what its help says.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

fn kv(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kv")).args(arguments).output().expect("it was built")
}

/// What it wrote, having ended well.
fn said(arguments: &[&str]) -> String {
    let output = kv(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What it complained of.
fn complained(arguments: &[&str]) -> String {
    let output = kv(arguments);
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
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

fn serve(arguments: &[&str]) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.arg("serve").args(arguments).stdout(Stdio::piped());
    let mut server = Server(command.spawn().expect("it was built"));
    let mut line = String::new();
    let output = server.0.stdout.take().expect("it was piped");
    BufReader::new(output).read_line(&mut line).expect("it writes text");
    assert_eq!(line, format!("serving at {}\n", arguments[0]));
    server
}

#[test]
fn it_serves_puts_gets_scans_deletes_and_bears_a_load() {
    let at = &format!("shm:kv-program-{}", std::process::id())[..];
    assert!(complained(&["get", "--at", at, "key"]).contains("nobody listens"));
    let _server = serve(&[at, "--memory", "1M", "--max-value", "64K"]);

    assert_eq!(said(&["put", "--at", at, "colour", "green"]), "revision 1\n");
    let mut put = Command::new(env!("CARGO_BIN_EXE_kv"));
    put.args(["put", "--at", at, "picture", "-"]).stdin(Stdio::piped());
    let mut put = put.spawn().expect("it was built");
    let picture = vec![b'x'; 5000];
    put.stdin.take().expect("it was piped").write_all(&picture).expect("it reads");
    assert!(put.wait().expect("it was started").success());

    assert_eq!(said(&["get", "--at", at, "colour"]), "green");
    assert_eq!(kv(&["get", "--at", at, "picture"]).stdout, picture);
    assert!(complained(&["get", "--at", at, "sound"]).contains("no such key"));
    assert_eq!(said(&["scan", "--at", at]), "colour\tgreen\npicture\t(5000 bytes)\n");
    assert_eq!(said(&["scan", "--at", at, "d", "--limit", "1"]), "picture\t(5000 bytes)\n");
    assert_eq!(said(&["delete", "--at", at, "colour"]), "revision 3\n");
    assert!(complained(&["delete", "--at", at, "colour"]).contains("no such key"));
    let long = "v".repeat(65_537);
    assert!(complained(&["put", "--at", at, "k", &long]).contains("at most 65536 bytes"));
    assert!(said(&["usage", "--at", at]).starts_with("1 keys, "));

    let load = ["load", "--at", at, "--mix", "a", "--keys", "500", "--duration", "0.1"];
    assert!(said(&load).starts_with("mix A: "));
    assert!(said(&[&load[..], &["--rate", "1000"]].concat()).contains("p99.9"));
    // More than the store takes.
    assert!(complained(&["load", "--at", at, "--value", "4K"]).contains("the store is full"));
}

#[test]
fn every_command_has_help_and_bad_arguments_are_told() {
    for command in ["serve", "get", "put", "delete", "scan", "usage", "load"] {
        assert!(said(&[command, "--help"]).contains("Usage:"), "{command}");
    }
    assert!(said(&["--help"]).contains("Examples:"));
    for arguments in [
        &["serve"][..],
        &["serve", "smoke"],
        &["get", "key"],
        &["load", "--at", "shm:x", "--mix", "D"],
        &["load", "--at", "shm:x", "--window", "0"],
        &["load", "--at", "shm:x", "--rate", "0"],
        &["scan", "--at", "shm:x", "--limit", "0"],
    ] {
        assert!(complained(arguments).contains("error:"), "{arguments:?}");
    }
}
