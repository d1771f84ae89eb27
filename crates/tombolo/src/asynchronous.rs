//! The channels for tasks: operations that are awaited instead of blocking a thread.
//!
//! A handle is made from that of the channel (`into_async`, or `from`), and gives it back
//! (`into_inner`). Nothing here belongs to a runtime: the futures use nothing but a task's waker, so
//! they run on tokio as on any other, and handles may be moved between threads and runtimes.
//!
//! **Waking.** One thread for the whole process, `tombolo-reactor`, sleeps for all tasks that wait,
//! until a bell rings or a peer dies, and wakes them. It is started when the first task has to
//! wait. Other processes do not know whether a thread or a task waits; messages, ends, deaths and
//! removals reach a task as they reach a thread.
//!
//! **Cancelling** is safe: a future that is dropped before it is ready has received nothing and
//! sent nothing, but where its documentation says otherwise. A message is taken and handed out in
//! the same call of `poll`. Only a guard, which is asked for, holds a message between two awaits.
//!
//! **Fairness.** A handle that always has something to hand out makes its task give way to others
//! after each [`TURN`] operations.
//!
//! **Opening** makes some system calls and does not wait, so it is as it is everywhere; only the
//! `wait` of the blocking handles, for a channel that does not exist yet, belongs on a thread
//! of its own.
//!
//! **Fork.** As with the channels: a handle is refused in a child, which may open its own.
//!
//! # Cost and limits
//! A task that waits costs a look every two seconds. If a wake-up has to find its task among many,
//! the thread looks at all that wait; the kernel waits for 128 words at a time (a bell each, and
//! a pulse for each process that is watched), and of the others those that rang last are looked
//! at before the rest, which are looked at every 1 to 100 ms. A subscriber or reader that may not
//! write looks itself, every 0.25 to 16 ms.
//!
//! # Examples
//! ```
//! use tombolo::asynchronous::{AsyncConsumer, AsyncProducer};
//! use tombolo::queue::{Consumer, Options, Producer};
//!
//! # let name = format!("doc-async-{}", std::process::id());
//! let name: tombolo::Name = name.parse()?;
//! let producer = Producer::open_or_create(name.clone(), &Options::default())?;
//! let mut producer = AsyncProducer::from(producer);
//! let mut consumer = AsyncConsumer::from(Consumer::open(name)?);
//!
//! # pollster::block_on(async {
//! producer.send(b"hello").await?;
//! let mut message = Vec::new();
//! consumer.recv(&mut message).await?;
//! assert_eq!(message, b"hello");
//!
//! drop(producer);
//! let end = consumer.recv(&mut message).await.unwrap_err();
//! assert!(end.is_closed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::future::poll_fn;
use std::task::{Poll, Waker};

pub use crate::async_mailbox::{AsyncPoster, AsyncTaker};
pub use crate::async_queue::{AsyncConsumer, AsyncProducer};
pub use crate::async_service::{AsyncClient, AsyncPending, AsyncServer};
pub use crate::async_topic::{AsyncPublisher, AsyncSubscriber};
pub use crate::async_value::AsyncReader;

/// After so many operations in a row for which it did not have to wait, a task gives way.
pub const TURN: u32 = 128;

/// What a task waits by.
pub(crate) trait Asked {
    /// Says that it waits no more.
    fn withdraw(&mut self);
}

/// A handle, and how long its task has had its turn.
#[derive(Debug)]
pub(crate) struct Asking<H> {
    pub(crate) handle: H,
    turns: u32,
}

impl<H: Asked> Asking<H> {
    pub(crate) fn new(handle: H) -> Self {
        Self { handle, turns: 0 }
    }

    /// Asks once, for a task that has to wait if there is nothing.
    pub(crate) fn poll<T>(
        &mut self,
        waker: &Waker,
        ask: impl FnOnce(&mut H, &Waker) -> Option<T>,
    ) -> Poll<T> {
        if self.turns == TURN {
            self.turns = 0;
            waker.wake_by_ref();
            return Poll::Pending;
        }
        match ask(&mut self.handle, waker) {
            Some(found) => {
                self.turns += 1;
                self.handle.withdraw();
                Poll::Ready(found)
            }
            None => {
                self.turns = 0;
                Poll::Pending
            }
        }
    }

    /// Asks until there is something. Withdraws if it is dropped before.
    pub(crate) async fn ask<T>(&mut self, mut ask: impl FnMut(&mut H, &Waker) -> Option<T>) -> T {
        let this = Withdrawing(self);
        poll_fn(|context| this.0.poll(context.waker(), &mut ask)).await
    }
}

struct Withdrawing<'a, H: Asked>(&'a mut Asking<H>);

impl<H: Asked> Drop for Withdrawing<'_, H> {
    fn drop(&mut self) {
        self.0.handle.withdraw();
    }
}
