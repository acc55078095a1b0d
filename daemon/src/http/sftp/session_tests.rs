//! Requests and their answers on a tree with a trap in it.

use super::*;
use proptest::prelude::{any, proptest};
use std::fs;
use std::os::unix::fs::symlink;

struct Lab {
    dir: tempfile::TempDir,
    session: Session,
}

fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/name"), "inside").unwrap();
    fs::write(dir.path().join("secret"), "outside").unwrap();
    symlink("../secret", root.join("out")).unwrap();
    let session = Session::new(FileRoot::open(&root, None).unwrap());
    Lab { dir, session }
}

/// Owned by whoever runs the test.
fn mine(permissions: u32) -> Attributes {
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Attributes { owner: Some(owner), permissions: Some(permissions), ..Attributes::default() }
}

impl Lab {
    /// Sends a request with id 7; answers with the kind and the body of the answer.
    fn send(&mut self, kind: u8, body: impl FnOnce(Writer) -> Writer) -> (u8, Vec<u8>) {
        let message = body(Writer::new(kind).number(7)).done();
        let answer = self.session.answer(&message[4..]).unwrap();
        assert_eq!(answer.len() - 4, u32::from_be_bytes(answer[..4].try_into().unwrap()) as usize);
        assert_eq!(answer[5..9], 7_u32.to_be_bytes());
        (answer[4], answer[9..].to_vec())
    }

    fn code(&mut self, kind: u8, body: impl FnOnce(Writer) -> Writer) -> u32 {
        let (kind, body) = self.send(kind, body);
        assert_eq!(kind, 101, "no status");
        Reader(&body).number().unwrap()
    }

    fn handle(&mut self, kind: u8, body: impl FnOnce(Writer) -> Writer) -> Vec<u8> {
        let (kind, body) = self.send(kind, body);
        assert_eq!(kind, 102, "no handle: {body:?}");
        Reader(&body).bytes().unwrap().to_vec()
    }

    fn open(&mut self, path: &str, flags: u32) -> Vec<u8> {
        self.handle(3, |body| body.text(path).number(flags).attributes(&mine(0o600)))
    }

    fn status(&mut self, kind: u8, path: &str) -> Attributes {
        let (kind, body) = self.send(kind, |body| body.text(path));
        assert_eq!(kind, 105);
        Reader(&body).attributes().unwrap()
    }

    /// The first name of an answer.
    fn name(&mut self, kind: u8, path: &str) -> String {
        let (kind, body) = self.send(kind, |body| body.text(path));
        assert_eq!(kind, 104);
        let mut body = Reader(&body);
        body.number().unwrap();
        body.text().unwrap().to_owned()
    }
}

/// 64 bits as two numbers of 32.
fn at(body: Writer, offset: u32) -> Writer {
    body.number(0).number(offset)
}

#[test]
fn the_greeting_names_version_and_extensions() {
    let answer = lab().session.answer(&[1, 0, 0, 0, 3]).unwrap();
    assert_eq!(answer[4..9], [2, 0, 0, 0, 3]);
    assert!(String::from_utf8_lossy(&answer).contains("posix-rename@openssh.com"));
}

#[test]
fn a_file_is_written_read_changed_and_removed() {
    let mut lab = lab();
    let handle = lab.open("/new", 2 | 8 | 16);
    assert_eq!(lab.code(6, |body| at(body.bytes(&handle), 0).bytes(b"hello")), 0);
    assert_eq!(lab.code(6, |body| at(body.bytes(&handle), 5).bytes(b" you")), 0);
    assert_eq!(lab.code(4, |body| body.bytes(&handle)), 0);
    assert_eq!(lab.code(4, |body| body.bytes(&handle)), Code::Failure as u32);
    assert_eq!(fs::read_to_string(lab.dir.path().join("root/new")).unwrap(), "hello you");
    assert_eq!(lab.status(17, "new").permissions, Some(0o100_600));

    let handle = lab.open("/new", 1);
    let (kind, body) = lab.send(5, |body| at(body.bytes(&handle), 6).number(100));
    assert_eq!((kind, Reader(&body).bytes().unwrap()), (103, &b"you"[..]));
    assert_eq!(lab.code(5, |body| at(body.bytes(&handle), 9).number(100)), Code::Eof as u32);
    let short = Attributes { size: Some(2), ..Attributes::default() };
    assert_eq!(lab.code(9, |body| body.text("/new").attributes(&short)), 0);
    assert_eq!(lab.code(10, |body| body.bytes(&handle).attributes(&mine(0o4755))), 0);
    let now = lab.status(7, "/new");
    assert_eq!((now.size, now.permissions), (Some(2), Some(0o104_755)));

    assert_eq!(lab.code(18, |body| body.text("/new").text("/etc/name")), Code::Failure as u32);
    assert_eq!(lab.code(200, |body| body.text("posix-rename@openssh.com").text("/new").text("/etc/name")), 0);
    assert_eq!(lab.code(15, |body| body.text("/etc/name")), Code::Failure as u32);
    assert_eq!(lab.code(13, |body| body.text("/etc/name")), 0);
    assert_eq!(lab.code(17, |body| body.text("/etc/name")), Code::NoSuchFile as u32);
}

