//! Who takes part, and who has died.
//!
//! Each process has a slot in a table. Its *identity* is the slot's index, a generation that tells
//! it from the slot's earlier owners, and whether its image holds a lock on the byte that belongs
//! to the slot ([`shmem::anchor`]). What a process has in the name space hangs on its slot: attaches,
//! adjustments, calls that sleep.
//!
//! | | lives as long as | is asked by |
//! | --- | --- | --- |
//! | attaches, sleeping calls, held locks | the image | the byte's lock |
//! | adjustments (`SEM_UNDO`) | the process, through `exec` | its pid and birth |
//!
//! Whoever comes across something of a dead process settles it; a slot on which nothing hangs any
//! more is free again.
//!
//! **fork.** The parent claims the child's slot and lock beforehand and counts what the child
//! inherits, so that it counts from the first moment; see [`Space::before_fork`]. A child of which
//! nobody knew (a raw `clone`) finds the identity wiped, claims a slot with its first call, and
//! counts what it finds mapped.
//!
//! **Crash.** A slot is claimed by a compare-exchange when the byte is locked already: a claimer
//! that dies is dead for everyone.

use crate::layout::{Facility, PROCESSES, attach, header, process, process_at};
use crate::list;
use crate::space::{Inside, Space};
use shmem::anchor::{Hold, Look, Process};
use shmem::journal::Tx;
use shmem::sync::Ordering;
use std::time::{Duration, Instant};
use sysv::{Errno, Result};

const INDEX_BITS: u32 = 13;
const INDEX: u64 = (1 << INDEX_BITS) - 1;
/// The identity has no lock: no descriptor could be had to take it.
const UNLOCKED: u64 = 1 << INDEX_BITS;
const GENERATION_SHIFT: u32 = 16;

const _: () = assert!(PROCESSES as u64 == INDEX + 1);

/// The bytes that are locked lie behind everything that the file can hold.
const LOCKED_BYTES: u64 = 1 << 61;
/// The byte that everybody locks who uses the name space, whether he has an identity or not.
pub const USERS_BYTE: u64 = 1 << 60;
/// How long it may take to decide whether a name space goes.
const DECISION: Duration = Duration::from_secs(5);

/// The slot of an identity.
pub(crate) fn index_of(identity: u64) -> usize {
    (identity & INDEX) as usize
}

/// A claimed slot, and the mapping that holds its lock.
struct Claim {
    identity: u64,
    hold: Option<Hold>,
}

/// What is between the two halves of a fork.
#[derive(Debug)]
pub struct Fork<'s> {
    space: &'s Space,
    inside: Option<Inside<'s>>,
    parent: u64,
    child: Option<(u64, Hold)>,
}

impl Space {
    /// Counts this process, and every child that it forks, among those who use the name space,
    /// until it ends or calls `exec`: whoever has [`USERS_BYTE`] alone may take the name space
    /// away.
    ///
    /// # Errors
    /// Those of `open` and `mmap`; `ENOENT` or `ESTALE` if the name space was taken away.
    pub fn stay(&self) -> Result<()> {
        let file = self.arena.file();
        let start = Instant::now();
        let hold = loop {
            match file.hold(USERS_BYTE) {
                // Somebody looks whether he may take it away, and then does or does not.
                Err(Errno::AGAIN | Errno::ACCESS) if start.elapsed() < DECISION => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                held => break held?,
            }
        };
        // It may have been taken away before the lock was ours.
        file.is_held(USERS_BYTE)?;
        hold.share_with_children();
        Ok(())
    }

    /// This process's identity; the first call claims a slot.
    ///
    /// # Errors
    /// `ENOSPC` if the table of processes is full.
    pub(crate) fn identity(&self) -> Result<u64> {
        match self.mine.load() {
            0 => self.register(),
            mine => Ok(mine),
        }
    }

    /// The pid of this process, as the registry has it.
    #[inline]
    pub(crate) fn pid(&self) -> i32 {
        self.pid_of(index_of(self.mine.load()))
    }

    /// What tells this process from a later one with its pid.
    pub(crate) fn birth(&self) -> u64 {
        self.process_word(index_of(self.mine.load()), process::BIRTH)
    }

    #[inline]
    pub(crate) fn pid_of(&self, index: usize) -> i32 {
        self.process_word(index, process::PID) as i32
    }

    #[inline]
    fn process_word(&self, index: usize, field: usize) -> u64 {
        // Relaxed: numbers that stand for themselves.
        self.region()
            .load_u64(process_at(index) + field, Ordering::Relaxed)
    }

    fn set_process_word(&self, index: usize, field: usize, value: u64) {
        // Release: before the identity that makes them count, or after the one that did.
        self.region()
            .u64(process_at(index) + field)
            .store(value, Ordering::Release);
    }

    /// The slots that were ever in use.
    fn processes(&self) -> std::ops::Range<usize> {
        // Relaxed: only ever more.
        let end = self
            .region()
            .load_u64(header::PROCESSES_END, Ordering::Relaxed);
        0..usize::try_from(end).map_or(PROCESSES, |end| end.min(PROCESSES))
    }

