//! What may be said to the program that makes a volume's filesystem. It runs as root, and a backup from anywhere may bring words
//! for it: none may name a file or another device.
//!
//! Sources: `mke2fs(8)`, `mkfs.xfs(8)`, `mkfs.btrfs(8)`.

/// What stands behind a switch.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// Nothing.
    Nothing,
    /// A number, with a unit perhaps.
    Number,
    /// A name, or several with commas between them.
    Names,
    /// Some of these, each with a number or name perhaps, with commas between them.
    Settings(&'static [&'static str]),
}

/// Switches that take the same.
type Switches = (&'static [&'static str], Value);

const EXT4: &[Switches] = &[
    (&["-D", "-F", "-j", "-q", "-v"], Value::Nothing),
    (&["-b", "-C", "-G", "-g", "-I", "-i", "-m", "-N"], Value::Number),
    (&["-e", "-L", "-O", "-T"], Value::Names),
    (&["-J"], Value::Settings(&["size", "location", "fast_commit_size"])),
    (
        &["-E"],
        Value::Settings(&[
            "assume_storage_prezeroed",
            "discard",
            "encoding",
            "encoding_flags",
            "lazy_itable_init",
            "lazy_journal_init",
            "nodiscard",
            "num_backup_sb",
            "orphan_file_size",
            "packed_meta_blocks",
            "resize",
            "root_owner",
            "stride",
            "stripe-width",
            "stripe_width",
        ]),
    ),
];

const XFS: &[Switches] = &[
    (&["-f", "-K", "-q"], Value::Nothing),
    (&["-L"], Value::Names),
    (&["-b", "-s"], Value::Settings(&["size"])),
    (&["-d"], Value::Settings(&["agcount", "agsize", "noalign", "sectsize", "su", "sunit", "sw", "swidth"])),
    (
        &["-i"],
        Value::Settings(&[
            "attr",
            "exchange",
            "maxpct",
            "nrext64",
            "perblock",
            "projid32bit",
            "size",
            "sparse",
        ]),
    ),
    (
        &["-l"],
        Value::Settings(&["agnum", "internal", "lazy-count", "sectsize", "size", "su", "sunit", "version"]),
    ),
    (&["-m"], Value::Settings(&["bigtime", "crc", "finobt", "inobtcount", "reflink", "rmapbt"])),
    (&["-n"], Value::Settings(&["ftype", "size", "version"])),
];

const BTRFS: &[Switches] = &[
    (&["-f", "--force", "-K", "--nodiscard", "-M", "--mixed", "-q", "--quiet"], Value::Nothing),
    (&["-n", "--nodesize", "-s", "--sectorsize"], Value::Number),
    (
        &[
            "-d",
            "--data",
            "-m",
            "--metadata",
            "-O",
            "--features",
            "-R",
            "--runtime-features",
            "-L",
            "--label",
            "--csum",
            "--checksum",
        ],
        Value::Names,
    ),
];

/// Checks words for the `mkfs` of a filesystem; fails with the first that may not be said to it.
pub fn check_mkfs_words<'a>(filesystem: &str, words: &'a str) -> Result<(), &'a str> {
    let known = match filesystem {
        "ext4" => EXT4,
        "xfs" => XFS,
        "btrfs" => BTRFS,
        _ => &[],
    };
    let mut words = words.split_whitespace();
    while let Some(word) = words.next() {
        let (value, attached) = switch(known, word).ok_or(word)?;
        let given = match (value, attached) {
            (Value::Nothing, _) => continue,
            (_, Some(attached)) => attached,
            (_, None) => words.next().ok_or(word)?,
        };
        if !value.takes(given) {
            return Err(if attached.is_some() { word } else { given });
        }
    }
    Ok(())
}

/// What a switch takes, and what is written to it without a space.
fn switch<'a>(known: &[Switches], word: &'a str) -> Option<(Value, Option<&'a str>)> {
    let of = |wanted: &str| known.iter().find(|(names, _)| names.contains(&wanted)).map(|(_, value)| *value);
    if let Some(value) = of(word) {
        return Some((value, None));
    }
    let (name, attached) = match word.starts_with("--") {
        true => word.split_once('=')?,
        false => word.split_at_checked(2)?,
    };
    match of(name)? {
        Value::Nothing => None,
        value => Some((value, Some(attached))),
    }
}

impl Value {
    fn takes(self, given: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Number => is_number(given),
            Self::Names => are_names(given),
            Self::Settings(names) => given.split(',').all(|setting| match setting.split_once('=') {
                Some((name, value)) => names.contains(&name) && are_names(value),
                None => names.contains(&setting),
            }),
        }
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    text.len() - digits.len() <= 1
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn are_names(text: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "_.,^:+-".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_with_numbers_and_names_may_be_said() {
        for (filesystem, words) in [
            ("ext4", ""),
            ("ext4", "-O ^metadata_csum,has_journal -m 0.5 -E lazy_itable_init=0,nodiscard -L data -i16384"),
            ("ext4", "-b 4096 -J size=64 -E root_owner=0:0 -T news -N 1000000"),
            ("xfs", "-d agcount=4,su=64k,sw=2 -m reflink=1,bigtime=1 -i size=512 -l size=64m -n ftype=1"),
            ("btrfs", "-d single --metadata=dup -O no-holes,^extref --nodesize 16k --csum xxhash -M"),
        ] {
            assert_eq!(check_mkfs_words(filesystem, words), Ok(()), "{filesystem} {words}");
        }
    }

    #[test]
    fn no_word_names_a_file_or_device() {
        for (filesystem, words, refused) in [
            ("btrfs", "/dev/sdb", "/dev/sdb"),
            ("btrfs", "-f sdb", "sdb"),
            ("btrfs", "-d raid1 sdb", "sdb"),
            ("btrfs", "-r root", "-r"),
            ("btrfs", "--rootdir=root", "--rootdir=root"),
            ("btrfs", "--label=../x", "--label=../x"),
            ("btrfs", "--", "--"),
            ("ext4", "-d /root", "-d"),
            ("ext4", "-droot", "-droot"),
            ("ext4", "-qdroot", "-qdroot"),
            ("ext4", "-J device=sdb", "device=sdb"),
            ("ext4", "-O ^has_journal 100", "100"),
            ("ext4", "-l list", "-l"),
            ("ext4", "-z undo", "-z"),
            ("ext4", "-E offset=4096", "offset=4096"),
            ("ext4", "-L -d", "-d"),
            ("ext4", "-L", "-L"),
            ("ext4", "-m é", "é"),
            ("xfs", "-p file", "-p"),
            ("xfs", "-d name=sdb", "name=sdb"),
            ("xfs", "-d agcount=4,file", "agcount=4,file"),
            ("xfs", "-l logdev=sdb", "logdev=sdb"),
            ("xfs", "-r rtdev=sdb", "-r"),
            ("xfs", "-c options=file", "-c"),
            ("xfs", "-é", "-é"),
            ("another", "-q", "-q"),
        ] {
            assert_eq!(check_mkfs_words(filesystem, words), Err(refused), "{filesystem} {words}");
        }
    }
}
