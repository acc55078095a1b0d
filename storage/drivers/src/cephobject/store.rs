//! The verbs on buckets. A bucket is a user and its bucket, so that everything of it goes by one name and nothing else does.

use super::keys::Settings;
use super::parse::{Key, Made, Refusal, User, is_out_of_reach, read_made, read_names, read_user, refusal};
use super::{CephObject, names, transfer};
use larder_base::ByteSize;
use larder_base::host::{Cmd, HostError};
use larder_storage_driver::{
    Cx, ErrorKind, ListedObject, NewObject, ObjectAccess, ObjectBucket, ObjectKey, ObjectStore, Result,
    StorageError, StoredObject, VolumeId,
};
use std::io::Read;

/// How long a bucket's name may be at the gateway, the prefix included.
const LONGEST_NAME: usize = 63;
/// How large an object may be that is put at once.
const LARGEST_OBJECT: ByteSize = ByteSize::from_bytes(5 << 30);

/// Runs a command of `radosgw-admin`; gives its standard output, or why it refused.
pub(super) fn run(cx: &Cx<'_>, cmd: &Cmd) -> Result<Result<String, Refusal>> {
    let error = match cx.host().run(cmd, cx.cancel()) {
        Ok(output) if output.truncated => {
            let message = "the output of radosgw-admin is too long";
            return Err(StorageError::new(ErrorKind::Unexpected, message));
        }
        Ok(output) => return Ok(Ok(output.stdout)),
        Err(error) => error,
    };
    match refusal(&error) {
        Some(Refusal::Unreachable) => {
            Err(StorageError::new(ErrorKind::Unavailable, "the ceph cluster does not answer").because(error))
        }
        Some(refusal) => Ok(Err(refusal)),
        None => Err(StorageError::from(error).while_doing("radosgw-admin failed")),
    }
}

/// Runs a command whose subject may be gone; `None` when it is.
pub(super) fn run_if_there(cx: &Cx<'_>, cmd: &Cmd) -> Result<Option<String>> {
    match run(cx, cmd)? {
        Ok(text) => Ok(Some(text)),
        Err(Refusal::Missing) => Ok(None),
        Err(other) => Err(unexpected(other)),
    }
}

fn run_all(cx: &Cx<'_>, commands: &[Cmd]) -> Result<()> {
    for cmd in commands {
        run(cx, cmd)?.map_err(unexpected)?;
    }
    Ok(())
}

fn unexpected(refusal: Refusal) -> StorageError {
    match refusal {
        Refusal::KeyIsTaken => {
            StorageError::already_exists("an access key of that name at the object gateway")
        }
        other => StorageError::new(ErrorKind::Unexpected, format!("radosgw-admin refused: {other:?}")),
    }
}

/// Runs curl; gives what it printed.
pub(super) fn ask_gateway(cx: &Cx<'_>, settings: &Settings, cmd: &Cmd) -> Result<String> {
    match cx.host().run(cmd, cx.cancel()) {
        Ok(output) if output.truncated => {
            Err(StorageError::new(ErrorKind::Unexpected, "the answer of the object gateway is too long"))
        }
        Ok(output) => Ok(output.stdout),
        Err(error) => Err(out_of_reach(settings, error)),
    }
}

/// Why curl failed, told as what it is for the pool.
pub(super) fn out_of_reach(settings: &Settings, error: HostError) -> StorageError {
    if !is_out_of_reach(&error) {
        return error.into();
    }
    let message = format!("the object gateway {} does not answer", settings.endpoint);
    StorageError::new(ErrorKind::Unavailable, message).because(error)
}

fn user_of(cx: &Cx<'_>, settings: &Settings, user: &str) -> Result<Option<User>> {
    run_if_there(cx, &settings.user(user))?.map(|text| read_user(&text)).transpose()
}

