//! What it costs to encode arguments, and to decode what a stranger sent, checks included: by which the
//! serializer was chosen. `cargo bench -p unet-bench --bench encodings`

#![allow(missing_docs)] // What the derives write has none.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;
use rpc_fastpath::service::{Encoded, Form};

#[derive(
    Clone, serde::Serialize, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Person {
    name: String,
    mail: String,
    city: String,
    age: u32,
}

#[derive(
    Clone, serde::Serialize, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Entry {
    key: u64,
    value: String,
}

fn person() -> Person {
    let (name, mail, city) = ("Ada Lovelace".into(), "ada@example.org".into(), "London".into());
    Person { name, mail, city, age: 36 }
}

fn entries() -> Vec<Entry> {
    (0..1000u64)
        .map(|number| Entry {
            key: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            value: format!("value {number}"),
        })
        .collect()
}

/// Each way, there and back: into a buffer that is used again, out of bytes that are not trusted.
macro_rules! compare {
    ($criterion:expr, $what:literal, $type:ty, $borrowed:ty, $value:expr) => {{
        let (mut group, value) = ($criterion.benchmark_group($what), $value);
        let mut bytes = vec![0; 1 << 20];
        group.bench_function("postcard", |bench| {
            bench.iter(|| {
                let used = postcard::to_slice(black_box(&value), &mut bytes).expect("it fits");
                postcard::from_bytes::<$type>(black_box(used)).expect("it is one")
            })
        });
        let mut bytes = Vec::new();
        group.bench_function("postcard within limits", |bench| {
            bench.iter(|| {
                bytes.clear();
                <Encoded as Form<'_, $type>>::write(black_box(&value), &mut bytes)
                    .expect("it is written");
                <Encoded as Form<'_, $type>>::read(black_box(&bytes)).expect("it is one")
            })
        });
        group.bench_function("postcard within limits, borrowed", |bench| {
            bench.iter(|| {
                bytes.clear();
                <Encoded as Form<'_, $type>>::write(black_box(&value), &mut bytes)
                    .expect("it is written");
                let read = <Encoded as Form<'_, $borrowed>>::read(black_box(&bytes));
                black_box(&read).is_some()
            })
        });
        let mut bytes = AlignedVec::<16>::new();
        group.bench_function("rkyv to owned", |bench| {
            bench.iter(|| {
                bytes.clear();
                let to = std::mem::take(&mut bytes);
                bytes = rkyv::api::high::to_bytes_in::<_, Error>(black_box(&value), to)
                    .expect("it is written");
                rkyv::from_bytes::<$type, Error>(black_box(&bytes)).expect("it is one")
            })
        });
        group.bench_function("rkyv in place", |bench| {
            bench.iter(|| {
                bytes.clear();
                let to = std::mem::take(&mut bytes);
                bytes = rkyv::api::high::to_bytes_in::<_, Error>(black_box(&value), to)
                    .expect("it is written");
                let archived = rkyv::access::<rkyv::Archived<$type>, Error>(black_box(&bytes));
                black_box(archived.is_ok())
            })
        });
        let mut encoded = Vec::new();
        <Encoded as Form<'_, $type>>::write(&value, &mut encoded).expect("it is written");
        let archived = rkyv::to_bytes::<Error>(&value).expect("it is written");
        println!("{}: postcard {} bytes, rkyv {} bytes", $what, encoded.len(), archived.len());
        group.finish();
    }};
}

fn encodings(criterion: &mut Criterion) {
    compare!(criterion, "person", Person, (&str, &str, &str, u32), person());
    compare!(criterion, "entries", Vec<Entry>, Vec<(u64, &str)>, entries());
}

criterion_group!(benches, encodings);
criterion_main!(benches);