    /// The slots of earlier images of the process in a slot: it has replaced them by `exec`.
    pub(crate) fn earlier_images(&self, me: usize) -> Vec<usize> {
        let word = |index, field| self.process_word(index, field);
        let (pid, birth) = (word(me, process::PID), word(me, process::BIRTH));
        if birth == 0 {
            return Vec::new();
        }
        let same = |index: &usize| {
            *index != me
                && (word(*index, process::PID), word(*index, process::BIRTH)) == (pid, birth)
                && word(*index, process::UNDOS) != 0
        };
        self.processes()
            .filter(same)
            .filter(|index| self.is_gone(*index))
            .collect()
    }

    #[cold]
    fn register(&self) -> Result<u64> {
        let before = self.had_identity.swap(1, Ordering::Relaxed);
        let claim = self.claim()?;
        let me = claim.identity;
        self.be(me);
        if let Some(hold) = claim.hold {
            hold.keep()?;
        }
        self.mine.store(me);
        if before == 1 {
            // Forked behind our back.
            self.inherit_mappings()?;
        }
        self.inherit_adjustments()?;
        Ok(me)
    }

    /// Fills in what a claimed slot does not know yet: who is in it.
    fn be(&self, identity: u64) {
        let this = Process::this();
        let index = index_of(identity);
        self.set_process_word(index, process::BIRTH, this.birth);
        self.set_process_word(index, process::PID, this.pid as u64);
    }

    /// Claims a free slot, and its lock if that can be had.
    fn claim(&self) -> Result<Claim> {
        if let Some(claim) = self.claim_free()? {
            return Ok(claim);
        }
        self.settle_all()?;
        self.claim_free()?.ok_or(Errno::NOSPC)
    }

    fn claim_free(&self) -> Result<Option<Claim>> {
        for index in 0..PROCESSES {
            if self.process_word(index, process::IDENTITY) != 0 {
                continue;
            }
            // Relaxed: only ever more, and before anything of the slot counts.
            self.region()
                .u64(header::PROCESSES_END)
                .fetch_max(index as u64 + 1, Ordering::Relaxed);
            let hold = self.arena.file().hold(LOCKED_BYTES + index as u64).ok();
            let generation = self.process_word(index, process::GENERATION) + 1;
            let unlocked = if hold.is_some() { 0 } else { UNLOCKED };
            let identity = generation << GENERATION_SHIFT | unlocked | index as u64;
            let word = self.region().u64(process_at(index) + process::IDENTITY);
            // AcqRel: after the lock, before what hangs on the slot. Relaxed on failure: the next.
            let claimed = word.compare_exchange(0, identity, Ordering::AcqRel, Ordering::Relaxed);
            if claimed.is_ok() {
                return Ok(Some(Claim { identity, hold }));
            }
        }
        Ok(None)
    }

    /// Whether the image with an identity lives.
    pub(crate) fn image_lives(&self, identity: u64) -> bool {
        self.lives(identity, &mut None)
    }

    /// [`image_lives`](Self::image_lives), with a look that serves for others too.
    fn lives(&self, identity: u64, look: &mut Option<Look>) -> bool {
        if identity == self.mine.load() {
            return true;
        }
        let index = index_of(identity);
        if identity == 0 || self.process_word(index, process::IDENTITY) != identity {
            return false;
        }
        if identity & UNLOCKED == 0 {
            if look.is_none() {
                *look = self.arena.file().look().ok();
            }
            let byte = LOCKED_BYTES + index as u64;
            if let Some(Ok(held)) = look.as_ref().map(|look| look.is_held(byte)) {
                return held;
            }
        }
        // Nothing to look with, or nothing to look at: then as long as the process.
        self.pid_of(index) == 0 || self.runs(index)
    }

    /// Whether the process in a slot runs, whatever its image.
    fn runs(&self, index: usize) -> bool {
        let process = Process {
            pid: self.pid_of(index),
            birth: self.process_word(index, process::BIRTH),
        };
        process.is_running()
    }

    /// The identity of who is in a slot, or 0.
    pub(crate) fn identity_of(&self, index: usize) -> u64 {
        self.process_word(index % PROCESSES, process::IDENTITY)
    }

    /// Whether the image in a slot has ended.
    pub(crate) fn is_gone(&self, index: usize) -> bool {
        !self.image_lives(self.identity_of(index))
    }

    /// Whether the process in a slot has ended, and not only its image.
    pub(crate) fn has_ended(&self, index: usize) -> bool {
        self.is_gone(index) && !self.runs(index % PROCESSES)
    }

