//! seccomp: the system calls that a worker may make.
//!
//! A base for every tokio worker, and groups for the roles that write files, talk to other hosts or load
//! libraries. What is on no list fails with EPERM, is logged, or ends the process, as the mode says.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

use super::{Mode, Needs};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

#[rustfmt::skip]
const BASE: &[i64] = &[
    // memory
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_memfd_create,
    // threads and their signals
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq,
    libc::SYS_gettid, libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_membarrier,
    libc::SYS_sigaltstack, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall, libc::SYS_exit, libc::SYS_exit_group,
    // time and chance
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep, libc::SYS_gettimeofday, libc::SYS_getrandom,
    libc::SYS_timerfd_create, libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime,
    // facts
    libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getegid, libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_getgroups,
    libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrusage, libc::SYS_times, libc::SYS_getcwd,
    libc::SYS_capget,
    // descriptors
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64,
    libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_lseek, libc::SYS_close,
    libc::SYS_close_range, libc::SYS_fcntl, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2,
    libc::SYS_eventfd2, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_sendfile,
    libc::SYS_splice, libc::SYS_copy_file_range,
    // files: Landlock says which
    libc::SYS_openat, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx,
    libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlinkat, libc::SYS_getdents64,
    libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_flock, libc::SYS_fadvise64,
    // sockets
    libc::SYS_connect, libc::SYS_accept4, libc::SYS_accept, libc::SYS_getsockname,
    libc::SYS_getpeername, libc::SYS_setsockopt, libc::SYS_getsockopt, libc::SYS_sendto,
    libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg,
    libc::SYS_recvmmsg, libc::SYS_shutdown,
];

/// Older names that only some machines have.
#[rustfmt::skip]
#[cfg(target_arch = "x86_64")]
const BASE_OF_MACHINE: &[i64] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink,
    libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_epoll_create, libc::SYS_pipe,
    libc::SYS_dup2, libc::SYS_eventfd, libc::SYS_time, libc::SYS_getrlimit, libc::SYS_getpgrp,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const BASE_OF_MACHINE: &[i64] = &[];

#[rustfmt::skip]
const WRITES: &[i64] = &[
    libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_syncfs,
    libc::SYS_ftruncate, libc::SYS_truncate, libc::SYS_fallocate,
    libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat2, libc::SYS_linkat,
    libc::SYS_symlinkat, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown,
    libc::SYS_fchownat, libc::SYS_utimensat, libc::SYS_umask,
    libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch,
];
#[rustfmt::skip]
#[cfg(target_arch = "x86_64")]
const WRITES_OF_MACHINE: &[i64] = &[
    libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename, libc::SYS_renameat,
    libc::SYS_link, libc::SYS_symlink, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown,
    libc::SYS_utime, libc::SYS_utimes, libc::SYS_creat,
];
#[cfg(not(target_arch = "x86_64"))]
const WRITES_OF_MACHINE: &[i64] = &[libc::SYS_renameat];

/// How a tracer skips a call (to let it fail in a test); the kernel knows no such call.
const SKIPPED: i64 = 0xffff_ffff;

const NETWORK: &[i64] = &[libc::SYS_bind];

/// What modules of the name service are known to call.
#[rustfmt::skip]
const LIBRARIES: &[i64] = &[
    libc::SYS_prctl, libc::SYS_openat2, libc::SYS_name_to_handle_at, libc::SYS_getxattr,
    libc::SYS_fgetxattr, libc::SYS_mlock, libc::SYS_munlock, libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch, libc::SYS_getsid, libc::SYS_getpgid,
    libc::SYS_pidfd_open, libc::SYS_fchdir, libc::SYS_chdir, libc::SYS_umask,
];

pub(super) fn restrict(needs: &Needs, mode: Mode) -> Result<(), seccompiler::Error> {
    let refused = match mode {
        Mode::On => SeccompAction::Errno(errno(libc::EPERM)),
        Mode::Log => SeccompAction::Log,
        Mode::Kill => SeccompAction::KillProcess,
        Mode::Off => return Ok(()),
    };
    // The flags of clone3 are behind a pointer, where no filter sees them: as on a kernel that has no
    // clone3, the C library takes clone.
    let mut clone3 = Rules::new();
    clone3.insert(libc::SYS_clone3, Vec::new());
    let missing = SeccompAction::Errno(errno(libc::ENOSYS));
    apply_filter(&compiled(clone3, SeccompAction::Allow, missing)?)?;
    apply_filter(&program(rules(needs)?, refused)?)
}

