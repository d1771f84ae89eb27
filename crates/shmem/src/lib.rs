//! Memory that other processes can change.
//!
//! Everything that the channels of Tombolo need from shared memory, made safe: [regions](region)
//! with checked access, the [header] by which a segment is known, [names](name) and the
//! [directory] of them, [creation](open) that survives death at any instruction, [who is
//! alive](presence), a [lock] that outlives its holder, and [waiting](wait).

#[cfg(not(loom))]
pub mod anchor;
#[cfg(not(loom))]
pub mod arena;
pub mod barrier;
#[cfg(not(loom))]
pub mod bytes;
pub mod cells;
#[cfg(not(loom))]
pub mod chunks;
pub mod copy;
#[cfg(not(loom))]
mod direct;
pub mod header;
#[cfg(not(loom))]
pub mod heap;
#[cfg(not(loom))]
pub mod journal;
pub mod layout;
pub mod lock;
pub mod note;
pub mod presence;
pub mod pulse;
pub mod region;
#[cfg(not(loom))]
pub mod signals;
#[cfg(not(loom))]
pub mod sleep;
#[cfg(not(loom))]
pub mod solid;
pub mod sync;
pub mod wait;
pub mod waiter;
pub mod walk;
pub mod window;

#[cfg(not(loom))]
mod asking;
#[cfg(not(loom))]
mod beat;
#[cfg(not(loom))]
mod fetch;
#[cfg(not(loom))]
mod guarded;
#[cfg(not(loom))]
mod maps;
#[cfg(not(loom))]
mod memory;
#[cfg(loom)]
mod memory_loom;
#[cfg(not(loom))]
mod mourning;
mod parking;
#[cfg(not(loom))]
mod peers;
#[cfg(loom)]
#[path = "peers_loom.rs"]
mod peers;
#[cfg(not(loom))]
mod reactor;
mod robust;

#[cfg(not(loom))]
pub mod close;
#[cfg(not(loom))]
pub mod directory;
#[cfg(not(loom))]
pub mod error;
#[cfg(not(loom))]
pub mod foreign;
#[cfg(not(loom))]
mod look;
pub mod name;
#[cfg(not(loom))]
pub mod open;
#[cfg(not(loom))]
pub mod reclaim;

#[cfg(not(loom))]
pub use asking::Wait;
#[cfg(not(loom))]
pub use bytes::{Bytes, BytesMut, WrongSize};
#[cfg(not(loom))]
pub use chunks::{ChunkMut, Chunks, ChunksMut};
#[cfg(not(loom))]
pub use error::{OpenError, Reason};
pub use name::{BadName, Name};
#[cfg(not(loom))]
pub use open::Address;
pub use peers::Peers;
pub use region::{OutOfBounds, Region, View};
pub use waiter::{Waiter, Waiting};
pub use walk::{Extent, Walk};
pub use window::{Circle, Window};
/// The traits by which messages are values: plain bytes in, plain bytes out.
pub use zerocopy;
