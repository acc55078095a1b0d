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
    /// Versions that were looked at.
    pub versions: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is damaged.
    pub damaged: Vec<Damage>,
}

/// A version that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its key.
    pub key: String,
    /// Its id.
    pub version: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A scrub that goes on.
struct Scrub<'a> {
    cancel: &'a Cancel,
    report: &'a mut dyn FnMut(&Scrubbed),
    found: Scrubbed,
}

impl Bucket {
    /// Reads all versions and compares every blob with its MD5; `report` is told what was found so far. Changes nothing.
    pub fn scrub(&self, cancel: &Cancel, report: &mut dyn FnMut(&Scrubbed)) -> Result<Scrubbed> {
        let mut scrub = Scrub { cancel, report, found: Scrubbed::default() };
        let mut query = Query { limit: 1000, ..Query::default() };
        loop {
            let page = self.list_versions(&query)?;
            for entry in &page.entries {
                let Entry::Item(item) = entry else { continue };
                scrub.look_at(self, &item.key, &item.id)?;
                query.after = Some(item.key.clone());
                query.after_id = Some(item.id.clone());
            }
            if !page.is_truncated {
                return Ok(scrub.found);
            }
        }
    }
}

impl Scrub<'_> {
    fn look_at(&mut self, bucket: &Bucket, key: &str, id: &str) -> Result<()> {
        self.cancel.checkpoint()?;
        let outcome =
            bucket.read(key, Some(id)).and_then(|(version, mut content)| self.verify(&version, &mut content));
        let problem = match outcome {
            Ok(()) => None,
            // Deleted meanwhile.
            Err(BucketError::NoSuchVersion) => return Ok(()),
            Err(BucketError::Damaged { what }) => Some(what),
            Err(error @ BucketError::File { .. }) => Some(error.to_string()),
            Err(other) => return Err(other),
        };
        self.found.versions += 1;
        if let Some(problem) = problem {
            self.found.damaged.push(Damage { key: key.to_owned(), version: id.to_owned(), problem });
        }
        (self.report)(&self.found);
        Ok(())
    }

    fn verify(&mut self, version: &Version, content: &mut Content) -> Result<()> {
        let mut offset = 0;
        for part in &version.record.parts {
            let mut hash = Md5::new();
            let end = offset + part.size;
            while offset < end {
                self.cancel.checkpoint()?;
                let (_, chunk) = content.read(offset, CHUNK)?;
                if chunk.is_empty() {
                    return Err(BucketError::Damaged { what: format!("blob {}: it ends early", part.id) });
                }
                hash.update(&chunk);
                offset += chunk.len() as u64;
                self.found.bytes += chunk.len() as u64;
                (self.report)(&self.found);
            }
            if hexadecimal(&hash.finalize()) != part.md5 {
                return Err(BucketError::Damaged { what: format!("blob {}: its MD5 is another", part.id) });
            }
        }
        Ok(())
    }
}
