//! Receiving from a `topic` by copy: a message is copied first and then looked at, whether a publisher
//! has written over it meanwhile.

use crate::glance::glance;
use crate::topic::RecvError;
use crate::topic_delivery::{Found, Received};
use crate::topic_head::Unfit;
use crate::topic_subscriber::{QUOTA, Subscriber, TRIES};
use shmem::Wait;

impl Subscriber {
    #[inline]
    pub(crate) fn copy(
        &mut self,
        wait: Wait<'_>,
        to: &mut Vec<u8>,
    ) -> Result<Option<Received>, RecvError> {
        let waits = matches!(wait, Wait::While(_));
        if self.channel.is_mine() {
            if let Some(received) = self.copy_alike(to, waits) {
                return Ok(Some(received));
            }
            if let Some(received) = self.copy_here(to, waits) {
                return Ok(Some(received));
            }
        }
        self.copy_slowly(wait, to)
    }

    /// The way of most messages: see [`Run::recv`](crate::topic_run::Run::recv).
    #[inline(always)]
    fn copy_alike(&mut self, to: &mut Vec<u8>, waits: bool) -> Option<Received> {
        let Self { run, channel, .. } = self;
        // A moment only if there are no other lanes to look at.
        let waits = || waits && channel.shape.used(channel.view()) == 1;
        let run = run.as_mut()?;
        let number = run.recv(to, waits)?;
        Some(Received {
            lane: run.lane,
            number,
            lost: 0,
        })
    }

    /// Copies the next message of the lane where this subscriber is, if there is one, and nothing
    /// else is to be done. Who `waits` looks for a moment whether it comes.
    #[inline(never)]
    fn copy_here(&mut self, to: &mut Vec<u8>, waits: bool) -> Option<Received> {
        self.end_run();
        to.clear();
        if self.left == 0 {
            if self.channel.shape.used(self.channel.view()) > 1 {
                // The others first.
                return None;
            }
            self.left = QUOTA;
        }
        if waits {
            self.glance();
        }
        let received = self.copy_from(self.lane, to)?;
        self.left -= 1;
        let most = self.release_much(received.lane);
        self.begin_run(to.len(), most);
        Some(received)
    }

    /// Copies another message of the lane of which one was just received.
    #[inline(always)]
    pub(crate) fn copy_another(&mut self, lane: usize, to: &mut Vec<u8>) -> Option<Received> {
        if let Some(received) = self.copy_alike(to, false) {
            return Some(received);
        }
        self.end_run();
        to.clear();
        self.copy_from(lane, to)
    }

    /// Copies the next message of a lane, if a whole one is there.
    #[inline(always)]
    fn copy_from(&mut self, lane: usize, to: &mut Vec<u8>) -> Option<Received> {
        let head = self.heads.get_mut(lane)?;
        let number = head.recv(self.channel.view(), to)?;
        let lost = std::mem::take(&mut self.untold[lane]);
        self.received = self.received.wrapping_add(1);
        Some(Received { lane, number, lost })
    }

    /// Looks for a moment whether a message comes where this subscriber is, if
    /// there are no other lanes to look at.
    #[inline(always)]
    pub(crate) fn glance(&self) {
        let view = self.channel.view();
        if let Some(head) = self.heads.get(self.lane)
            && !head.has_next(view)
            && self.left > 0
            && self.channel.shape.used(view) == 1
        {
            glance(|| head.has_next(view));
        }
    }

    #[inline(never)]
    fn copy_slowly(
        &mut self,
        wait: Wait<'_>,
        to: &mut Vec<u8>,
    ) -> Result<Option<Received>, RecvError> {
        for attempt in 0u32.. {
            to.clear();
            let Some(found) = self.find(wait)? else {
                return Ok(None);
            };
            match self.take(&found, to) {
                Ok(received) => {
                    let most = self.release_much(found.lane);
                    self.begin_run(to.len(), most);
                    return Ok(Some(received));
                }
                Err(unfit) => {
                    to.clear();
                    if unfit == Unfit::Damaged {
                        return Err(RecvError::Damaged);
                    }
                    // A liar, or a publisher that is always faster, must not keep it busy for ever.
                    if attempt >= TRIES && wait.gives_up() {
                        break;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Copies a message and goes behind it, if the copy is whole.
    #[inline]
    fn take(&mut self, found: &Found, to: &mut Vec<u8>) -> Result<Received, Unfit> {
        let Found { lane, record } = *found;
        let view = self.channel.view();
        let fits = view.append_to(record.offset, record.length, to);
        // The ring lies inside the region, and a record inside the ring.
        debug_assert!(fits.is_ok(), "{fits:?}");
        let head = &mut self.heads[lane];
        if let Err(unfit) = head.verify(view, &record) {
            if unfit == Unfit::Lapped {
                head.lap();
            }
            return Err(unfit);
        }
        let received = self.received(found);
        self.heads[lane].pass(&record);
        Ok(received)
    }
}
