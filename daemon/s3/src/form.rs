//! Forms of browsers (`multipart/form-data`): fields first, then one file, which flows.

use crate::support::custom;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;
use memchr::memmem;
use s3s::{Body, S3Error, S3Result};
use std::collections::BTreeMap;

/// All fields together, headers of parts included, have at most so many bytes.
const MAX_FIELDS: usize = 64 * 1024;

/// A form whose file is still to come.
pub(crate) struct Form {
    /// Fields by lower-case name.
    pub(crate) fields: BTreeMap<String, String>,
    /// The file's name on the client.
    pub(crate) filename: Option<String>,
    /// The content type that the file's part names, which no policy has to speak of.
    pub(crate) file_type: Option<String>,
    reader: Reader,
}

struct Reader {
    body: Body,
    buffer: BytesMut,
    delimiter: Vec<u8>,
    taken: usize,
    is_done: bool,
}

pub(crate) fn malformed(why: &str) -> S3Error {
    let message = format!("The body of your POST request is not well-formed multipart/form-data: {why}.");
    custom("MalformedPOSTRequest", StatusCode::BAD_REQUEST, message)
}

impl Form {
    /// Reads the fields, up to the file.
    pub(crate) async fn read(body: Body, boundary: &str) -> S3Result<Self> {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first boundary has no line break before it.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        let mut reader = Reader { body, buffer, delimiter, taken: 0, is_done: false };
        reader.until_delimiter().await?;
        let mut fields = BTreeMap::new();
        loop {
            let part = reader.headers().await?;
            let name = part.name.to_ascii_lowercase();
            if name == "file" {
                return Ok(Self { fields, filename: part.filename, file_type: part.content_type, reader });
            }
            let value = reader.until_delimiter().await?;
            let value = String::from_utf8(value.to_vec()).map_err(|_| malformed("a field is not UTF-8"))?;
            fields.insert(name, value);
        }
    }

