//! Each field of the header and of the channel's layout set to each value that may hurt, before
//! and after the victims open it; and segments that are shorter than they say.

use crate::victim::{CAPACITY, Tally, name, open_and_use, options, read, remove, wipe, write};
use checks::process::child;
use checks::suite::{Case, Outcome, case};
use shmem::header::{self, ENDED, READY};
use shmem::{Region, presence};
use sysv::{Mode, Segment};
use tombolo::value::{Reader, Writer};

pub const CASES: &[Case] = &[
    case("fields::every", every),
    case("fields::truncated", truncated),
    case("fields::by_key", by_key),
];

/// Where the keepers' seats are.
const KEEPERS: usize = 448;

/// A value with some messages, which its writer keeps, and its segment.
fn channel() -> (Writer, Reader, Region) {
    let mut writer = Writer::open_or_create(name(), &options()).expect("open");
    shmem::barrier::register();
    for length in [3, CAPACITY].repeat(20) {
        writer.put(&vec![9; length]).expect("put");
    }
    let reader = Reader::open(name()).expect("open");
    let region = Region::attach(writer.id()).expect("attach");
    (writer, reader, region)
}

/// Offset and size of each field: of the header, of the value, of its first keeper's seat, and of its
/// first three slots.
fn fields() -> Vec<(String, usize, usize)> {
    let mut all = Vec::new();
    let [_, value, slot, keeper, ..] = tombolo::LAYOUTS;
    let stride = shmem::cells::stride(slot.size, options().capacity).expect("a stride");
    let slots = (0..3).map(|i| (value.size + i * stride, slot));
    let seat = (KEEPERS, keeper);
    let layouts = [(0, &header::LAYOUT), (0, value), seat];
    let layouts = layouts.into_iter().chain(slots);
    for (base, layout) in layouts {
        for field in layout.fields {
            let name = format!("{} {} at {base}", layout.name, field.name);
            all.push((name, base + field.offset, field.size));
        }
    }
    all
}

/// Values that may hurt, in the first bytes of a field.
pub fn values() -> Vec<u64> {
    let mine = presence::mine().expect("presence").word();
    let mut all = vec![
        0,
        1,
        2,
        3,
        7,
        8,
        0x7f,
        0xff,
        READY,
        ENDED,
        mine,
        mine ^ 1 << 40,
        // The extent of a message of a value, as far behind its words as one can be.
        63 << 58 | CAPACITY as u64,
    ];
    for shift in [15, 16, 31, 32, 47, 48, 62, 63] {
        all.extend([1 << shift, (1 << shift) - 1, !(1u64 << shift)]);
    }
    all.extend([u64::MAX, u64::MAX - 1, u64::MAX - 63, 0x5555_5555_5555_5555]);
    all
}

fn every() -> Outcome {
    let mut cases = 0;
    let living = presence::mine().expect("presence").word();
    for (field, offset, size) in fields() {
        for value in values() {
            // Opening waits ten seconds for a creator that lives: once is enough.
            if offset == header::STATE && value == living {
                continue;
            }
            let victims = child(|| {
                let mut tally = Tally::default();
                let (mut writer, mut reader, region) = channel();
                let bytes = value.to_ne_bytes();
                let spoil = || {
                    region
                        .copy_in(offset, &bytes[..size.min(8)])
                        .expect("a field")
                };
                spoil();
                read(&mut reader, &mut tally);
                spoil();
                write(&mut writer, &mut tally);
                spoil();
                open_and_use(&mut tally);
                spoil();
                remove(&mut tally);
            });
            let status = victims.join_status();
            assert!(status.success(), "{field} set to {value:#x}: {status}");
            wipe();
            cases += 1;
        }
    }
    Outcome::Pass(format!("{cases} fields and values"))
}

fn truncated() -> Outcome {
    let (writer, reader, region) = channel();
    let mut whole = vec![0; region.len()];
    region.copy_out(0, &mut whole).expect("all of it");
    drop((writer, reader, region));
    wipe();
    let key = name().keys().next().expect("a key");
    let mut cases = 0;
    for size in [
        1,
        8,
        255,
        256,
        257,
        319,
        384,
        447,
        448,
        449,
        512,
        959,
        960,
        961,
        976,
        1100,
        4095,
        4096,
        1 << 20,
    ] {
        for says in [whole.len() as u64, size as u64, 0, u64::MAX] {
            let victims = child(|| {
                let segment = Segment::create(key, size, Mode::default()).expect("a segment");
                let region = Region::attach(segment.id()).expect("attach");
                let length = size.min(whole.len());
                region.copy_in(0, &whole[..length]).expect("the beginning");
                // Where the length stands, if it is inside.
                let _ = region.copy_in(header::LENGTH, &says.to_ne_bytes());
                let mut tally = Tally::default();
                open_and_use(&mut tally);
                remove(&mut tally);
            });
            let status = victims.join_status();
            assert!(status.success(), "{size} bytes that say {says}: {status}");
            wipe();
            cases += 1;
        }
    }
    Outcome::Pass(format!("{cases} sizes and lengths"))
}

/// By key anything may be there: it is neither removed nor waited for without end.
fn by_key() -> Outcome {
    use crate::victim::{CREATOR, SLACK};
    let key = sysv::Key::new(0x1234);
    let mut tally = Tally::default();
    for size in [1, 256, 4096, 100_000] {
        let segment = Segment::create(key, size, Mode::from_bits_truncate(0o666)).expect("new");
        let open = || Writer::open_or_create(tombolo::Address::Key(key), &options());
        let opened = tally.run(CREATOR + SLACK, open);
        assert!(
            opened.is_none(),
            "a stranger's {size} zero bytes are no channel"
        );
        segment.status().expect("it is still there");
        segment.remove().expect("remove");
    }
    wipe();
    Outcome::Pass(String::new())
}
