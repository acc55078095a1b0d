//! The stored form of every kind of document, pinned: what is on disk today must be readable for ever.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_catalog::documents::{
    AccountKey, Backup, Bucket, BucketGrant, BucketKey, BucketRole, Config, Image, ImageAlias, ImageFiles,
    Instance, InstanceSnapshot, InstanceState, Intent, Kept, Pool, PoolStatus, Profile, Project,
    ServerConfig, Snapshot, StorageAccount, UpdateSource, Volume, VolumeState, Warning, WarningStatus,
};
use larder_catalog::{
    Catalog, CatalogError, Document, Prefix, Revision, SqliteCatalog, Transaction, get_document, keys,
    list_documents,
};
use std::fmt::Debug;
use uuid::Uuid;

const GOLDEN: &str = include_str!("documents.tsv");

fn time() -> jiff::Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn config() -> Config {
    [("size".into(), "1GiB".into())].into()
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn volume() -> Volume {
    Volume {
        id: id(2).into(),
        pool: id(1).into(),
        project: "blue".parse().unwrap(),
        kind: "custom".into(),
        content: "filesystem".into(),
        name: "data".into(),
        description: "d".into(),
        config: config(),
        state: VolumeState::Ready,
        created_at: time(),
        takes_over: None,
    }
}

fn instance() -> Instance {
    Instance {
        id: id(4).into(),
        project: "blue".parse().unwrap(),
        name: "web".into(),
        kind: "container".into(),
        architecture: "x86_64".into(),
        description: "d".into(),
        config: config(),
        devices: [("root".into(), config())].into(),
        profiles: vec!["default".into()],
        ephemeral: false,
        stateful: false,
        root: Some(id(2).into()),
        state: InstanceState::Ready,
        created_at: time(),
        last_used_at: None,
    }
}

fn image() -> Image {
    Image {
        fingerprint: "0".repeat(64).parse().unwrap(),
        project: "blue".parse().unwrap(),
        filename: "f.tar.xz".into(),
        size: 7,
        kind: "container".into(),
        architecture: "x86_64".into(),
        properties: config(),
        public: false,
        auto_update: true,
        cached: true,
        profiles: Some(vec!["default".into()]),
        created_at: time(),
        expires_at: None,
        last_used_at: Some(time()),
        uploaded_at: time(),
        update_source: Some(UpdateSource { server: "https://example.org".into(), ..UpdateSource::default() }),
    }
}

/// One document of a kind: it is written as the golden line says, and the golden line is read as the document.
fn check<D: Document + PartialEq + Debug>(document: &D, told: &mut Vec<String>) {
    let catalog = SqliteCatalog::in_memory().unwrap();
    catalog.transact(Transaction::new().put_document(document).unwrap()).unwrap();
    let written = catalog.get(&document.key()).unwrap().unwrap();
    told.push(format!("{}\t{}\t{}", D::KIND, written.key, written.value));
    for line in GOLDEN.lines().filter(|line| line.split('\t').next() == Some(D::KIND)) {
        let value = line.split('\t').nth(2).unwrap().to_owned();
        catalog.transact(Transaction::new().put(document.key(), value)).unwrap();
        let read = get_document::<D>(&catalog, &document.key()).unwrap().unwrap();
        assert_eq!(read.document, *document, "{line}");
    }
}

#[test]
fn every_kind_of_document_is_stored_as_agreed_and_read_back() {
    let (volume, instance, project) = (volume(), instance(), "blue".parse().unwrap());
    let kept = "00000000000000000000000000000007".parse().unwrap();
    let mut told = Vec::new();
    check(&ServerConfig { config: config() }, &mut told);
    check(&Project { name: "blue".parse().unwrap(), description: "d".into(), config: config() }, &mut told);
    let pool = Pool {
        id: id(1).into(),
        name: "fast".into(),
        driver: "dir".into(),
        description: "d".into(),
        config: config(),
        status: PoolStatus::Created,
        created_at: time(),
    };
    check(&pool, &mut told);
    check(&volume, &mut told);
    let snapshot = Snapshot {
        id: id(3).into(),
        volume: volume.id,
        name: "snap0".into(),
        description: "d".into(),
        config: config(),
        created_at: time(),
        expires_at: Some(time()),
        is_ready: true,
    };
    check(&snapshot, &mut told);
    let backup = Backup {
        id: id(5),
        volume: volume.id,
        name: "backup0".into(),
        created_at: time(),
        expires_at: None,
        volume_only: false,
        optimized: true,
    };
    check(&backup, &mut told);
    let intent = Intent {
        ticket: larder_base::Ticket::new("none", id(8), id(9)),
        pool: pool.id,
        volume: volume.id,
        work: serde_json::json!({ "resize": { "to": 7 } }),
        begun_at: time(),
    };
    check(&intent, &mut told);
    check(&Kept { id: kept, volume: volume.clone(), until: None, reason: "clones".into() }, &mut told);
    let warning = Warning {
        id: id(6),
        project: "blue".into(),
        kind: "Storage pool unavailable".into(),
        severity: "high".into(),
        status: WarningStatus::Acknowledged,
        count: 2,
        first_seen: time(),
        last_seen: time(),
        last_message: "m".into(),
        entity_url: "/1.0/storage-pools/fast".into(),
    };
    check(&warning, &mut told);
    let image = image();
    let fingerprint = image.fingerprint.clone();
    check(&ImageFiles { fingerprint: fingerprint.clone(), size: 7, stored_at: time() }, &mut told);
    check(&image, &mut told);
    let alias = ImageAlias {
        project: "blue".parse().unwrap(),
        name: "debian/12".into(),
        description: "d".into(),
        fingerprint,
        kind: "container".into(),
    };
    check(&alias, &mut told);
    check(&instance, &mut told);
    let then = InstanceSnapshot {
        id: id(10).into(),
        instance: instance.id,
        name: "snap0".into(),
        then: instance,
        stateful: false,
        root: Some(snapshot.id),
        created_at: time(),
        expires_at: None,
    };
    check(&then, &mut told);
    let profile = Profile {
        id: id(11).into(),
        project,
        name: "default".into(),
        description: "d".into(),
        config: config(),
        devices: [("root".into(), config())].into(),
    };
    check(&profile, &mut told);
    check_buckets(&mut told);
    for line in &told {
        assert!(GOLDEN.lines().any(|golden| golden == line), "not in documents.tsv:\n{}", told.join("\n"));
    }
}

fn check_buckets(told: &mut Vec<String>) {
    let (volume, account) = (id(2).into(), id(12).into());
    check(&Bucket { volume, name: "photos".into(), owner: Some(account), elsewhere: None }, told);
    let key = BucketKey {
        id: id(13),
        volume,
        name: "admin".into(),
        description: "d".into(),
        role: BucketRole::ReadOnly,
        access_key: "AK".into(),
        sealed_secret: "1:AAAA".into(),
    };
    check(&key, told);
    let owner = StorageAccount {
        id: account,
        name: "ann".into(),
        display_name: "Ann".into(),
        email: "ann@example.org".into(),
        pool: "fast".into(),
        quota: Some(7),
        created_at: time(),
    };
    check(&owner, told);
    let key = AccountKey {
        account,
        access_key: "AK".into(),
        sealed_secret: "1:AAAA".into(),
        created_at: time(),
        grants: Some(vec![BucketGrant { volume, role: BucketRole::Admin }]),
    };
    check(&key, told);
}

#[test]
fn a_document_of_a_newer_program_is_refused_and_left_alone() {
    let catalog = SqliteCatalog::in_memory().unwrap();
    let newer = r#"{"v":99,"d":{"shape":"unknown"}}"#.to_owned();
    catalog.transact(Transaction::new().put(keys::server_config(), newer.clone())).unwrap();
    let refused = get_document::<ServerConfig>(&catalog, &keys::server_config()).unwrap_err();
    assert!(matches!(refused, CatalogError::NewerDocument { found: 99, known: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("server-config"), "{refused}");
    assert_eq!(catalog.get(&keys::server_config()).unwrap().unwrap().value, newer);
}

#[test]
fn a_list_of_documents_is_typed_has_revisions_and_names_the_one_that_is_broken() {
    let catalog = SqliteCatalog::in_memory().unwrap();
    for (number, name) in ["blue", "red"].into_iter().enumerate() {
        let project = Project { name: name.parse().unwrap(), description: String::new(), config: config() };
        let revision = catalog.transact(Transaction::new().put_document(&project).unwrap()).unwrap();
        let listed = list_documents::<Project>(&catalog, &keys::projects()).unwrap();
        assert_eq!((listed.len(), listed[number].revision), (number + 1, revision));
        assert_eq!(listed[number].document, project);
    }
    assert!(get_document::<ServerConfig>(&catalog, &keys::server_config()).unwrap().is_none());
    let broken = Transaction::new().put(keys::project(&"green".parse().unwrap()), "{}".into());
    assert_eq!(catalog.transact(broken).unwrap(), Revision(3));
    let error = list_documents::<Project>(&catalog, &Prefix::of(["project"])).unwrap_err();
    assert!(error.to_string().contains("project/green"), "{error}");
}
