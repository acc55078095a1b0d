//! Compensations: pushed before the act they undo, run newest first when the work fails, and allowed to fail aloud.

use larder_storage_driver::{Cx, Result, StorageError};

type Action<'a> = Box<dyn FnOnce(&Cx<'_>) -> Result<()> + 'a>;

/// What to undo if the work fails. Holds staging and trash places only, so that no failure path can reach
/// what was live before.
pub(crate) struct Undo<'a> {
    actions: Vec<(&'static str, Action<'a>)>,
}

impl<'a> Undo<'a> {
    /// Remembers to do `action` if the work fails. The action must be safe when there is nothing to undo.
    pub(crate) fn push(&mut self, what: &'static str, action: impl FnOnce(&Cx<'_>) -> Result<()> + 'a) {
        self.actions.push((what, Box::new(action)));
    }

    fn run(&mut self, cx: &Cx<'_>) -> Vec<StorageError> {
        let cx = cx.uncancellable();
        let mut failures = Vec::new();
        while let Some((what, action)) = self.actions.pop() {
            if let Err(error) = action(&cx) {
                tracing::error!(what, error = %error.chain(), "an undo step failed");
                failures.push(error.while_doing(format!("undo: {what}")));
            }
        }
        failures
    }
}

/// Runs `work`; when it fails or panics, undoes what it pushed, and adds what could not be undone to the error.
pub(crate) fn scope<'a, T>(cx: &Cx<'_>, work: impl FnOnce(&mut Undo<'a>) -> Result<T>) -> Result<T> {
    struct OnPanic<'a, 'c, 'd>(Undo<'a>, &'c Cx<'d>);
    impl Drop for OnPanic<'_, '_, '_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.run(self.1);
            }
        }
    }
    let mut guard = OnPanic(Undo { actions: Vec::new() }, cx);
    work(&mut guard.0).map_err(|error| {
        let failures = guard.0.run(cx);
        error.with_undo_failures(failures)
    })
}
