//! What is measured.

use crate::bare;
use crate::body::OneWay;
use crate::fd::{Descriptor, Kind};
use crate::queue::Queue;
use crate::transport::{Runner, Waits, Way};

/// Lengths of messages, in bytes.
pub const LENGTHS: [usize; 5] = [8, 64, 1024, 64 * 1024, 1024 * 1024];

/// All transports but those of other projects.
pub fn runners() -> Vec<Box<dyn Runner>> {
    let mut all = bare::runners();
    let queues = [
        (Waits::Spin, Way::OneByOne),
        (Waits::Adaptive, Way::OneByOne),
        (Waits::Adaptive, Way::Batch),
        (Waits::Adaptive, Way::InPlace),
    ];
    for (waits, way) in queues {
        all.push(Box::new(OneWay(Queue { waits, way })));
    }
    let descriptors = [
        (Kind::Pipe, true),
        (Kind::Pipe, false),
        (Kind::Fifo, false),
        (Kind::Stream, false),
        (Kind::Seqpacket, false),
    ];
    for (kind, spin) in descriptors {
        all.push(Box::new(OneWay(Descriptor { kind, spin })));
    }
    all
}
