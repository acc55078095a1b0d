//! Lets a debug build end as by `kill -9` at a named point or a changing step, for the crash tests. A release build has
//! none of it.

/// The points that a plan may name: after what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// The intent, or the document of what is being made, is committed; nothing else has happened.
    Intent,
    /// The pool has done its part; the catalog does not know yet.
    Act,
    /// The catalog knows; what is left is to destroy what went, and to answer.
    Commit,
}

/// Ends the process here if the plan says so.
#[cfg(not(debug_assertions))]
pub(crate) fn point(_: Point) {}

/// Ends the process here if the plan says so.
#[cfg(debug_assertions)]
pub(crate) fn point(point: Point) {
    let name = match point {
        Point::Intent => "after_intent",
        Point::Act => "after_act",
        Point::Commit => "after_commit",
    };
    plan::die_if(&format!("point {name}"));
}

/// Whether filesystems shall be taken for such that can't be mounted with mapped ids.
#[cfg(not(debug_assertions))]
pub(crate) fn has_no_mapped_ids() -> bool {
    false
}

/// Whether filesystems shall be taken for such that can't be mounted with mapped ids.
#[cfg(debug_assertions)]
pub(crate) fn has_no_mapped_ids() -> bool {
    std::env::var_os("LARDER_NO_MAPPED_IDS").is_some()
}

#[cfg(debug_assertions)]
pub(crate) use plan::CrashHost;

#[cfg(debug_assertions)]
mod plan {
    use larder_base::Cancel;
    use larder_base::host::{Act, Cmd, Effect, Host, HostError, Output};
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn file() -> Option<&'static PathBuf> {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        FILE.get_or_init(|| std::env::var_os("LARDER_CRASH_PLAN").map(PathBuf::from)).as_ref()
    }

    fn planned() -> Option<String> {
        std::fs::read_to_string(file()?).ok().filter(|text| !text.is_empty())
    }

    pub(super) fn die_if(words: &str) {
        if planned().is_some_and(|plan| plan.trim() == words) {
            if let Some(file) = file() {
                let _ = std::fs::write(file, format!("hit {words}"));
            }
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    /// Counts the changing steps from the moment a plan says `step N`, and ends the process after the Nth.
    #[derive(Debug)]
    pub(crate) struct CrashHost {
        inner: Arc<dyn Host>,
        steps: AtomicUsize,
    }

    impl CrashHost {
        pub(crate) fn over(inner: Arc<dyn Host>) -> Arc<dyn Host> {
            match file() {
                Some(_) => Arc::new(Self { inner, steps: AtomicUsize::new(0) }),
                None => inner,
            }
        }

        fn stepped(&self) {
            if planned().is_some_and(|plan| plan.starts_with("step ")) {
                let step = self.steps.fetch_add(1, Ordering::SeqCst);
                die_if(&format!("step {step}"));
            }
        }
    }

    impl Host for CrashHost {
        fn run(&self, cmd: &Cmd, cancel: &Cancel) -> Result<Output, HostError> {
            let outcome = self.inner.run(cmd, cancel);
            if cmd.effect() == Effect::Changes {
                self.stepped();
            }
            outcome
        }

        fn act(&self, act: &dyn Act, cancel: &Cancel) -> Result<(), HostError> {
            let outcome = self.inner.act(act, cancel);
            self.stepped();
            outcome
        }
    }
}
