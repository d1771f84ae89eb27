//! A subscriber of a `topic` on memory of one process, for its models and tests.

use crate::topic_head::{Head, Next, Unfit};
use crate::topic_layout::Shape;
use crate::topic_policy::Policy;
use shmem::Region;

/// A topic on the heap.
pub fn topic(lanes: usize, seats: usize, capacity: usize, policy: Policy) -> (Shape, Region) {
    let (shape, length) = Shape::plan(lanes, seats, capacity, policy).unwrap();
    (shape, Region::heap(length))
}

/// What a subscriber got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Nothing,
    Damaged,
    /// Number, how many were lost before it, and its bytes.
    Message(u64, u64, Vec<u8>),
}

/// One subscriber's receipts in a lane, as `topic_subscriber` makes them.
pub struct Reader {
    pub head: Head,
    untold: u64,
}

impl Reader {
    pub fn new(head: Head) -> Self {
        Self { head, untold: 0 }
    }

    pub fn recv(&mut self, region: &Region) -> Got {
        let mut bytes = vec![];
        if let Some(number) = self.head.recv(region, &mut bytes) {
            return Got::Message(number, std::mem::take(&mut self.untold), bytes);
        }
        for _ in 0..3 {
            match self.head.next(region) {
                Ok(Next::Nothing) => return Got::Nothing,
                Ok(Next::Lapped) => match self.head.resume(region) {
                    Some(lost) => self.untold += lost,
                    None => return Got::Nothing,
                },
                Ok(Next::Record(record)) => {
                    let mut bytes = vec![0; record.length];
                    region.copy_out(record.offset, &mut bytes).unwrap();
                    match self.head.verify(region, &record) {
                        Ok(()) => {
                            let number = self.head.point().number;
                            self.head.pass(&record);
                            return Got::Message(number, std::mem::take(&mut self.untold), bytes);
                        }
                        Err(Unfit::Lapped) => self.head.lap(),
                        Err(Unfit::Damaged) => return Got::Damaged,
                    }
                }
                Err(_) => return Got::Damaged,
            }
        }
        Got::Nothing
    }
}
