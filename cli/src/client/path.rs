//! API paths with every part percent-encoded.

use urlencoding::encode;

/// A path below `/1.0` (or any absolute one) with its query.
///
/// ```
/// use larder_client::client::ApiPath;
/// let path = ApiPath::of(["storage-pools", "a/b"]).at("volumes").query("recursion", "1");
/// assert_eq!(path.render(None), "/1.0/storage-pools/a%2Fb/volumes?recursion=1");
/// assert_eq!(path.render(Some("web")), "/1.0/storage-pools/a%2Fb/volumes?recursion=1&project=web");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPath {
    path: String,
    query: Vec<(String, String)>,
}

impl ApiPath {
    /// `/1.0` itself.
    pub fn root() -> Self {
        Self { path: "/1.0".to_owned(), query: Vec::new() }
    }

    /// `/1.0` and parts below it.
    pub fn of<I, S>(parts: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        parts.into_iter().fold(Self::root(), |path, part| path.at(part.as_ref()))
    }

    /// A path that is already encoded, with or without a query, as the server writes them.
    pub fn raw(text: &str) -> Self {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let decode = |text: &str| {
            urlencoding::decode(text).map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
        };
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        let query = query.split('&').filter(|part| !part.is_empty()).map(pair).collect();
        Self { path: path.to_owned(), query }
    }

    /// One more part.
    #[must_use]
    pub fn at(mut self, part: &str) -> Self {
        self.path.push('/');
        self.path.push_str(&encode(part));
        self
    }

    /// One more query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more query parameter, when there is a value.
    #[must_use]
    pub fn query_if(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The text for a request line; `project` is added unless the query speaks about projects already.
    pub fn render(&self, project: Option<&str>) -> String {
        let mut pairs: Vec<(&str, &str)> = self.query.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let speaks_of_projects = pairs.iter().any(|(name, _)| matches!(*name, "project" | "all-projects"));
        if let Some(project) = project.filter(|_| !speaks_of_projects) {
            pairs.push(("project", project));
        }
        if pairs.is_empty() {
            return self.path.clone();
        }
        let query: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        format!("{}?{}", self.path, query.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::ApiPath;

    #[test]
    fn a_path_the_server_wrote_keeps_its_query() {
        let path = ApiPath::raw("/1.0/instances/c1?project=a%20b");
        assert_eq!(path.render(Some("other")), "/1.0/instances/c1?project=a%20b");
        assert_eq!(path.path(), "/1.0/instances/c1");
    }

    #[test]
    fn all_projects_and_a_project_never_go_together() {
        let path = ApiPath::of(["instances"]).query("all-projects", "true");
        assert_eq!(path.render(Some("web")), "/1.0/instances?all-projects=true");
    }
}
