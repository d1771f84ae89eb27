//! A call in place: its request is written where the server reads it, its reply is read where the
//! server wrote it.
//!
//! Both lie in the slot that the client has for its calls, long ones elsewhere in its rooms at each call (see
//! `service_layout`). Before the request is published nobody looks
//! at it, so who dies while it writes leaves a slot in which nothing was asked. The reply stays until the
//! client asks again, which it can't while it has it in hand.

use crate::service::CallError;
use crate::service_client::Client;
use shmem::wait::Patience;
use shmem::{Bytes, BytesMut};

impl Client {
    /// A place for a request of `length` bytes, to be written in place. Dropping it means that nothing
    /// happened.
    ///
    /// ```
    /// # use tombolo::{Patience, service::{Client, Options, Server}};
    /// # let name: tombolo::Name = format!("doc-asking-{}", std::process::id()).parse()?;
    /// # let mut server = Server::open_or_create(name.clone(), &Options::default())?;
    /// # let serving = std::thread::spawn(move || {
    /// #     let request = server.next().unwrap();
    /// #     let mut text = Vec::new();
    /// #     request.append_to(&mut text);
    /// #     request.reply(&text).unwrap();
    /// # });
    /// # let mut client = Client::open(name)?;
    /// let mut request = client.loan(8)?;
    /// request.bytes().set_field(0, &7u64)?;
    /// let answer = request.call(Patience::FOREVER)?;
    /// assert_eq!(answer.bytes().read::<u64>()?, 7);
    /// # serving.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn loan(&mut self, length: usize) -> Result<Asking<'_>, CallError> {
        let offset = self.prepare(length)?;
        Ok(Asking {
            client: self,
            offset,
            length,
        })
    }
}

/// A place for a request, which is not asked yet. Dropping it means that nothing happened.
#[derive(Debug)]
pub struct Asking<'a> {
    pub(crate) client: &'a mut Client,
    /// Where it begins in the slot's room.
    pub(crate) offset: usize,
    pub(crate) length: usize,
}

impl<'a> Asking<'a> {
    /// The request's bytes, to be written. What is never written holds the bytes of older requests.
    pub fn bytes(&mut self) -> BytesMut<'_> {
        self.client.room(self.offset, self.length)
    }

    /// Calls with the first `length` bytes only.
    #[must_use]
    pub fn shortened(mut self, length: usize) -> Self {
        self.length = self.length.min(length);
        self
    }

    /// Calls, and waits for the reply as long as `patience` lasts.
    ///
    /// # Errors
    /// See [`CallError`]; but that a server answered with an error is told by
    /// [`Answered::has_failed`].
    pub fn call(self, patience: Patience) -> Result<Answered<'a>, CallError> {
        self.client
            .call_in_place(self.offset, self.length, patience)
    }
}

/// A reply in place. A server that is no honest one can still write its bytes: look at each once, or
/// copy them out first.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    pub(crate) bytes: Bytes<'a>,
    pub(crate) failed: bool,
}

impl<'a> Answered<'a> {
    /// Whether the server answered with an error, whose bytes these are.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Its bytes, in place. Long ones are read by [pieces](Bytes::as_chunks).
    #[inline]
    pub fn bytes(&self) -> Bytes<'a> {
        self.bytes
    }

    /// Appends them to a buffer.
    ///
    /// # Errors
    /// [`CallError::Failed`] if they are those of an error; they are appended also then.
    #[inline]
    pub fn append_to(&self, to: &mut Vec<u8>) -> Result<(), CallError> {
        self.bytes.append_to(to);
        if self.failed {
            return Err(CallError::Failed);
        }
        Ok(())
    }
}
