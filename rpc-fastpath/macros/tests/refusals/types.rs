//! Types that do not travel: each error points at the argument, or at the result.

use rpc_fastpath::service::service;

struct Mute;

#[service(name = "argument", version = 1)]
trait Argument {
    fn show(&self, count: u64, silent: Mute);
}

#[service(name = "result", version = 1)]
trait Result {
    fn show(&self, name: &str) -> Vec<Mute>;
}

#[service(name = "plain", version = 1)]
trait Plain {
    #[plain]
    fn put(&self, at: u64, word: Option<u64>);
}

fn main() {}