    /// Frees the slot of a dead process if nothing hangs on it any more. The caller holds one of
    /// the locks; what the others guard can only have become less.
    pub(crate) fn release(&self, index: usize) {
        let identity = self.process_word(index, process::IDENTITY);
        let lists = [
            process::ATTACHES,
            process::UNDOS,
            process::SENDERS,
            process::SLEEPERS,
        ];
        let empty = lists
            .iter()
            .all(|list| self.process_word(index, *list) == 0);
        if !empty || identity == 0 || self.image_lives(identity) {
            return;
        }
        self.set_process_word(index, process::GENERATION, identity >> GENERATION_SHIFT);
        self.set_process_word(index, process::PID, 0);
        self.set_process_word(index, process::BIRTH, 0);
        // Release: after the words above. Another that settles the same slot may be faster.
        let _ = self
            .region()
            .u64(process_at(index) + process::IDENTITY)
            .compare_exchange(identity, 0, Ordering::Release, Ordering::Relaxed);
    }

    /// Settles every dead process.
    pub fn settle_all(&self) -> Result<()> {
        for index in self.processes() {
            if self.process_word(index, process::IDENTITY) == 0 || !self.is_gone(index) {
                continue;
            }
            // Without an identity of our own we can take no lock, and free what needs none.
            if self.mine.load() != 0 {
                let mut inside = self.enter(Facility::Shm)?;
                self.settle_attaches(&mut inside.tx, index)?;
                inside.finish();
                let mut inside = self.enter(Facility::Msg)?;
                self.settle_senders(&mut inside, index)?;
                inside.finish();
                let mut inside = self.enter(Facility::Sem)?;
                self.settle_sem(&mut inside, index)?;
                inside.finish();
            }
            self.release(index);
        }
        Ok(())
    }

    /// To be called before `fork`. Waits until no other thread of this process is between mapping
    /// a segment and counting it, and keeps it so until one of the other two is called.
    pub fn before_fork(&self) -> Option<Fork<'_>> {
        let parent = self.mine.load();
        if parent == 0 {
            return None;
        }
        let mut inside = self.enter(Facility::Shm).ok()?;
        let index = index_of(parent);
        let attached = inside.tx.get(process_at(index) + process::ATTACHES);
        let mut child = None;
        if attached.is_ok_and(|first| first != 0)
            && let Ok(Some(claim)) = self.claim_free()
            && let Some(hold) = claim.hold
        {
            child = Some((claim.identity, hold));
            let heir = index_of(claim.identity);
            if self.copy_attaches(&mut inside.tx, index, heir).is_ok() {
                inside.tx.commit();
            }
        }
        Some(Fork {
            space: self,
            inside: Some(inside),
            parent,
            child,
        })
    }

    fn born(&self, fork: &mut Fork) -> Result<()> {
        if let Some((identity, hold)) = fork.child.take() {
            self.be(identity);
            hold.keep()?;
            self.mine.store(identity);
            return Ok(());
        }
        // Nothing was inherited, or it could not be counted beforehand.
        self.had_identity.store(0, Ordering::Relaxed);
        let index = index_of(fork.parent);
        if self.process_word(index, process::IDENTITY) != fork.parent
            || self.process_word(index, process::ATTACHES) == 0
        {
            return Ok(());
        }
        let heir = index_of(self.identity()?);
        let mut inside = self.enter(Facility::Shm)?;
        self.copy_attaches(&mut inside.tx, index, heir)?;
        inside.finish();
        Ok(())
    }

    /// The indices of the processes to which nodes of a list belong, each once. The process
    /// stands in a node's first word.
    pub(crate) fn owners(tx: &Tx, ends: usize, links: usize, owner: usize) -> Result<Vec<usize>> {
        let mut owners = Vec::new();
        let mut node = tx.get_at(ends)?;
        for _ in 0..list::LONGEST {
            if node == 0 {
                owners.sort_unstable();
                owners.dedup();
                return Ok(owners);
            }
            let index = tx.get_at(node + owner)? % PROCESSES;
            if owners.last() != Some(&index) {
                owners.push(index);
            }
            node = tx.get_at(node + links)?;
        }
        Err(Errno::UCLEAN)
    }

    /// Settles the attaches of those who have died among a segment's users.
    pub(crate) fn settle_users(&self, tx: &mut Tx, slot_at: usize) -> Result<()> {
        let ends = slot_at + crate::layout::segment::ATTACHES;
        let mut look = None;
        for index in Self::owners(tx, ends, attach::OF_SEGMENT, attach::PROCESS)? {
            if !self.lives(self.identity_of(index), &mut look) {
                self.settle_attaches(tx, index)?;
                self.release(index);
            }
        }
        Ok(())
    }
}

impl Fork<'_> {
    /// To be called in the parent after `fork`, also if it failed: the child's lock was then its
    /// mapping here, and goes with it.
    pub fn parent(self) {
        drop(self.child);
        if let Some(inside) = self.inside {
            inside.finish();
        }
    }

    /// To be called in the child after `fork`.
    pub fn child(mut self) {
        if let Some(inside) = self.inside.take() {
            inside.leave_to_parent();
        }
        let space = self.space;
        // What fails here is found missing by later calls.
        let _ = space.born(&mut self);
    }
}

impl Inside<'_> {
    /// In a child: the lock is the parent's.
    fn leave_to_parent(self) {
        let (tx, held, blocked) = self.into_parts();
        std::mem::forget(tx);
        std::mem::forget(held);
        drop(blocked);
    }
}