fn program(rules: Rules, refused: SeccompAction) -> Result<BpfProgram, BackendError> {
    compiled(rules, refused, SeccompAction::Allow)
}

fn compiled(
    rules: Rules,
    others: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let machine = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, others, listed, machine)?.try_into()
}

fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

fn rules(needs: &Needs) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    let mut lists = vec![BASE, BASE_OF_MACHINE];
    if needs.writes() {
        lists.extend([WRITES, WRITES_OF_MACHINE]);
    }
    if needs.network {
        lists.push(NETWORK);
    }
    if needs.libraries {
        lists.push(LIBRARIES);
    }
    for call in lists.into_iter().flatten().chain([&libc::SYS_clone3, &SKIPPED]) {
        rules.insert(*call, Vec::new());
    }
    conditional(&mut rules, needs)?;
    Ok(rules)
}

/// Calls that depend on their arguments.
fn conditional(rules: &mut Rules, needs: &Needs) -> Result<(), BackendError> {
    let mut families = vec![number(libc::AF_UNIX)];
    if needs.network {
        families.extend([number(libc::AF_INET), number(libc::AF_INET6)]);
    }
    rules.insert(libc::SYS_socket, one_of(0, &families)?);
    rules.insert(libc::SYS_socketpair, one_of(0, &[number(libc::AF_UNIX)])?);
    // Threads of this process, no other process and no namespace.
    let thread = number(libc::CLONE_VM | libc::CLONE_THREAD);
    rules.insert(libc::SYS_clone, vec![bits(0, thread, thread)?]);
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, one_of(0, &[own])?);
    // Signal 0 asks whether a process lives: whose lock is stale?
    rules.insert(libc::SYS_kill, one_of(1, &[0])?);
    if !needs.libraries {
        // PR_SET_VMA is how the C library names memory.
        let names = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA].map(number);
        rules.insert(libc::SYS_prctl, one_of(0, &names)?);
    }
    rules.insert(libc::SYS_prlimit64, vec![no_pointer(2)?]);
    let harmless = [libc::TCGETS, libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::TIOCOUTQ];
    rules.insert(libc::SYS_ioctl, one_of(1, &harmless.map(u64::from))?);
    let execute = number(libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let without = if needs.libraries { Vec::new() } else { vec![bits(2, execute, 0)?] };
        rules.insert(call, without);
    }
    Ok(())
}

fn number(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

/// One rule per value that the argument may have.
fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    let equal = |value: &u64| {
        let length = SeccompCmpArgLen::Dword;
        SeccompCondition::new(argument, length, SeccompCmpOp::Eq, *value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    values.iter().map(equal).collect()
}

fn no_pointer(argument: u8) -> Result<SeccompRule, BackendError> {
    let length = SeccompCmpArgLen::Qword;
    SeccompRule::new(vec![SeccompCondition::new(argument, length, SeccompCmpOp::Eq, 0)?])
}

/// The argument's bits of `mask` have to be `wanted`.
fn bits(argument: u8, mask: u64, wanted: u64) -> Result<SeccompRule, BackendError> {
    let masked = SeccompCmpOp::MaskedEq(mask);
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, masked, wanted)?;
    SeccompRule::new(vec![condition])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_makes_a_program_for_this_machine() {
        let everything =
            Needs { mailboxes: true, network: true, libraries: true, ..Needs::default() };
        for needs in [Needs::default(), everything] {
            assert!(program(rules(&needs).unwrap(), SeccompAction::KillProcess).is_ok());
        }
        assert!(!rules(&Needs::default()).unwrap().contains_key(&libc::SYS_unlinkat));
        for call in [libc::SYS_execve, libc::SYS_ptrace, libc::SYS_setuid, libc::SYS_listen] {
            assert!(
                !rules(&Needs { mailboxes: true, ..Needs::default() }).unwrap().contains_key(&call)
            );
        }
    }
}
