//! The daemon's log as events.

use super::Events;
use larder_api::{Config, EventLogging};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// A layer that turns the log into events.
#[derive(Debug)]
pub struct LogEvents {
    events: Events,
}

impl LogEvents {
    /// Sends the log to `events`.
    pub fn to(events: Events) -> Self {
        Self { events }
    }
}

impl<S: Subscriber> Layer<S> for LogEvents {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let logging =
            EventLogging { message: fields.message, level: level.to_owned(), context: fields.context };
        let now = self.events.clock.now();
        self.events.tell("logging", now, "", || serde_json::to_value(&logging).unwrap_or_default());
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    context: Config,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.context.insert(field.name().to_owned(), value);
        }
    }
}
