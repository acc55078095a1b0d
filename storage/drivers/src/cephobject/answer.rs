//! What the gateway answers, as types: lists, tags, and the stream of answers to one curl that reads many objects. Pure: bytes
//! in, types out. Whatever comes is bounded.

use super::request::{METADATA, kept_header};
use jiff::Timestamp;
use larder_storage_driver::{ErrorKind, ListedObject, ObjectFacts, Result, StorageError, StoredObject};
use quick_xml::events::Event;
use std::io::{self, BufRead, Read};

/// How long the headers of an answer, and the tags of an object, may be.
const LONGEST_HEAD: u64 = 64 << 10;
const LONGEST_TAGS: u64 = 256 << 10;
/// How long a key may be, in bytes.
const LONGEST_KEY: usize = 1024;

fn not_understood(what: &str, why: impl std::fmt::Display) -> StorageError {
    StorageError::new(
        ErrorKind::Unexpected,
        format!("{what} of the object gateway can't be understood: {why}"),
    )
}

/// The texts of a document's elements, each under the names of the elements around it, in their order. Elements that have neither
/// text nor others in them count as an empty text. There are no entities but XML's own.
fn texts(what: &str, xml: &str) -> Result<Vec<(String, String)>> {
    let bad = |why: &dyn std::fmt::Display| not_understood(what, why);
    let mut reader = quick_xml::Reader::from_str(xml);
    let (mut path, mut text, mut found) = (Vec::<String>::new(), String::new(), Vec::new());
    let mut is_leaf = false;
    loop {
        match reader.read_event().map_err(|error| bad(&error))? {
            Event::Start(start) => {
                path.push(String::from_utf8_lossy(start.local_name().as_ref()).into_owned());
                (is_leaf, text) = (true, String::new());
            }
            Event::Text(part) => text.push_str(&part.decode().map_err(|error| bad(&error))?),
            Event::CData(part) => text.push_str(&part.decode().map_err(|error| bad(&error))?),
            Event::GeneralRef(entity) => {
                let name = entity.decode().map_err(|error| bad(&error))?;
                let letter = entity.resolve_char_ref().map_err(|error| bad(&error))?.map(String::from);
                let known = || quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned);
                text.push_str(&letter.or_else(known).ok_or_else(|| bad(&"an unknown entity"))?);
            }
            Event::End(_) => {
                if std::mem::take(&mut is_leaf) {
                    found.push((path.join("/"), std::mem::take(&mut text)));
                }
                path.pop();
            }
            Event::Empty(start) => {
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                let whole = path.iter().map(String::as_str).chain([name.as_str()]).collect::<Vec<_>>();
                found.push((whole.join("/"), String::new()));
                is_leaf = false;
            }
            Event::DocType(_) => return Err(bad(&"it declares a document type")),
            Event::Eof if path.is_empty() => return Ok(found),
            Event::Eof => return Err(bad(&"it is cut off")),
            _ => {}
        }
    }
}

/// Reads a list of objects.
pub(super) fn read_list(xml: &str) -> Result<Vec<ListedObject>> {
    let what = "the list of objects";
    let texts = texts(what, xml)?;
    if !texts.iter().any(|(path, _)| path.starts_with("ListBucketResult/")) {
        return Err(not_understood(what, "it is no ListBucketResult"));
    }
    let mut found: Vec<ListedObject> = Vec::new();
    for (path, text) in texts {
        let Some(field) = path.strip_prefix("ListBucketResult/Contents/") else { continue };
        if field == "Key" {
            let key = listed_key(&text).map_err(|why| not_understood(what, why))?;
            found.push(ListedObject { key, size: 0, etag: String::new(), modified: 0 });
            continue;
        }
        let object = found.last_mut().ok_or_else(|| not_understood(what, "an object has no key"))?;
        match field {
            "Size" => object.size = text.parse().map_err(|error| not_understood(what, error))?,
            "ETag" => object.etag = text.trim_matches('"').to_owned(),
            "LastModified" => {
                let at: Timestamp = text.parse().map_err(|error| not_understood(what, error))?;
                object.modified = at.as_millisecond();
            }
            _ => {}
        }
    }
    Ok(found)
}

/// As forms are encoded: a plus that is meant is encoded too.
fn listed_key(text: &str) -> Result<String, String> {
    let text = text.replace('+', " ");
    match urlencoding::decode(&text).map_err(|error| error.to_string())?.into_owned() {
        key if key.is_empty() || key.len() > LONGEST_KEY => Err(format!("a key has {} bytes", key.len())),
        key => Ok(key),
    }
}

/// Whether an answer of status 200 says that an object was copied: it may also tell, late, why it was not.
pub(super) fn is_copied(xml: &str) -> bool {
    let texts = texts("the answer", xml).unwrap_or_default();
    texts.iter().any(|(path, text)| path == "CopyObjectResult/ETag" && !text.is_empty())
}

