//! Disks: those of a start, and those that come and go while a container runs.

use super::{Lab, eventually, mounts_of, text};
use larder_base::Cancel;
use larder_runtime::{ContainerSpec, DiskMount, ExecStreams, Status, Stdio};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) fn of_start() {
    let lab = Lab::new("disks");
    let (data, file) = (lab.folder.join("closed/my data"), lab.folder.join("closed/file"));
    fs::create_dir(&data).unwrap();
    fs::write(&file, "of the host").unwrap();
    let disk = |source: &Path, path: &str, read_only| DiskMount {
        device: path.rsplit('/').next().unwrap().to_owned(),
        file: source.is_file(),
        source: source.to_owned(),
        path: PathBuf::from(path),
        read_only,
        recursive: false,
        idmapped: true,
    };
    let disks = vec![disk(&data, "/srv/my data", false), disk(&file, "/etc/file", true)];
    lab.start_as(&ContainerSpec { disks, ..lab.spec() });
    assert_eq!(lab.output(&["cat", "/etc/file"]).1, "of the host");
    assert_ne!(lab.output(&["sh", "-c", "echo x > /etc/file"]).0, 0);
    assert_eq!(lab.output(&["sh", "-c", "echo x > '/srv/my data/new'"]), (0, String::new(), String::new()));
    let made = fs::metadata(data.join("new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (0, 0), "the disk holds the container's own ids");
}

impl Lab {
    /// A disk on a new folder of the host.
    fn disk(&self, device: &str, path: &str) -> DiskMount {
        let source = self.folder.join("closed").join(device);
        fs::create_dir_all(&source).unwrap();
        DiskMount {
            device: device.to_owned(),
            source,
            path: PathBuf::from(path),
            file: false,
            read_only: false,
            recursive: false,
            idmapped: true,
        }
    }

    /// Brings the disks to these, all of which must work.
    fn settle(&self, wanted: &[&DiskMount]) {
        let wanted: Vec<DiskMount> = wanted.iter().copied().cloned().collect();
        let failures = self.containers().settle_disks(&self.name, &wanted).unwrap();
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(self.containers().disks(&self.name).unwrap().len(), wanted.len());
    }

    /// Tries to; what could not be done.
    fn refused(&self, wanted: &[&DiskMount]) -> String {
        let wanted: Vec<DiskMount> = wanted.iter().copied().cloned().collect();
        let failures = self.containers().settle_disks(&self.name, &wanted).unwrap();
        failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// What a command prints; it must succeed.
    fn says(&self, script: &str) -> String {
        let (code, out, error) = self.output(&["sh", "-c", script]);
        assert_eq!((code, error.as_str()), (0, ""), "{script}");
        out
    }

    fn fails(&self, script: &str) {
        assert_ne!(self.output(&["sh", "-c", script]).0, 0, "{script} should fail");
    }
}

pub(super) fn come_and_go() {
    let lab = Lab::new("live");
    let (data, more) = (lab.disk("data", "/srv/my data"), lab.disk("more", "/more"));
    let file = lab.folder.join("closed/file");
    fs::write(&file, "of the host").unwrap();
    let file = DiskMount {
        device: "file".to_owned(),
        source: file,
        path: PathBuf::from("/etc/deep/file"),
        file: true,
        read_only: true,
        ..data.clone()
    };
    lab.start_as(&ContainerSpec { disks: vec![more.clone()], ..lab.spec() });
    lab.settle(&[&data, &more, &file]);
    assert_eq!(lab.says("cat /etc/deep/file"), "of the host");
    assert_eq!(lab.says("stat -c '%u %g' /etc/deep /srv"), "0 0\n0 0\n", "made by its root");
    lab.says("echo inside > '/srv/my data/new'; busybox chown 7:8 '/srv/my data/new'; echo x > /more/new");
    let made = fs::metadata(data.source.join("new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (7, 8), "the disk holds the container's own ids");
    fs::write(data.source.join("host"), "outside").unwrap();
    assert_eq!(lab.says("cat '/srv/my data/host'"), "outside");

    // A change that can't be made leaves the others.
    let taken = DiskMount { path: PathBuf::from("/proc"), ..lab.disk("taken", "/proc") };
    let error = lab.refused(&[&data, &more, &file, &taken]);
    assert!(error.contains("\"taken\"") && error.contains("/proc") && error.contains("already"), "{error}");
    assert_eq!(lab.containers().disks(&lab.name).unwrap().len(), 3);

    // One that is in use goes at once for everybody but those who have it open.
    let session = lab
        .exec(&["sh", "-c", "exec 9<'/srv/my data/host'; cd /; echo ready; read x; cat <&9"], Stdio::Pipes);
    let ExecStreams::Pipes { stdin, stdout, stderr } = session.streams else { panic!("no pipes") };
    let (mut stdin, mut stdout) = (File::from(stdin), File::from(stdout));
    stdout.read_exact(&mut [0; 6]).unwrap();
    drop(stderr);
    lab.settle(&[]);
    lab.fails("cat '/srv/my data/host' 2>/dev/null");
    lab.fails("cat /more/new /etc/deep/file 2>/dev/null | busybox grep .");
    stdin.write_all(b"go on\n").unwrap();
    assert_eq!(text(stdout), "outside");
    let monitor = lab.containers().state(&lab.name).unwrap().monitor.unwrap();
    assert!(!mounts_of(monitor).iter().any(|point| point.ends_with("/stage/0")), "nothing keeps it busy");

    // One below another, in whichever order they come and go.
    let below = lab.disk("below", "/more/inner");
    lab.settle(&[&below]);
    lab.says("echo deep > /more/inner/file");
    lab.settle(&[&below, &more]);
    assert_eq!(lab.says("cat /more/new /more/inner/file"), "x\ndeep\n");
    lab.settle(&[&below]);
    assert_eq!(lab.says("cat /more/inner/file; ls /more"), "deep\ninner\n");
}

pub(super) fn hostile() {
    let lab = Lab::new("hostile");
    fs::create_dir(lab.folder.join("outside")).unwrap();
    symlink(lab.folder.join("outside"), lab.root().join("out")).unwrap();
    fs::create_dir(lab.root().join("srv")).unwrap();
    symlink("../../../srv", lab.root().join("up")).unwrap();
    lab.start();
    let plain = lab.disk("data", "/up/data");
    let closed = DiskMount { read_only: true, ..plain.clone() };
    let error = lab.refused(&[&lab.disk("out", "/out/data")]);
    assert!(error.contains("/out/data"), "{error}");
    assert_eq!(fs::read_dir(lab.folder.join("outside")).unwrap().count(), 0, "no link leads out");

    // Read-only is locked, not only set.
    fs::write(closed.source.join("file"), "kept").unwrap();
    lab.settle(&[&closed]);
    lab.fails("echo x > /srv/data/file");
    lab.fails("busybox mount -o remount,bind,rw /srv/data && echo x > /srv/data/file");
    lab.fails("busybox mknod /srv/data/null c 1 3 && echo x > /srv/data/null");
    assert_eq!(fs::read_to_string(closed.source.join("file")).unwrap(), "kept");

    // A mount that is not ours is never unmounted, and ours is found where it was moved.
    lab.says("busybox mount -t tmpfs other /srv/data && echo mine > /srv/data/file");
    let error = lab.refused(&[]);
    assert!(error.contains("covered"), "{error}");
    assert_eq!(lab.says("cat /srv/data/file"), "mine\n");
    lab.says("busybox umount /srv/data && busybox mv /srv /moved");
    lab.settle(&[]);
    assert_eq!(lab.says("ls /moved/data"), "");
    // One that its root took away is gone already, and what took its place stays.
    lab.settle(&[&DiskMount { path: PathBuf::from("/data"), ..plain }]);
    lab.says("busybox umount /data && busybox mount -t tmpfs other /data && echo mine > /data/file");
    lab.settle(&[]);
    assert_eq!(lab.says("cat /data/file"), "mine\n");
}

pub(super) fn interrupted() {
    let lab = Lab::new("interrupted");
    let (data, late) = (lab.disk("data", "/data"), lab.disk("late", "/late"));
    lab.start();
    lab.settle(&[&data]);
    // As a run leaves it that ended before it heard of the mount: there, and noted as perhaps there.
    let note = lab.folder.join("run").join(&lab.name).join("disks.json");
    let forget = |device: &str| {
        let mut told: serde_json::Value = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
        for disk in told["disks"].as_array_mut().unwrap().iter_mut() {
            if disk["disk"]["device"] == device {
                disk["mount"] = serde_json::Value::Null;
            }
        }
        fs::write(&note, told.to_string()).unwrap();
    };
    let mounts = || lab.says("busybox grep -c ' /data ' /proc/self/mountinfo || true").trim().to_owned();
    forget("data");
    lab.settle(&[&data]);
    assert_eq!(mounts(), "1", "mounted once");
    forget("data");
    lab.settle(&[]);
    assert_eq!(mounts(), "0");
    // Noted, and not mounted: the run ended before.
    lab.settle(&[&late]);
    lab.says("busybox umount /late");
    forget("late");
    lab.settle(&[&late]);
    lab.says("echo x > /late/file");
    assert!(late.source.join("file").is_file());
}

pub(super) fn after_reboot() {
    let lab = Lab::new("again");
    let (first, kept, hot) =
        (lab.disk("first", "/first"), lab.disk("kept", "/kept"), lab.disk("hot", "/hot"));
    fs::write(first.source.join("secret"), "x").unwrap();
    lab.start_as(&ContainerSpec { disks: vec![first.clone(), kept.clone()], ..lab.spec() });
    let wanted = [&kept, &hot];
    lab.settle(&wanted);
    let containers = lab.containers();
    let (_, init) = containers.watch_init(&lab.name).unwrap().unwrap();
    let before = containers.state(&lab.name).unwrap();
    lab.output(&["reboot", "-f"]);
    assert!(init.wait(Some(Duration::from_secs(20)), &Cancel::never()).unwrap());
    eventually("another init", || {
        let now = containers.state(&lab.name).unwrap();
        now.status == Status::Running && now.init.is_some_and(|init| Some(init) != before.init)
    });
    lab.fails("cat /first/secret 2>/dev/null");
    lab.settle(&wanted);
    lab.fails("busybox grep ' /first ' /proc/self/mountinfo");
    lab.says("echo x > /kept/file; echo x > /hot/file");
    assert!(hot.source.join("file").is_file() && kept.source.join("file").is_file());
    lab.settle(&[]);
    lab.fails("busybox grep -e ' /kept ' -e ' /hot ' /proc/self/mountinfo");
}
