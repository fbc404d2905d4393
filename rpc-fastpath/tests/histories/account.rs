//! What happened, in a file to which all processes of a run append: what came before stands before.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rpc_fastpath::protocol::{Doubt, Failure, Refusal};
use rpc_fastpath::service::{Outcome, UnknownReason};

use crate::history::{End, Entry};

#[derive(Clone)]
pub struct Account {
    file: Arc<File>,
    pub path: PathBuf,
}

impl Account {
    /// An empty one, that nobody else has.
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("history-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, "").expect("there is space");
        Self::open(&path)
    }

    pub fn open(path: &Path) -> Self {
        let file = File::options().append(true).open(path).expect("it was made");
        Self { file: Arc::new(file), path: path.to_owned() }
    }

    fn write(&self, line: String) {
        (&*self.file).write_all(line.as_bytes()).expect("there is space");
    }

    pub fn began(&self, call: usize, client: u32) {
        self.write(format!("began {call} {client}\n"));
    }

    pub fn opened(&self, client: u32, cookie: u64, incarnation: u64) {
        self.write(format!("opened {client} {cookie} {incarnation}\n"));
    }

    pub fn handed(&self, call: usize, cookie: u64, incarnation: u64) {
        self.write(format!("handed {call} {cookie} {incarnation}\n"));
    }

    pub fn done(&self, call: usize) {
        self.write(format!("done {call}\n"));
    }

    pub fn died(&self, client: u32) {
        self.write(format!("died {client}\n"));
    }

    /// A call ended, as executed with a reply to that call. Whether it was executed.
    pub fn ended(&self, call: usize, outcome: Outcome<usize>) -> bool {
        let (word, is_well) = match outcome {
            Outcome::Executed(reply_to) => (format!("executed {reply_to}"), true),
            Outcome::Unknown(why @ (UnknownReason::Failed | UnknownReason::ResultsTooLarge)) => {
                (format!("failed {why:?}"), true)
            }
            Outcome::Unknown(UnknownReason::BadResults) => {
                (format!("executed {}", usize::MAX), true)
            }
            Outcome::Refused(why) => (format!("refused {why:?}"), false),
            Outcome::Unknown(why) => (format!("unknown {why:?}"), false),
        };
        self.write(format!("ended {call} {word}\n"));
        is_well
    }

    pub fn text(&self) -> String {
        fs::read_to_string(&self.path).expect("it is there")
    }

    /// The history, with the calls numbered as they began. Nothing where the end of a line is missing: who wrote
    /// it was killed.
    pub fn entries(&self) -> Vec<Entry> {
        let mut calls = HashMap::new();
        let text = self.text();
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        lines.map(|line| entry(line, &mut calls)).collect()
    }

    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn entry(line: &str, calls: &mut HashMap<u64, usize>) -> Entry {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().expect("a number");
    if words[0] == "began" {
        let known = calls.len();
        assert_eq!(calls.insert(number(1), known), None, "{line}");
    }
    let call = || *calls.get(&number(1)).unwrap_or_else(|| panic!("it did not begin: {line}"));
    match words[0] {
        "began" => Entry::Began { call: call(), client: number(2) as u32 },
        "opened" => {
            Entry::Opened { client: number(1) as u32, cookie: number(2), incarnation: number(3) }
        }
        "handed" => Entry::Handed { call: call(), cookie: number(2), incarnation: number(3) },
        "done" => Entry::Done { call: call() },
        "died" => Entry::ClientDied { client: number(1) as u32 },
        // The checker does not look at the reasons; whoever reads the text does.
        "ended" => Entry::Ended {
            call: call(),
            end: match words[2] {
                "executed" => {
                    let reply_to = calls.get(&number(3)).copied().unwrap_or(usize::MAX);
                    End::Executed { reply_to }
                }
                "failed" => End::Failed(Failure::Panicked),
                "refused" => End::Refused(Refusal::Overload),
                "unknown" => End::Unknown(Doubt::NoAnswer),
                _ => panic!("{line}"),
            },
        },
        _ => panic!("{line}"),
    }
}
