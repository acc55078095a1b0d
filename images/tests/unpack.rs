//! Unpacking in the jail, with honest archives and with hostile ones. The test program itself is the helper: it
//! calls `jail_main` when it is started with the hidden argument.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "this is a test program")]

use larder_base::{Cancel, Progress};
use larder_images::{JAIL_ARGUMENT, JailLauncher, Limits, Select, UnpackError, UnpackRequest};
use libtest_mimic::{Arguments, Failed, Trial};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tar::EntryType;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(JAIL_ARGUMENT) {
        return larder_images::jail_main();
    }
    let cases: [(&str, fn()); 17] = [
        ("owners_modes_devices_and_links_are_restored", owners_modes_devices_and_links_are_restored),
        ("attributes_acls_and_file_capabilities_are_restored", attributes_are_restored),
        ("every_packing_is_unpacked", every_packing_is_unpacked),
        ("a_squashfs_is_unpacked", a_squashfs_is_unpacked),
        ("a_directory_can_be_taken_alone", a_directory_can_be_taken_alone),
        ("members_can_be_taken_alone", members_can_be_taken_alone),
        ("names_that_climb_are_refused", names_that_climb_are_refused),
        ("absolute_names_stay_inside", absolute_names_stay_inside),
        ("writing_through_a_link_stays_inside", writing_through_a_link_stays_inside),
        ("a_hard_link_to_the_outside_is_refused", a_hard_link_to_the_outside_is_refused),
        ("a_bomb_is_refused", a_bomb_is_refused),
        ("a_squashfs_bomb_is_refused", a_squashfs_bomb_is_refused),
        ("too_many_files_are_refused", too_many_files_are_refused),
        ("cancel_and_deadline_end_it", cancel_and_deadline_end_it),
        ("a_damaged_archive_says_so", a_damaged_archive_says_so),
        ("what_is_no_archive_says_so", what_is_no_archive_says_so),
        ("the_jail_has_nothing_in_it", the_jail_has_nothing_in_it),
    ];
    let trials = cases.map(|(name, case)| {
        Trial::test(name, move || {
            if rustix::process::geteuid().is_root() {
                case();
            } else {
                eprintln!("skipped: {name}: needs root");
            }
            Ok::<(), Failed>(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("into")).unwrap();
        fs::create_dir(root.path().join("outside")).unwrap();
        fs::write(root.path().join("outside/file"), "untouched").unwrap();
        Self { root }
    }

    fn target(&self) -> PathBuf {
        self.root.path().join("into")
    }

    fn archive(&self, bytes: &[u8]) -> PathBuf {
        let path = self.root.path().join("archive");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn unpack(&self, archive: &Path, limits: Limits, select: Select) -> Result<(), UnpackError> {
        self.unpack_until(archive, limits, select, &Cancel::never())
    }

    fn unpack_until(
        &self,
        archive: &Path,
        limits: Limits,
        select: Select,
        cancel: &Cancel,
    ) -> Result<(), UnpackError> {
        let launcher = JailLauncher::new(std::env::current_exe().unwrap());
        let request = UnpackRequest { archive, into: &self.target(), limits, select };
        let result = launcher.unpack(&request, cancel, &Progress::silent());
        assert_eq!(fs::read_to_string(self.root.path().join("outside/file")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(self.root.path().join("outside")).unwrap().count(), 1);
        result
    }

    fn all(&self, bytes: &[u8]) -> Result<(), UnpackError> {
        self.unpack(&self.archive(bytes), Limits::default(), Select::All)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.target().join(path)).unwrap()
    }
}

/// A tar file written header by header, so that it may hold what no tool would write.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, name: &str, kind: EntryType, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1234);
        header.set_gid(2345);
        header.set_size(data.len() as u64);
        header.set_mtime(1_700_000_000);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(name, EntryType::Regular, "", 0o644, data)
    }

    fn directory(self, name: &str) -> Self {
        self.entry(name, EntryType::Directory, "", 0o755, b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Symlink, target, 0o777, b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn owners_modes_devices_and_links_are_restored() {
    let bench = Bench::new();
    let tar = Tar::default()
        .directory("rootfs/")
        .entry("rootfs/su", EntryType::Regular, "", 0o4755, b"su")
        .entry("rootfs/null", EntryType::Char, "", 0o666, b"")
        .entry("rootfs/disk", EntryType::Block, "", 0o660, b"")
        .entry("rootfs/pipe", EntryType::Fifo, "", 0o600, b"")
        .entry("rootfs/same", EntryType::Link, "rootfs/su", 0o755, b"")
        .entry("rootfs/sticky", EntryType::Directory, "", 0o1777, b"")
        .link("rootfs/mtab", "/proc/mounts")
        .link("rootfs/up", "../../outside");
    bench.all(&tar.end()).unwrap();
    let stat = |name: &str| fs::symlink_metadata(bench.target().join("rootfs").join(name)).unwrap();
    assert_eq!((stat("su").uid(), stat("su").gid(), stat("su").mode() & 0o7777), (1234, 2345, 0o4755));
    assert_eq!(stat("su").mtime(), 1_700_000_000);
    assert!(stat("null").file_type().is_char_device() && stat("disk").file_type().is_block_device());
    assert_eq!(stat("null").rdev(), rustix::fs::makedev(1, 3));
    assert!(stat("pipe").file_type().is_fifo());
    assert_eq!(stat("same").ino(), stat("su").ino());
    assert_eq!(stat("sticky").mode() & 0o7777, 0o1777);
    assert_eq!(fs::read_link(bench.target().join("rootfs/mtab")).unwrap(), Path::new("/proc/mounts"));
    assert_eq!(fs::read_link(bench.target().join("rootfs/up")).unwrap(), Path::new("../../outside"));
}

/// Runs a program to prepare something; `None` when it is not installed or can't do it here.
#[expect(clippy::disallowed_methods, reason = "tests prepare archives with the tools that make them")]
fn run(folder: &Path, line: &str) -> Option<()> {
    let status = std::process::Command::new("sh").arg("-ec").arg(line).current_dir(folder).status().ok()?;
    status.success().then_some(())
}

fn attributes_are_restored() {
    let bench = Bench::new();
    let prepare = "mkdir tree && echo ping > tree/ping && setfattr -n user.note -v hi tree/ping \
        && setcap cap_net_raw=ep tree/ping && setfacl -m u:1000:r tree/ping \
        && tar --create --format=posix --xattrs --xattrs-include='*' --acls --file archive --directory tree .";
    if run(bench.root.path(), prepare).is_none() {
        eprintln!("skipped: attributes_are_restored: setfattr, setcap or setfacl can't be used here");
        return;
    }
    bench.unpack(&bench.root.path().join("archive"), Limits::default(), Select::All).unwrap();
    let path = bench.target().join("ping");
    let attribute = |name: &str| {
        let mut value = [0; 256];
        rustix::fs::getxattr(&path, name, &mut value).map(|length| value[..length].to_vec()).unwrap()
    };
    assert_eq!(attribute("user.note"), b"hi");
    assert!(!attribute("security.capability").is_empty());
    assert!(!attribute("system.posix_acl_access").is_empty());
}

fn every_packing_is_unpacked() {
    let bench = Bench::new();
    let tar = Tar::default().file("hello", b"world").end();
    fs::write(bench.root.path().join("plain"), tar).unwrap();
    for packer in ["cat", "gzip -c", "xz -c", "xz --format=lzma -c", "bzip2 -c", "zstd -qc"] {
        if run(bench.root.path(), &format!("{packer} < plain > archive")).is_none() {
            eprintln!("skipped: every_packing_is_unpacked: {packer}: not installed");
            continue;
        }
        let _ = fs::remove_file(bench.target().join("hello"));
        bench.unpack(&bench.root.path().join("archive"), Limits::default(), Select::All).unwrap();
        assert_eq!(bench.read("hello"), "world", "{packer}");
    }
}

fn squash(bench: &Bench, prepare: &str) -> Option<PathBuf> {
    let line =
        format!("mkdir tree && cd tree && {prepare} && cd .. && mksquashfs tree archive -quiet -no-progress");
    let done = run(bench.root.path(), &line);
    if done.is_none() {
        eprintln!("skipped: squashfs: mksquashfs is not installed");
    }
    done.map(|()| bench.root.path().join("archive"))
}

fn a_squashfs_is_unpacked() {
    let bench = Bench::new();
    let prepare = "mkdir etc && echo a > etc/hostname && chown 12:34 etc/hostname && chmod 4755 etc/hostname \
        && mknod null c 1 3 && ln -s /etc/passwd link && setfattr -n user.note -v hi etc/hostname";
    let Some(archive) = squash(&bench, prepare) else { return };
    bench.unpack(&archive, Limits::default(), Select::All).unwrap();
    let stat = fs::metadata(bench.target().join("etc/hostname")).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (12, 34, 0o4755));
    assert!(fs::symlink_metadata(bench.target().join("null")).unwrap().file_type().is_char_device());
    assert_eq!(fs::read_link(bench.target().join("link")).unwrap(), Path::new("/etc/passwd"));
    let other = Bench::new();
    other.unpack(&archive, Limits::default(), Select::Only(vec!["etc".to_owned()])).unwrap();
    assert_eq!(other.read("etc/hostname"), "a\n");
    assert!(!other.target().join("link").exists());
}

fn a_directory_can_be_taken_alone() {
    for dot in ["", "./"] {
        let bench = Bench::new();
        let tar = Tar::default()
            .file(&format!("{dot}metadata.yaml"), b"x")
            .directory(&format!("{dot}rootfs/"))
            .file(&format!("{dot}rootfs/etc/hostname"), b"a")
            .entry(
                &format!("{dot}rootfs/same"),
                EntryType::Link,
                &format!("{dot}rootfs/etc/hostname"),
                0o644,
                b"",
            )
            .link(&format!("{dot}rootfs/link"), "rootfs/etc/hostname");
        let archive = bench.archive(&tar.end());
        bench.unpack(&archive, Limits::default(), Select::Below("rootfs".to_owned())).unwrap();
        assert_eq!((bench.read("etc/hostname"), bench.read("same")), ("a".to_owned(), "a".to_owned()));
        assert_eq!(fs::read_link(bench.target().join("link")).unwrap(), Path::new("rootfs/etc/hostname"));
        assert!(!bench.target().join("metadata.yaml").exists() && !bench.target().join("rootfs").exists());
    }
}

fn members_can_be_taken_alone() {
    let bench = Bench::new();
    let tar = Tar::default().file("metadata.yaml", b"x").file("templates/a", b"y").file("rootfs/b", b"z");
    let archive = bench.archive(&tar.end());
    let only = |names: &[&str]| Select::Only(names.iter().map(|name| (*name).to_owned()).collect());
    bench.unpack(&archive, Limits::default(), only(&["metadata.yaml", "templates"])).unwrap();
    assert_eq!((bench.read("metadata.yaml"), bench.read("templates/a")), ("x".to_owned(), "y".to_owned()));
    assert!(!bench.target().join("rootfs").exists());
    let error = bench.unpack(&archive, Limits::default(), only(&["nothing"])).unwrap_err();
    assert!(matches!(&error, UnpackError::NotInArchive { wanted, .. } if wanted == "nothing"), "{error}");
    for hostile in ["../x", "/etc", "--checkpoint-action=exec=sh", "*", ""] {
        assert!(bench.unpack(&archive, Limits::default(), only(&[hostile])).is_err(), "{hostile}");
    }
}

fn names_that_climb_are_refused() {
    for name in ["../outside/file", "a/../../outside/file", ".."] {
        let bench = Bench::new();
        let error = bench.all(&Tar::default().file(name, b"touched").end()).unwrap_err();
        assert!(matches!(error, UnpackError::Refused { tool: "tar", .. }), "{name}: {error}");
    }
}

fn absolute_names_stay_inside() {
    let bench = Bench::new();
    let outside = bench.root.path().join("outside/file");
    let name = outside.to_str().unwrap();
    bench.all(&Tar::default().file(name, b"touched").end()).unwrap();
    assert_eq!(bench.read(name.trim_start_matches('/')), "touched");
}

fn writing_through_a_link_stays_inside() {
    let bench = Bench::new();
    let outside = bench.root.path().join("outside");
    for target in [outside.to_str().unwrap(), "../outside", "/usr", "/", "/proc/self/root"] {
        let tar =
            Tar::default().link("door", target).file("door/file", b"touched").file("door/usr/bin/evil", b"x");
        // Whether tar refuses or writes below a placeholder is its own affair; `unpack` looks outside.
        let _ = bench.all(&tar.end());
        assert!(!Path::new("/usr/bin/evil").exists() && !Path::new("/usr/file").exists());
        let _ = fs::remove_file(bench.target().join("door"));
        let _ = fs::remove_dir_all(bench.target().join("door"));
    }
}

fn a_hard_link_to_the_outside_is_refused() {
    let bench = Bench::new();
    let outside = bench.root.path().join("outside/file");
    for target in [outside.to_str().unwrap(), "../outside/file", "/usr/bin/env"] {
        let tar = Tar::default().entry("same", EntryType::Link, target, 0o644, b"").file("same", b"touched");
        assert!(bench.all(&tar.end()).is_err(), "{target}");
        let _ = fs::remove_file(bench.target().join("same"));
    }
    // Through a link that points outside, made first.
    let tar = Tar::default()
        .link("door", "../outside")
        .entry("same", EntryType::Link, "door/file", 0o644, b"")
        .file("same", b"touched");
    let _ = bench.all(&tar.end());
}

fn a_bomb_is_refused() {
    let bench = Bench::new();
    let big = Tar::default().file("zeros", &vec![0; 32 << 20]).end();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&big).unwrap();
    let archive = bench.archive(&encoder.finish().unwrap());
    assert!(fs::metadata(&archive).unwrap().len() < 100 << 10);
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let error = bench.unpack(&archive, limits, Select::All).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyBytes { limit: 0x10_0000, .. }), "{error}");
    assert!(error.to_string().contains("1048576"));
    assert!(fs::metadata(bench.target().join("zeros")).map_or(0, |stat| stat.len()) <= 1 << 20);
}

