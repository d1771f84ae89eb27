//! A value as a stream.

use crate::queues::next;
use crate::stage::{name, on_tokio};
use checks::process::{BOUND, Gate, child};
use checks::space::assert_nothing_left;
use checks::suite::{Case, Outcome, case, quick_or_long};
use tombolo::Patience;
use tombolo::asynchronous::AsyncReader;
use tombolo::value::{self, Options, ReadError, Reader, Writer};

pub const CASES: &[Case] = &[case("value::stream", stream)];

/// Numbers only grow, the last message comes, and a removal ends it.
fn stream() -> Outcome {
    let count = quick_or_long(20_000u64, 1_000_000);
    let (ready, done) = (Gate::new(), Gate::new());
    let writer = child(|| {
        let mut writer = Writer::open_or_create(name(0), &Options::default()).expect("a writer");
        ready.wait();
        for number in 1..=count {
            writer.put(&number.to_ne_bytes()).expect("put");
            if number == count / 2 {
                writer.grow(1 << 20).expect("grow");
            }
        }
        done.wait();
        value::remove(name(0)).expect("remove");
    });
    let reader = Reader::wait(name(0), Patience::from(BOUND)).expect("a reader");
    let mut reader = AsyncReader::from(reader);
    ready.open();
    let seen = on_tokio(async {
        let (mut last, mut seen) = (0, 0u64);
        while last < count {
            let message = if seen % 2 == 0 {
                next(&mut reader).await.expect("an item")
            } else {
                reader.watch().await
            };
            let message = match message {
                Err(ReadError::Overtaken) => continue,
                message => message.expect("a message"),
            };
            assert!(message.number > last, "{} after {last}", message.number);
            assert_eq!(message.bytes, message.number.to_ne_bytes());
            (last, seen) = (message.number, seen + 1);
        }
        done.open();
        let end = next(&mut reader).await.expect("an item");
        assert!(matches!(end, Err(ReadError::Removed)), "{end:?}");
        assert!(next(&mut reader).await.is_none());
        seen
    });
    writer.join();
    drop(reader);
    assert_nothing_left("at the end");
    Outcome::Pass(format!("{seen} of {count} messages seen"))
}
