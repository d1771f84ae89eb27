//! Attaches: which process has which segment where.
//!
//! A segment's count is the number of its attaches, each of which hangs on its segment and on its
//! process. The kernel knows better what is mapped: a program may unmap, move or replace part of
//! an attach behind our back. So what this process itself has is compared with its memory map
//! where it matters ([`Space::compare_with_map`]), if `/proc` is there to be asked.

use crate::layout::{
    Facility, PAGES, attach, facility, header, process, process_at, segment, slot,
};
use crate::list::{nodes, push, remove};
use crate::process::index_of;
use crate::space::{Space, now};
use crate::table;
use shmem::anchor::Process;
use shmem::arena::Mapped;
use shmem::journal::{Tx, get};
use std::collections::BTreeMap;
use sysv::abi::SHM_DEST;
use sysv::{Errno, Result};

const SHM: Facility = Facility::Shm;

/// What an attach says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attach {
    pub(crate) node: usize,
    pub(crate) segment: usize,
    pub(crate) address: usize,
    pub(crate) length: usize,
    /// Where its pages are in the file.
    pub(crate) offset: usize,
}

impl Attach {
    fn read(tx: &Tx, node: usize) -> Result<Self> {
        let segment = tx.get_at(node + attach::SEGMENT)? % crate::layout::SLOTS;
        Ok(Self {
            node,
            segment,
            address: tx.get(node + attach::ADDRESS)? as usize,
            length: pages(tx.get(node + attach::LENGTH)?)?,
            offset: pages(tx.get(SHM.slot(segment) + segment::OFFSET)?)?,
        })
    }

    /// All of it, mapped where it was attached.
    pub(crate) fn whole(&self) -> Mapped {
        Mapped {
            start: self.address,
            length: self.length,
            offset: self.offset,
        }
    }

    /// The part of the attach that a mapping is, if it is one.
    fn part(&self, mapped: &Mapped) -> bool {
        mapped.start.wrapping_sub(mapped.offset) == self.address.wrapping_sub(self.offset)
            && (self.offset..self.offset.saturating_add(self.length)).contains(&mapped.offset)
    }
}

/// A number of bytes of pages.
///
/// # Errors
/// `EUCLEAN` if there are not so many.
fn pages(word: u64) -> Result<usize> {
    match usize::try_from(word) {
        Ok(bytes) if bytes <= PAGES => Ok(bytes),
        _ => Err(Errno::UCLEAN),
    }
}

/// Where the pages of a segment are, and how many bytes.
///
/// # Errors
/// `EUCLEAN` if there are no such pages.
pub(crate) fn extent(tx: &Tx, index: usize) -> Result<(usize, usize)> {
    let at = SHM.slot(index);
    let size = pages(tx.get(at + segment::SIZE)?)?;
    let offset = pages(tx.get(at + segment::OFFSET)?)?;
    Ok((offset, size.next_multiple_of(crate::shm::PAGE)))
}

/// The mappings of a process, to be found by where attach and pages would begin.
struct Map(BTreeMap<(usize, usize), Mapped>);

impl Map {
    fn new(mapped: Vec<Mapped>) -> Self {
        let key = |m: &Mapped| (m.start.wrapping_sub(m.offset), m.offset);
        Self(mapped.into_iter().map(|m| (key(&m), m)).collect())
    }

    fn has(&self, attach: &Attach) -> bool {
        let delta = attach.address.wrapping_sub(attach.offset);
        let end = attach.offset.saturating_add(attach.length);
        self.0
            .range((delta, attach.offset)..(delta, end))
            .next()
            .is_some()
    }
}

impl Space {
    /// The attaches of a process.
    pub(crate) fn attaches(tx: &Tx, index: usize) -> Result<Vec<Attach>> {
        let ends = process_at(index) + process::ATTACHES;
        let all = nodes(tx, ends, attach::OF_PROCESS)?;
        all.into_iter().map(|node| Attach::read(tx, node)).collect()
    }

