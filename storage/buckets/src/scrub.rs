//! Reading every byte and comparing it with what was written.

use crate::bucket::Bucket;
use crate::content::Content;
use crate::incoming::hexadecimal;
use crate::listing::{Entry, Query};
use crate::{BucketError, Result, Version};
use larder_base::Cancel;
use md5::{Digest, Md5};

const CHUNK: usize = 1 << 20;

/// What a scrub found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// Versions that were read.
    pub versions: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is damaged: key, version id, and what is wrong.
    pub damaged: Vec<(String, String, String)>,
}

impl Bucket {
    /// Reads all versions and compares every blob with its MD5. Changes nothing.
    pub fn scrub(&self, cancel: &Cancel, report: &mut dyn FnMut(&Scrubbed)) -> Result<Scrubbed> {
        let mut found = Scrubbed::default();
        let mut query = Query { limit: 1000, ..Query::default() };
        loop {
            let page = self.list_versions(&query)?;
            for entry in &page.entries {
                let Entry::Item(item) = entry else { continue };
                if cancel.is_cancelled() {
                    return Ok(found);
                }
                self.scrub_version(&item.key, &item.id, &mut found)?;
                query.after = Some(item.key.clone());
                query.after_id = Some(item.id.clone());
            }
            report(&found);
            if !page.is_truncated {
                return Ok(found);
            }
        }
    }

    fn scrub_version(&self, key: &str, id: &str, found: &mut Scrubbed) -> Result<()> {
        let (version, mut content) = match self.read(key, Some(id)) {
            // Deleted meanwhile.
            Err(BucketError::NoSuchVersion) => return Ok(()),
            Err(BucketError::Damaged { what }) => {
                found.damaged.push((key.to_owned(), id.to_owned(), what));
                return Ok(());
            }
            other => other?,
        };
        found.versions += 1;
        if let Err(error) = verify(&version, &mut content, &mut found.bytes) {
            found.damaged.push((key.to_owned(), id.to_owned(), error.to_string()));
        }
        Ok(())
    }
}

fn verify(version: &Version, content: &mut Content, bytes: &mut u64) -> Result<()> {
    let mut offset = 0;
    for part in &version.record.parts {
        let mut hash = Md5::new();
        let end = offset + part.size;
        while offset < end {
            let (_, chunk) = content.read(offset, CHUNK)?;
            if chunk.is_empty() {
                return Err(BucketError::Damaged { what: format!("blob {}: it ends early", part.id) });
            }
            hash.update(&chunk);
            offset += chunk.len() as u64;
            *bytes += chunk.len() as u64;
        }
        if hexadecimal(&hash.finalize()) != part.md5 {
            return Err(BucketError::Damaged { what: format!("blob {}: its MD5 is another", part.id) });
        }
    }
    Ok(())
}
