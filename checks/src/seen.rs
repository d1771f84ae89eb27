//! Everything that can be seen of the System V objects of a name space: as text, and times apart, which may differ by a
//! second between two sides.

use std::fmt::Write;
use sysv::Calls;
use sysv::abi::*;

/// What is seen.
#[derive(Debug, Default)]
pub struct State {
    pub text: String,
    pub times: Vec<i64>,
}

/// Looks at everything. `name` says which pair a pid belongs to.
pub fn look(calls: &dyn Calls, name: &dyn Fn(i32) -> String) -> State {
    let mut state = State::default();
    segments(calls, name, &mut state);
    queues(calls, name, &mut state);
    sets(calls, name, &mut state);
    state
}

fn segments(calls: &dyn Calls, name: &dyn Fn(i32) -> String, state: &mut State) {
    let mut usage = shm_info::default();
    // SAFETY: SHM_INFO fills a shm_info.
    let highest = unsafe { calls.shmctl(0, SHM_INFO, (&raw mut usage).cast()) }.expect("SHM_INFO");
    let total = (usage.used_ids, usage.shm_tot);
    writeln!(state.text, "segments to {highest}: {total:?}").expect("text");
    for index in 0..=highest {
        let mut s = shmid_ds::default();
        // SAFETY: SHM_STAT_ANY fills a status.
        let Ok(id) = (unsafe { calls.shmctl(index, SHM_STAT_ANY, &raw mut s) }) else {
            continue;
        };
        let pids = [s.shm_cpid, s.shm_lpid].map(name);
        let what = (s.shm_perm, s.shm_segsz, s.shm_nattch);
        writeln!(state.text, "segment {id} {pids:?} {what:?}").expect("text");
        state.times.extend([s.shm_atime, s.shm_dtime, s.shm_ctime]);
    }
}

fn queues(calls: &dyn Calls, name: &dyn Fn(i32) -> String, state: &mut State) {
    let mut usage = msginfo::default();
    // SAFETY: MSG_INFO fills a msginfo.
    let highest = unsafe { calls.msgctl(0, MSG_INFO, (&raw mut usage).cast()) }.expect("MSG_INFO");
    writeln!(state.text, "queues to {highest}: {usage:?}").expect("text");
    for index in 0..=highest {
        let mut s = msqid_ds::default();
        // SAFETY: MSG_STAT_ANY fills a status.
        let Ok(id) = (unsafe { calls.msgctl(index, MSG_STAT_ANY, &raw mut s) }) else {
            continue;
        };
        let pids = [s.msg_lspid, s.msg_lrpid].map(name);
        let what = (s.msg_perm, s.__msg_cbytes, s.msg_qnum, s.msg_qbytes);
        writeln!(state.text, "queue {id} {pids:?} {what:?}").expect("text");
        state.times.extend([s.msg_stime, s.msg_rtime, s.msg_ctime]);
        for place in 0..s.msg_qnum.min(30) as i64 {
            let mut room = [0u64; 40];
            let flags = MSG_COPY | IPC_NOWAIT;
            // SAFETY: room for a type and 300 bytes.
            let got = unsafe { calls.msgrcv(id, room.as_mut_ptr().cast(), 300, place, flags) };
            writeln!(state.text, "  {got:?} {:x?}", &room[..3]).expect("text");
        }
    }
}

fn sets(calls: &dyn Calls, name: &dyn Fn(i32) -> String, state: &mut State) {
    let mut usage = seminfo::default();
    let at = (&raw mut usage).expose_provenance();
    // SAFETY: SEM_INFO fills a seminfo.
    let highest = unsafe { calls.semctl(0, 0, SEM_INFO, at) }.expect("SEM_INFO");
    writeln!(state.text, "sets to {highest}: {usage:?}").expect("text");
    for index in 0..=highest {
        let mut s = semid_ds::default();
        let at = (&raw mut s).expose_provenance();
        // SAFETY: SEM_STAT_ANY fills a status.
        let Ok(id) = (unsafe { calls.semctl(index, 0, SEM_STAT_ANY, at) }) else {
            continue;
        };
        writeln!(state.text, "set {id} {:?} {}", s.sem_perm, s.sem_nsems).expect("text");
        for number in 0..s.sem_nsems as i32 {
            let ask = |command| {
                // SAFETY: commands that take no argument.
                unsafe { calls.semctl(id, number, command, 0) }
            };
            let pid = ask(GETPID).map(name);
            let counts = [GETVAL, GETNCNT, GETZCNT].map(ask);
            writeln!(state.text, "  {pid:?} {counts:?}").expect("text");
        }
        // After what may settle the dead.
        // SAFETY: as above.
        let again = unsafe { calls.semctl(index, 0, SEM_STAT_ANY, at) };
        assert_eq!(again, Ok(id));
        state.times.extend([s.sem_otime, s.sem_ctime]);
    }
}
