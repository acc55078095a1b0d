//! Holds the form of the project: import arrows, who may start programs, where SQL stands, what every crate has.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Failure = Box<dyn std::error::Error>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Which of our crates each of our crates may use. There is no other arrow.
fn allowed_arrows() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let arrows: &[(&str, &[&str])] = &[
        ("larder-base", &[]),
        ("larder-catalog", &["larder-base"]),
        ("larder-storage-driver", &["larder-base"]),
        ("larder-storage-tree", &["larder-base"]),
        ("larder-storage-drivers", &["larder-base", "larder-storage-driver", "larder-storage-tree"]),
        ("larder-storage-pool", &["larder-base", "larder-storage-driver", "larder-storage-tree"]),
        (
            "larder-storage-conformance",
            &["larder-base", "larder-storage-driver", "larder-storage-tree", "larder-storage-pool"],
        ),
        ("larder-storage-buckets", &["larder-base"]),
        ("larder-images", &["larder-base"]),
        ("larder-runtime", &["larder-base"]),
        ("larder-api", &[]),
        ("larder-s3", &["larder-base", "larder-storage-buckets"]),
        (
            "larder-daemon",
            &[
                "larder-base",
                "larder-catalog",
                "larder-storage-driver",
                "larder-storage-drivers",
                "larder-storage-pool",
                "larder-storage-buckets",
                "larder-images",
                "larder-runtime",
                "larder-api",
                "larder-s3",
            ],
        ),
        ("larder-client", &["larder-api"]),
        ("larder-tests", &["larder-base"]),
    ];
    arrows.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect()
}

#[test]
fn the_import_arrows_are_those_of_the_architecture() -> Result<(), Failure> {
    #[expect(clippy::disallowed_methods, reason = "the test asks cargo for the workspace's metadata")]
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let allowed = allowed_arrows();
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    assert_eq!(packages.len(), allowed.len(), "a crate is missing from the table in this test");
    for package in packages {
        let name = package["name"].as_str().ok_or("no name")?;
        let may = allowed.get(name).ok_or_else(|| format!("{name} is not in the table in this test"))?;
        for dependency in package["dependencies"].as_array().ok_or("no dependencies")? {
            let to = dependency["name"].as_str().ok_or("no name")?;
            let is_for_tests = dependency["kind"] == "dev";
            if to.starts_with("larder-") && !is_for_tests {
                assert!(may.contains(to), "{name} must not use {to}");
            }
        }
    }
    Ok(())
}

fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "target" && name != ".git" && name != "fuzz" {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    assert!(found.len() > 30, "the walk found too little: {}", found.len());
    found
}

/// The code of a file without its tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

fn is_test_code(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
}

#[test]
fn only_the_host_seam_and_the_container_spawner_start_programs() {
    for path in sources() {
        let text = code(&path);
        let may = path.ends_with("host/system.rs")
            || path.ends_with("runtime/src/spawn.rs")
            || path.ends_with("images/src/jail/process.rs")
            || is_test_code(&path);
        let starts = text.contains("Command::new(") && text.contains("std::process");
        assert!(may || !starts, "{} starts a program by itself: describe it as a `Cmd`", path.display());
    }
}

#[test]
fn sql_stands_in_the_catalog_and_the_bucket_index_alone() {
    for path in sources() {
        let has_part = |name: &str| path.components().any(|part| part.as_os_str() == name);
        let in_catalog = has_part("catalog") || (has_part("storage") && has_part("buckets"));
        let text = code(&path);
        let has_sql =
            ["SELECT ", "INSERT INTO", "CREATE TABLE", "rusqlite"].iter().any(|word| text.contains(word));
        assert!(in_catalog || is_test_code(&path) || !has_sql, "{} has SQL", path.display());
    }
}

/// What a driver may have at most, in lines of code: neither blank, nor a comment, nor of tests.
const DRIVER_LINES: usize = 1500;

fn lines_of_code(path: &Path) -> usize {
    let text = code(path);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.count()
}

#[test]
fn every_driver_is_small() {
    let (folder, sources) = (root().join("storage/drivers/src"), sources());
    for driver in ["btrfs", "ceph", "cephfs", "cephobject", "dir", "lvm", "zfs"] {
        let own = folder.join(driver);
        let files = sources.iter().filter(|path| path.starts_with(&own) && !path.ends_with("tests.rs"));
        let lines: usize = files.map(|path| lines_of_code(path)).sum();
        assert!(lines > 0, "there is no driver in {}", own.display());
        assert!(
            lines <= DRIVER_LINES,
            "{driver} has {lines} lines of code and may have {DRIVER_LINES}: move what drivers share above them"
        );
    }
}

#[test]
fn every_module_says_what_it_is() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text.trim_start().starts_with("//!"), "{} has no `//!` line", path.display());
    }
}

#[test]
fn every_crate_has_a_readme_and_the_shared_lints() -> Result<(), Failure> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml"))?;
    let members =
        manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).ok_or("no members")?;
    for member in
        members.split(',').map(|member| member.trim().trim_matches('"')).filter(|member| !member.is_empty())
    {
        let folder = root().join(member);
        assert!(folder.join("README.md").is_file(), "{member} has no README.md");
        let own = std::fs::read_to_string(folder.join("Cargo.toml"))?;
        assert!(own.contains("[lints]\nworkspace = true"), "{member} does not take the shared lints");
    }
    Ok(())
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX:"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for mark in marks {
            assert!(!text.contains(mark), "{} has a {mark}", path.display());
        }
    }
}
