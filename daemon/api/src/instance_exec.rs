//! Commands and consoles in instances.

use crate::Config;

wire! {
    /// A command to run.
    pub struct InstanceExecPost {
        /// The program and its arguments.
        pub command: Vec<String>,
        /// Whether to wait for the websockets.
        #[serde(rename = "wait-for-websocket")]
        pub wait_for_websocket: bool,
        /// Whether it gets a terminal.
        pub interactive: bool,
        /// Variables to set.
        pub environment: Config,
        /// Columns of the terminal.
        pub width: u16,
        /// Rows of the terminal.
        pub height: u16,
        /// Whether to keep its output in files.
        #[serde(rename = "record-output")]
        pub record_output: bool,
        /// The user id to run as.
        pub user: u32,
        /// The group id to run as.
        pub group: u32,
        /// The folder to run in.
        pub cwd: String,
    }

    /// A message on the control socket.
    pub struct InstanceExecControl {
        /// `window-resize` or `signal`.
        pub command: String,
        /// `width` and `height` as texts.
        pub args: Config,
        /// The signal's number.
        pub signal: i64,
    }

    /// A console to open.
    pub struct InstanceConsolePost {
        /// Columns of the terminal.
        pub width: u16,
        /// Rows of the terminal.
        pub height: u16,
        /// `console` (also when empty) or `vga`.
        #[serde(rename = "type")]
        pub kind: String,
        /// Whether to take it from who has it.
        pub force: bool,
    }
}
