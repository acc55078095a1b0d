//! What the daemon does: each use-case checks everything, records what it is about to do in one catalog transaction, lets
//! the pool work, and records the outcome in another. Nothing here knows HTTP.

mod accounts;
mod availability;
mod backups;
mod buckets;
mod claim;
mod copies;
mod crash;
mod directories;
mod error;
mod extensions;
mod housekeeping;
mod images;
mod instances;
mod lifetime;
mod metrics;
mod pools;
mod profiles;
mod projects;
mod reconcile;
mod refresh;
mod s3;
mod schedule;
mod sealing;
mod sentenced;
mod server;
mod snapshots;
mod store;
#[cfg(test)]
mod trial;
mod unpack;
mod volumes;
mod warnings;
mod work;

pub use accounts::{AccountContent, NewAccount, account_url};
pub(crate) use backups::check_manifest;
pub use backups::{BackupImport, CheckedBucket, ImportKind, InstanceImport, NewBackup};
pub use buckets::{
    BucketKeyChange, Elsewhere, KeyPair, NewBucket, NewBucketKey, bucket_name, must_serve_here,
};
pub use copies::VolumeSource;
pub use directories::Directories;
pub use error::{Kind, Result, ServiceError};
pub use extensions::EXTENSIONS;
pub use images::{ImageChange, ImageUpload, NewImage, PublishSource, RemoteImage, image_url};
pub use instances::{
    Described, DescribedSnapshot, FilesInUse, InstanceChange, InstanceSource, InstanceTarget, InstanceUsage,
    NewInstance, Stop, instance_url,
};
pub use metrics::{Family, MetricKind, Sample};
pub use pools::{NewPool, OpenPool};
pub use profiles::{ProfileContent, VolumesOfProfiles, profile_url};
pub use projects::project_keys;
pub use s3::{Bound, S3Directory, Traffic};
pub use server::SERVER_KEYS;
pub use snapshots::NewSnapshot;
use store::storage_id;
pub use store::{Store, VolumeRecord};
pub use volumes::{NewVolume, VolumeChange};
pub use warnings::{WarningType, Warnings};
pub use work::{Identity, Requestor, Task};

use larder_base::host::Host;
use larder_base::{Cancel, Clock, Ticket};
use larder_catalog::documents::Volume;
use larder_storage_driver::{Config, Cx};
use larder_storage_pool::{Locks, Pool};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::sync::Arc;

/// What every use-case needs.
#[derive(Debug)]
pub struct Service {
    store: Store,
    pools: RwLock<HashMap<String, Arc<Pool>>>,
    /// Open pools that did not answer when they were last asked.
    unreachable: RwLock<BTreeSet<String>>,
    locks: Arc<Locks>,
    host: Arc<dyn Host>,
    clock: Arc<dyn Clock>,
    identity: Identity,
    at_work: work::AtWork,
    directories: Directories,
    launcher: larder_images::JailLauncher,
    images: images::Images,
    instances: instances::Instances,
    /// One change at a time of each volume.
    volume_claims: claim::Claims<larder_catalog::VolumeId>,
    pool_claims: claim::Claims<larder_catalog::PoolId>,
    /// Told when work that nobody asked for shall end.
    stopping: Cancel,
    sealer: sealing::Sealer,
    buckets: buckets::OpenBuckets,
    /// Buckets kept elsewhere of which a change is still to be finished or undone.
    left_behind: Mutex<HashSet<larder_catalog::VolumeId>>,
    endpoint: s3::Endpoint,
    traffic: Arc<s3::Traffic>,
    started: std::time::Instant,
    looked: schedule::Looked,
}

