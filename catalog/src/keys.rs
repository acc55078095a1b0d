//! Where everything stands. Documents under ids; names and references as keys of their own.

use crate::{
    AccountId, InstanceId, InstanceSnapshotId, Key, PoolId, Prefix, ProfileId, SnapshotId, VolumeId,
};
use larder_base::{Fingerprint, KeptId, ProjectName, Ticket};
use uuid::Uuid;

/// The server's configuration.
pub fn server_config() -> Key {
    Key::of(["server-config"])
}

/// A pool's document.
pub fn pool(id: PoolId) -> Key {
    Key::of(["pool", &id.to_string()])
}

/// All pools.
pub fn pools() -> Prefix {
    Prefix::of(["pool"])
}

/// Points to a pool's id.
pub fn pool_name(name: &str) -> Key {
    Key::of(["pool-name", name])
}

/// A project's document.
pub fn project(name: &ProjectName) -> Key {
    Key::of(["project", name.as_str()])
}

/// All projects.
pub fn projects() -> Prefix {
    Prefix::of(["project"])
}

/// A volume's document.
pub fn volume(id: VolumeId) -> Key {
    Key::of(["volume", &id.to_string()])
}

/// All volumes.
pub fn volumes() -> Prefix {
    Prefix::of(["volume"])
}

/// Points to a volume's id.
pub fn volume_name(pool: PoolId, project: &ProjectName, kind: &str, name: &str) -> Key {
    Key::of(["volume-name", &pool.to_string(), project.as_str(), kind, name])
}

/// A snapshot's document.
pub fn snapshot(volume: VolumeId, id: SnapshotId) -> Key {
    Key::of(["snapshot", &volume.to_string(), &id.to_string()])
}

/// All snapshots of all volumes.
pub fn snapshots() -> Prefix {
    Prefix::of(["snapshot"])
}

/// All snapshots of one volume.
pub fn snapshots_of(volume: VolumeId) -> Prefix {
    Prefix::of(["snapshot", &volume.to_string()])
}

/// Points to a snapshot's id.
pub fn snapshot_name(volume: VolumeId, name: &str) -> Key {
    Key::of(["snapshot-name", &volume.to_string(), name])
}

/// A backup's document.
pub fn backup(volume: VolumeId, id: Uuid) -> Key {
    Key::of(["backup", &volume.to_string(), &id.to_string()])
}

/// Points to a backup's id.
pub fn backup_name(volume: VolumeId, name: &str) -> Key {
    Key::of(["backup-name", &volume.to_string(), name])
}

/// All backups of one volume.
pub fn backups_of(volume: VolumeId) -> Prefix {
    Prefix::of(["backup", &volume.to_string()])
}

/// All backups.
pub fn backups() -> Prefix {
    Prefix::of(["backup"])
}

/// Says that `user` uses `target`; the value is the user's URL.
pub fn used_by(target: &str, user: &str) -> Key {
    Key::of(["used-by", target, user])
}

/// All users of a target.
pub fn used_by_prefix(target: &str) -> Prefix {
    Prefix::of(["used-by", target])
}

/// All references.
pub fn all_used_by() -> Prefix {
    Prefix::of(["used-by"])
}

/// An intent's document.
pub fn intent(ticket: &Ticket) -> Key {
    Key::of(["intent", &ticket.to_string()])
}

/// All intents.
pub fn intents() -> Prefix {
    Prefix::of(["intent"])
}

/// What is kept out of sight.
pub fn kept(id: KeptId) -> Key {
    Key::of(["kept", &id.to_string()])
}

/// All that is kept out of sight.
pub fn all_kept() -> Prefix {
    Prefix::of(["kept"])
}

/// A warning's document.
pub fn warning(id: Uuid) -> Key {
    Key::of(["warning", &id.to_string()])
}

/// All warnings.
pub fn warnings() -> Prefix {
    Prefix::of(["warning"])
}

/// An image's files, shared by all projects.
pub fn image(fingerprint: &Fingerprint) -> Key {
    Key::of(["image", fingerprint.as_str()])
}

/// The files of all images.
pub fn images() -> Prefix {
    Prefix::of(["image"])
}

/// What a project knows of an image.
pub fn image_entry(project: &ProjectName, fingerprint: &Fingerprint) -> Key {
    Key::of(["image-entry", project.as_str(), fingerprint.as_str()])
}

/// What all projects know of images.
pub fn image_entries() -> Prefix {
    Prefix::of(["image-entry"])
}

