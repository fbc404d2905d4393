//! What can be seen without knowing types.

use rpc_fastpath::service::service;

#[service(name = "mutable", version = 1)]
trait Mutable {
    fn fill(&self, count: u64, buffer: &mut [u8]);
}

#[service(name = "unnamed", version = 1)]
trait Unnamed {
    fn show(&self, shown: impl ToString);
}

#[service(name = "two", version = 1)]
trait TwoMessages {
    fn copy(&self, from: rpc_fastpath::service::Message, to: rpc_fastpath::service::Message);
}

#[service(name = "worker", version = 1)]
trait Worker {
    #[slow]
    fn hash(&self, seed: u64, block: rpc_fastpath::service::Message) -> u64;
}

#[service(name = "borrowed", version = 1)]
trait Borrowed {
    fn name(&self, number: u64) -> &str;
}

#[service(name = "one-way", version = 1)]
trait OneWay {
    #[one_way]
    fn tell(&self, what: &str) -> u64;
}

#[service(name = "deadline", version = 1)]
trait Deadline {
    #[deadline("soon")]
    fn hurry(&self);
}

#[service(name = "owned", version = 1)]
trait Owned {
    fn change(&mut self, by: u64);
}

#[service(name = "generic", version = 1)]
trait Generic {
    fn store<T>(&self, value: T);
}

#[service(name = "no version")]
trait NoVersion {
    fn null(&self);
}

#[service(name = "again", version = 1)]
#[service(name = "and again", version = 2)]
trait Again {
    fn null(&self);
}

#[service(name = "lifetime", version = 1)]
trait Lifetime {
    fn forever(&'static self);
}

#[service(name = "conditions", version = 1)]
trait Conditions {
    fn sized(&self, number: u64)
    where
        Self: Sized;
}

fn main() {}
