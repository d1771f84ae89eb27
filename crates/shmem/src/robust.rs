//! The robust list of the calling thread: words that the kernel changes when the thread dies.
//!
//! ```text
//! thread's head ──► node ──► node ──► … ──► head      node + offset: the futex word
//!                     ▲ prev: one word before each node, the C library's own
//! ```
//!
//! The list belongs to the C library, which keeps its robust mutexes in it; the kernel knows the
//! head, and walks the list when the thread ends, be it by `kill -9` or `exec`: each word that
//! holds the thread's number gets `FUTEX_OWNER_DIED`, and one waiter is woken.
//!
//! **What is relied on.** That of glibc 2.36 on 64-bit machines, checked at run time as far as it
//! shows: the list is doubly linked, each node's back link stands in the word before it, the
//! head's too, and the word is 32 bytes before the node. Another C library has another offset or
//! no list; then nothing is linked. Mutexes are put in at the head and taken out from anywhere by
//! their two links, so a node of ours may stay between them.
//!
//! **Rules.** Only the thread itself changes its list. A node must stay mapped and in its list as
//! long as the thread lives: the kernel ends its walk at a node that it can't read, and mutexes
//! behind it would be lost.

use std::arch::asm;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes from a node to its futex word.
pub(crate) const WORD_FROM_NODE: isize = -32;
/// Bytes from a node to its back link.
pub(crate) const BACK_FROM_NODE: isize = -8;
const GET_ROBUST_LIST: usize = 274;
/// The kernel's own limit.
const LONGEST: usize = 2048;

/// `struct robust_list_head`, without its last field.
#[repr(C)]
struct Head {
    first: AtomicUsize,
    word_from_node: isize,
}

/// The calling thread's list. Links carry a mark in their lowest bit, which belongs to the node
/// they lead to.
pub(crate) struct List {
    /// Address of the head, which serves as the node before the first and behind the last.
    head: usize,
}

impl List {
    /// The list of the thread that asks, if it has one of the kind that is described above.
    pub(crate) fn mine() -> Option<Self> {
        if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
            return None;
        }
        let mut head: *const Head = std::ptr::null();
        let mut length = 0usize;
        let answer: isize;
        // SAFETY: the kernel takes number and arguments in these registers, changes rcx and r11,
        // and writes one word to each of the two addresses.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") GET_ROBUST_LIST as isize => answer,
                in("rdi") 0, in("rsi") &raw mut head, in("rdx") &raw mut length,
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
        if answer != 0 || length != 3 * size_of::<usize>() {
            return None;
        }
        // SAFETY: null, or the head that the C library registered, which lives as long as the
        // thread does.
        let list = unsafe { head.as_ref() }?;
        (list.word_from_node == WORD_FROM_NODE).then_some(Self {
            head: head.expose_provenance(),
        })
    }

    /// Puts a node in at the head.
    ///
    /// # Safety
    /// The node's address is a multiple of eight; the word there and the back link are this
    /// list's to write, and stay mapped until the node is [taken out](Self::remove) or the thread
    /// has died.
    pub(crate) unsafe fn insert(&self, node: usize) {
        // SAFETY: the head is a word of the list.
        let first = unsafe { load(self.head) };
        // The kernel may end the thread between any two stores: forward links come last.
        // SAFETY: the caller's promise.
        unsafe { store(node, first) };
        // SAFETY: the caller's promise.
        unsafe { store(back(node), self.head) };
        // SAFETY: the first node, or the head, has a back link.
        unsafe { store(back(first), node) };
        // SAFETY: the head is a word of the list.
        unsafe { store(self.head, node) };
    }

    /// Takes a node out; does nothing if it is not there.
    ///
    /// # Safety
    /// Every node of the list is mapped, which the C library relies on as well.
    pub(crate) unsafe fn remove(&self, node: usize) {
        let mut before = self.head;
        for _ in 0..LONGEST {
            // SAFETY: the head, or a node that the list leads to.
            let next = unsafe { load(before) };
            if unmarked(next) == node {
                // SAFETY: it is in the list.
                let behind = unsafe { load(node) };
                // SAFETY: the head, or a node that the list leads to.
                unsafe { store(before, behind) };
                // SAFETY: what is behind, a node or the head, has a back link.
                unsafe { store(back(behind), before) };
                return;
            }
            if unmarked(next) == self.head {
                return;
            }
            before = unmarked(next);
        }
    }
}

fn unmarked(link: usize) -> usize {
    link & !1
}

fn back(link: usize) -> usize {
    unmarked(link).wrapping_add_signed(BACK_FROM_NODE)
}

/// # Safety
/// An aligned word of this thread's list is there.
unsafe fn load(at: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { word(at) }.load(Ordering::Relaxed)
}

/// # Safety
/// As [`load`].
unsafe fn store(at: usize, value: usize) {
    // Release: the compiler must not move stores behind it that are made before. The kernel looks
    // on this very processor.
    // SAFETY: the caller's promise.
    unsafe { word(at) }.store(value, Ordering::Release);
}

/// # Safety
/// As [`load`].
unsafe fn word<'a>(at: usize) -> &'a AtomicUsize {
    // SAFETY: the caller's promise; an atomic word may be any bytes.
    unsafe { AtomicUsize::from_ptr(std::ptr::with_exposed_provenance_mut(at)) }
}