/// Reads the tags of an object.
pub(super) fn read_tags(xml: &str) -> Result<Vec<(String, String)>> {
    let what = "the tags of an object";
    let mut tags: Vec<(String, String)> = Vec::new();
    for (path, text) in texts(what, xml)? {
        match path.as_str() {
            "Tagging/TagSet/Tag/Key" => tags.push((text, String::new())),
            "Tagging/TagSet/Tag/Value" => match tags.last_mut() {
                Some(tag) => tag.1 = text,
                None => return Err(not_understood(what, "a value comes before its key")),
            },
            _ => {}
        }
    }
    Ok(tags)
}

/// The status and headers of an answer, names in lower case.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    fn value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// The answers to requests for objects, each with its tags before it, as they come out of curl.
#[derive(Debug)]
pub(super) struct Answers<R> {
    stream: R,
}

impl<R: BufRead> Answers<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream }
    }

    /// The next object; its bytes are `take`'s to read. `None` when there is no further answer, or none that is whole: curl tells
    /// why.
    pub(super) fn next(
        &mut self,
        key: &str,
        take: &mut dyn FnMut(&StoredObject, &mut dyn Read) -> Result<()>,
    ) -> Result<Option<()>> {
        let Some(tags) = self.tags()? else { return Ok(None) };
        let Some(head) = self.good_head()? else { return Ok(None) };
        let length = head.value("content-length").and_then(|text| text.parse().ok());
        let size =
            length.ok_or_else(|| not_understood("an answer", "it does not tell the object's length"))?;
        let object =
            StoredObject { facts: facts(&head, tags), modified: modified(&head), key: key.to_owned(), size };
        let mut body = self.stream.by_ref().take(size);
        take(&object, &mut body)?;
        io::copy(&mut body, &mut io::sink()).map_err(StorageError::from)?;
        Ok((body.limit() == 0).then_some(()))
    }

    fn tags(&mut self) -> Result<Option<Vec<(String, String)>>> {
        let Some(head) = self.good_head()? else { return Ok(None) };
        let length: Option<u64> = head.value("content-length").and_then(|text| text.parse().ok());
        let length = length.filter(|length| *length <= LONGEST_TAGS);
        let length = length.ok_or_else(|| not_understood("the tags of an object", "their length"))?;
        let mut text = String::new();
        let read = self.stream.by_ref().take(length).read_to_string(&mut text).map_err(StorageError::from)?;
        if (read as u64) < length { Ok(None) } else { read_tags(&text).map(Some) }
    }

    /// The head of an answer that is not about a failure.
    fn good_head(&mut self) -> Result<Option<Head>> {
        loop {
            match self.head()? {
                Some(head) if (100..200).contains(&head.status) => {}
                head => return Ok(head.filter(|head| head.status == 200)),
            }
        }
    }

    fn head(&mut self) -> Result<Option<Head>> {
        let (mut left, mut lines) = (LONGEST_HEAD, Vec::new());
        loop {
            let mut line = Vec::new();
            let read =
                self.stream.by_ref().take(left).read_until(b'\n', &mut line).map_err(StorageError::from)?;
            left -= read as u64;
            if left == 0 {
                return Err(not_understood("an answer", "its headers are too long"));
            }
            if !line.ends_with(b"\n") {
                return Ok(None);
            }
            // Not every gateway tells metadata as UTF-8.
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        read_head(&lines).map(Some)
    }
}

fn read_head(lines: &[String]) -> Result<Head> {
    let (first, rest) = lines.split_first().ok_or_else(|| not_understood("an answer", "it has no status"))?;
    let status = first.strip_prefix("HTTP/").and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| not_understood("an answer", "it has no status"))?;
    let headers = rest.iter().filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    Ok(Head { status, headers: headers.collect() })
}

fn facts(head: &Head, tags: Vec<(String, String)>) -> ObjectFacts {
    let mut facts = ObjectFacts { tags, ..ObjectFacts::default() };
    for (name, value) in &head.headers {
        if let Some(name) = name.strip_prefix(METADATA) {
            facts.metadata.insert(name.to_owned(), value.clone());
        } else if let Some(kept) = kept_header(name) {
            facts.headers.insert(kept.to_owned(), value.clone());
        } else if name == "x-amz-storage-class" && value != "STANDARD" {
            facts.storage_class = Some(value.clone());
        }
    }
    facts
}

