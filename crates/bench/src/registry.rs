//! What is measured.

use crate::audience;
use crate::bare;
use crate::body::{Asked, OneWay};
use crate::fd::{Descriptor, Kind};
use crate::idle::Idle;
use crate::mailbox::Mailbox;
use crate::queue::Queue;
use crate::queues::{Posix, SystemV};
use crate::service::Service;
use crate::signalled::{Signal, Signalled};
use crate::topic::Topic;
use crate::transport::{Runner, Waits, Way};
use crate::value::Value;

/// Lengths of messages, in bytes.
pub const LENGTHS: [usize; 5] = [8, 64, 1024, 64 * 1024, 1024 * 1024];

/// What is measured besides transports.
pub fn others() -> Vec<Box<dyn Runner>> {
    let mut all: Vec<Box<dyn Runner>> = vec![Box::new(Idle)];
    for audience in audience::ALL {
        all.push(Box::new(audience));
    }
    all
}

/// All transports but those of other projects.
pub fn runners() -> Vec<Box<dyn Runner>> {
    let mut all = bare::runners();
    let queues = [
        (Waits::Spin, Way::OneByOne),
        (Waits::Adaptive, Way::OneByOne),
        (Waits::Block, Way::OneByOne),
        (Waits::Adaptive, Way::Batch),
        (Waits::Adaptive, Way::ReadInPlace),
        (Waits::Adaptive, Way::InPlace),
    ];
    for (waits, way) in queues {
        all.push(Box::new(OneWay(Queue { waits, way })));
    }
    let topics = [
        (Waits::Spin, Way::OneByOne),
        (Waits::Adaptive, Way::OneByOne),
        (Waits::Adaptive, Way::Batch),
        (Waits::Adaptive, Way::ReadInPlace),
        (Waits::Adaptive, Way::InPlace),
    ];
    for (waits, way) in topics {
        all.push(Box::new(OneWay(Topic { waits, way })));
    }
    let services = [
        (Waits::Spin, Way::OneByOne),
        (Waits::Adaptive, Way::OneByOne),
        (Waits::Block, Way::OneByOne),
        (Waits::Adaptive, Way::InPlace),
    ];
    for (waits, way) in services {
        all.push(Box::new(Asked(Service { waits, way })));
    }
    for waits in [Waits::Spin, Waits::Adaptive, Waits::Block] {
        all.push(Box::new(OneWay(Mailbox { waits })));
    }
    all.push(Box::new(OneWay(Value)));
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
    all.push(Box::new(OneWay(SystemV)));
    all.push(Box::new(OneWay(Posix)));
    let signals = [
        (Signal::Futex, false),
        (Signal::Semaphores, false),
        (Signal::Semaphores, true),
        (Signal::Events, false),
        (Signal::Events, true),
    ];
    for (signal, ring) in signals {
        all.push(Box::new(OneWay(Signalled { signal, ring })));
    }
    all
}
