//! What the daemon and the process that calls liblxc say to each other.

use crate::idmap::IdMap;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

const LONGEST: usize = 64 << 10;
const MOST_DESCRIPTORS: usize = 4;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Start a container from its generated configuration.
    Start {
        /// Which.
        target: Target,
        /// The log that the configuration names.
        log: PathBuf,
        /// What it gets mounted.
        stage: Stage,
    },
    /// Kill it.
    Stop(Target),
    /// Ask it to power off, and wait so many seconds; however long it takes without a number.
    Shutdown(Target, Option<u32>),
    /// Freeze it.
    Freeze(Target),
    /// Let it go on.
    Unfreeze(Target),
    /// Tell the state of each.
    States(Vec<Target>),
    /// Run a command in it.
    Exec(Target, Command),
    /// Take its console.
    Console(Target),
    /// Mount a disk in it while it runs.
    Mount(Target, NewDisk),
    /// Unmount one while it runs.
    Unmount(Target, OldDisk),
    /// Find out whether a filesystem can be mounted with mapped ids.
    ProbeIdMap(PathBuf),
}

/// A container as liblxc finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Its name on this host.
    pub(crate) name: String,
    /// The folder that the runtime keeps containers' files in.
    pub(crate) lxc_path: PathBuf,
    /// Its generated configuration.
    pub(crate) config: PathBuf,
}

/// What a container gets mounted, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// A folder that the container's root can pass: `root` and the disks' numbers appear in it.
    pub(crate) folder: PathBuf,
    /// The root directory.
    pub(crate) root: PathBuf,
    /// The disks, in the order of their numbers from 0.
    pub(crate) disks: Vec<Disk>,
    /// How the ids of mapped disks are mapped.
    pub(crate) idmap: Option<IdMap>,
    /// Folders that the monitor goes on to use.
    pub(crate) kept: Vec<PathBuf>,
}

/// A disk to mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disk {
    pub(crate) source: PathBuf,
    /// Where it appears inside.
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) recursive: bool,
    pub(crate) idmapped: bool,
}

/// A disk to mount in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewDisk {
    pub(crate) disk: Disk,
    /// A folder that the container's root can pass, to bring the disk to.
    pub(crate) stage: PathBuf,
}

/// A disk to unmount in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OldDisk {
    /// Where it was mounted.
    pub(crate) path: PathBuf,
    /// Which mount it is; without it, the one at the path that has this root.
    pub(crate) mount: Option<MountId>,
    pub(crate) root: DiskRoot,
    /// Where the start brought it; the monitor would mount it again from there.
    pub(crate) staged: Option<PathBuf>,
}

/// A mount, as the kernel numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountId {
    /// As in the table of mounts; used again when it is free.
    pub(crate) number: u64,
    /// Never used again; newer kernels tell it.
    pub(crate) unique: Option<u64>,
}

/// The file or folder that is the root of a mounted disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskRoot {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<String>,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) directory: String,
    /// Columns and rows of the terminal to make; without it the standard streams are used.
    pub(crate) terminal: Option<(u16, u16)>,
}

/// A container's state in liblxc's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateReply {
    pub(crate) state: String,
    pub(crate) init: Option<u32>,
    pub(crate) monitor: Option<u32>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// The container did not power off in time.
    StillRunning,
    /// The states asked for, in order.
    States(Vec<StateReply>),
    /// It was started; with the mounts that are its disks, in order, where they were found.
    Started(StateReply, Vec<Option<MountId>>),
    /// The disk is mounted.
    Mounted(MountId),
    /// The disk is not mounted any more. With what is left where the start had brought it.
    Unmounted(Option<DiskRoot>),
    /// What was asked for is not possible, and nothing was changed.
    Refused(String),
    /// The command runs. With descriptors: its process, and the terminal's master side if it has one.
    Entered,
    /// The command ended with this exit code.
    Exited(i32),
    /// With descriptors: the console's master side and what keeps it taken.
    Console,
    /// Whether ids can be mapped, and why not.
    IdMap(Result<(), String>),
    /// It is not running.
    NotRunning,
    /// It is running already.
    AlreadyRunning,
    /// There is no liblxc.
    LibraryMissing,
    /// It can't be used.
    LibraryUnusable(String),
    /// It failed.
    Failed(String),
}

/// One side of the socket: a message is one JSON value, with descriptors beside it.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Channel {
    /// Both sides.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Sends one message.
    pub(crate) fn send(&self, reply: &Reply, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(reply)?;
        if bytes.len() > LONGEST {
            return Err(io::Error::other("the answer is too long"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors"));
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message; none when the other side is closed.
    pub(crate) fn receive(&self) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let buffers = &mut [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                // The other side went away without reading: the same as closed.
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, descriptors)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_message_arrives_with_its_descriptors_and_the_end_is_told() {
        let (one, other) = Channel::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        one.send(&Reply::Entered, &[writer.as_fd()]).unwrap();
        drop(writer);
        let (reply, mut descriptors) = other.receive().unwrap().unwrap();
        assert_eq!(reply, Reply::Entered);
        let mut passed = std::fs::File::from(descriptors.pop().unwrap());
        assert!(descriptors.is_empty());
        passed.write_all(b"through").unwrap();
        drop(passed);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        drop(one);
        assert!(other.receive().unwrap().is_none());
    }
}