fn modified(head: &Head) -> u64 {
    let told = head.value("last-modified").and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    told.and_then(|at| u64::try_from(at.timestamp().as_second()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAGS: &str =
        "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n<Tagging><TagSet></TagSet></Tagging>    ";
    const OBJECT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nLast-Modified: Sun, 29 Nov 2026 16:43:25 GMT\r\n\
        X-Amz-Meta-A: gr\u{f6}\u{df}e\r\nContent-Type: text/plain\r\nx-amz-storage-class: COLD\r\nServer: x\r\n\r\nH\r\nT";

    fn read(text: &str, keys: &[&str]) -> Result<Vec<(StoredObject, Vec<u8>)>> {
        let (mut answers, mut found) = (Answers::new(text.as_bytes()), Vec::new());
        for key in keys {
            let mut take = |object: &StoredObject, body: &mut dyn Read| {
                let mut bytes = Vec::new();
                body.read_to_end(&mut bytes)?;
                found.push((object.clone(), bytes));
                Ok(())
            };
            if answers.next(key, &mut take)?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    #[test]
    fn answers_are_told_apart_by_their_lengths() {
        let found = read(&[TAGS, OBJECT, TAGS, OBJECT].concat(), &["a", "b"]).unwrap();
        assert_eq!(found.len(), 2);
        let (object, bytes) = &found[1];
        assert_eq!((object.key.as_str(), object.size, bytes.as_slice()), ("b", 4, b"H\r\nT".as_slice()));
        assert_eq!(object.modified, 1_795_970_605);
        assert_eq!(object.facts.metadata["a"], "größe");
        assert_eq!(object.facts.headers.len(), 1);
        assert_eq!(object.facts.storage_class.as_deref(), Some("COLD"));
    }

    #[test]
    fn what_is_gone_or_cut_off_is_no_object() {
        let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 230\r\n\r\n";
        assert_eq!(read(&[TAGS, OBJECT, gone].concat(), &["a", "b"]).unwrap().len(), 1);
        assert!(read("", &["a"]).unwrap().is_empty());
        let mut answers = Answers::new(TAGS.as_bytes().chain(&OBJECT.as_bytes()[..OBJECT.len() - 1]));
        assert_eq!(answers.next("a", &mut |_, _| Ok(())).unwrap(), None);
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "x".repeat(100_000));
        assert!(read(&endless, &["a"]).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn lists_and_tags() {
        let list = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><Name>b</Name><Prefix></Prefix>\
             <Contents><Key>a%2F..%2Fb%20c%2B+%C3%A4</Key><LastModified>2026-11-30T07:12:47.730Z</LastModified>\
             <ETag>&quot;x-2&quot;</ETag><Size>5</Size><Owner><ID>y</ID></Owner></Contents>\
             <Contents><Key>%01&amp;</Key></Contents></ListBucketResult>";
        let listed = |key: &str, size, etag: &str, modified| {
            let (key, etag) = (key.to_owned(), etag.to_owned());
            ListedObject { key, size, etag, modified }
        };
        let wanted = [listed("a/../b c+ ä", 5, "x-2", 1_796_022_767_730), listed("\u{1}&", 0, "", 0)];
        assert_eq!(read_list(list).unwrap(), wanted);
        assert_eq!(read_list("<ListBucketResult><Name/></ListBucketResult>").unwrap(), []);
        let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b &lt;&#228;</Value></Tag><Tag><Key>d</Key><Value/></Tag></TagSet></Tagging>";
        let wanted = [("a", "b <ä"), ("d", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read_tags(tags).unwrap(), wanted);
        for bad in [
            "",
            "<Error><Code>x</Code></Error>",
            "<ListBucketResult><Contents>",
            "<ListBucketResult><Contents><Key>%ff</Key></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key></Key></Contents></ListBucketResult>",
            "<!DOCTYPE l [<!ENTITY e \"x\">]><ListBucketResult><Name>&e;</Name></ListBucketResult>",
            "<ListBucketResult><Name>&e;</Name></ListBucketResult>",
            "<ListBucketResult><Contents><Size>5</Size></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>a</Key><Size>-5</Size></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>a</Key><LastModified>now</LastModified></Contents></ListBucketResult>",
        ] {
            assert_eq!(read_list(bad).unwrap_err().kind(), ErrorKind::Unexpected, "{bad}");
        }
    }

    #[test]
    fn a_copy_that_fails_late_is_told_from_one_that_is_made() {
        assert!(is_copied(
            "<?xml version=\"1.0\"?><CopyObjectResult xmlns=\"x\"><Progress>1048576</Progress>\
             <LastModified>2026-11-30T07:12:47.957Z</LastModified><ETag>5d41</ETag></CopyObjectResult>"
        ));
        for bad in [
            "",
            "<CopyObjectResult><Progress>1</Progress></CopyObjectResult>",
            "<Error><Code>x</Code></Error>",
        ] {
            assert!(!is_copied(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_is_a_panic(text in "\\PC{0,200}") {
            let _ = (read_list(&text), read_tags(&text), read(&text, &["a"]));
            let _ = read(&format!("{TAGS}HTTP/1.1 200 OK\r\n{text}\r\n\r\n{text}"), &["a", "b"]);
        }
    }
}
