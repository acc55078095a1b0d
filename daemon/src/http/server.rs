//! `/1.0` itself, the catalog's backup, and the daemon's own life.

use super::glue::{App, Body, Matched, Patch, blocking, done, download, matched, sync, sync_with_etag};
use super::reply::file_body;
use super::{Query, Reply};
use crate::service::{EXTENSIONS, Service, ServiceError};
use axum::extract::State;
use larder_api::{Config, Server, ServerEnvironment, ServerPut, ServerStorageDriver};
use larder_storage_drivers::SUPPORTED;
use serde_json::json;
use std::collections::BTreeSet;

/// GET `/1.0`.
pub(crate) async fn get(State(app): State<App>, query: Query) -> Reply {
    let user = query.requestor.clone();
    let (config, environment) =
        blocking(&app, move |service| Ok((service.server_config()?, environment(service, query.project)?)))
            .await?;
    let etag = json!(config);
    let server = Server {
        config,
        api_extensions: EXTENSIONS.iter().map(|name| (*name).to_owned()).collect(),
        api_status: "stable".to_owned(),
        api_version: "1.0".to_owned(),
        auth: "trusted".to_owned(),
        public: false,
        // Who reaches the socket is trusted; there is no other way in.
        auth_methods: Vec::new(),
        auth_user_name: user.username,
        auth_user_method: user.protocol,
        environment,
    };
    sync_with_etag(&server, &etag)
}

/// PUT `/1.0`.
pub(crate) async fn put(
    State(app): State<App>,
    query: Query,
    guard: Matched,
    Body(body): Body<ServerPut>,
) -> Reply {
    change(app, query, guard, move |_| body.config).await
}

/// PATCH `/1.0`.
pub(crate) async fn patch(
    State(app): State<App>,
    query: Query,
    guard: Matched,
    Body(body): Body<Patch>,
) -> Reply {
    change(app, query, guard, move |mut config| {
        config.extend(body.config);
        config
    })
    .await
}

async fn change(
    app: App,
    query: Query,
    guard: Matched,
    new: impl FnOnce(Config) -> Config + Send + 'static,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let config = service.server_config()?;
        matched(&guard, &json!(config))?;
        service.update_server_config(&task, &config, new(config.clone()))
    })
    .await?;
    done()
}

/// POST `/1.0/catalog/backups`: a consistent copy of the catalog, taken while work goes on. Ours alone
/// (`larder_catalog_backup`).
pub(crate) async fn back_up_catalog(State(app): State<App>) -> Reply {
    let file = blocking(&app, move |service| {
        // An open file without a name: nothing is left behind, whatever happens to the download.
        let folder = tempfile::tempdir_in(service.directories().backups())?;
        let path = folder.path().join("larder.db");
        service.backup_catalog(&path)?;
        Ok(std::fs::File::open(path)?)
    })
    .await?;
    let length = file.metadata().map_err(ServiceError::from)?.len();
    download(file_body(file), Some(length), "larder.db")
}

/// GET `/internal/ready`: answers when the start is over, as all other requests do.
pub(crate) async fn ready() -> Reply {
    sync(&json!({}))
}

/// PUT `/internal/shutdown`: the daemon ends after this answer; running instances go on.
pub(crate) async fn shut_down(State(app): State<App>) -> Reply {
    app.stop.notify_one();
    done()
}

/// What the machine and the daemon are.
fn environment(service: &Service, project: String) -> crate::service::Result<ServerEnvironment> {
    let machine = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pools = service.store().pools()?;
    let in_use: BTreeSet<&str> = pools.iter().map(|pool| pool.driver.as_str()).collect();
    let versions = |name: &&str| {
        SUPPORTED.iter().find(|driver| driver.name == *name).map_or("", |driver| driver.version)
    };
    let available = SUPPORTED.iter().filter(|driver| driver.is_available());
    let supported = available.map(|driver| ServerStorageDriver {
        name: driver.name.to_owned(),
        version: driver.version.to_owned(),
        remote: driver.is_remote,
    });
    Ok(ServerEnvironment {
        architectures: vec![text(machine.machine())],
        kernel: text(machine.sysname()),
        kernel_architecture: text(machine.machine()),
        kernel_version: text(machine.release()),
        os_name: os_release(&release, "NAME"),
        os_version: os_release(&release, "VERSION_ID"),
        project,
        server: "larder".to_owned(),
        server_event_mode: "full-mesh".to_owned(),
        server_name: text(machine.nodename()),
        server_pid: i64::from(std::process::id()),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        storage: in_use.iter().copied().collect::<Vec<_>>().join(" | "),
        storage_version: in_use.iter().map(versions).collect::<Vec<_>>().join(" | "),
        storage_supported_drivers: supported.collect(),
        ..ServerEnvironment::default()
    })
}

/// The value of a line of `/etc/os-release` (os-release(5)).
fn os_release(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read() {
        let text =
            "PRETTY_NAME=\"Debian GNU/Linux 12\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nID=debian\n";
        assert_eq!(os_release(text, "NAME"), "Debian GNU/Linux");
        assert_eq!(os_release(text, "VERSION_ID"), "12");
        assert_eq!(os_release(text, "ID"), "debian");
        assert_eq!(os_release(text, "NONE"), "");
    }
}
