//! `shmget`, `shmat`, `shmdt`.

use crate::attaches::extent;
use crate::caller::{self, Caller, Capability, EXECUTE, READ, WRITE};
use crate::layout::{Facility, PAGES, facility, segment, slot};
use crate::process::index_of;
use crate::space::Space;
use crate::table::{self, Found};
use shmem::arena::Access;
use shmem::journal::Tx;
use sysv::abi::*;
use sysv::{Errno, Result};

const SHM: Facility = Facility::Shm;

/// Bytes of a page of x86-64; SHMLBA is the same.
pub(crate) const PAGE: usize = 4096;

/// Maps pages in place of what is there (`SHM_REMAP`): file offset, length, address, access.
pub type Remap<'a> = &'a mut dyn FnMut(usize, usize, usize, Access) -> Result<usize>;

impl Space {
    /// Finds or makes a segment.
    ///
    /// # Errors
    /// Those of `shmget`; `EUCLEAN` if the registry is damaged.
    pub fn shmget(&self, caller: &dyn Caller, key: i32, size: usize, flags: i32) -> Result<i32> {
        let mut inside = self.enter(SHM)?;
        let tx = &mut inside.tx;
        let suits = |tx: &Tx, at: usize| {
            if tx.get(at + segment::SIZE)? < size as u64 {
                Err(Errno::INVAL)
            } else {
                Ok(())
            }
        };
        let id = match table::get(tx, SHM, key, flags, suits)? {
            Found::Slot(index) => table::found(tx, SHM, index, flags, caller, self.user_space)?,
            Found::Create => self.create_segment(tx, caller, key, size, flags)?,
        };
        inside.finish();
        Ok(id)
    }

    fn create_segment(
        &self,
        tx: &mut Tx,
        caller: &dyn Caller,
        key: i32,
        size: usize,
        flags: i32,
    ) -> Result<i32> {
        let limits = self.limits();
        if size == 0 || size as u64 > limits.shmmax {
            return Err(Errno::INVAL);
        }
        let pages = size.div_ceil(PAGE);
        let total = tx.get(SHM.at() + facility::TOTAL)?;
        if total.saturating_add(pages as u64) > limits.shmall {
            return Err(Errno::NOSPC);
        }
        if flags & SHM_HUGETLB != 0 {
            return Err(self.refuse_huge_pages(caller, flags));
        }
        let length = pages.checked_mul(PAGE).ok_or(Errno::NOMEM)?;
        let offset = free_pages(tx, length)?;
        let index = table::add(tx, SHM, key, flags, caller, limits.shmmni)?;
        // Zero, whatever a killed process left there.
        self.arena.clear(offset, length).map_err(|_| Errno::NOMEM)?;
        let at = SHM.slot(index);
        tx.set(at + segment::SIZE, size as u64)?;
        tx.set(at + segment::OFFSET, offset as u64)?;
        tx.set(at + segment::CREATOR_PID, self.pid() as u64)?;
        tx.set(at + segment::CREATOR_BIRTH, self.birth())?;
        tx.set(SHM.at() + facility::TOTAL, total + pages as u64)?;
        tx.set(
            SHM.at() + facility::NEXT_PAGE,
            (offset + length + PAGE) as u64,
        )?;
        table::id(tx, SHM, index)
    }

    /// There are no huge pages here: the errors of a machine whose pool is empty.
    fn refuse_huge_pages(&self, caller: &dyn Caller, flags: i32) -> Errno {
        match flags >> SHM_HUGE_SHIFT & 0x3f {
            0 | 21 | 30 => {}
            _ => return Errno::INVAL,
        }
        let allowed = caller.is_capable(Capability::IpcLock, self.user_space)
            || caller.is_in_huge_page_group();
        if allowed { Errno::NOMEM } else { Errno::PERM }
    }

