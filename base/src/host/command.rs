//! A command as data.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// A program Larder may start, and the Debian package that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tool {
    /// The program's file name.
    pub name: &'static str,
    /// The Debian package to install when it is missing.
    pub package: &'static str,
}

/// Whether a command only looks, or changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It only looks: it may be repeated, and is no step of a fault plan.
    Reads,
    /// It changes something.
    Changes,
}

/// What a command reads on its standard input.
#[derive(Debug, Clone)]
pub enum Input {
    /// Nothing.
    Null,
    /// These bytes.
    Bytes(Vec<u8>),
    /// An open file, from its current offset.
    File(Arc<File>),
}

#[derive(Debug, Clone)]
pub(super) enum Argument {
    Plain(OsString),
    Secret(OsString),
}

/// A command line with its limits. No shell is ever involved.
///
/// ```
/// use larder_base::host::{Cmd, Tool};
/// const TAR: Tool = Tool { name: "tar", package: "tar" };
/// let cmd = Cmd::reads(TAR).args(["--list", "--file"]).arg("a b").secret_arg("hunter2");
/// assert_eq!(cmd.to_string(), "tar --list --file 'a b' ***");
/// ```
#[derive(Debug, Clone)]
pub struct Cmd {
    pub(super) tool: Tool,
    pub(super) effect: Effect,
    pub(super) arguments: Vec<Argument>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) input: Input,
    pub(super) output: Option<Arc<File>>,
    pub(super) inherited: Vec<Arc<File>>,
    pub(super) limit: Duration,
    pub(super) passing: Option<&'static str>,
    pub(super) ends_with_us: bool,
}

const DEFAULT_LIMIT: Duration = Duration::from_secs(120);

impl Cmd {
    fn new(tool: Tool, effect: Effect) -> Self {
        Self {
            tool,
            effect,
            arguments: Vec::new(),
            environment: Vec::new(),
            input: Input::Null,
            output: None,
            inherited: Vec::new(),
            limit: DEFAULT_LIMIT,
            passing: None,
            ends_with_us: false,
        }
    }

    /// A command that only looks.
    pub fn reads(tool: Tool) -> Self {
        Self::new(tool, Effect::Reads)
    }

    /// A command that changes something.
    pub fn changes(tool: Tool) -> Self {
        Self::new(tool, Effect::Changes)
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(Argument::Plain(argument.as_ref().to_owned()));
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I, S>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.arguments.extend(arguments.into_iter().map(|a| Argument::Plain(a.as_ref().to_owned())));
        self
    }

    /// Adds an argument that is shown as `***` in logs and errors.
    #[must_use]
    pub fn secret_arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(Argument::Secret(argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable; the environment is otherwise `PATH`, `LC_ALL=C.UTF-8` and `TZ=UTC` alone.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets what it reads on standard input.
    #[must_use]
    pub fn input(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// Sends its standard output to an open file instead of the (bounded) [`Output`].
    #[must_use]
    pub fn output_to(mut self, file: Arc<File>) -> Self {
        self.output = Some(file);
        self
    }

    /// Lets the command inherit an open file under its present number.
    #[must_use]
    pub fn inherit(mut self, file: Arc<File>) -> Self {
        self.inherited.push(file);
        self
    }

    /// Sets the deadline; 120 s by default. The whole process group is killed at it.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Names words on standard error that tell of something that passes, such as `is busy`. A command that fails with
    /// them is run again, a few times with growing pauses (about five seconds in all), before it has failed.
    #[must_use]
    pub fn again_while(mut self, words: &'static str) -> Self {
        self.passing = Some(words);
        self
    }

    /// Lets the kernel kill the command when this process ends, whatever ends it. For what would otherwise go on alone for
    /// long, and can be cut off anywhere.
    #[must_use]
    pub fn ends_with_us(mut self) -> Self {
        self.ends_with_us = true;
        self
    }

    /// Whether it changes something.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The program.
    pub fn tool(&self) -> Tool {
        self.tool
    }
}

impl std::fmt::Display for Cmd {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.tool.name)?;
        for argument in &self.arguments {
            let text = match argument {
                Argument::Secret(_) => std::borrow::Cow::Borrowed("***"),
                Argument::Plain(text) => text.to_string_lossy(),
            };
            let plain = |c: char| c.is_alphanumeric() || "-_./=:,@+%*".contains(c);
            if !text.is_empty() && text.chars().all(plain) {
                write!(formatter, " {text}")?;
            } else {
                write!(formatter, " '{}'", text.replace('\'', "'\\''"))?;
            }
        }
        Ok(())
    }
}

/// What a command wrote. Each stream is bounded; see [`Output::truncated`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
    /// Whether standard output was longer than what was kept (16 MiB).
    pub truncated: bool,
}