/// What one project knows of images.
pub fn image_entries_of(project: &ProjectName) -> Prefix {
    Prefix::of(["image-entry", project.as_str()])
}

/// An alias.
pub fn image_alias(project: &ProjectName, name: &str) -> Key {
    Key::of(["image-alias", project.as_str(), name])
}

/// All aliases.
pub fn image_aliases() -> Prefix {
    Prefix::of(["image-alias"])
}

/// All aliases of one project.
pub fn image_aliases_of(project: &ProjectName) -> Prefix {
    Prefix::of(["image-alias", project.as_str()])
}

/// A profile's document.
pub fn profile(id: ProfileId) -> Key {
    Key::of(["profile", &id.to_string()])
}

/// All profiles.
pub fn profiles() -> Prefix {
    Prefix::of(["profile"])
}

/// Points to a profile's id.
pub fn profile_name(project: &ProjectName, name: &str) -> Key {
    Key::of(["profile-name", project.as_str(), name])
}

/// Written whenever somebody comes to have a profile, so that who gives it another name learns of that.
pub fn profile_taken(id: ProfileId) -> Key {
    Key::of(["profile-taken", &id.to_string()])
}

/// An instance's document.
pub fn instance(id: InstanceId) -> Key {
    Key::of(["instance", &id.to_string()])
}

/// All instances.
pub fn instances() -> Prefix {
    Prefix::of(["instance"])
}

/// Points to an instance's id.
pub fn instance_name(project: &ProjectName, name: &str) -> Key {
    Key::of(["instance-name", project.as_str(), name])
}

/// An instance snapshot's document.
pub fn instance_snapshot(instance: InstanceId, id: InstanceSnapshotId) -> Key {
    Key::of(["instance-snapshot", &instance.to_string(), &id.to_string()])
}

/// Points to an instance snapshot's id.
pub fn instance_snapshot_name(instance: InstanceId, name: &str) -> Key {
    Key::of(["instance-snapshot-name", &instance.to_string(), name])
}

/// All snapshots of one instance.
pub fn instance_snapshots_of(instance: InstanceId) -> Prefix {
    Prefix::of(["instance-snapshot", &instance.to_string()])
}

/// All snapshots of all instances.
pub fn instance_snapshots() -> Prefix {
    Prefix::of(["instance-snapshot"])
}

/// What a bucket has beside its volume.
pub fn bucket(volume: VolumeId) -> Key {
    Key::of(["bucket", &volume.to_string()])
}

/// All buckets.
pub fn buckets() -> Prefix {
    Prefix::of(["bucket"])
}

/// Points to the volume of a bucket by the name it has on the S3 endpoint.
pub fn bucket_name(name: &str) -> Key {
    Key::of(["bucket-name", name])
}

/// A bucket key's document.
pub fn bucket_key(volume: VolumeId, id: Uuid) -> Key {
    Key::of(["bucket-key", &volume.to_string(), &id.to_string()])
}

/// Points to a bucket key's id.
pub fn bucket_key_name(volume: VolumeId, name: &str) -> Key {
    Key::of(["bucket-key-name", &volume.to_string(), name])
}

/// All keys of one bucket.
pub fn bucket_keys_of(volume: VolumeId) -> Prefix {
    Prefix::of(["bucket-key", &volume.to_string()])
}

/// All keys of all buckets.
pub fn bucket_keys() -> Prefix {
    Prefix::of(["bucket-key"])
}

/// Says whose an access key is, a bucket's or an account's.
pub fn access_key(access_key: &str) -> Key {
    Key::of(["access-key", access_key])
}

/// An account's document.
pub fn account(id: AccountId) -> Key {
    Key::of(["account", &id.to_string()])
}

/// All accounts.
pub fn accounts() -> Prefix {
    Prefix::of(["account"])
}

/// Points to an account's id.
pub fn account_name(name: &str) -> Key {
    Key::of(["account-name", name])
}

/// Points to the id of the account with this e-mail address.
pub fn account_email(email: &str) -> Key {
    Key::of(["account-email", email])
}

/// A key pair of an account.
pub fn account_key(account: AccountId, access_key: &str) -> Key {
    Key::of(["account-key", &account.to_string(), access_key])
}

/// All key pairs of one account.
pub fn account_keys_of(account: AccountId) -> Prefix {
    Prefix::of(["account-key", &account.to_string()])
}

/// All key pairs of all accounts.
pub fn account_keys() -> Prefix {
    Prefix::of(["account-key"])
}