/// What gives a user exactly these keys and this size, and opens it. What nobody wants any more goes last, but for an access key
/// that another key is to have.
pub(super) fn steps_to(settings: &Settings, name: &str, user: &User, access: &ObjectAccess) -> Vec<Cmd> {
    let owner_of = |key: &ObjectKey| names::subuser(name, &key.name);
    let passes_on = |one: &&Key| {
        access.keys.iter().any(|key| key.access_key == one.access_key && owner_of(key) != one.user)
    };
    let passed_on = user.keys.iter().filter(passes_on);
    let mut steps: Vec<_> = passed_on.map(|one| settings.remove_key(name, &one.access_key)).collect();
    for key in &access.keys {
        let subuser = owner_of(key);
        let is_it = |one: &Key| {
            (&one.user, &one.access_key, &one.secret_key) == (&subuser, &key.access_key, &key.secret_key)
        };
        match user.may_write(&subuser, key.may_write) {
            None => steps.push(settings.create_subuser(name, &subuser, key)),
            Some(may_write) => {
                if may_write != key.may_write {
                    steps.push(settings.change_subuser(name, &subuser, key));
                }
                if !user.keys.iter().any(is_it) {
                    steps.push(settings.set_key(name, &subuser, key));
                }
            }
        }
    }
    let size = access.size.map(ByteSize::as_bytes);
    match (user.quota(), size) {
        (old, new) if old == new => {}
        (_, Some(bytes)) => {
            steps.extend([settings.set_quota(name, bytes), settings.enforce_quota(name, true)]);
        }
        (_, None) => steps.push(settings.enforce_quota(name, false)),
    }
    if user.is_suspended() {
        steps.push(settings.suspend(name, false));
    }
    steps.extend(removals(settings, name, user, &access.keys));
    steps
}

/// What takes away the keys and subusers that nobody wants. A subuser takes its keys with it.
fn removals(settings: &Settings, name: &str, user: &User, wanted: &[ObjectKey]) -> Vec<Cmd> {
    let is_wanted = |subuser: &str| wanted.iter().any(|key| names::subuser(name, &key.name) == subuser);
    let goes_alone = |one: &&Key| {
        let stays = wanted.iter().any(|key| one.access_key == key.access_key);
        !stays && (one.user == name || is_wanted(&one.user))
    };
    let keys = user.keys.iter().filter(goes_alone).map(|one| settings.remove_key(name, &one.access_key));
    let subusers = user.subusers().filter(|subuser| !is_wanted(subuser));
    keys.chain(subusers.map(|subuser| settings.remove_subuser(name, subuser))).collect()
}

impl CephObject {
    fn user(&self, bucket: &ObjectBucket) -> String {
        names::user(&self.settings().identity, bucket)
    }

    /// The bucket itself, made by its own user: the gateway then tells whether somebody else has the name.
    fn make(&self, cx: &Cx<'_>, bucket: &ObjectBucket, user: &str, access: &ObjectAccess) -> Result<()> {
        let settings = self.settings();
        let name = bucket.volume.name.as_str();
        let shown = format!("{}{name}", settings.prefix);
        let own = run_if_there(cx, &settings.buckets(user))?.map(|text| read_names(&text)).transpose()?;
        if own.unwrap_or_default().contains(&shown) {
            return Ok(());
        }
        let key = access.keys.iter().find(|key| key.may_write).ok_or_else(|| {
            StorageError::new(
                ErrorKind::Invalid,
                format!("the bucket {name} can't be made without an admin key"),
            )
        })?;
        let said = ask_gateway(cx, &settings, &settings.make_bucket(name, key))?;
        match read_made(&said) {
            Made::Ours => Ok(()),
            Made::Taken => {
                Err(StorageError::already_exists(format!("the bucket {shown} at the object gateway")))
            }
            Made::Refused(why) => {
                let message = format!("the object gateway refused to make the bucket {shown}: {why}");
                Err(StorageError::new(ErrorKind::Unexpected, message))
            }
        }
    }
}

impl ObjectStore for CephObject {
    fn url(&self, bucket: &VolumeId) -> String {
        self.settings().bucket_url(bucket.name.as_str())
    }

    fn check(&self, bucket: &VolumeId) -> Result<()> {
        let shown = format!("{}{}", self.settings().prefix, bucket.name);
        if shown.len() <= LONGEST_NAME {
            return Ok(());
        }
        let message = format!(
            "invalid bucket name {:?}: with the pool's prefix it is {shown:?}, and only {LONGEST_NAME} characters are allowed",
            bucket.name.as_str()
        );
        Err(StorageError::new(ErrorKind::Invalid, message))
    }

