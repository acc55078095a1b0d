//! `docs/storage-drivers.md` is what the drivers say of themselves: their capabilities, their needs and their keys.

use larder_storage_driver::{
    Capabilities, CloneKind, Config, ConfigKey, Content, KeyScope, KeyType, Quota, Restore, Shrink,
    SnapshotKind, Stream,
};
use larder_storage_drivers::dir::Dir;
use larder_storage_drivers::{PoolSetup, SUPPORTED, Supported, load};
use std::fmt::Write;
use std::path::Path;

type Failure = Box<dyn std::error::Error>;

const HEAD: &str = "\
# Storage drivers

What each driver can do, and the keys of its pools and volumes. Written from what the drivers say of themselves: change the
driver, then run `LARDER_WRITE_PAGE=1 cargo test -p larder-storage-drivers --test page`. The keys are also served at
`/1.0/metadata/configuration`.

## What they can do

";

const ROOTS: &str = "\
The roots of instances have them too, but for `snapshots.*` and `security.*`, which are the instance's own keys, and `initial.*`;
the root disk's `size` goes before `volume.size`. For the root of a new instance from an image its disk's `initial.KEY` goes before
`volume.KEY`, for every key of a volume that a root has. A copy in the same pool shares its source's blocks and is made as that is; to
another pool the keys that the driver there has go along. An image is unpacked into a pool as `volume.KEY` says, and anew when the
pool says otherwise by then; a root that is to be made in another way is unpacked for itself.

";

const AFTER_CAPABILITIES: &str = "
A size that is enforced by a quota changes both ways while the volume is in use. A filesystem volume on a device of its own
(the drivers with `block.filesystem`; with zfs only those with `zfs.block_mode`) grows in use; ext4 shrinks while nobody uses
it, btrfs always, xfs never. A disk grows while nobody uses it, with every driver.

What is copied within a pool of clones shares its blocks. Between pools files and disks are copied as they are, holes, links,
owners, attributes and access lists included; a refresh writes what differs. Between two pools of a driver that has a stream
volumes go by that, and a refresh sends what has changed since the newest snapshot that both have
([when not](adr/0022-streams-between-pools.md)).

`cephobject` is not in this table: it keeps buckets alone, at a Ceph object gateway which also serves them
([how](../storage/drivers/src/cephobject/README.md)). Buckets of all other drivers are served by larderd ([s3.md](s3.md)).
The volume of a bucket has its `size` and room beside it. A smaller size waits a moment for the bucket's requests, since ext4
shrinks only while not in use; xfs never shrinks.

## What they need

";

/// One column of the table: a driver as its pools are by default, or in another shape.
struct Shape {
    title: &'static str,
    capabilities: Capabilities,
    carries: &'static [Content],
}

fn keys_of(driver: &str) -> Result<&'static [ConfigKey], Failure> {
    Ok(loaded(driver, &[])?.config_keys())
}

fn loaded(driver: &str, config: &[(&str, &str)]) -> Result<Box<dyn larder_storage_driver::Driver>, Failure> {
    let config: Config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let setup = PoolSetup {
        name: "pool".parse()?,
        root: "/nowhere/pool".into(),
        disks: "/nowhere".into(),
        ceph_conf: None,
        config,
    };
    Ok(load(driver, setup)?)
}

fn shapes() -> Result<Vec<Shape>, Failure> {
    let can = |title, driver, config: &[(&str, &str)]| -> Result<Shape, Failure> {
        let driver = loaded(driver, config)?;
        Ok(Shape {
            title,
            capabilities: driver.capabilities(),
            carries: driver.stream().map_or(&[], Stream::contents),
        })
    };
    let (title, capabilities) = ("dir, with project quotas", Dir::capabilities_with(true));
    let quota = Shape { title, capabilities, carries: &[] };
    Ok(vec![
        can("dir", "dir", &[])?,
        quota,
        can("btrfs", "btrfs", &[])?,
        can("lvm", "lvm", &[])?,
        can("lvm, `lvm.use_thinpool=false`", "lvm", &[("lvm.use_thinpool", "false")])?,
        can("zfs", "zfs", &[])?,
        can("ceph", "ceph", &[])?,
        can("cephfs", "cephfs", &[])?,
    ])
}

