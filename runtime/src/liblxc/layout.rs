//! The library's structures as its header declares them (API of 5.0; members are only ever appended).

use std::ffi::{c_char, c_int, c_long, c_void};

pub(super) type Handle = *mut LxcContainer;
type Unused = *const c_void;

/// `struct lxc_container`.
#[repr(C)]
pub(super) struct LxcContainer {
    private: [Unused; 5],
    threads: c_int,
    configuration: Unused,
    pub(super) error_string: *const c_char,
    pub(super) error_number: c_int,
    daemonize: bool,
    config_path: *const c_char,
    is_defined: Unused,
    pub(super) state: Option<unsafe extern "C" fn(Handle) -> *const c_char>,
    pub(super) is_running: Option<unsafe extern "C" fn(Handle) -> bool>,
    pub(super) freeze: Option<unsafe extern "C" fn(Handle) -> bool>,
    pub(super) unfreeze: Option<unsafe extern "C" fn(Handle) -> bool>,
    pub(super) init_pid: Option<unsafe extern "C" fn(Handle) -> libc::pid_t>,
    pub(super) load_config: Option<unsafe extern "C" fn(Handle, *const c_char) -> bool>,
    pub(super) start: Option<unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> bool>,
    startl: Unused,
    pub(super) stop: Option<unsafe extern "C" fn(Handle) -> bool>,
    pub(super) want_daemonize: Option<unsafe extern "C" fn(Handle, bool) -> bool>,
    pub(super) want_close_all_fds: Option<unsafe extern "C" fn(Handle, bool) -> bool>,
    config_file_name: Unused,
    pub(super) wait: Option<unsafe extern "C" fn(Handle, *const c_char, c_int) -> bool>,
    pub(super) set_config_item: Option<unsafe extern "C" fn(Handle, *const c_char, *const c_char) -> bool>,
    destroy_to_reboot: [Unused; 6],
    pub(super) shutdown: Option<unsafe extern "C" fn(Handle, c_int) -> bool>,
    clear_config_to_get_ips: [Unused; 7],
    pub(super) get_cgroup_item:
        Option<unsafe extern "C" fn(Handle, *const c_char, *mut c_char, c_int) -> c_int>,
    pub(super) set_cgroup_item: Option<unsafe extern "C" fn(Handle, *const c_char, *const c_char) -> bool>,
    get_config_path_to_clone: [Unused; 3],
    pub(super) console_getfd: Option<unsafe extern "C" fn(Handle, *mut c_int, *mut c_int) -> c_int>,
    console: Unused,
    pub(super) attach: Option<
        unsafe extern "C" fn(
            Handle,
            unsafe extern "C" fn(*mut c_void) -> c_int,
            *mut c_void,
            *mut AttachOptions,
            *mut libc::pid_t,
        ) -> c_int,
    >,
    attach_run_wait_to_migrate: [Unused; 16],
    pub(super) console_log: Option<unsafe extern "C" fn(Handle, *mut ConsoleLog) -> c_int>,
    reboot2_to_seccomp: [Unused; 5],
    init_pidfd: Unused,
    pub(super) devpts_fd: Option<unsafe extern "C" fn(Handle) -> c_int>,
}

/// `lxc_attach_options_t`.
#[repr(C)]
pub(super) struct AttachOptions {
    pub(super) flags: c_int,
    pub(super) namespaces: c_int,
    pub(super) personality: c_long,
    pub(super) initial_cwd: *const c_char,
    pub(super) uid: libc::uid_t,
    pub(super) gid: libc::gid_t,
    pub(super) environment_policy: c_int,
    pub(super) extra_environment: *const *const c_char,
    pub(super) extra_kept_environment: *const *const c_char,
    pub(super) stdin: c_int,
    pub(super) stdout: c_int,
    pub(super) stderr: c_int,
    pub(super) log: c_int,
    pub(super) lsm_label: *const c_char,
    pub(super) group_count: usize,
    pub(super) group_list: *const libc::gid_t,
}

/// Move to the container's cgroup, drop capabilities, set the personality, apply the security module's label.
pub(super) const ATTACH_DEFAULT: c_int = 0x0000_FFFF;
/// `LXC_ATTACH_CLEAR_ENV`.
pub(super) const ATTACH_CLEAR_ENVIRONMENT: c_int = 1;
/// `LXC_ATTACH_DETECT_PERSONALITY`.
pub(super) const ATTACH_DETECT_PERSONALITY: c_long = -1;

/// `struct lxc_console_log`.
#[repr(C)]
pub(super) struct ConsoleLog {
    pub(super) clear: bool,
    pub(super) read: bool,
    pub(super) read_max: *mut u64,
    pub(super) data: *mut c_char,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    /// The numbers are those a C compiler prints for the header of 5.0.2 on a 64-bit machine.
    #[test]
    fn members_lie_where_the_header_puts_them() {
        let expected = [
            (offset_of!(LxcContainer, error_string), 56),
            (offset_of!(LxcContainer, error_number), 64),
            (offset_of!(LxcContainer, daemonize), 68),
            (offset_of!(LxcContainer, config_path), 72),
            (offset_of!(LxcContainer, is_defined), 80),
            (offset_of!(LxcContainer, init_pid), 120),
            (offset_of!(LxcContainer, start), 136),
            (offset_of!(LxcContainer, stop), 152),
            (offset_of!(LxcContainer, want_close_all_fds), 168),
            (offset_of!(LxcContainer, wait), 184),
            (offset_of!(LxcContainer, set_config_item), 192),
            (offset_of!(LxcContainer, shutdown), 248),
            (offset_of!(LxcContainer, get_cgroup_item), 312),
            (offset_of!(LxcContainer, set_cgroup_item), 320),
            (offset_of!(LxcContainer, console_getfd), 352),
            (offset_of!(LxcContainer, attach), 368),
            (offset_of!(LxcContainer, console_log), 504),
            (offset_of!(LxcContainer, init_pidfd), 552),
            (offset_of!(LxcContainer, devpts_fd), 560),
            (size_of::<LxcContainer>(), 568),
            (offset_of!(AttachOptions, uid), 24),
            (offset_of!(AttachOptions, stdin), 56),
            (offset_of!(AttachOptions, log), 68),
            (offset_of!(AttachOptions, group_count), 80),
            (size_of::<AttachOptions>(), 96),
        ];
        for (index, (found, wanted)) in expected.into_iter().enumerate() {
            assert_eq!(found, wanted, "row {index}");
        }
    }
}