    fn create(&self, cx: &Cx<'_>, bucket: &ObjectBucket, access: &ObjectAccess) -> Result<()> {
        let (settings, name) = (self.settings(), self.user(bucket));
        let user = match user_of(cx, &settings, &name)? {
            Some(user) => user,
            None => {
                let shown = format!("Bucket {}{}", settings.prefix, bucket.volume.name);
                read_user(&run(cx, &settings.create_user(&name, &shown))?.map_err(unexpected)?)?
            }
        };
        run_all(cx, &steps_to(&settings, &name, &user, access))?;
        self.make(cx, bucket, &name, access)?;
        if user.may_make_buckets() { run_all(cx, &[settings.no_more_buckets(&name)]) } else { Ok(()) }
    }

    fn change(&self, cx: &Cx<'_>, bucket: &ObjectBucket, access: &ObjectAccess) -> Result<()> {
        let (settings, name) = (self.settings(), self.user(bucket));
        let user = user_of(cx, &settings, &name)?.ok_or_else(|| {
            StorageError::not_found(format!("the bucket {} at the object gateway", bucket.volume.name))
        })?;
        run_all(cx, &steps_to(&settings, &name, &user, access))
    }

    fn close(&self, cx: &Cx<'_>, bucket: &ObjectBucket) -> Result<()> {
        run_if_there(cx, &self.settings().suspend(&self.user(bucket), true)).map(drop)
    }

    fn destroy(&self, cx: &Cx<'_>, bucket: &ObjectBucket) -> Result<()> {
        let (settings, name) = (self.settings(), self.user(bucket));
        let Some(own) = run_if_there(cx, &settings.buckets(&name))? else { return Ok(()) };
        for bucket in read_names(&own)? {
            run_if_there(cx, &settings.remove_bucket(&name, &bucket))?;
        }
        run_if_there(cx, &settings.remove_user(&name)).map(drop)
    }

    fn largest_object(&self) -> ByteSize {
        LARGEST_OBJECT
    }

    fn list_objects(
        &self,
        cx: &Cx<'_>,
        bucket: &VolumeId,
        key: &ObjectKey,
        after: &str,
    ) -> Result<Vec<ListedObject>> {
        transfer::list(cx, &self.settings(), bucket.name.as_str(), key, after)
    }

    fn read_objects(
        &self,
        cx: &Cx<'_>,
        bucket: &VolumeId,
        key: &ObjectKey,
        names: &[String],
        take: &mut dyn FnMut(&StoredObject, &mut dyn Read) -> Result<()>,
    ) -> Result<()> {
        transfer::read(cx, &self.settings(), bucket.name.as_str(), key, names, take)
    }

    fn write_objects(
        &self,
        cx: &Cx<'_>,
        bucket: &VolumeId,
        key: &ObjectKey,
        objects: &[NewObject],
    ) -> Result<()> {
        transfer::write(cx, &self.settings(), bucket.name.as_str(), key, objects)
    }

    fn admit(
        &self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        own: &ObjectKey,
        guests: &[&ObjectBucket],
        guest_key: &ObjectKey,
    ) -> Result<()> {
        let subuser = |guest: &&ObjectBucket| names::subuser(&self.user(guest), &guest_key.name);
        let (subusers, owner): (Vec<_>, _) = (guests.iter().map(subuser).collect(), self.user(bucket));
        transfer::admit(cx, &self.settings(), bucket.volume.name.as_str(), own, &owner, &subusers)
    }

    fn copy_objects(
        &self,
        cx: &Cx<'_>,
        from: &VolumeId,
        into: &VolumeId,
        key: &ObjectKey,
        names: &[String],
    ) -> Result<Vec<String>> {
        transfer::copy(cx, &self.settings(), (from.name.as_str(), into.name.as_str()), key, names)
    }

    fn remove_objects(
        &self,
        cx: &Cx<'_>,
        bucket: &VolumeId,
        key: &ObjectKey,
        names: &[String],
    ) -> Result<()> {
        transfer::remove(cx, &self.settings(), bucket.name.as_str(), key, names)
    }
}
