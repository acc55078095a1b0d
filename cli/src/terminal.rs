//! The terminal: is it one, how large is it, raw mode that is always undone.

use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::Write;

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    isatty(stdio::stdin())
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    isatty(stdio::stdout())
}

/// Whether standard error is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    isatty(stdio::stderr())
}

/// Columns and rows of the terminal on standard output.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdio::stdout()).ok()?;
    (size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// Standard input without echo, line editing and signals, until this is dropped.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches to raw mode.
    pub(crate) fn enter() -> std::io::Result<Self> {
        let before = tcgetattr(stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Asks a question on standard error and reads one line of answer.
pub(crate) async fn ask(question: &str) -> std::io::Result<String> {
    let mut stderr = std::io::stderr();
    write!(stderr, "{question} ")?;
    stderr.flush()?;
    blocking(|| {
        let mut answer = String::new();
        if std::io::stdin().read_line(&mut answer)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer.trim().to_owned())
    })
    .await
}

/// Reads standard input to its end, as text.
pub(crate) async fn read_stdin() -> std::io::Result<String> {
    blocking(|| std::io::read_to_string(std::io::stdin())).await
}

/// Does something that blocks while signals are still heard.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// Says something on standard error.
pub(crate) fn notice(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
