//! Names that are taken, and what both sides could not agree on.

use rpc_fastpath::service::service;

#[service(name = "new", version = 1)]
trait New {
    fn new(&self, first: u64);
}

#[service(name = "bind", version = 1)]
trait Bind {
    fn bind(&self, to: &str);
}

#[service(name = "caller", version = 1)]
trait Caller {
    fn caller(&self) -> u64;
}

#[service(name = "serving", version = 1)]
trait Serving {
    fn serving(&self) -> bool;
}

#[service(name = "starts", version = 1)]
trait Starts {
    fn start_engine(&self);
    fn engine(&self);
}

#[service(name = "described", version = 1)]
trait Described {
    fn service(&self);
}

#[service(name = "called", version = 1)]
trait Called {
    fn client(&self);
}

#[service(name = "alike", version = 1)]
trait Alike {
    fn get_all(&self);
    fn get__all(&self);
}

#[service(name = "own", version = 1)]
trait Own {
    fn same(&self, other: Vec<Self>);
}

#[service(name = "conditional", version = 1)]
trait Conditional {
    #[cfg(unix)]
    fn fork(&self);
}

#[service(name = "unsafe", version = 1)]
trait Unsafe {
    unsafe fn write(&self, address: u64, value: u64);
}

#[service(name = "pattern", version = 1)]
trait Pattern {
    fn ignore(&self, _: u64);
}

fn main() {}
