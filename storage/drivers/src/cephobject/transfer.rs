//! Objects listed, read and written at the gateway.

use super::answer::{Answers, is_copied, read_list};
use super::keys::Settings;
use super::parse::{is_status, read_made};
use super::request::STATUS_MARK;
use super::store::{ask_gateway, out_of_reach};
use larder_base::host::{Cmd, HostError};
use larder_storage_driver::{
    Cx, ErrorKind, ListedObject, NewObject, ObjectKey, Result, StorageError, StoredObject, piped,
};
use std::io::{BufReader, Read};
use std::sync::Arc;

/// How much of an answer is read at once.
const BUFFER: usize = 256 << 10;
/// How much of what the gateway says of a failure is told.
const TOLD: usize = 80;
/// How many objects one curl copies or removes.
const AT_ONCE: usize = 100;

pub(super) fn list(
    cx: &Cx<'_>,
    settings: &Settings,
    bucket: &str,
    key: &ObjectKey,
    after: &str,
) -> Result<Vec<ListedObject>> {
    let said = ask_gateway(cx, settings, &settings.list_objects(bucket, key, after))?;
    let (body, status) = said.rsplit_once('\n').unwrap_or(("", said.as_str()));
    match status {
        "200" => read_list(body),
        _ => Err(refused(&format!("to list the bucket {bucket}"), &said)),
    }
}

/// One curl reads as many of the objects as are there; behind one that is gone another goes on, and so it does when the reading
/// has taken so long that signatures are too old.
pub(super) fn read(
    cx: &Cx<'_>,
    settings: &Settings,
    bucket: &str,
    key: &ObjectKey,
    names: &[String],
    take: &mut dyn FnMut(&StoredObject, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut rest = names;
    while let Some(first) = rest.first() {
        let cmd = settings.read_objects(bucket, key, rest.iter().map(String::as_str));
        let (outcome, whole) = read_some(cx, cmd, rest, take)?;
        let subject = rest.get(whole).unwrap_or(first);
        match outcome {
            Ok(()) if whole == rest.len() => return Ok(()),
            Ok(()) => {
                let message = format!("the answer of the object gateway ends within the object {subject:?}");
                return Err(StorageError::new(ErrorKind::Unexpected, message));
            }
            Err(error) if is_status(&error, "404") && whole < rest.len() => rest = &rest[whole + 1..],
            Err(error) if is_status(&error, "403") && whole > 0 => rest = &rest[whole..],
            Err(error) => {
                let error = out_of_reach(settings, error);
                return Err(error.while_doing(format!("reading the object {subject:?}")));
            }
        }
    }
    Ok(())
}

/// How curl ended, and how many of the objects came out of it whole.
fn read_some(
    cx: &Cx<'_>,
    cmd: Cmd,
    names: &[String],
    take: &mut dyn FnMut(&StoredObject, &mut dyn Read) -> Result<()>,
) -> Result<(Result<(), HostError>, usize)> {
    let (outcome, (taken, whole)) = piped(
        // The pipe's other end goes with the command, so that the reader sees the end.
        |writer| cx.host().run(&cmd.output_to(Arc::new(writer)), cx.cancel()).map(drop),
        |reader| {
            let (mut answers, mut whole) = (Answers::new(BufReader::with_capacity(BUFFER, reader)), 0);
            let taken = names.iter().try_for_each(|name| match answers.next(name, take) {
                Ok(Some(())) => {
                    whole += 1;
                    Ok(())
                }
                Ok(None) => Err(None),
                Err(error) => Err(Some(error)),
            });
            // With the answers this end goes too: curl that has more to say ends.
            (taken, whole)
        },
    )?;
    match (taken, outcome) {
        // Whatever reading then said is only a consequence.
        (_, Err(HostError::Cancelled)) => Ok((Err(HostError::Cancelled), whole)),
        (Err(Some(error)), _) => Err(error),
        (_, outcome) => Ok((outcome, whole)),
    }
}

pub(super) fn write(
    cx: &Cx<'_>,
    settings: &Settings,
    bucket: &str,
    key: &ObjectKey,
    objects: &[NewObject],
) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    let said = ask_gateway(cx, settings, &settings.write_objects(bucket, key, objects)?)?;
    let mut rest = said.as_str();
    for object in objects {
        let (body, status, after) = next_status(rest);
        if status != "200" {
            let what = format!("to take the object {:?}", object.key);
            return Err(refused(&what, &format!("{body}\n{status}")));
        }
        rest = after;
    }
    Ok(())
}

