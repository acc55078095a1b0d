//! `/1.0/images`.

use super::glue::{
    App, Matched, about, accepted, blocking, done, download, list, matched, parse, start, sync_with_etag,
};
use super::image_upload::received;
use super::{ApiError, Query, Reply};
use crate::service::{
    ImageChange, NewImage, PublishSource, RemoteImage, Result, Service, ServiceError, image_url,
};
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::header;
use larder_api::{ImagePut, ImageUpdateSource, ImagesPost, given_time, or_zero_time};
use larder_base::ProjectName;
use larder_catalog::documents::{Image, ImageAlias};
use serde_json::{Value, json};
use std::collections::HashMap;

/// GET `/1.0/images`.
pub(crate) async fn get_all(State(app): State<App>, query: Query) -> Reply {
    let wanted = query.clone();
    let images = blocking(&app, move |service| {
        let project = service.image_project(&wanted.project)?;
        let images = if wanted.all_projects {
            service.store().all_images()?
        } else {
            service.store().images_of(&project)?
        };
        let mut aliases = HashMap::<_, Vec<ImageAlias>>::new();
        for alias in service.store().all_image_aliases()? {
            aliases.entry((alias.project.clone(), alias.fingerprint.clone())).or_default().push(alias);
        }
        let own = |image: &Image| {
            aliases.remove(&(image.project.clone(), image.fingerprint.clone())).unwrap_or_default()
        };
        Ok(images
            .iter()
            .map(own)
            .zip(&images)
            .map(|(aliases, image)| wire(image, &aliases))
            .collect::<Vec<_>>())
    })
    .await?;
    list(&query, images, |image| crate::service::url(&["images", &image.fingerprint], &image.project))
}

/// POST `/1.0/images`: from an upload (bytes, or a form of two files) or from a source, as an operation.
pub(crate) async fn post(State(app): State<App>, query: Query, request: Request) -> Reply {
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/octet-stream") || kind.starts_with("multipart/form-data") {
        return upload(app, query, request).await;
    }
    let bytes = super::glue::Upload::from_request(request, &app).await?.bounded().await?;
    let body: ImagesPost = parse(&bytes)?;
    let wanted = query.clone();
    let project = blocking(&app, move |service| service.image_project(&wanted.project)).await?;
    let new = NewImage {
        project,
        filename: body.filename.clone(),
        public: body.public,
        auto_update: body.auto_update,
        cached: false,
        properties: body.properties.clone(),
        expires_at: body.expires_at.and_then(given_time),
        profiles: body.profiles.clone(),
        aliases: body.aliases.iter().map(|alias| (alias.name.clone(), alias.description.clone())).collect(),
        update_source: None,
    };
    let source = Source::of(&body, &query)?;
    let location = crate::service::url(&["images"], &query.project);
    let description = match &source {
        Source::Instance(_) => "Publishing instance",
        Source::Server(_) | Source::Project { .. } => "Downloading image",
    };
    let operation = start(&app, &query, description, "images", &location, move |service, task| {
        let (fingerprint, size) = match source {
            Source::Server(remote) => {
                let (image, came_now) = service.fetch_image(task, &remote, &new)?;
                if !came_now {
                    service.keep_image(task, &image, &new)?;
                }
                (image.fingerprint, image.size)
            }
            Source::Project { project, name } => {
                let image = service.image_by_name(&service.image_project(&project)?, &name)?;
                (service.share_image(task, &image, &new)?, image.size)
            }
            Source::Instance(source) => service.publish_image(task, &source, &new)?,
        };
        Ok(outcome(fingerprint.as_str(), size))
    })?;
    accepted(&operation)
}

/// Where an image comes from that is not uploaded.
enum Source {
    Server(RemoteImage),
    Project { project: String, name: String },
    Instance(PublishSource),
}

impl Source {
    fn of(body: &ImagesPost, query: &Query) -> Result<Self> {
        let source = &body.source;
        match source.kind.as_str() {
            "image" => {}
            "instance" | "container" | "virtual-machine" | "snapshot" => return Self::instance(body, query),
            kind @ "url" => {
                return Err(ServiceError::not_implemented(format!(
                    "making an image from a source of type {kind:?}"
                )));
            }
            other => {
                return Err(ServiceError::bad(format!(
                    "unknown image source type {other:?}: it is one of image, instance, snapshot"
                )));
            }
        }
        if source.mode == "push" {
            return Err(ServiceError::not_implemented("receiving an image that another server pushes"));
        }
        let name = if source.alias.is_empty() { &source.fingerprint } else { &source.alias };
        if name.is_empty() {
            return Err(ServiceError::bad("the image source names no image: give an alias or a fingerprint"));
        }
        if source.server.is_empty() {
            let project = if source.project.is_empty() { "default" } else { &source.project };
            return Ok(Self::Project { project: project.to_owned(), name: name.clone() });
        }
        match source.protocol.as_str() {
            "simplestreams" => Ok(Self::Server(RemoteImage {
                server: source.server.clone(),
                name: name.clone(),
                kind: source.image_type.clone(),
            })),
            other => {
                Err(ServiceError::not_implemented(format!("images from a server of protocol {other:?}")))
            }
        }
    }
}

