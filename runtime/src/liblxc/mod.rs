//! Our own small binding of liblxc, loaded at run time.
//!
//! Only the helper process calls containers through it (see [`crate::helper`]); [`Liblxc::version`] may be
//! asked anywhere. The object a container is in C is a structure of function pointers, declared in
//! `layout.rs`.

mod attach;
mod layout;

pub use attach::{Attach, AttachError};

use layout::{ConsoleLog, Handle};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};
use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

const FILE: &str = "liblxc.so.1";
const OLDEST: u32 = 5;

/// The library can't be used, or a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiblxcError {
    /// It is not on this machine.
    #[error("the library {FILE} is not available: install liblxc1")]
    Missing,
    /// It lacks something, or is too old.
    #[error("the library {FILE} can't be used: {0}")]
    Unusable(String),
    /// A text has a zero byte.
    #[error("a zero byte in {0:?}")]
    ZeroByte(String),
    /// The library returned failure; its log has the reason.
    #[error("{call} failed")]
    Call {
        /// The function's name.
        call: &'static str,
        /// The library's own word on it; often empty.
        detail: String,
    },
}

type Put = unsafe extern "C" fn(Handle) -> c_int;
type New = unsafe extern "C" fn(*const c_char, *const c_char) -> Handle;

/// The loaded library.
#[derive(Debug)]
pub struct Liblxc {
    new: Symbol<New>,
    put: Symbol<Put>,
    has_api_extension: Symbol<unsafe extern "C" fn(*const c_char) -> bool>,
    version: String,
    // Last, so that it goes after the symbols.
    _library: Library,
}

impl Liblxc {
    /// Loads it and checks that it is new enough.
    pub fn load() -> Result<Self, LiblxcError> {
        if cfg!(not(target_pointer_width = "64")) {
            return Err(LiblxcError::Unusable("only 64-bit machines are supported".to_owned()));
        }
        // SAFETY: the library's initialisers only set up its own logging.
        let library = unsafe { Library::open(Some(FILE), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|_| LiblxcError::Missing)?;
        let unusable = |error: libloading::Error| LiblxcError::Unusable(error.to_string());
        // SAFETY: the types are those of lxccontainer.h.
        let (new, put, has_api_extension, get_version) = unsafe {
            (
                library.get::<New>("lxc_container_new").map_err(unusable)?,
                library.get::<Put>("lxc_container_put").map_err(unusable)?,
                library.get("lxc_has_api_extension").map_err(unusable)?,
                library
                    .get::<unsafe extern "C" fn() -> *const c_char>("lxc_get_version")
                    .map_err(unusable)?,
            )
        };
        // SAFETY: it takes nothing and returns a static text.
        let version = unsafe { text(get_version()) };
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
        if major < OLDEST {
            let message = format!("version {version} is too old, {OLDEST}.0 or newer is needed");
            return Err(LiblxcError::Unusable(message));
        }
        Ok(Self { new, put, has_api_extension, version, _library: library })
    }

    /// Its version, such as `5.0.2`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether it has an extension of its interface, such as `idmapped_mounts_v2`.
    pub fn has(&self, extension: &str) -> bool {
        // SAFETY: the text ends with a zero byte.
        CString::new(extension).is_ok_and(|extension| unsafe { (self.has_api_extension)(extension.as_ptr()) })
    }

    /// The container of this name under `lxc_path`, whether it runs or not.
    pub fn container(&self, name: &str, lxc_path: &Path) -> Result<Container<'_>, LiblxcError> {
        let name = c_string(name)?;
        let path = c_string(&lxc_path.to_string_lossy())?;
        // SAFETY: both texts end with a zero byte; the library copies them.
        let handle = unsafe { (self.new)(name.as_ptr(), path.as_ptr()) };
        if handle.is_null() {
            return Err(LiblxcError::Call { call: "lxc_container_new", detail: String::new() });
        }
        Ok(Container { library: self, handle })
    }
}