fn has_disks(can: &Capabilities) -> bool {
    can.contents.contains(&Content::Block)
}

/// A row of the table: what is asked, and the answer.
type Row = (&'static str, fn(&Capabilities) -> String);

const ROWS: &[Row] = &[
    ("Contents", |can| can.contents.iter().map(Content::to_string).collect::<Vec<_>>().join(", ")),
    ("A snapshot", |can| match can.snapshot {
        SnapshotKind::Native => "at once, shares blocks".to_owned(),
        SnapshotKind::Copied => "is a copy".to_owned(),
    }),
    ("A copy in the pool", |can| match can.clone {
        CloneKind::Independent => "is a clone; either may go first".to_owned(),
        CloneKind::Dependent => "is a clone; what it was made from stays on disk, hidden".to_owned(),
        CloneKind::None => "is a copy".to_owned(),
    }),
    ("A filesystem volume's size", |can| match can.quota {
        Quota::None => "is noted, not enforced".to_owned(),
        Quota::Project => "is enforced (project quota)".to_owned(),
        Quota::Native => "is enforced".to_owned(),
    }),
    ("A disk grows", |can| if has_disks(can) { "yes" } else { "has none" }.to_owned()),
    ("A disk shrinks", |can| match can.shrink {
        _ if !has_disks(can) => "has none".to_owned(),
        Shrink::Yes => "yes; what lay beyond is lost".to_owned(),
        Shrink::No => "no".to_owned(),
    }),
    ("Restore", |can| match can.restore {
        Restore::Exchange => "any snapshot, by exchange".to_owned(),
        Restore::InPlace => "any snapshot, in place".to_owned(),
        Restore::InPlaceNewest => "the newest snapshot, in place".to_owned(),
    }),
    ("Other members reach it", |can| if can.shared { "yes" } else { "no" }.to_owned()),
];

fn capabilities(page: &mut String) -> Result<(), Failure> {
    let shapes = shapes()?;
    row(page, "", shapes.iter().map(|shape| shape.title.to_owned()))?;
    row(page, "---", shapes.iter().map(|_| "---".to_owned()))?;
    for (question, answer) in ROWS {
        row(page, question, shapes.iter().map(|shape| answer(&shape.capabilities)))?;
    }
    let way = |shape: &Shape| {
        let all = shape.capabilities.contents.iter();
        match all.filter(|content| shape.carries.contains(content)).count() {
            0 => "copied".to_owned(),
            count if count == shape.capabilities.contents.len() => "sent by a stream".to_owned(),
            _ => "trees sent by a stream, disks copied".to_owned(),
        }
    };
    row(page, "To another pool of its kind a volume is", shapes.iter().map(way))
}

fn row(page: &mut String, first: &str, cells: impl Iterator<Item = String>) -> Result<(), Failure> {
    Ok(writeln!(page, "| {first} | {} |", cells.collect::<Vec<_>>().join(" | "))?)
}

fn needs(page: &mut String) -> Result<(), Failure> {
    let or_nothing = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };
    page.push_str("| driver | of the kernel | programs | for some volumes |\n| --- | --- | --- | --- |\n");
    for driver in by_name() {
        let tools = |tools: &[larder_base::host::Tool]| -> String {
            let told = tools.iter().map(|tool| format!("`{}` (package {})", tool.name, tool.package));
            or_nothing(told.collect::<Vec<_>>().join(", "))
        };
        let cells =
            [or_nothing(driver.kernel.to_owned()), tools(driver.programs), tools(driver.further_programs)];
        row(page, driver.name, cells.into_iter())?;
    }
    Ok(())
}

