//! `value` over real segments: anonymous ones, which leave nothing behind whatever happens.

use std::time::{Duration, Instant};
use tombolo::shmem::Region;
use tombolo::shmem::sync::Ordering;
use tombolo::value::{Options, PutError, ReadError, Reader, Writer};
use tombolo::{Address, LAYOUTS, Patience};

fn pair(capacity: usize) -> (Writer, Reader) {
    let writer = Writer::anonymous(&Options {
        capacity,
        ..Options::default()
    })
    .unwrap();
    let reader = Reader::open(Address::Id(writer.id())).unwrap();
    (writer, reader)
}

fn offset(field: &str) -> usize {
    let mut fields = LAYOUTS.iter().flat_map(|layout| layout.fields);
    fields
        .find(|f| f.name == field)
        .expect("a field of that name")
        .offset
}

#[test]
fn what_is_put_is_got() {
    let (mut writer, mut reader) = pair(1000);
    assert_eq!(reader.get().unwrap(), None);
    assert_eq!(reader.watch(Patience::none()).unwrap(), None);
    for (number, length) in (1..).zip([0, 1, 999, 1000, 7]) {
        let message = vec![number as u8; length];
        assert_eq!(writer.put(&message).unwrap(), number);
        for _ in 0..2 {
            let got = reader.get().unwrap().unwrap();
            assert_eq!((got.number, got.bytes), (number, message.clone()));
        }
        assert_eq!(
            reader.watch(Patience::none()).unwrap(),
            None,
            "nothing newer"
        );
    }
    let long = writer.put(&[0; 1001]).unwrap_err();
    assert!(
        matches!(
            long,
            PutError::TooLong {
                length: 1001,
                capacity: 1000
            }
        ),
        "{long}"
    );
    assert_eq!(
        reader.get().unwrap().unwrap().number,
        5,
        "a refused put changes nothing"
    );
}

#[test]
fn a_parked_watcher_is_woken_well_before_its_slice_ends() {
    let (mut writer, mut reader) = pair(100);
    let mut quick = 0;
    for number in 1..=20 {
        let id = writer.id();
        let watcher = std::thread::spawn(move || {
            let message = reader
                .watch(Duration::from_secs(10).into())
                .unwrap()
                .unwrap();
            (reader, message, Instant::now())
        });
        // Read and write: the attaches of the writer, of the reader, and of its registration.
        let parked = Instant::now();
        let status = || sysv::Segment::from_id(id).status_any().unwrap();
        while status().attaches < 3 && parked.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(2));
        let put = Instant::now();
        assert_eq!(writer.put(b"news").unwrap(), number);
        let (back, message, woken) = watcher.join().unwrap();
        assert_eq!((message.number, message.bytes), (number, b"news".to_vec()));
        quick += u32::from(woken - put < Duration::from_millis(100));
        reader = back;
    }
    assert!(
        quick >= 15,
        "only {quick} of 20 were woken within 100 ms; a slice has 500"
    );
}

#[test]
fn an_anonymous_value_goes_with_its_users() {
    let (writer, reader) = pair(10);
    let segment = sysv::Segment::from_id(writer.id());
    drop(writer);
    assert!(segment.status_any().is_ok());
    drop(reader);
    assert_eq!(segment.status_any(), Err(sysv::Errno::INVAL));
}

/// A peer that may write lies about what is there; a watch ends when its time is up all the same.
#[test]
fn no_lie_makes_a_watch_outlast_its_time() {
    for lie in [0, 1, 2, 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        let (mut writer, mut reader) = pair(10);
        writer.put(b"one").unwrap();
        writer.put(b"two").unwrap();
        assert_eq!(reader.get().unwrap().unwrap().number, 2);
        let liar = Region::attach(writer.id()).unwrap();
        liar.u64(offset("LATEST")).store(lie, Ordering::Relaxed);
        let started = Instant::now();
        match reader.watch(Duration::from_millis(100).into()) {
            Ok(_) | Err(ReadError::Overtaken | ReadError::Damaged | ReadError::Removed) => {}
            Err(error) => panic!("{lie}: {error}"),
        }
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{lie}: {:?}",
            started.elapsed()
        );
    }
}