    /// Counts an attach.
    pub(crate) fn count_attach(
        &self,
        tx: &mut Tx,
        of: usize,
        index: usize,
        address: usize,
        length: usize,
    ) -> Result<()> {
        let node = SHM.heap().allocate(tx, attach::LAYOUT.size)?;
        tx.set(node + attach::PROCESS, of as u64)?;
        tx.set(node + attach::SEGMENT, index as u64)?;
        tx.set(node + attach::ADDRESS, address as u64)?;
        tx.set(node + attach::LENGTH, length as u64)?;
        let at = SHM.slot(index);
        push(tx, at + segment::ATTACHES, node, attach::OF_SEGMENT)?;
        let ends = process_at(of) + process::ATTACHES;
        push(tx, ends, node, attach::OF_PROCESS)?;
        tx.add(at + segment::COUNT, 1)?;
        tx.set(at + segment::ATTACHED, now())
    }

    /// Takes an attach out of the books; the last one of a marked segment destroys it.
    pub(crate) fn discount_attach(&self, tx: &mut Tx, gone: &Attach) -> Result<()> {
        let at = SHM.slot(gone.segment);
        let of = tx.get_at(gone.node + attach::PROCESS)? % crate::layout::PROCESSES;
        remove(tx, at + segment::ATTACHES, gone.node, attach::OF_SEGMENT)?;
        let ends = process_at(of) + process::ATTACHES;
        remove(tx, ends, gone.node, attach::OF_PROCESS)?;
        SHM.heap().free(tx, gone.node)?;
        tx.add(at + segment::COUNT, -1)?;
        let pid = self.pid_of(of);
        // A child that was counted and never born has done nothing.
        if pid != 0 {
            tx.set(at + segment::DETACHED, now())?;
            tx.set(at + segment::LAST_PID, pid as u64)?;
        }
        let marked = tx.get(at + slot::MODE)? & u64::from(SHM_DEST) != 0;
        if (marked || self.is_forced()) && tx.get(at + segment::COUNT)? == 0 {
            self.destroy(tx, gone.segment)?;
        }
        Ok(())
    }

    /// Takes a segment out of the table. Its pages are given back by
    /// [`finish_dying`](Self::finish_dying).
    pub(crate) fn destroy(&self, tx: &mut Tx, index: usize) -> Result<()> {
        let (_, length) = extent(tx, index)?;
        table::bury(tx, SHM, index)?;
        let pages = (length / crate::shm::PAGE) as i64;
        tx.add(SHM.at() + facility::TOTAL, -pages)
    }

    /// Gives back the pages of destroyed segments. Makes everything before final, because what was
    /// given back can't be put back.
    pub(crate) fn finish_dying(&self, tx: &mut Tx) -> Result<()> {
        let Some(mut index) = table::first_buried(tx, SHM)? else {
            return Ok(());
        };
        tx.commit();
        loop {
            let (offset, length) = extent(tx, index)?;
            // If it fails the memory is lost until the pages are used again.
            let _ = self.arena.clear(offset, length);
            table::set_free(tx, SHM, index)?;
            tx.commit();
            match table::first_buried(tx, SHM)? {
                Some(next) => index = next,
                None => return Ok(()),
            }
        }
    }

    /// Detaches everything that a dead process had attached.
    pub(crate) fn settle_attaches(&self, tx: &mut Tx, index: usize) -> Result<()> {
        for attach in Self::attaches(tx, index)? {
            self.discount_attach(tx, &attach)?;
            // Each for itself: there may be more than a journal has room for.
            tx.commit();
        }
        Ok(())
    }

    /// What `fork` does: the heir has all attaches of a process once more.
    pub(crate) fn copy_attaches(&self, tx: &mut Tx, index: usize, heir: usize) -> Result<()> {
        let pid = self.pid_of(index) as u64;
        for attach in Self::attaches(tx, index)? {
            // What has happened before is noted before.
            self.settle_users(tx, SHM.slot(attach.segment))?;
            self.count_attach(tx, heir, attach.segment, attach.address, attach.length)?;
            tx.set(SHM.slot(attach.segment) + segment::LAST_PID, pid)?;
            tx.commit();
        }
        Ok(())
    }

