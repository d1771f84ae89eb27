//! Boost.Interprocess's `message_queue`, through the shim in `boost.cpp`.

use anyhow::{Context, Result, bail, ensure};
use bench::bare::{look, slots};
use bench::content::{Payload, Verifier};
use bench::transport::{About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire};
use std::ffi::{CString, c_char, c_int, c_void};

unsafe extern "C" {
    fn boost_queue_create(name: *const c_char, count: usize, size: usize) -> bool;
    fn boost_queue_remove(name: *const c_char);
    fn boost_queue_open(name: *const c_char) -> *mut c_void;
    fn boost_queue_close(queue: *mut c_void);
    fn boost_queue_send(queue: *mut c_void, bytes: *const u8, size: usize, spin: bool) -> c_int;
    fn boost_queue_receive(queue: *mut c_void, bytes: *mut u8, size: usize, spin: bool) -> isize;
}

/// A message queue.
#[derive(Clone, Copy, Debug)]
pub struct Boost {
    /// Whether its ends try again and again instead of sleeping.
    pub spin: bool,
}

/// One end.
///
/// # Invariants
/// `queue` came from `boost_queue_open` and is closed by `drop` only.
pub struct End {
    queue: *mut c_void,
    buffer: Vec<u8>,
    spin: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        // SAFETY: the invariant.
        unsafe { boost_queue_close(self.queue) };
    }
}

impl Sender for End {
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        let bytes = payload.bytes(number);
        let (at, length) = (bytes.as_ptr(), bytes.len());
        let sent = look(|| {
            // SAFETY: an open queue, and bytes that are there.
            let sent = unsafe { boost_queue_send(self.queue, at, length, self.spin) };
            (sent != 0).then_some(sent)
        });
        ensure!(sent == 1, "Boost's send threw");
        Ok(())
    }
}

impl Receiver for End {
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let (to, room) = (self.buffer.as_mut_ptr(), self.buffer.len());
        let came = look(|| {
            // SAFETY: an open queue, and room for as many bytes.
            let came = unsafe { boost_queue_receive(self.queue, to, room, self.spin) };
            (came != -2).then_some(came)
        });
        let came = usize::try_from(came)
            .ok()
            .context("Boost's receive threw")?;
        verifier.check(&self.buffer[..came])?;
        Ok(true)
    }
}

impl Boost {
    fn end(self, task: &Task, link: &Link) -> Result<End> {
        let name = CString::new(link.name.as_str())?;
        // SAFETY: a string that ends in NUL.
        let queue = unsafe { boost_queue_open(name.as_ptr()) };
        ensure!(!queue.is_null(), "Boost can't open the queue");
        // INVARIANT: just opened.
        Ok(End {
            queue,
            buffer: vec![0; task.length],
            spin: self.spin,
        })
    }
}

impl Transport for Boost {
    type Sender = End;
    type Receiver = End;

    fn about(&self) -> About {
        let (name, waits) = match self.spin {
            true => ("Boost.Interprocess queue, spinning", Waits::Spin),
            false => ("Boost.Interprocess queue", Waits::Block),
        };
        About::new(name, Family::Rival, waits, Way::OneByOne)
    }

    fn wire(&self, task: &Task, unique: &str) -> Result<Wire> {
        let name = CString::new(unique)?;
        let count = slots(task.length) as usize;
        // SAFETY: a string that ends in NUL, and numbers.
        if !unsafe { boost_queue_create(name.as_ptr(), count, task.length) } {
            bail!("Boost can't create the queue");
        }
        // SAFETY: a string that ends in NUL.
        Ok(Wire::named(unique).cleanup(move || unsafe { boost_queue_remove(name.as_ptr()) }))
    }

    fn sender(&self, task: &Task, link: &Link) -> Result<End> {
        self.end(task, link)
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<End> {
        self.end(task, link)
    }
}