fn a_squashfs_bomb_is_refused() {
    let bench = Bench::new();
    let prepare = "head -c 4000000 /dev/urandom > one && for i in $(seq 60); do cp one copy$i; done";
    let Some(archive) = squash(&bench, prepare) else { return };
    // Every file is below the limit; the sum is not.
    let limits = Limits { bytes: 5 << 20, ..Limits::default() };
    let error = bench.unpack(&archive, limits, Select::All).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyBytes { .. }), "{error}");
    // One file is above it.
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let error = Bench::new().unpack(&archive, limits, Select::All).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyBytes { .. }), "{error}");
}

fn too_many_files_are_refused() {
    let limits = Limits { inodes: 100, ..Limits::default() };
    let many =
        |count: usize| (0..count).fold(Tar::default(), |tar, at| tar.file(&format!("file{at}"), b"")).end();
    let bench = Bench::new();
    bench.unpack(&bench.archive(&many(100)), limits, Select::All).unwrap();
    let bench = Bench::new();
    let error = bench.unpack(&bench.archive(&many(101)), limits, Select::All).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyFiles { limit: 100, .. }), "{error}");
    // Directories that no entry names count as well.
    let deep =
        (0..10).fold(Tar::default(), |tar, at| tar.file(&format!("{at}/a/b/c/d/e/f/g/h/i/j"), b"")).end();
    let bench = Bench::new();
    let error = bench.unpack(&bench.archive(&deep), limits, Select::All).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyFiles { limit: 100, .. }), "{error}");
    let bench = Bench::new();
    let Some(archive) = squash(&bench, "for i in $(seq 101); do : > f$i; done") else { return };
    let error = bench.unpack(&archive, limits, Select::All).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyFiles { limit: 100, .. }), "{error}");
}