    /// Maps a segment and answers where. `remap` maps pages over what is there; it is called
    /// only with `SHM_REMAP`.
    ///
    /// # Errors
    /// Those of `shmat`; `EUCLEAN` if the registry is damaged.
    pub fn shmat(
        &self,
        caller: &dyn Caller,
        id: i32,
        address: usize,
        flags: i32,
        remap: Remap,
    ) -> Result<usize> {
        let replace = flags & SHM_REMAP != 0;
        let mut address = address;
        if address != 0 && !address.is_multiple_of(PAGE) {
            if flags & SHM_RND == 0 {
                return Err(Errno::INVAL);
            }
            address -= address % PAGE;
        }
        if address == 0 && replace || id < 0 {
            return Err(Errno::INVAL);
        }
        let mut inside = self.enter(SHM)?;
        let tx = &mut inside.tx;
        let index = table::by_id(tx, SHM, id)?;
        let at = SHM.slot(index);
        if tx.get(at + slot::MODE)? & u64::from(SHM_DEST) != 0 {
            self.refresh(tx, index)?;
        } else {
            // What has happened before is noted before.
            self.settle_users(tx, at)?;
        }
        let access = Access {
            write: flags & SHM_RDONLY == 0,
            execute: flags & SHM_EXEC != 0,
        };
        let mut wanted = READ;
        if access.write {
            wanted |= WRITE;
        }
        if access.execute {
            wanted |= EXECUTE;
        }
        caller::allow(tx, at, caller, wanted, self.user_space)?;
        let (offset, length) = extent(tx, index)?;
        let fixed = (address != 0).then_some(address);
        let base = match fixed {
            Some(address) if replace => {
                let base = remap(offset, length, address, access)?;
                self.compare_with_map(tx)?;
                // The same segment at the same address: the map can't tell old from new.
                for own in Self::attaches(tx, index_of(self.mine.load()))? {
                    if (own.segment, own.address) == (index, base) {
                        self.discount_attach(tx, &own)?;
                    }
                }
                base
            }
            fixed => self.arena.attach(offset, length, fixed, access)?,
        };
        let me = index_of(self.mine.load());
        self.count_attach(tx, me, index, base, length)?;
        tx.set(at + segment::LAST_PID, self.pid() as u64)?;
        self.finish_dying(tx)?;
        inside.finish();
        Ok(base)
    }

    /// Unmaps an attach by its base. `unmap` is called for each range of addresses that is left
    /// of it.
    ///
    /// # Errors
    /// `EINVAL` if no attach of this process begins there; `EUCLEAN` if the registry is damaged.
    pub fn shmdt(
        &self,
        address: usize,
        unmap: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<()> {
        if address == 0 || !address.is_multiple_of(PAGE) {
            return Err(Errno::INVAL);
        }
        let mut inside = self.enter(SHM)?;
        let tx = &mut inside.tx;
        let me = index_of(self.mine.load());
        let at_address = |tx: &Tx| {
            let own = Self::attaches(tx, me)?.into_iter();
            let mut there = own.filter(|attach| attach.address == address);
            Ok::<_, Errno>(there.next())
        };
        let mut attach = at_address(tx)?;
        // The whole of it is there, nearly always; what became of others does not matter now.
        let whole = attach.map(|attach| attach.whole());
        let map = match whole {
            Some(whole) if self.arena.is_mapped(&whole) => Some(vec![whole]),
            _ => {
                let map = self.compare_with_map(tx)?;
                attach = at_address(tx)?;
                map
            }
        };
        let Some(attach) = attach else {
            // What was found missing has been detached all the same.
            self.finish_dying(tx)?;
            inside.finish();
            return Err(Errno::INVAL);
        };
        for (start, length) in Self::parts(&attach, map.as_deref()) {
            unmap(start, length)?;
        }
        self.settle_users(tx, SHM.slot(attach.segment))?;
        self.discount_attach(tx, &attach)?;
        self.finish_dying(tx)?;
        inside.finish();
        Ok(())
    }
}

/// Where so many bytes of pages are free. A page stays free between two segments, so that the
/// kernel never joins the mappings of both.
fn free_pages(tx: &Tx, length: usize) -> Result<usize> {
    let room = length.checked_add(PAGE).ok_or(Errno::NOMEM)?;
    if room > PAGES {
        return Err(Errno::NOMEM);
    }
    let mut used = Vec::new();
    for index in table::in_use(tx, SHM)? {
        let (offset, length) = extent(tx, index)?;
        used.push((offset, offset + length + PAGE));
    }
    // Pages that were in use lately are left alone as long as there are others: a child that
    // nobody has counted may have them mapped.
    let hint = tx.get(SHM.at() + facility::NEXT_PAGE)? as usize / PAGE * PAGE;
    let fits = |start: usize| {
        start.saturating_add(room) <= PAGES
            && used
                .iter()
                .all(|(offset, end)| start >= *end || start + room <= *offset)
    };
    if fits(hint) {
        return Ok(hint);
    }
    used.sort_unstable();
    let mut start = 0;
    for (offset, end) in used {
        if start + room <= offset {
            break;
        }
        start = start.max(end);
    }
    if start.saturating_add(room) <= PAGES {
        Ok(start)
    } else {
        Err(Errno::NOMEM)
    }
}
