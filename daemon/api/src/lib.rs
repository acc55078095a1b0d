//! The words of the REST API, as both peers' clients write and read them: one type a JSON object, nothing that acts.
//!
//! Reading is as forgiving as the peers' servers are: an unknown field is ignored, an absent or `null` field is empty,
//! and a configuration value may be a number or a boolean. Writing is as strict as their clients need: lists and maps are
//! never `null` where they are walked, and a time that is not set is [`ZERO_TIME`].

#[macro_use]
mod wire;

mod certificate;
mod event;
mod image;
mod image_alias;
mod instance;
mod instance_backup;
mod instance_exec;
mod instance_snapshot;
mod instance_state;
mod metadata;
mod operation;
mod profile;
mod project;
mod resources;
mod response;
mod server;
mod storage_account;
mod storage_bucket;
mod storage_pool;
mod storage_volume;
mod volume_backup;
mod volume_snapshot;
mod warning;

pub use certificate::{Certificate, CertificatePut, CertificatesPost};
pub use event::{Event, EventLifecycle, EventLogging, Requestor};
pub use image::{
    Image, ImageExportPost, ImageMetadata, ImageMetadataTemplate, ImagePut, ImageUpdateSource, ImagesPost,
    ImagesPostSource,
};
pub use image_alias::{
    ImageAlias, ImageAliasesEntry, ImageAliasesEntryPost, ImageAliasesEntryPut, ImageAliasesPost,
};
pub use instance::{
    Instance, InstanceFull, InstancePost, InstancePostTarget, InstancePut, InstanceRebuildPost,
    InstanceSource, InstancesPost,
};
pub use instance_backup::{InstanceBackup, InstanceBackupPost, InstanceBackupsPost};
pub use instance_exec::{InstanceConsolePost, InstanceExecControl, InstanceExecPost};
pub use instance_snapshot::{
    InstanceSnapshot, InstanceSnapshotPost, InstanceSnapshotPut, InstanceSnapshotsPost,
};
pub use instance_state::{
    InstanceState, InstanceStateCpu, InstanceStateDisk, InstanceStateMemory, InstanceStateNetwork,
    InstanceStateNetworkAddress, InstanceStateNetworkCounters, InstanceStatePut, InstancesPut,
};
pub use metadata::{ConfigurationGroup, ConfigurationKey, MetadataConfiguration};
pub use operation::Operation;
pub use profile::{Profile, ProfilePost, ProfilePut, ProfilesPost};
pub use project::{Project, ProjectPost, ProjectPut, ProjectState, ProjectStateResource, ProjectsPost};
pub use resources::{
    Resources, ResourcesCards, ResourcesCpu, ResourcesCpuCore, ResourcesCpuSocket, ResourcesCpuThread,
    ResourcesDevices, ResourcesDisk, ResourcesLoad, ResourcesMemory, ResourcesStorage, ResourcesSystem,
};
pub use response::{Response, ResponseKind};
pub use server::{ConfigPatch, Server, ServerEnvironment, ServerPut, ServerStorageDriver, ServerUntrusted};
pub use storage_account::{
    StorageAccount, StorageAccountGrant, StorageAccountKey, StorageAccountKeyPut, StorageAccountKeysPost,
    StorageAccountPut, StorageAccountsPost,
};
pub use storage_bucket::{
    StorageBucket, StorageBucketBackup, StorageBucketBackupsPost, StorageBucketDamage, StorageBucketFull,
    StorageBucketKey, StorageBucketKeyPut, StorageBucketKeysPost, StorageBucketPut, StorageBucketRebuild,
    StorageBucketScrub, StorageBucketSource, StorageBucketsPost,
};
pub use storage_pool::{ResourcesStoragePool, StoragePool, StoragePoolPut, StoragePoolsPost, Usage};
pub use storage_volume::{
    StorageVolume, StorageVolumeFull, StorageVolumePost, StorageVolumePostTarget, StorageVolumePut,
    StorageVolumeSource, StorageVolumeState, StorageVolumeStateUsage, StorageVolumesPost,
};
pub use volume_backup::{StorageVolumeBackup, StorageVolumeBackupPost, StorageVolumeBackupsPost};
pub use volume_snapshot::{
    StorageVolumeSnapshot, StorageVolumeSnapshotPost, StorageVolumeSnapshotPut, StorageVolumeSnapshotsPost,
};
pub use warning::{Warning, WarningPut};
pub use wire::{Config, Devices, Metadata, ZERO_TIME, given_time, or_zero_time};