impl Source {
    /// An instance, or one of its snapshots as `instance/snapshot`.
    fn instance(body: &ImagesPost, query: &Query) -> Result<Self> {
        if !matches!(body.format.as_str(), "" | "unified") {
            return Err(ServiceError::not_implemented(format!("publishing an image as {:?}", body.format)));
        }
        let source = &body.source;
        let (instance, snapshot) = match source.name.split_once('/') {
            Some((instance, snapshot)) => (instance, Some(snapshot.to_owned())),
            None => (source.name.as_str(), None),
        };
        let wants_snapshot = source.kind == "snapshot";
        if instance.is_empty() || wants_snapshot != snapshot.is_some() {
            let form = if wants_snapshot { "instance/snapshot" } else { "instance" };
            let message = format!("a source of type {} has a name of the form {form}", source.kind);
            return Err(ServiceError::bad(message));
        }
        let project = if source.project.is_empty() { &query.project } else { &source.project };
        Ok(Self::Instance(PublishSource {
            project: project.clone(),
            instance: instance.to_owned(),
            snapshot,
            compression: body.compression_algorithm.clone(),
        }))
    }
}

/// What the operation that makes an image hands back.
fn outcome(fingerprint: &str, size: u64) -> larder_api::Metadata {
    let metadata = json!({ "fingerprint": fingerprint, "size": size.to_string() });
    metadata.as_object().cloned().unwrap_or_default()
}

async fn upload(app: App, query: Query, request: Request) -> Reply {
    let wanted = query.clone();
    let (project, store) = blocking(&app, move |service| {
        Ok((service.image_project(&wanted.project)?, service.image_store().clone()))
    })
    .await?;
    let (mut parts, new) = received(&app, project, store, request).await?;
    let location = crate::service::url(&["images"], &query.project);
    let wanted = about(&query, "Importing image", "images", &location);
    let operation = app.operations.start(&app.service, wanted, move |service, task| {
        let fingerprint = service.import_image(task, parts.hand_over(), &new)?;
        let image = service.image(&new.project, fingerprint.as_str())?;
        Ok(outcome(fingerprint.as_str(), image.size))
    });
    accepted(&*operation.map_err(ApiError::from)?)
}

async fn find(app: &App, query: &Query, fingerprint: String) -> std::result::Result<Image, ApiError> {
    let project = query.project.clone();
    blocking(app, move |service| service.image(&service.image_project(&project)?, &fingerprint)).await
}

/// GET `/1.0/images/{fingerprint}`.
pub(crate) async fn get(State(app): State<App>, Path(fingerprint): Path<String>, query: Query) -> Reply {
    let image = find(&app, &query, fingerprint).await?;
    let etag = etag(&image);
    let wired = blocking(&app, move |service| with_aliases(service, &image)).await?;
    sync_with_etag(&wired, &etag)
}

/// PUT `/1.0/images/{fingerprint}`.
pub(crate) async fn put(
    State(app): State<App>,
    Path(fingerprint): Path<String>,
    query: Query,
    guard: Matched,
    super::glue::Body(body): super::glue::Body<ImagePut>,
) -> Reply {
    change(app, fingerprint, query, guard, move |image| ImageChange {
        public: body.public,
        auto_update: body.auto_update,
        properties: body.properties,
        expires_at: body.expires_at.map_or(image.expires_at, given_time),
        profiles: body.profiles,
    })
    .await
}

/// PATCH `/1.0/images/{fingerprint}`.
pub(crate) async fn patch(
    State(app): State<App>,
    Path(fingerprint): Path<String>,
    query: Query,
    guard: Matched,
    super::glue::Body(body): super::glue::Body<Value>,
) -> Reply {
    let named: ImagePut = serde_json::from_value(body.clone())
        .map_err(|error| ServiceError::bad(format!("invalid request body: {error}")))?;
    change(app, fingerprint, query, guard, move |image| {
        let mut properties = image.properties.clone();
        properties.extend(named.properties);
        ImageChange {
            public: if body["public"].is_null() { image.public } else { named.public },
            auto_update: if body["auto_update"].is_null() { image.auto_update } else { named.auto_update },
            properties,
            expires_at: named.expires_at.map_or(image.expires_at, given_time),
            profiles: named.profiles,
        }
    })
    .await
}