fn by_name() -> Vec<&'static Supported> {
    let mut drivers: Vec<&Supported> = SUPPORTED.iter().collect();
    drivers.sort_by_key(|driver| driver.name);
    drivers
}

/// Whether two keys are told by the same words.
fn is_same(one: &ConfigKey, other: &ConfigKey) -> bool {
    (one.name, one.scope, one.description) == (other.name, other.scope, other.description)
}

fn keys(page: &mut String) -> Result<(), Failure> {
    let (mut tables, mut with_volumes) = (Vec::new(), Vec::new());
    for driver in by_name() {
        let keys = keys_of(driver.name)?;
        if !loaded(driver.name, &[])?.capabilities().contents.is_empty() {
            with_volumes.push(keys);
        }
        tables.push((driver.name, keys));
    }
    let is_common =
        |key: &&ConfigKey| with_volumes.iter().all(|keys| keys.iter().any(|other| is_same(key, other)));
    let common = tables.first().into_iter().flat_map(|(_, keys)| keys.iter()).filter(is_common);
    page.push_str("\n## Keys of every volume\n\nA pool gives its volumes' defaults as `volume.KEY`. `user.*` is free for any text.\n\n");
    page.push_str(ROOTS);
    table(page, common)?;
    for (name, keys) in &tables {
        writeln!(page, "\n## {name}")?;
        for (title, scope) in [("Keys of a pool", KeyScope::Pool), ("Keys of a volume", KeyScope::Volume)] {
            let own: Vec<_> = keys.iter().filter(|key| key.scope == scope && !is_common(key)).collect();
            if !own.is_empty() {
                writeln!(page, "\n{title}:\n")?;
                table(page, own.into_iter())?;
            }
        }
    }
    Ok(())
}

fn table<'a>(page: &mut String, keys: impl Iterator<Item = &'a ConfigKey>) -> Result<(), Failure> {
    page.push_str("| key | type | default | may change | meaning |\n| --- | --- | --- | --- | --- |\n");
    for key in keys {
        let may_change = if key.mutable { "yes" } else { "no" }.to_owned();
        let cells = [kind(key.kind), key.default.to_owned(), may_change, key.description.to_owned()];
        row(page, &format!("`{}`", key.name), cells.into_iter())?;
    }
    Ok(())
}

fn kind(kind: KeyType) -> String {
    match kind {
        KeyType::Text => "text".to_owned(),
        KeyType::Boolean => "boolean".to_owned(),
        KeyType::Integer => "whole number".to_owned(),
        KeyType::Count => "whole number from 1".to_owned(),
        KeyType::Owner => "number of a user or group".to_owned(),
        KeyType::Size => "size".to_owned(),
        KeyType::PowerOfTwo(least, most) => format!("power of two from {least} to {most}"),
        KeyType::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        KeyType::Path => "absolute path".to_owned(),
        KeyType::OctalMode => "octal mode".to_owned(),
        KeyType::Lifetime => "lifetime such as `1d 6H`".to_owned(),
        KeyType::Schedule => "`@daily` and such, or a cron line".to_owned(),
        KeyType::MkfsWords(_) => "switches of mkfs".to_owned(),
    }
}

#[test]
fn the_page_is_what_the_drivers_say() -> Result<(), Failure> {
    let mut page = HEAD.to_owned();
    capabilities(&mut page)?;
    page.push_str(AFTER_CAPABILITIES);
    needs(&mut page)?;
    keys(&mut page)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/storage-drivers.md");
    if std::env::var_os("LARDER_WRITE_PAGE").is_some() {
        std::fs::write(&path, &page)?;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = page.lines().zip(written.lines()).find(|(says, has)| says != has);
    assert!(
        written == page,
        "docs/storage-drivers.md is not what the drivers say ({differs:?}): see its first lines for how to write it anew"
    );
    Ok(())
}
