//! Marks that say too much, or more than once.

use rpc_fastpath::service::service;

#[service(name = "argument", version = 1)]
trait Argument {
    #[slow(false)]
    fn grind(&self);
}

#[service(name = "value", version = 1)]
trait Value {
    #[one_way = "no"]
    fn tell(&self);
}

#[service(name = "list", version = 1)]
trait List {
    #[idempotent(foo)]
    fn read(&self);
}

#[service(name = "bare", version = 1)]
trait Bare {
    #[deadline]
    fn hurry(&self);
}

#[service(name = "deadlines", version = 1)]
trait Deadlines {
    #[deadline("1s")]
    #[deadline("2s")]
    fn hurry(&self);
}

#[service(name = "twice", version = 1)]
trait Twice {
    #[plain]
    #[plain]
    fn point(&self, at: [u64; 2]);
}

#[service(name = "wraps", version = 1)]
trait Wraps {
    #[deadline("18446744074s")]
    fn hurry(&self);
}

#[service(name = "later", version = 1)]
trait Later {
    #[deadline("99999999999999999999s")]
    fn hurry(&self);
}

fn main() {}