#[test]
fn folders_and_links_are_made_read_and_removed() {
    let mut lab = lab();
    assert_eq!(lab.code(14, |body| body.text("/etc/sub").attributes(&mine(0o700))), 0);
    assert_eq!(lab.code(14, |body| body.text("/etc/sub").attributes(&mine(0o700))), Code::Failure as u32);
    assert_eq!(lab.status(7, "/etc/sub").permissions, Some(0o040_700));
    if rustix::process::geteuid().is_root() {
        assert_eq!(lab.code(20, |body| body.text("name").text("/etc/link")), 0);
    } else {
        symlink("name", lab.dir.path().join("root/etc/link")).unwrap();
    }
    assert_eq!(lab.name(19, "/etc/link"), "name");
    assert_eq!(lab.status(17, "/etc/link").size, Some(6));
    let handle = lab.handle(11, |body| body.text("/etc"));
    let (_, body) = lab.send(12, |body| body.bytes(&handle));
    assert_eq!(Reader(&body).number(), Ok(3));
    assert_eq!(lab.code(12, |body| body.bytes(&handle)), Code::Eof as u32);
    let opened = lab.open("/etc/sub", 1);
    let (kind, body) = lab.send(8, |body| body.bytes(&opened));
    assert_eq!((kind, Reader(&body).attributes().unwrap().permissions), (105, Some(0o040_700)));
    assert_eq!(lab.code(5, |body| at(body.bytes(&opened), 0).number(10)), Code::Failure as u32);
    assert_eq!(lab.code(13, |body| body.text("/etc/sub")), Code::Failure as u32);
    assert_eq!(lab.code(15, |body| body.text("/etc/sub")), 0);
    assert_eq!(lab.code(15, |body| body.text("/etc")), Code::Failure as u32, "it is not empty");
    for (path, clean) in [(".", "/"), ("/a//b/./../c/", "/a/c"), ("../..", "/")] {
        assert_eq!(lab.name(16, path), clean);
    }
}

#[test]
fn no_link_leads_out() {
    let mut lab = lab();
    for path in ["/out", "../secret", "/etc/../../secret"] {
        lab.send(3, |body| body.text(path).number(1 | 2 | 16).attributes(&mine(0o600)));
        lab.send(9, |body| body.text(path).attributes(&Attributes { size: Some(0), ..mine(0o777) }));
        assert_eq!(lab.code(17, |body| body.text(path)), Code::NoSuchFile as u32, "{path}");
    }
    assert_eq!(fs::read_to_string(lab.dir.path().join("secret")).unwrap(), "outside");
}

#[test]
fn what_a_client_has_open_is_bounded() {
    let mut lab = lab();
    let first = lab.open("/etc/name", 1);
    for _ in 1..HANDLES {
        lab.open("/etc/name", 1);
    }
    let open = |body: Writer| body.text("/more").number(2 | 8).attributes(&mine(0o600));
    assert_eq!(lab.code(3, open), Code::Failure as u32);
    assert!(!lab.dir.path().join("root/more").exists());
    assert_eq!(lab.code(4, |body| body.bytes(&first)), 0);
    lab.handle(3, open);
}

#[test]
fn what_is_not_understood_is_refused() {
    let mut lab = lab();
    assert_eq!(lab.code(3, |body| body.text("/etc/name")), Code::BadMessage as u32);
    assert_eq!(lab.code(7, |body| body.bytes(b"\xff")), Code::BadMessage as u32);
    assert_eq!(lab.code(99, |body| body), Code::Unsupported as u32);
    assert_eq!(lab.code(200, |body| body.text("statvfs@openssh.com")), Code::Unsupported as u32);
    assert_eq!(lab.session.answer(&[7, 0, 0]), Err(Malformed::Short));
    assert_eq!(lab.session.answer(&[]), Err(Malformed::Short));
}

proptest! {
    #[test]
    fn no_message_breaks_the_session(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut lab = lab();
        lab.open("/etc/name", 1);
        let message = [&[kind, 0, 0, 0, 1][..], &body].concat();
        let answer = lab.session.answer(&message).unwrap();
        assert!(answer.len() < LIMIT as usize);
    }
}