    /// Makes this process's attaches what its memory map says, and answers the map. Does nothing
    /// where the map can't be read.
    pub(crate) fn compare_with_map(&self, tx: &mut Tx) -> Result<Option<Vec<Mapped>>> {
        let own = Self::attaches(tx, index_of(self.mine.load()))?;
        if own.is_empty() {
            return Ok(None);
        }
        let Ok(mapped) = self.arena.mappings() else {
            return Ok(None);
        };
        let map = Map::new(mapped.clone());
        let missing: Vec<&Attach> = own.iter().filter(|attach| !map.has(attach)).collect();
        for gone in &missing {
            let moved = mapped.iter().find_map(|m| {
                let within = gone.offset..gone.offset.saturating_add(gone.length);
                let address = m.start.wrapping_sub(m.offset.wrapping_sub(gone.offset));
                let free = !own.iter().any(|other| other.part(m));
                (within.contains(&m.offset) && free).then_some(address)
            });
            match moved {
                // One that was moved takes the mapping for itself; another does not find it.
                Some(address) if missing.len() == 1 => {
                    tx.set(gone.node + attach::ADDRESS, address as u64)?;
                }
                Some(address) => {
                    let taken = Self::attaches(tx, index_of(self.mine.load()))?;
                    if taken.iter().any(|other| other.address == address) {
                        self.discount_attach(tx, gone)?;
                    } else {
                        tx.set(gone.node + attach::ADDRESS, address as u64)?;
                    }
                }
                None => self.discount_attach(tx, gone)?,
            }
            tx.commit();
        }
        Ok(Some(mapped))
    }

    /// Counts what a child has that nobody counted before it was born.
    pub(crate) fn inherit_mappings(&self) -> Result<()> {
        let Ok(mapped) = self.arena.mappings() else {
            return Ok(());
        };
        if mapped.is_empty() {
            return Ok(());
        }
        let me = index_of(self.mine.load());
        let mut inside = self.enter(SHM)?;
        let tx = &mut inside.tx;
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        for index in table::in_use(tx, SHM)? {
            let at = SHM.slot(index);
            let (offset, length) = extent(tx, index)?;
            let within = mapped
                .iter()
                .filter(|m| (offset..offset.saturating_add(length)).contains(&m.offset));
            let mut bases: Vec<usize> = within
                .map(|m| m.start.wrapping_sub(m.offset - offset))
                .collect();
            bases.dedup();
            for base in bases {
                self.count_attach(tx, me, index, base, length)?;
                tx.set(at + segment::LAST_PID, parent as u64)?;
                tx.commit();
            }
        }
        inside.finish();
        Ok(())
    }

    /// The mappings that an attach still has, or all of it where nobody can say.
    pub(crate) fn parts(attach: &Attach, map: Option<&[Mapped]>) -> Vec<(usize, usize)> {
        match map {
            Some(map) => map
                .iter()
                .filter(|m| attach.part(m))
                .map(|m| (m.start, m.length))
                .collect(),
            None => vec![(attach.address, attach.length)],
        }
    }

    /// Makes a segment's count true: who has died is detached, and of this process what it has
    /// unmapped.
    ///
    /// # Errors
    /// `EINVAL` if the segment is gone after that.
    pub(crate) fn refresh(&self, tx: &mut Tx, index: usize) -> Result<()> {
        let at = SHM.slot(index);
        let users = Self::owners(
            tx,
            at + segment::ATTACHES,
            attach::OF_SEGMENT,
            attach::PROCESS,
        )?;
        if users.contains(&index_of(self.mine.load())) {
            self.compare_with_map(tx)?;
        }
        self.settle_users(tx, at)?;
        if self.is_forced() && table::by_index(tx, SHM, index).is_ok() {
            self.remove_orphan(tx, index)?;
        }
        self.finish_dying(tx)?;
        table::by_index(tx, SHM, index)
    }

    /// Whether segments go without `IPC_RMID`.
    fn is_forced(&self) -> bool {
        get(self.region(), header::FORCED).is_ok_and(|forced| forced != 0)
    }

    /// Destroys a segment that has no attach and no creator any more.
    fn remove_orphan(&self, tx: &mut Tx, index: usize) -> Result<()> {
        let at = SHM.slot(index);
        let creator = Process {
            pid: tx.get(at + segment::CREATOR_PID)? as i32,
            birth: tx.get(at + segment::CREATOR_BIRTH)?,
        };
        if tx.get(at + segment::COUNT)? == 0 && !creator.is_running() {
            self.destroy(tx, index)?;
        }
        Ok(())
    }

    /// [`refresh`](Self::refresh)es every segment that goes with its last attach.
    pub(crate) fn refresh_marked(&self, tx: &mut Tx) -> Result<()> {
        for index in table::in_use(tx, SHM)? {
            if tx.get(SHM.slot(index) + slot::MODE)? & u64::from(SHM_DEST) != 0 {
                match self.refresh(tx, index) {
                    Ok(()) | Err(Errno::INVAL) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
