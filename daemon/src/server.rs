//! One run of the daemon: from the lock on its folder to the last answer.

use crate::endpoint;
use crate::events::{Events, LogEvents};
use crate::http::{self, App, Calls};
use crate::memory;
use crate::operations::Operations;
use crate::service::{Directories, Service};
use crate::starting::Start;
use crate::stopping::LAST_ANSWERS;
use anyhow::{Context, Result, bail};
use larder_base::host::{Host, SystemHost};
use larder_base::{Clock, SystemClock};
use larder_catalog::{Catalog, SqliteCatalog};
use std::fs::File;
use std::io::IsTerminal;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How often what is due is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Most threads that serve connections. There is one more of them than cores: as many as there are cores may look into an
/// index (`larder_s3::shortcut`), and one is left to the others.
const WORKERS: usize = 17;
/// What of the log nobody needs: the protocol layer traces every request, and calls a client's mistakes errors.
const QUIET: &str = "s3s=off";

/// How the daemon shall run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its state folder, an absolute path.
    pub directory: PathBuf,
    /// What is logged to standard error, in the words of `tracing` (`info`, `larder_daemon=debug`).
    pub log: String,
    /// This program, which is started again as the helper that unpacks archives.
    pub program: PathBuf,
    /// The configuration of the Ceph cluster of `cephobject` pools, where it is not that in `/etc/ceph`.
    pub ceph_conf: Option<PathBuf>,
}

/// Runs until a signal or a client ends it.
pub fn run(options: &Options) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let workers = (cores + 1).min(WORKERS);
    memory::prepare(workers);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let events = Events::new(Arc::clone(&clock));
    start_log(&options.log, &events)?;
    let directories = Directories::new(&options.directory).with_ceph_conf(options.ceph_conf.clone());
    directories
        .prepare()
        .with_context(|| format!("the folder {} can't be prepared", options.directory.display()))?;
    let _lock = lock(&directories)?;
    let catalog: Arc<dyn Catalog> = SqliteCatalog::open(&directories.catalog())?.into();
    let launcher = larder_images::JailLauncher::new(options.program.clone());
    let host: Arc<dyn Host> = Arc::new(SystemHost);
    let service = Arc::new(Service::new(
        Arc::clone(&catalog),
        host,
        Arc::clone(&clock),
        directories.clone(),
        launcher,
    )?);
    let is_over = Arc::new(AtomicBool::new(false));
    let told_over = Arc::clone(&is_over);
    let follower =
        events.follow(Arc::clone(&catalog), catalog.revision()?, move || told_over.load(Ordering::SeqCst))?;
    let mut start = Start::of(&service);
    let served = runtime.block_on(serve(Arc::clone(&service), &mut start, events, clock, &directories));
    runtime.shutdown_timeout(LAST_ANSWERS);
    start.end();
    service.shut_down();
    is_over.store(true, Ordering::SeqCst);
    if follower.join().is_err() {
        tracing::error!("the thread of lifecycle events panicked");
    }
    served
}

fn start_log(wanted: &str, events: &Events) -> Result<()> {
    let filter: Targets = format!("{QUIET},{wanted}")
        .parse()
        .with_context(|| format!("LARDER_LOG is not a log filter: {wanted:?}"))?;
    let shown = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter);
    let about: Targets = format!("info,hyper=off,{QUIET}").parse()?;
    let told = LogEvents::to(events.clone()).with_filter(about);
    tracing_subscriber::registry().with(shown).with(told).try_init().context("the log can't be started")
}

/// Holds the state folder for this process alone; the kernel lets go when the process ends, however it does.
fn lock(directories: &Directories) -> Result<File> {
    let path = directories.run().join("larderd.lock");
    let file = File::create(&path).with_context(|| format!("{} can't be made", path.display()))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!(
                "another larderd runs on {}: stop it first, or set LARDER_DIR",
                directories.root().display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("{} can't be locked", path.display())),
    }
}

async fn serve(
    service: Arc<Service>,
    start: &mut Start,
    events: Events,
    clock: Arc<dyn Clock>,
    directories: &Directories,
) -> Result<()> {
    let socket = directories.socket();
    let listener =
        http::bind(&socket).with_context(|| format!("the socket {} can't be made", socket.display()))?;
    let operations = Operations::new(events.clone(), clock);
    let stop = Arc::new(Notify::new());
    let app = App {
        service: Arc::clone(&service),
        operations: operations.clone(),
        events,
        stop: Arc::clone(&stop),
    };
    let (stopping, is_stopping) = watch::channel(false);
    let asked = Arc::new(Notify::new());
    let calls = Calls { router: http::router(app), ready: start.ready.clone(), asked: Arc::clone(&asked) };
    let answering = tokio::spawn(http::serve(listener, calls, is_stopping.clone()));
    start.begin()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut told_to_end = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stop.notified() => {}
        }
        tracing::info!("stopping");
    };
    tracing::info!(socket = %socket.display(), "listening; requests wait until the pools are settled");
    tokio::select! {
        prepared = &mut start.outcome => prepared.context("the thread of the start panicked")??,
        // Whoever waits for the start gets no answer any more.
        () = told_to_end() => return Ok(()),
    }
    // Only now: a daemon that was told to end while it started begins nothing.
    let starting = Arc::clone(&service);
    std::thread::Builder::new().name("autostart".to_owned()).spawn(move || starting.start_instances())?;
    let objects = tokio::spawn(endpoint::serve(Arc::clone(&service), is_stopping));
    let resting = tokio::spawn(memory::give_back_when_quiet(Arc::clone(&service), asked));
    let housekeeping = tokio::spawn(keep_house(Arc::clone(&service)));
    tracing::info!(socket = %socket.display(), "ready");
    told_to_end().await;
    housekeeping.abort();
    resting.abort();
    service.stop_housekeeping();
    operations.close().await;
    stopping.send_replace(true);
    objects.await.context("the S3 endpoint's task panicked")?;
    answering.await.context("the socket's task panicked")
}

/// Looks for what is due, now and then.
async fn keep_house(service: Arc<Service>) {
    let mut due = tokio::time::interval(HOUSEKEEPING);
    loop {
        due.tick().await;
        let service = Arc::clone(&service);
        if let Err(error) = tokio::task::spawn_blocking(move || service.keep_house()).await {
            tracing::error!(%error, "housekeeping panicked");
        }
    }
}
