//! Templates as images have them, and as they should not.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

struct Bench {
    folder: tempfile::TempDir,
    entries: BTreeMap<String, TemplateEntry>,
    values: TemplateValues,
    first_ids: (u32, u32),
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rootfs", "rootfs/etc", "templates", "outside"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let instance =
            InstanceFacts { name: "web".into(), kind: "container".into(), ..InstanceFacts::default() };
        let config = BTreeMap::from([("user.meta-data".to_owned(), "hello: world".to_owned())]);
        let values = TemplateValues { instance, config, devices: BTreeMap::new() };
        Self { folder, entries: BTreeMap::new(), values, first_ids: (0, 0) }
    }

    fn entry(&mut self, path: &str, template: &str) -> &mut TemplateEntry {
        let name = format!("{}.tpl", self.entries.len());
        fs::write(self.folder.path().join("templates").join(&name), template).unwrap();
        let entry = TemplateEntry { when: vec![Trigger::Create], template: name, ..TemplateEntry::default() };
        self.entries.entry(path.to_owned()).insert_entry(entry).into_mut()
    }

    fn apply(&self, trigger: Trigger) -> Result<Vec<PathBuf>, TemplateError> {
        let (rootfs, templates) = (self.path("rootfs"), self.path("templates"));
        let run = TemplateRun {
            rootfs: &rootfs,
            templates: &templates,
            entries: &self.entries,
            trigger,
            values: &self.values,
            first_ids: self.first_ids,
        };
        run.apply()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

/// Setting owners needs root.
fn can_run(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: {test}: needs root");
    }
    is_root
}

#[test]
fn usual_templates_are_rendered() {
    if !can_run("usual_templates_are_rendered") {
        return;
    }
    let mut bench = Bench::new();
    bench.entry("/etc/hostname", "{{ container.name }}\n");
    bench.entry(
        "/var/lib/cloud/meta-data",
        "id: {{ instance.name }}\n{{ config_get(\"user.meta-data\", \"\") }}\n",
    );
    let choice = "{% if config_get(\"user.network-config\", \"\") == \"\" %}dhcp{% else %}own{% endif %}";
    bench.entry("/etc/network", choice).mode = Some("0600".into());
    let loop_ = "{% for key in config %}{{ key }}={{ config[key] }};{% endfor %}{{ properties.x }}<&>";
    bench.entry("/etc/all", loop_).properties = BTreeMap::from([("x".into(), "<y>".into())]);
    assert_eq!(bench.apply(Trigger::Create).unwrap().len(), 4);
    assert_eq!(bench.read("rootfs/etc/hostname"), "web\n");
    assert_eq!(bench.read("rootfs/var/lib/cloud/meta-data"), "id: web\nhello: world\n");
    assert_eq!(bench.read("rootfs/etc/network"), "dhcp");
    assert_eq!(bench.read("rootfs/etc/all"), "user.meta-data=hello: world;<y><&>");
    let mode = |name: &str| fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("rootfs/etc/network"), mode("rootfs/etc/hostname")), (0o600, 0o644));
}