/// Copies objects from bucket to bucket; tells what was gone. When the first took so long that the signatures of the rest are too
/// old, that is asked for again.
pub(super) fn copy(
    cx: &Cx<'_>,
    settings: &Settings,
    (from, into): (&str, &str),
    key: &ObjectKey,
    names: &[String],
) -> Result<Vec<String>> {
    let (mut rest, mut gone) = (names, Vec::new());
    while !rest.is_empty() {
        let asked = &rest[..rest.len().min(AT_ONCE)];
        let said = ask_gateway(cx, settings, &settings.copy_objects(from, into, key, asked))?;
        let (mut text, mut done) = (said.as_str(), 0);
        for name in asked {
            let (body, status, after) = next_status(text);
            match status {
                "200" if is_copied(body) => {}
                "404" if body.contains("<Code>NoSuchKey</Code>") => gone.push(name.clone()),
                "403" if done > 0 && body.contains("<Code>RequestTimeTooSkewed</Code>") => break,
                _ => {
                    let what = format!("to copy the object {name:?} of the bucket {from}");
                    return Err(refused(&what, &format!("{body}\n{status}")));
                }
            }
            (text, done) = (after, done + 1);
        }
        rest = &rest[done..];
    }
    Ok(gone)
}

pub(super) fn remove(
    cx: &Cx<'_>,
    settings: &Settings,
    bucket: &str,
    key: &ObjectKey,
    names: &[String],
) -> Result<()> {
    for asked in names.chunks(AT_ONCE) {
        let said = ask_gateway(cx, settings, &settings.remove_objects(bucket, key, asked))?;
        let mut text = said.as_str();
        for name in asked {
            let (body, status, after) = next_status(text);
            if !matches!(status, "200" | "204") && !body.contains("<Code>NoSuchKey</Code>") {
                let what = format!("to remove the object {name:?} of the bucket {bucket}");
                return Err(refused(&what, &format!("{body}\n{status}")));
            }
            text = after;
        }
    }
    Ok(())
}

/// Lets subusers of other buckets into a bucket, and whom it let in before no more.
pub(super) fn admit(
    cx: &Cx<'_>,
    settings: &Settings,
    bucket: &str,
    key: &ObjectKey,
    owner: &str,
    subusers: &[String],
) -> Result<()> {
    let said = ask_gateway(cx, settings, &settings.admit(bucket, key, owner, subusers))?;
    match said.rsplit('\n').next() {
        Some("200" | "204") => Ok(()),
        _ => Err(refused(&format!("to let somebody into the bucket {bucket}"), &said)),
    }
}

/// What was said of one request, its status, and what was said of those after it.
fn next_status(text: &str) -> (&str, &str, &str) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some(status) = line.strip_prefix(STATUS_MARK) {
            return (&text[..at], status.trim_end(), &text[at + line.len()..]);
        }
        at += line.len();
    }
    (text, "", "")
}

fn refused(what: &str, said: &str) -> StorageError {
    let why = match read_made(said) {
        super::parse::Made::Refused(why) => why,
        other => format!("{other:?}"),
    };
    let why: String = why.chars().take(TOLD).collect();
    let kind = if why.contains("QuotaExceeded") { ErrorKind::NoSpace } else { ErrorKind::Unexpected };
    StorageError::new(kind, format!("the object gateway refused {what}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_one_after_the_other() {
        let said = "\n=200\n<Error><Code>EntityTooLarge</Code></Error>\n=400\n";
        let (body, status, rest) = next_status(said);
        assert_eq!((body, status), ("\n", "200"));
        let (body, status, rest) = next_status(rest);
        assert_eq!((status, rest), ("400", ""));
        let error = refused("to take it", &format!("{body}\n{status}"));
        assert_eq!(error.to_string(), "the object gateway refused to take it: 400 EntityTooLarge");
        assert_eq!(next_status(rest), ("", "", ""));
    }
}
