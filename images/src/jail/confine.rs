//! What the tool in the jail may still do: six capabilities, a few limits, and no system call that changes
//! mounts, namespaces, other processes or the kernel.

use std::io;

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP: what restoring owners, modes, devices and file
/// capabilities needs.
const CAPABILITIES: [u32; 6] = [0, 1, 3, 4, 27, 31];
const OPEN_FILES: u64 = 4096;
const MEMORY_BYTES: u64 = 4 << 30;

/// Sets the limits every process in the jail inherits. A file larger than `bytes` fails to be written.
pub(super) fn limit(bytes: u64) -> io::Result<()> {
    let limits = [
        (libc::RLIMIT_FSIZE, bytes),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_NOFILE, OPEN_FILES),
        (libc::RLIMIT_AS, MEMORY_BYTES),
    ];
    for (resource, value) in limits {
        let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        // SAFETY: `limit` is a valid `rlimit` for the length of the call.
        check(unsafe { libc::setrlimit(resource, &limit) })?;
    }
    Ok(())
}

/// Drops every capability but [`CAPABILITIES`] for this process and whatever it executes, sets
/// `no_new_privs`, and loads the system call filter. Nothing takes any of this back.
pub(super) fn drop_powers() -> io::Result<()> {
    drop_capabilities()?;
    // SAFETY: prctl with plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    load_filter()
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn drop_capabilities() -> io::Result<()> {
    for capability in 0..64_u32 {
        if CAPABILITIES.contains(&capability) {
            continue;
        }
        // SAFETY: prctl with plain numbers.
        let result =
            check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) });
        match result {
            // Past the last capability this kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    let mask = CAPABILITIES.iter().fold(0_u32, |mask, capability| mask | (1 << capability));
    let kept = CapabilityData { effective: mask, permitted: mask, inheritable: mask };
    let data = [kept, CapabilityData::default()];
    // Version 3 of the interface: two words of 32 capabilities.
    let header = CapabilityHeader { version: 0x2008_0522, pid: 0 };
    // SAFETY: header and data have the layout version 3 asks for and live for the length of the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(result)
}

/// System calls that fail with EPERM in the jail. What unpacking needs is left alone: this list is a second
/// wall behind the namespaces and the capabilities.
const DENIED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// Loads the filter; on an architecture it was not written for, the other walls must do.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn load_filter() -> io::Result<()> {
    Ok(())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn load_filter() -> io::Result<()> {
    let mut program = filter(DENIED);
    let length =
        u16::try_from(program.len()).map_err(|_| io::Error::other("the system call filter is too long"))?;
    let header = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: `header` points to `program`, and both outlive the call; the kernel copies the filter.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const header) })
}

/// Each instruction in words: kill what is not this architecture, refuse the x32 calls and [`DENIED`], say
/// "no such call" to `clone3` (whose flags a filter can't see, so that libraries fall back to `clone`), refuse
/// `clone` with a flag that makes a namespace, and allow the rest.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn filter(denied: &[libc::c_long]) -> Vec<libc::sock_filter> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    const X32: u32 = 0x4000_0000;
    const NAMESPACES: u32 = 0x7E02_0000;
    let refuse = |errno: i32| libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap_or(1);
    let code = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let mut program = vec![
        code(LOAD, 4, 0, 0),
        code(EQUAL, ARCHITECTURE, 1, 0),
        code(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        code(LOAD, 0, 0, 0),
        code(AT_LEAST, X32, 0, 1),
        code(RETURN, refuse(libc::EPERM), 0, 0),
        code(EQUAL, number(libc::SYS_clone3), 0, 1),
        code(RETURN, refuse(libc::ENOSYS), 0, 0),
    ];
    for call in denied {
        program.push(code(EQUAL, number(*call), 0, 1));
        program.push(code(RETURN, refuse(libc::EPERM), 0, 0));
    }
    program.extend([
        code(EQUAL, number(libc::SYS_clone), 0, 3),
        code(LOAD, 16, 0, 0),
        code(ANY_BIT, NAMESPACES, 0, 1),
        code(RETURN, refuse(libc::EPERM), 0, 0),
        code(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]);
    program
}

fn check<T: Into<i64>>(result: T) -> io::Result<()> {
    if result.into() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