#[test]
fn owners_are_those_of_a_root_with_other_ids() {
    if !can_run("owners_are_those_of_a_root_with_other_ids") {
        return;
    }
    let mut bench = Bench::new();
    bench.first_ids = (1_000_000, 2_000_000);
    bench.entry("/srv/deep/file", "x").gid = Some(7);
    bench.apply(Trigger::Create).unwrap();
    let owner = |name: &str| {
        let found = fs::metadata(bench.path(name)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner("rootfs/srv/deep/file"), (1_000_000, 2_000_007));
    assert_eq!(
        (owner("rootfs/srv"), owner("rootfs/srv/deep")),
        ((1_000_000, 2_000_000), (1_000_000, 2_000_000))
    );
}

#[test]
fn occasion_and_create_only_decide() {
    if !can_run("occasion_and_create_only_decide") {
        return;
    }
    let mut bench = Bench::new();
    bench.entry("/etc/hostname", "new").create_only = true;
    fs::write(bench.path("rootfs/etc/hostname"), "old").unwrap();
    assert!(bench.apply(Trigger::Create).unwrap().is_empty());
    bench.entries.get_mut("/etc/hostname").unwrap().create_only = false;
    assert!(bench.apply(Trigger::Start).unwrap().is_empty());
    assert_eq!(bench.read("rootfs/etc/hostname"), "old");
    fs::set_permissions(bench.path("rootfs/etc/hostname"), fs::Permissions::from_mode(0o640)).unwrap();
    bench.apply(Trigger::Create).unwrap();
    assert_eq!(bench.read("rootfs/etc/hostname"), "new");
    let mode = fs::metadata(bench.path("rootfs/etc/hostname")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640, "the mode of a file that was there stays");
}

#[test]
fn unknown_names_and_statements_are_errors_that_say_which() {
    let cases = [
        ("{{ instance.nothing }}", "instance.nothing"),
        ("{{ nothing }}", "nothing"),
        ("{{ nothing() }}", "nothing"),
        ("{{ 'x'|nothing }}", "nothing"),
        ("{% include '/etc/passwd' %}", "include"),
        ("{% extends '/etc/passwd' %}", "extends"),
        ("{% ssi '/etc/passwd' %}", "ssi"),
        ("{% if x %}", "line 1"),
        ("{% set x = x ~ x %}", "set"),
    ];
    for (template, word) in cases {
        let mut bench = Bench::new();
        bench.entry("/etc/good", "good");
        bench.entry("/etc/x", template);
        let error = bench.apply(Trigger::Create).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("1.tpl"), "{template}: {error}");
        assert_eq!(fs::read_dir(bench.path("rootfs/etc")).unwrap().count(), 0, "nothing is written before");
    }
}

#[test]
fn links_never_lead_outside() {
    if !can_run("links_never_lead_outside") {
        return;
    }
    let mut bench = Bench::new();
    fs::write(bench.path("outside/file"), "untouched").unwrap();
    bench.entry("/etc/absolute/file", "touched");
    bench.entry("/etc/climbing/file", "touched");
    bench.entry("/etc/direct", "touched");
    symlink(bench.path("outside"), bench.path("rootfs/etc/absolute")).unwrap();
    symlink("../../../outside", bench.path("rootfs/etc/climbing")).unwrap();
    symlink(bench.path("outside/file"), bench.path("rootfs/etc/direct")).unwrap();
    for (path, entry) in std::mem::take(&mut bench.entries) {
        bench.entries = BTreeMap::from([(path.clone(), entry)]);
        // Inside its root the link leads nowhere: an error, or a new file inside.
        let _ = bench.apply(Trigger::Create);
        assert_eq!(bench.read("outside/file"), "untouched", "{path}");
        assert_eq!(fs::read_dir(bench.path("outside")).unwrap().count(), 1, "{path}");
    }
    // A link that leads somewhere inside is followed as the instance would.
    fs::create_dir(bench.path("rootfs/run")).unwrap();
    fs::write(bench.path("rootfs/run/hostname"), "old").unwrap();
    symlink("/run/hostname", bench.path("rootfs/etc/hostname")).unwrap();
    bench.entries.clear();
    bench.entry("/etc/hostname", "new");
    bench.apply(Trigger::Create).unwrap();
    assert_eq!(bench.read("rootfs/run/hostname"), "new");
}

#[test]
fn devices_pipes_and_linked_templates_are_refused() {
    if !can_run("devices_pipes_and_linked_templates_are_refused") {
        return;
    }
    for kind in [FileType::Fifo, FileType::CharacterDevice] {
        let mut bench = Bench::new();
        bench.entry("/etc/x", "touched");
        let device = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, bench.path("rootfs/etc/x"), kind, Mode::from_raw_mode(0o666), device)
            .unwrap();
        assert!(matches!(bench.apply(Trigger::Create), Err(TemplateError::NoPlainFile { .. })));
    }
    let mut bench = Bench::new();
    bench.entry("/etc/x", "");
    fs::remove_file(bench.path("templates/0.tpl")).unwrap();
    symlink("/etc/passwd", bench.path("templates/0.tpl")).unwrap();
    assert!(matches!(bench.apply(Trigger::Create), Err(TemplateError::Read { .. })));
}
