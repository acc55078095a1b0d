//! The methods of a path. Handlers are behind pointers here: the router's code is there once and not once for each of them,
//! and a start touches none of theirs. Both together are more than a megabyte that the daemon needn't keep in memory.

use super::glue::App;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter};
use std::pin::Pin;
use std::sync::Arc;

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A handler, whichever it is.
#[derive(Clone)]
struct Erased(Arc<dyn Fn(Request, App) -> Answer + Send + Sync>);

impl Erased {
    fn from<T: 'static>(handler: impl Handler<T, App>) -> Self {
        Self(Arc::new(move |request, app| Box::pin(handler.clone().call(request, app))))
    }
}

impl Handler<(), App> for Erased {
    type Future = Answer;

    fn call(self, request: Request, app: App) -> Answer {
        (self.0)(request, app)
    }
}

/// What can be done at a path.
pub(crate) struct Methods(MethodRouter<App>);

/// GET, and HEAD where nothing else is said of it.
pub(crate) fn get<T: 'static>(handler: impl Handler<T, App>) -> Methods {
    Methods(MethodRouter::new()).on(MethodFilter::GET, handler)
}

/// POST.
pub(crate) fn post<T: 'static>(handler: impl Handler<T, App>) -> Methods {
    Methods(MethodRouter::new()).post(handler)
}

/// PUT.
pub(crate) fn put<T: 'static>(handler: impl Handler<T, App>) -> Methods {
    Methods(MethodRouter::new()).put(handler)
}

/// The same for every method.
pub(crate) fn any<T: 'static>(handler: impl Handler<T, App>) -> MethodRouter<App> {
    MethodRouter::new().fallback(Erased::from(handler))
}

impl Methods {
    /// HEAD.
    pub(crate) fn head<T: 'static>(self, handler: impl Handler<T, App>) -> Self {
        self.on(MethodFilter::HEAD, handler)
    }

    /// POST.
    pub(crate) fn post<T: 'static>(self, handler: impl Handler<T, App>) -> Self {
        self.on(MethodFilter::POST, handler)
    }

    /// PUT.
    pub(crate) fn put<T: 'static>(self, handler: impl Handler<T, App>) -> Self {
        self.on(MethodFilter::PUT, handler)
    }

    /// PATCH.
    pub(crate) fn patch<T: 'static>(self, handler: impl Handler<T, App>) -> Self {
        self.on(MethodFilter::PATCH, handler)
    }

    /// DELETE.
    pub(crate) fn delete<T: 'static>(self, handler: impl Handler<T, App>) -> Self {
        self.on(MethodFilter::DELETE, handler)
    }

    /// Any other method, and with this the whole.
    pub(crate) fn otherwise<T: 'static>(self, handler: impl Handler<T, App>) -> MethodRouter<App> {
        self.0.fallback(Erased::from(handler))
    }

    fn on<T: 'static>(self, method: MethodFilter, handler: impl Handler<T, App>) -> Self {
        Self(self.0.on(method, Erased::from(handler)))
    }
}