async fn change(
    app: App,
    fingerprint: String,
    query: Query,
    guard: Matched,
    new: impl FnOnce(&Image) -> ImageChange + Send + 'static,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let image = service.image(&service.image_project(&query.project)?, &fingerprint)?;
        matched(&guard, &etag(&image))?;
        service.update_image(&task, &image, new(&image))
    })
    .await?;
    done()
}

/// DELETE `/1.0/images/{fingerprint}`: an operation.
pub(crate) async fn delete(State(app): State<App>, Path(fingerprint): Path<String>, query: Query) -> Reply {
    let image = find(&app, &query, fingerprint).await?;
    let location = image_url(&image);
    let operation = start(&app, &query, "Deleting image", "images", &location, move |service, task| {
        service.delete_image(task, &image)
    })?;
    accepted(&operation)
}

/// POST `/1.0/images/{fingerprint}/refresh`: an operation; its metadata says whether there was a newer one.
pub(crate) async fn refresh(State(app): State<App>, Path(fingerprint): Path<String>, query: Query) -> Reply {
    let image = find(&app, &query, fingerprint).await?;
    let location = image_url(&image);
    let operation = start(&app, &query, "Refreshing image", "images", &location, move |service, task| {
        let refreshed = service.refresh_image(task, &image)?;
        Ok(larder_api::Metadata::from_iter([("refreshed".to_owned(), json!(refreshed))]))
    })?;
    accepted(&operation)
}

/// GET `/1.0/images/{fingerprint}/export`: the file, or a form of two.
pub(crate) async fn export(State(app): State<App>, Path(fingerprint): Path<String>, query: Query) -> Reply {
    let image = find(&app, &query, fingerprint).await?;
    let (main, rootfs, format) = blocking(&app, move |service| {
        let paths = service.image_paths(&image)?;
        let mut main = std::fs::File::open(paths.main)?;
        let format = larder_images::Format::of_file(&mut main)?;
        let rootfs = paths.rootfs.map(std::fs::File::open).transpose()?;
        Ok(((main, image), rootfs, format))
    })
    .await?;
    let ((main, image), suffix) = (main, format.map_or("", larder_images::Format::suffix));
    match rootfs {
        None => {
            let length = main.metadata().map_err(ServiceError::from)?.len();
            download(super::reply::file_body(main), Some(length), &format!("{}{suffix}", image.fingerprint))
        }
        Some(rootfs) => super::image_upload::form(&image, main, suffix, rootfs),
    }
}

fn with_aliases(service: &Service, image: &Image) -> Result<larder_api::Image> {
    let mut aliases = service.store().image_aliases_of(&image.project)?;
    aliases.retain(|alias| alias.fingerprint == image.fingerprint);
    Ok(wire(image, &aliases))
}

fn wire(image: &Image, aliases: &[ImageAlias]) -> larder_api::Image {
    let source = image.update_source.as_ref().map(|source| ImageUpdateSource {
        alias: source.alias.clone(),
        certificate: source.certificate.clone(),
        protocol: source.protocol.clone(),
        server: source.server.clone(),
        image_type: source.image_type.clone(),
    });
    let alias = |alias: &ImageAlias| larder_api::ImageAlias {
        name: alias.name.clone(),
        description: alias.description.clone(),
    };
    larder_api::Image {
        auto_update: image.auto_update,
        properties: image.properties.clone(),
        public: image.public,
        expires_at: or_zero_time(image.expires_at),
        profiles: image.profiles.clone().unwrap_or_else(|| vec!["default".to_owned()]),
        aliases: aliases.iter().map(alias).collect(),
        architecture: image.architecture.clone(),
        cached: image.cached,
        filename: image.filename.clone(),
        fingerprint: image.fingerprint.to_string(),
        size: image.size,
        update_source: source,
        kind: image.kind.clone(),
        created_at: image.created_at,
        last_used_at: or_zero_time(image.last_used_at),
        uploaded_at: image.uploaded_at,
        project: image.project.to_string(),
    }
}

fn etag(image: &Image) -> Value {
    json!([image.public, image.auto_update, image.properties])
}

/// The project that a request's images are in.
pub(super) async fn project_of(app: &App, query: &Query) -> std::result::Result<ProjectName, ApiError> {
    let project = query.project.clone();
    blocking(app, move |service| service.image_project(&project)).await
}
