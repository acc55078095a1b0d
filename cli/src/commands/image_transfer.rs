//! `larder image import` and `larder image export`.

use super::Context;
use super::image::{self, TypedImageArgs};
use super::image_alias::NewAliases;
use super::image_files::{self, Files};
use crate::client::{ApiPath, Client};
use crate::fields::{pair, texts};
use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Import an image from files, or from an https address
///
/// One file is a whole image; of two the first says what the image is and the second is its root filesystem.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file or two files, a remote as in local:, and properties
    #[arg(value_name = "FILE|URL [ROOTFS] [REMOTE:] KEY=VALUE", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    aliases: NewAliases,
    /// Make the image public
    #[arg(long)]
    public: bool,
}

/// Export an image to files
///
/// The files get the names the server gives them. With a target that is no folder one file is called
/// TARGET and its extension, and two are called TARGET and TARGET.root.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    image: TypedImageArgs,
    /// A folder, or the beginning of the name (default: this folder)
    target: Option<PathBuf>,
}

/// What the words of an import mean.
#[derive(Debug, Default, PartialEq)]
struct Words {
    file: String,
    rootfs: Option<String>,
    remote: Option<String>,
    properties: Vec<(String, String)>,
}

impl Words {
    /// Files that exist are files, whatever they are called.
    fn read(words: &[String]) -> Result<Self> {
        let Some((file, rest)) = words.split_first() else { bail!("name the file to import") };
        let mut read = Self { file: file.clone(), ..Self::default() };
        for word in rest {
            let exists = Path::new(word).exists();
            if word.ends_with(':') && !exists && read.remote.is_none() {
                read.remote = Some(word.clone());
            } else if word.contains('=') && !exists {
                read.properties.push(pair(word)?);
            } else if read.rootfs.is_none() {
                read.rootfs = Some(word.clone());
            } else {
                bail!("an image has two files at most: {word:?} is one too many");
            }
        }
        Ok(read)
    }
}

pub(crate) async fn import(context: &Context, args: &ImportArgs) -> Result<()> {
    let words = Words::read(&args.words)?;
    let client = context.optional(words.remote.as_deref())?;
    let fingerprint = if words.file.starts_with("https://") || words.file.starts_with("http://") {
        import_url(context, args, &words, &client).await?
    } else {
        let files = Files::local(&words.file, words.rootfs.as_deref())?;
        args.aliases.check(&client).await?;
        image_files::send(context, &client, &files, args.public, &words.properties).await?
    };
    args.aliases.give(context, &client, &fingerprint).await?;
    context.done(&format!("Image imported with fingerprint: {fingerprint}"))
}

async fn import_url(context: &Context, args: &ImportArgs, words: &Words, client: &Client) -> Result<String> {
    if words.rootfs.is_some() {
        bail!("an image from an address is one file");
    }
    args.aliases.check(client).await?;
    let body = json!({
        "source": {"type": "url", "mode": "pull", "url": words.file},
        "public": args.public,
        "properties": texts(words.properties.clone()),
    });
    let finished =
        context.change(client, "Importing", Method::POST, &ApiPath::of(["images"]), Some(body)).await?;
    image_files::fingerprint_of(&finished.metadata)
}

pub(crate) async fn export(context: &Context, args: &ExportArgs) -> Result<()> {
    let (client, name) = context.named(&args.image.image.image, "image")?;
    let fingerprint = image::fingerprint(&client, &name, args.image.kind()).await?;
    let target = args.target.clone().unwrap_or_else(|| PathBuf::from("."));
    let files = if target.is_dir() {
        image_files::receive(context, &client, &fingerprint, &target).await?.keep_in(&target)?
    } else {
        let folder =
            target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        image_files::receive(context, &client, &fingerprint, folder).await?.keep_as(&target)?
    };
    context.done(&format!("Image exported: {}", files.told()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Result<Words> {
        Words::read(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_words_of_an_import_come_in_any_order_after_the_file() {
        let read = words(&["meta.tar.xz", "local:", "os=Alpine", "root.squashfs", "release=3.22"]).unwrap();
        assert_eq!(read.file, "meta.tar.xz");
        assert_eq!(read.rootfs.as_deref(), Some("root.squashfs"));
        assert_eq!(read.remote.as_deref(), Some("local:"));
        assert_eq!(read.properties.len(), 2);
        assert_eq!(
            words(&["image.tar.gz"]).unwrap(),
            Words { file: "image.tar.gz".to_owned(), ..Words::default() }
        );
        assert!(words(&["a", "b", "c"]).is_err());
        assert!(words(&["a", "=b"]).is_err());
    }
}
