//! The checksums that clients ask for, computed while bytes flow, and put together from those of parts.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use larder_storage_buckets::{Checksum, Part};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::Checksum as _;
use s3s::{S3Result, s3_error};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

pub(crate) const FULL_OBJECT: &str = "FULL_OBJECT";
pub(crate) const COMPOSITE: &str = "COMPOSITE";

impl Algorithm {
    pub(crate) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header, and trailer, that carries it.
    pub(crate) fn header(self) -> String {
        format!("x-amz-checksum-{}", self.as_str().to_ascii_lowercase())
    }

    pub(crate) fn parse(name: &str) -> S3Result<Self> {
        let found = Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name));
        found.ok_or_else(|| s3_error!(InvalidRequest, "the checksum algorithm {name} is not supported"))
    }

    /// How an upload's checksum is put together when the client doesn't say.
    pub(crate) fn default_kind(self) -> &'static str {
        match self {
            Self::Crc64Nvme => FULL_OBJECT,
            _ => COMPOSITE,
        }
    }

    /// Refuses a kind that can't be computed of parts.
    pub(crate) fn check_kind(self, kind: &str) -> S3Result<()> {
        let fits = match (self, kind) {
            (Self::Crc64Nvme, COMPOSITE) | (Self::Sha1 | Self::Sha256, FULL_OBJECT) => false,
            (_, kind) => kind == COMPOSITE || kind == FULL_OBJECT,
        };
        let name = self.as_str();
        fits.then_some(()).ok_or_else(|| {
            s3_error!(
                InvalidRequest,
                "The {kind} checksum type cannot be used with the {name} checksum algorithm"
            )
        })
    }

    fn width(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// Computes one of them.
pub(crate) struct Hasher(Algorithm, ChecksumHasher);

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let mut hasher = ChecksumHasher::default();
        match algorithm {
            Algorithm::Crc32 => hasher.crc32 = Some(s3s::crypto::Crc32::new()),
            Algorithm::Crc32c => hasher.crc32c = Some(s3s::crypto::Crc32c::new()),
            Algorithm::Crc64Nvme => hasher.crc64nvme = Some(s3s::crypto::Crc64Nvme::new()),
            Algorithm::Sha1 => hasher.sha1 = Some(s3s::crypto::Sha1::new()),
            Algorithm::Sha256 => hasher.sha256 = Some(s3s::crypto::Sha256::new()),
        }
        Self(algorithm, hasher)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.1.update(bytes);
    }

    pub(crate) fn finish(self) -> (Algorithm, String) {
        let found = self.1.finalize();
        let value = match self.0 {
            Algorithm::Crc32 => found.checksum_crc32,
            Algorithm::Crc32c => found.checksum_crc32c,
            Algorithm::Crc64Nvme => found.checksum_crc64nvme,
            Algorithm::Sha1 => found.checksum_sha1,
            Algorithm::Sha256 => found.checksum_sha256,
        };
        (self.0, value.unwrap_or_default())
    }
}

/// The checksum of an object of these parts, where all have one.
pub(crate) fn of_parts(algorithm: Algorithm, kind: &str, parts: &[Part]) -> Option<Checksum> {
    let decoded = parts.iter().map(|part| BASE64_STANDARD.decode(part.checksum.as_deref()?).ok());
    let decoded: Vec<Vec<u8>> = decoded.collect::<Option<_>>()?;
    let value = if kind == FULL_OBJECT {
        combine(algorithm, parts, &decoded)?
    } else {
        let mut hasher = Hasher::new(algorithm);
        decoded.iter().for_each(|bytes| hasher.update(bytes));
        format!("{}-{}", hasher.finish().1, parts.len())
    };
    Some(Checksum { algorithm: algorithm.as_str().to_owned(), kind: kind.to_owned(), value })
}

fn combine(algorithm: Algorithm, parts: &[Part], decoded: &[Vec<u8>]) -> Option<String> {
    let crc = match algorithm {
        Algorithm::Crc32 => crc_fast::CrcAlgorithm::Crc32IsoHdlc,
        Algorithm::Crc32c => crc_fast::CrcAlgorithm::Crc32Iscsi,
        Algorithm::Crc64Nvme => crc_fast::CrcAlgorithm::Crc64Nvme,
        Algorithm::Sha1 | Algorithm::Sha256 => return None,
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let mut pieces = decoded.iter().zip(parts).map(|(bytes, part)| (number(bytes), part.size));
    let (first, _) = pieces.next()?;
    let whole =
        pieces.fold(first, |before, (next, size)| crc_fast::checksum_combine(crc, before, next, size));
    let bytes = whole.to_be_bytes();
    Some(BASE64_STANDARD.encode(&bytes[8 - algorithm.width()..]))
}

/// The checksum that a request's typed fields give, with its algorithm.
macro_rules! given_checksum {
    ($input:expr) => {{
        use $crate::checksum::Algorithm;
        [
            (Algorithm::Crc32, $input.checksum_crc32.clone()),
            (Algorithm::Crc32c, $input.checksum_crc32c.clone()),
            (Algorithm::Crc64Nvme, $input.checksum_crc64nvme.clone()),
            (Algorithm::Sha1, $input.checksum_sha1.clone()),
            (Algorithm::Sha256, $input.checksum_sha256.clone()),
        ]
        .into_iter()
        .find_map(|(algorithm, value)| Some((algorithm, value?)))
    }};
}

/// Sets the field of an output that shows a checksum.
macro_rules! show_checksum {
    ($output:expr, $algorithm:expr, $value:expr) => {{
        use $crate::checksum::Algorithm;
        let value: Option<String> = Some($value);
        match $algorithm {
            Algorithm::Crc32 => $output.checksum_crc32 = value,
            Algorithm::Crc32c => $output.checksum_crc32c = value,
            Algorithm::Crc64Nvme => $output.checksum_crc64nvme = value,
            Algorithm::Sha1 => $output.checksum_sha1 = value,
            Algorithm::Sha256 => $output.checksum_sha256 = value,
        }
    }};
}

pub(crate) use {given_checksum, show_checksum};