impl Service {
    /// A service over a catalog. Call [`Service::reconcile`] before anything else.
    pub fn new(
        catalog: Arc<dyn larder_catalog::Catalog>,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
        directories: Directories,
        launcher: larder_images::JailLauncher,
    ) -> Result<Self> {
        #[cfg(debug_assertions)]
        let host = crash::CrashHost::over(host);
        let images = images::Images::open(&directories.images(), &clock)?;
        let instances = instances::Instances::new(&directories.run());
        let access_log = s3::AccessLog::new(&directories.logs(), Arc::clone(&clock));
        let sealer = sealing::Sealer::new(directories.secret_key());
        let looked = schedule::Looked::at(clock.now());
        Ok(Self {
            store: Store::new(catalog, Arc::clone(&clock)),
            pools: RwLock::default(),
            unreachable: RwLock::default(),
            locks: Locks::new(),
            host,
            clock,
            identity: Identity::alone(),
            at_work: work::AtWork::default(),
            directories,
            launcher,
            images,
            instances,
            volume_claims: claim::Claims::default(),
            pool_claims: claim::Claims::default(),
            stopping: Cancel::new(),
            sealer,
            buckets: buckets::OpenBuckets::default(),
            left_behind: Mutex::default(),
            endpoint: s3::Endpoint::default(),
            traffic: Arc::new(s3::Traffic::new(access_log)),
            started: std::time::Instant::now(),
            looked,
        })
    }

    /// What exists, for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Time.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Where the daemon keeps its files.
    pub fn directories(&self) -> &Directories {
        &self.directories
    }

    /// Writes warnings down.
    pub fn warnings(&self) -> Warnings {
        Warnings::new(self.store.clone(), Arc::clone(&self.clock))
    }

    /// Runs storage work in a task's context.
    pub fn with_cx<T>(&self, task: &Task, work: impl FnOnce(&Cx<'_>) -> T) -> T {
        let ticket = self.ticket(task);
        work(&Cx::new(self.host.as_ref(), task.progress.clone(), task.cancel.clone(), ticket))
    }

    fn ticket(&self, task: &Task) -> Ticket {
        let ticket = self.identity.ticket(task.id);
        self.at_work.note(ticket.clone(), task);
        ticket
    }

    /// Whether the work under a ticket may still go on: another member's, or of a task that is there.
    fn is_running(&self, ticket: &Ticket) -> bool {
        ticket.member() != self.identity.member || self.at_work.has(ticket)
    }

    /// The URL of a volume, with its project where that is not the default.
    pub fn volume_url(&self, pool: &str, volume: &Volume) -> String {
        if volume.kind == "bucket" {
            return self.bucket_url(pool, volume);
        }
        url(&["storage-pools", pool, "volumes", &volume.kind, &volume.name], &volume.project)
    }

    fn snapshot_url(&self, pool: &OpenPool, volume: &Volume, snapshot: &str) -> String {
        let pool = &pool.document.name;
        if volume.kind == "bucket" {
            let parts = ["storage-pools", pool, "buckets", &volume.name, "snapshots", snapshot];
            return url(&parts, &volume.project);
        }
        url(
            &["storage-pools", pool, "volumes", &volume.kind, &volume.name, "snapshots", snapshot],
            &volume.project,
        )
    }

    /// The URL under which a volume shows up in `used_by`: an instance's or image's own for theirs.
    pub fn user_url(&self, pool: &str, volume: &Volume) -> String {
        match volume.kind.as_str() {
            "container" | "virtual-machine" => url(&["instances", &volume.name], &volume.project),
            "image" => url(&["images", &volume.name], &volume.project),
            _ => self.volume_url(pool, volume),
        }
    }

    /// Ends work that nobody asked for, such as the update of images.
    pub fn stop_housekeeping(&self) {
        self.stopping.cancel();
    }

    /// Closes every bucket and pool.
    pub fn shut_down(&self) {
        if let Err(error) = self.traffic_ends() {
            tracing::warn!(%error, "the S3 access log could not be closed");
        }
        self.close_buckets();
        let task = Task::quiet(Requestor::default());
        for (name, pool) in self.pools.write().drain() {
            if let Err(error) = self.with_cx(&task, |cx| pool.close(cx)) {
                tracing::warn!(pool = name, error = %error.chain(), "a storage pool could not be closed");
            }
        }
    }
}

/// `/1.0/` and the parts, percent-encoded; `?project=` unless it is the default.
pub fn url<P: Display>(parts: &[&str], project: &P) -> String {
    let mut url = "/1.0".to_owned();
    for part in parts {
        url.push('/');
        url.push_str(&urlencoding::encode(part));
    }
    let project = project.to_string();
    if project != "default" {
        url.push_str("?project=");
        url.push_str(&urlencoding::encode(&project));
    }
    url
}
