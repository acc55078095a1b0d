//! Asynchronous changes with progress and cancel. Work is blocking and runs on a thread of its own; what a client sees of
//! it is an [`Operation`], which lives a few seconds longer than the work.

mod operation;
mod progress;
mod registry;
mod sockets;
mod status;

pub(crate) use operation::status_of;
pub use operation::{Class, Operation, Outcome};
pub use registry::{NewOperation, Operations};
pub use sockets::{Sockets, Taken};
pub use status::Status;
