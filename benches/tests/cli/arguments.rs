//! Bad arguments end with one sentence and exit code 2; help and lists end well.

use crate::support::{run, text};

/// One line on standard error that says what to do, nothing on standard output.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{arguments:?}: {error}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    for word in words {
        assert!(error.contains(word), "{arguments:?}: no `{word}` in: {error}");
    }
}

#[test]
fn every_bad_argument_is_one_sentence_and_exit_code_2() {
    refused(&["ping"], &["ping", "--help"]);
    refused(&["rtt", "--sizes", "8"], &["--sizes", "--help"]);
    refused(&["rtt", "--size", "8,x"], &["--size", "8, 4K or 1M"]);
    refused(&["rtt", "--size", "65M"], &["64M"]);
    refused(&["rate", "--window", "65"], &["65", "1..=64"]);
    refused(&["rate", "--window", "4", "--batch", "8"], &["--batch", "--window"]);
    refused(&["bandwidth", "--carries", "both"], &["request", "response"]);
    refused(&["sweep", "--window", "0"], &["0", "1..=64"]);
    refused(&["rtt", "--wait", "sleep"], &["spin", "adaptive", "park"]);
    refused(&["rtt", "--duration", "soon"], &["500ms or 2s"]);
    refused(&["rtt", "--duration", "1h"], &["--duration"]);
    refused(&["rtt", "--cpus", "0"], &["0,1"]);
    refused(&["rtt", "--cpus", "0,999"], &["Core 999", "--cpus"]);
    refused(&["rtt", "--system", "dbus"], &["dbus", "pipe", "tcp"]);
    refused(&["rtt", "--format", "xml"], &["table", "json", "html"]);
    refused(&["rtt", "--transport", "udp:localhost"], &["port", "udp:HOST:9000"]);
    refused(&["rtt", "--transport", "smoke"], &["shm:"]);
    refused(&["rtt", "--to", "shm:echo"], &["udp:HOST:PORT"]);
    refused(&["rtt", "--to", "udp:a:1", "--transport", "udp:a:1"], &["--to", "--transport"]);
    refused(&["rtt", "--netns", "a,b"], &["--netns", "--transport"]);
    refused(&["rtt", "--to", "udp:a:1", "--netns", "a/b"], &["ip netns"]);
    refused(&["rtt", "--to", "udp:127.0.0.1:1", "--netns", "a,b"], &["client's"]);
    refused(&["rtt", "--transport", "udp:127.0.0.1:0", "--netns", "a,b,c"], &["two"]);
    refused(&["rtt", "--transport", "xdp:eth0@:9000"], &["HOST"]);
    refused(&["sweep", "--to", "udp:a:1", "--from", "0%"], &["share"]);
    refused(&["kv", "--mix", "D"], &["--mix"]);
    refused(&["kv", "--system", "pipe"], &["pipe", "redis/unix"]);
    refused(&["kv", "--size", "4"], &["--size"]);
    refused(&["kv", "--format", "html"], &["table"]);
    refused(&["kv", "--transport", "udp:127.0.0.1:0"], &["--transport"]);
    refused(&["kv", "--wait", "spin,park"], &["one --wait"]);
    refused(&["serve"], &["URI"]);
    refused(&["serve", "udp:127.0.0.1:0", "--netns", "a,b"], &["one namespace"]);
    refused(&["scale", "--bindings", "5000"], &["4096"]);
    refused(&["teleport"], &["teleport"]);
}

#[test]
fn what_no_chosen_system_can_measure_is_refused_with_the_reason() {
    refused(&["scale", "--system", "pipe"], &["pipe", "bindings"]);
    refused(&["rtt", "--system", "udp", "--size", "1M"], &["udp", "65507"]);
    refused(&["rtt", "--system", "unet", "--size", "17M"], &["unet", "16 MiB"]);
    refused(&["scale", "--system", "rpc"], &["rpc", "bindings"]);
    refused(&["sweep", "--system", "unet"], &["unet", "rpc"]);
    let many = ["--system", "rpc", "--size", "8M", "--window", "64"];
    refused(&[&["bandwidth"], &many[..]].concat(), &["rpc", "256 MiB"]);
    refused(&["rtt", "--system", "udp/spin"], &["udp/spin", "--to"]);
    let across = ["--transport", "udp:127.0.0.1:0", "--system"];
    for (bench, system, words) in [
        ("scale", "udp/spin", &["rtt", "sweep"][..]),
        ("rtt", "pipe", &["pipe", "tcp/spin"]),
        ("rtt", "udp/mmsg", &["udp/mmsg", "udp/spin"]),
        ("sweep", "udp/io-uring", &["udp/io-uring", "udp/spin"]),
        ("bandwidth", "xdp/raw", &["xdp/raw", "udp/spin"]),
        ("sweep", "udp/mmsg", &["udp/mmsg", "udp/spin"]),
        ("sweep", "mediated", &["mediated", "rpc"]),
    ] {
        refused(&[&[bench], &across[..], &[system]].concat(), words);
    }
}

#[cfg(not(feature = "peers"))]
#[test]
fn a_system_that_is_not_linked_is_refused_with_its_feature() {
    refused(&["rtt", "--system", "iceoryx2"], &["--features peers", "cargo run"]);
    refused(&["null-rpc", "--system", "tonic-tcp"], &["--features peers", "tonic-tcp"]);
}

#[test]
fn help_and_version_end_well() {
    for arguments in [
        &["--help"][..],
        &["rtt", "--help"],
        &["rate", "--help"],
        &["bandwidth", "--help"],
        &["serve", "--help"],
        &["sweep", "--help"],
        &["kv", "--help"],
        &["--version"],
        &["systems"],
    ] {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
    let help = text(&run(&["--help"]).stdout);
    assert!(help.contains("Examples:") && !help.contains("server-process"), "{help}");
}