/// A container's object in the library.
#[derive(Debug)]
pub struct Container<'library> {
    library: &'library Liblxc,
    handle: Handle,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle came from `lxc_container_new` and is given back once.
        unsafe {
            (self.library.put)(self.handle);
        }
    }
}

/// Calls the member `$member` of the container, or fails with its name when the library has it not.
macro_rules! call {
    ($container:expr, $member:ident $(, $argument:expr)*) => {{
        // SAFETY: the handle is live; the member has the type the header gives it; texts outlive the call.
        unsafe {
            match (*$container.handle).$member {
                Some(function) => Ok(function($container.handle $(, $argument)*)),
                None => Err(LiblxcError::Unusable(concat!("it has no ", stringify!($member)).to_owned())),
            }
        }
    }};
}
use call;

impl Container<'_> {
    /// Reads a configuration file.
    pub fn load_config(&self, file: &Path) -> Result<(), LiblxcError> {
        let file = c_string(&file.to_string_lossy())?;
        self.must("load_config", call!(self, load_config, file.as_ptr())?)
    }

    /// Sets one configuration item.
    pub fn set_config_item(&self, key: &str, value: &str) -> Result<(), LiblxcError> {
        let (key, value) = (c_string(key)?, c_string(value)?);
        self.must("set_config_item", call!(self, set_config_item, key.as_ptr(), value.as_ptr())?)
    }

    /// Starts its init in the background; the monitor closes every inherited descriptor.
    pub fn start_in_background(&self) -> Result<(), LiblxcError> {
        self.must("want_daemonize", call!(self, want_daemonize, true)?)?;
        self.must("want_close_all_fds", call!(self, want_close_all_fds, true)?)?;
        self.must("start", call!(self, start, 0, ptr::null())?)
    }

    /// Kills it and waits until it is gone.
    pub fn stop(&self) -> Result<(), LiblxcError> {
        self.must("stop", call!(self, stop)?)
    }

    /// Asks its init to power off. Returns whether it was gone within `seconds` (-1: however long it takes).
    pub fn shutdown(&self, seconds: i32) -> Result<bool, LiblxcError> {
        call!(self, shutdown, seconds)
    }

    /// Waits for a state such as `STOPPED`.
    pub fn wait(&self, state: &str, seconds: i32) -> Result<bool, LiblxcError> {
        let state = c_string(state)?;
        call!(self, wait, state.as_ptr(), seconds)
    }

    /// Stops all its processes until [`unfreeze`](Self::unfreeze).
    pub fn freeze(&self) -> Result<(), LiblxcError> {
        self.must("freeze", call!(self, freeze)?)
    }

    /// Lets them go on.
    pub fn unfreeze(&self) -> Result<(), LiblxcError> {
        self.must("unfreeze", call!(self, unfreeze)?)
    }

    /// Its state: `STOPPED`, `STARTING`, `RUNNING`, `STOPPING`, `ABORTING`, `FREEZING`, `FROZEN`, `THAWED`.
    pub fn state(&self) -> Result<String, LiblxcError> {
        let state = call!(self, state)?;
        // SAFETY: the returned text is static.
        Ok(unsafe { text(state) })
    }

    /// Whether its init runs.
    pub fn is_running(&self) -> Result<bool, LiblxcError> {
        call!(self, is_running)
    }

    /// Its init as the host sees it.
    pub fn init_pid(&self) -> Result<Option<u32>, LiblxcError> {
        Ok(u32::try_from(call!(self, init_pid)?).ok().filter(|pid| *pid > 0))
    }

    /// Reads a cgroup file of a running container, such as `memory.max`.
    pub fn cgroup_item(&self, file: &str) -> Result<String, LiblxcError> {
        let file = c_string(file)?;
        let mut buffer = vec![0u8; 4096];
        let length = c_int::try_from(buffer.len()).unwrap_or(c_int::MAX);
        let read = call!(self, get_cgroup_item, file.as_ptr(), buffer.as_mut_ptr().cast(), length)?;
        let Ok(read) = usize::try_from(read) else { return Err(self.failure("get_cgroup_item")) };
        buffer.truncate(read.min(buffer.len()));
        Ok(String::from_utf8_lossy(&buffer).trim_end_matches(['\0', '\n']).to_owned())
    }

    /// Writes a cgroup file of a running container.
    pub fn set_cgroup_item(&self, file: &str, value: &str) -> Result<(), LiblxcError> {
        let (file, value) = (c_string(file)?, c_string(value)?);
        self.must("set_cgroup_item", call!(self, set_cgroup_item, file.as_ptr(), value.as_ptr())?)
    }

    /// The ring of what was last written on its console.
    pub fn console_log(&self) -> Result<Vec<u8>, LiblxcError> {
        let mut length = 0u64;
        let mut log =
            ConsoleLog { clear: false, read: true, read_max: &raw mut length, data: ptr::null_mut() };
        let status = call!(self, console_log, &raw mut log)?;
        if status < 0 {
            // An empty ring is "no data".
            return if -status == libc::ENODATA { Ok(Vec::new()) } else { Err(self.failure("console_log")) };
        }
        if log.data.is_null() {
            return Ok(Vec::new());
        }
        let length = usize::try_from(length).unwrap_or(0);
        // SAFETY: the library says that `data` has `length` bytes, allocated by malloc and now ours.
        unsafe {
            let bytes = std::slice::from_raw_parts(log.data.cast::<u8>(), length).to_vec();
            libc::free(log.data.cast());
            Ok(bytes)
        }
    }

    /// Takes its console: the terminal's master side, and what keeps it taken while it is open.
    pub fn console(&self) -> Result<(OwnedFd, OwnedFd), LiblxcError> {
        let (mut number, mut master): (c_int, c_int) = (0, -1);
        let keeper = call!(self, console_getfd, &raw mut number, &raw mut master)?;
        if keeper < 0 || master < 0 {
            return Err(self.failure("console_getfd"));
        }
        // SAFETY: both descriptors are new and ours.
        Ok(unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(keeper)) })
    }

    /// Its terminal filesystem, where the library can tell.
    pub fn terminals(&self) -> Option<OwnedFd> {
        if !self.library.has("devpts_fd") {
            return None;
        }
        let descriptor = call!(self, devpts_fd).ok().filter(|descriptor| *descriptor >= 0)?;
        // SAFETY: the descriptor is new and ours.
        Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }

    fn must(&self, call: &'static str, succeeded: bool) -> Result<(), LiblxcError> {
        if succeeded { Ok(()) } else { Err(self.failure(call)) }
    }

    fn failure(&self, call: &'static str) -> LiblxcError {
        // SAFETY: the handle is live; the text, where there is one, ends with a zero byte.
        let detail = unsafe { text((*self.handle).error_string) };
        LiblxcError::Call { call, detail }
    }
}

fn c_string(text: &str) -> Result<CString, LiblxcError> {
    CString::new(text).map_err(|_| LiblxcError::ZeroByte(text.to_owned()))
}

/// # Safety
///
/// `pointer` is null or a text that ends with a zero byte.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_tells_its_version_and_extensions() {
        let library = match Liblxc::load() {
            Ok(library) => library,
            Err(LiblxcError::Missing) => {
                eprintln!("skipped: the_library_tells_its_version_and_extensions: liblxc1 is not installed");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(library.version().starts_with(|c: char| c.is_ascii_digit()), "{}", library.version());
        assert!(library.has("idmapped_mounts_v2"));
        assert!(!library.has("no_such_extension"));
    }

    #[test]
    fn a_container_nobody_started_is_stopped() {
        let Ok(library) = Liblxc::load() else {
            eprintln!("skipped: a_container_nobody_started_is_stopped: liblxc1 is not installed");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let container = library.container("nobody", folder.path()).unwrap();
        assert_eq!(container.state().unwrap(), "STOPPED");
        assert!(!container.is_running().unwrap());
        assert_eq!(container.init_pid().unwrap(), None);
        assert!(matches!(library.container("a\0b", folder.path()), Err(LiblxcError::ZeroByte(_))));
    }
}