fn cancel_and_deadline_end_it() {
    let bench = Bench::new();
    let mut big = Tar::default();
    for at in 0..200 {
        big = big.file(&format!("file{at}"), &vec![7; 1 << 20]);
    }
    let archive = bench.archive(&big.end());
    let began = Instant::now();
    let limits = Limits { seconds: 0, ..Limits::default() };
    let error = bench.unpack(&archive, limits, Select::All).unwrap_err();
    assert!(matches!(error, UnpackError::TooSlow { seconds: 0, .. }), "{error}");
    let cancel = Cancel::new();
    let other = cancel.clone();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        other.cancel();
    });
    let error = bench.unpack_until(&archive, Limits::default(), Select::All, &cancel).unwrap_err();
    canceller.join().unwrap();
    assert!(matches!(error, UnpackError::Cancelled), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(helpers_left(&bench.target()), 0);
}

/// Processes that still name the directory in their arguments.
fn helpers_left(into: &Path) -> usize {
    let into = into.to_str().unwrap().to_owned();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(JAIL_ARGUMENT) && line.contains(&into)).count()
}

fn a_damaged_archive_says_so() {
    let bench = Bench::new();
    let tar =
        Tar::default().file("zeros", &(0..200_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).end();
    let packed = zstd::encode_all(tar.as_slice(), 1).unwrap();
    let error = bench.all(&packed[..packed.len() / 2]).unwrap_err();
    assert!(matches!(error, UnpackError::Damaged { .. }), "{error}");
    let error = bench.all(&tar[..tar.len() / 2]).unwrap_err();
    assert!(matches!(error, UnpackError::Refused { .. }), "{error}");
}

fn what_is_no_archive_says_so() {
    let bench = Bench::new();
    let error = bench.all(b"#!/bin/sh\necho hello\n").unwrap_err();
    assert!(matches!(error, UnpackError::UnknownFormat { .. }), "{error}");
    let error = bench.unpack(Path::new("/no/such/file"), Limits::default(), Select::All).unwrap_err();
    assert!(matches!(error, UnpackError::Open { .. }), "{error}");
    let launcher = JailLauncher::new("/no/such/program".into());
    let archive = bench.archive(&Tar::default().file("a", b"").end());
    let request = UnpackRequest {
        archive: &archive,
        into: &bench.target(),
        limits: Limits::default(),
        select: Select::All,
    };
    let error = launcher.unpack(&request, &Cancel::never(), &Progress::silent()).unwrap_err();
    assert!(matches!(error, UnpackError::NoHelper { .. }), "{error}");
}

/// Looks into a running jail from outside.
fn the_jail_has_nothing_in_it() {
    let bench = Bench::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&Tar::default().file("big", &vec![1; 300 << 20]).end()).unwrap();
    let archive = bench.archive(&encoder.finish().unwrap());
    let into = bench.target();
    let watcher = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(facts) =
                fs::read_dir("/proc").unwrap().flatten().find_map(|process| look(&process.path(), &into))
            {
                return Some(facts);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    });
    bench.unpack(&archive, Limits::default(), Select::All).unwrap();
    let Some((status, mut root, mounts)) = watcher.join().unwrap() else {
        eprintln!("skipped: the_jail_has_nothing_in_it: it was over before it could be seen");
        return;
    };
    root.retain(|name| !["usr", "bin", "sbin", "lib", "lib64", "lib32", "libx32"].contains(&name.as_str()));
    assert_eq!(root, ["etc", "target"]);
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(u64::from_str_radix(&field("CapEff:"), 16).unwrap(), 0x8800_001B);
    assert_eq!(u64::from_str_radix(&field("CapBnd:"), 16).unwrap(), 0x8800_001B);
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    for line in mounts.lines() {
        let options = line.split(' ').nth(5).unwrap();
        let is_target = line.split(' ').nth(4) == Some("/target");
        assert!(options.contains("nosuid") && options.contains("nodev"), "{line}");
        assert_eq!(options.starts_with("rw"), is_target, "{line}");
    }
}

/// Status, names in the root and mounts of the tool that works in the jail for `into`.
fn look(process: &Path, into: &Path) -> Option<(String, Vec<String>, String)> {
    let mut line = String::new();
    File::open(process.join("cmdline")).ok()?.read_to_string(&mut line).ok()?;
    let cwd = fs::metadata(process.join("cwd/.")).ok()?;
    let ours = fs::metadata(into).ok()?;
    if !line.starts_with("tar\0") || (cwd.ino(), cwd.dev()) != (ours.ino(), ours.dev()) {
        return None;
    }
    let names = fs::read_dir(process.join("root")).ok()?.flatten();
    let mut root: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    root.sort();
    Some((
        fs::read_to_string(process.join("status")).ok()?,
        root,
        fs::read_to_string(process.join("mountinfo")).ok()?,
    ))
}