    /// The file's bytes.
    pub(crate) fn into_file(self) -> impl Stream<Item = Result<Bytes, S3Error>> + Send + Sync + 'static {
        stream::unfold(Some(self.reader), |state| async {
            let mut reader = state.filter(|reader| !reader.is_done)?;
            match reader.piece().await {
                Ok(piece) => Some((Ok(piece), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

/// What the headers of a part say.
struct PartHeaders {
    name: String,
    filename: Option<String>,
    content_type: Option<String>,
}

impl Reader {
    async fn more(&mut self) -> S3Result<()> {
        match self.body.next().await {
            Some(Ok(chunk)) => {
                self.buffer.extend_from_slice(&chunk);
                Ok(())
            }
            Some(Err(error)) => Err(malformed(&error.to_string())),
            None => Err(malformed("it ends early")),
        }
    }

    fn spend(&mut self, bytes: usize) -> S3Result<()> {
        self.taken += bytes;
        match self.taken > MAX_FIELDS {
            true => {
                let message = "Your POST request fields preceding the upload file were too large.";
                Err(custom("MaxPostPreDataLengthExceeded", StatusCode::BAD_REQUEST, message))
            }
            false => Ok(()),
        }
    }

    /// All bytes up to the mark, which is passed.
    async fn until(&mut self, mark: &[u8]) -> S3Result<Bytes> {
        loop {
            if let Some(found) = memmem::find(&self.buffer, mark) {
                let before = self.buffer.split_to(found).freeze();
                let _ = self.buffer.split_to(mark.len());
                self.spend(before.len())?;
                return Ok(before);
            }
            if self.buffer.len() > MAX_FIELDS {
                self.spend(self.buffer.len())?;
            }
            self.more().await?;
        }
    }

    async fn until_delimiter(&mut self) -> S3Result<Bytes> {
        let delimiter = self.delimiter.clone();
        self.until(&delimiter).await
    }

    async fn headers(&mut self) -> S3Result<PartHeaders> {
        let text = self.until(b"\r\n\r\n").await?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.starts_with("--") {
            let message = "POST requires exactly one file upload per request.";
            return Err(custom("IncorrectNumberOfFilesInPostRequest", StatusCode::BAD_REQUEST, message));
        }
        let header = |wanted: &str| {
            text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
            })
        };
        let disposition =
            header("content-disposition").ok_or_else(|| malformed("a part has no Content-Disposition"))?;
        let name = parameter(&disposition, "name").ok_or_else(|| malformed("a part has no name"))?;
        Ok(PartHeaders {
            name,
            filename: parameter(&disposition, "filename"),
            content_type: header("content-type"),
        })
    }

    /// Some of the file's bytes, and whether they were the last.
    async fn piece(&mut self) -> S3Result<Bytes> {
        loop {
            if let Some(found) = memmem::find(&self.buffer, &self.delimiter) {
                self.is_done = true;
                return Ok(self.buffer.split_to(found).freeze());
            }
            // The end may be the beginning of the delimiter.
            let safe = (self.buffer.len() + 1).saturating_sub(self.delimiter.len());
            if safe > 0 {
                return Ok(self.buffer.split_to(safe).freeze());
            }
            self.more().await?;
        }
    }
}

/// A parameter of a `Content-Disposition`; a quote in it is escaped.
fn parameter(disposition: &str, wanted: &str) -> Option<String> {
    let mut rest = disposition;
    while let Some((_, after)) = rest.split_once(';') {
        let (name, value) = after.split_once('=')?;
        let is_wanted = name.trim().eq_ignore_ascii_case(wanted);
        match value.strip_prefix('"') {
            Some(quoted) => {
                let end = (0..quoted.len()).find(|end| {
                    quoted.as_bytes()[*end] == b'"' && (*end == 0 || quoted.as_bytes()[end - 1] != b'\\')
                })?;
                if is_wanted {
                    return Some(quoted[..end].replace("\\\"", "\""));
                }
                rest = &quoted[end..];
            }
            None => {
                if is_wanted {
                    return Some(value.split(';').next().unwrap_or_default().trim().to_owned());
                }
                rest = value;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(pieces: &[&str]) -> Body {
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece.as_bytes()))).collect();
        let stream = s3s::dto::StreamingBlob::wrap(stream::iter(pieces));
        Body::from(s3s::stream::DynByteStream::from(stream))
    }

    const FORM: &str = "--x\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\na;\"b\r\n--x\r\n\
        Content-Disposition: form-data; filename=\"c \\\"d.txt\"; name=\"file\"\r\nContent-Type: text/plain\r\n\r\n\
        one\r\n--two\r\n--x--\r\n";

    #[tokio::test]
    async fn fields_and_a_file_come_whole_however_the_bytes_are_cut() {
        for size in 1..40 {
            let pieces: Vec<&str> =
                FORM.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            let form = Form::read(body(&pieces), "x").await.unwrap();
            assert_eq!(form.fields["key"], "a;\"b");
            assert_eq!(form.file_type.as_deref(), Some("text/plain"));
            assert_eq!(form.filename.as_deref(), Some("c \"d.txt"));
            let file: Vec<Bytes> = form.into_file().map(|piece| piece.unwrap()).collect().await;
            assert_eq!(file.concat(), b"one\r\n--two");
        }
    }

    #[tokio::test]
    async fn a_form_that_ends_early_or_never_is_refused() {
        let form = Form::read(body(&[&FORM[..FORM.len() - 8]]), "x").await.unwrap();
        let file: Vec<Result<Bytes, S3Error>> = form.into_file().collect().await;
        assert!(file.last().unwrap().is_err());
        let endless = "y".repeat(MAX_FIELDS * 2);
        assert!(
            Form::read(body(&["--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n", &endless]), "x")
                .await
                .is_err()
        );
        assert!(Form::read(body(&["--x--\r\n\r\n\r\n"]), "x").await.is_err());
    }
}
