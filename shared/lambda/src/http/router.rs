//! Which handler answers which method and path.

use holdfast_app::problem::{Problem, ProblemCode};
use http::Method;
use serde_json::json;

use super::response::ALLOW_MEMBER;

/// Why a table of routes cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the route {template} cannot be used: {reason}")]
pub struct RouteError {
    template: &'static str,
    reason: String,
}

/// A table of routes. `K` names a handler; it is usually an enum.
#[derive(Debug)]
pub struct Router<K> {
    paths: matchit::Router<usize>,
    entries: Vec<Entry<K>>,
}

#[derive(Debug)]
struct Entry<K> {
    template: &'static str,
    methods: Vec<(Method, K)>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed<K> {
    /// The handler.
    pub key: K,
    /// The route's template, which holds nothing of the request.
    pub template: &'static str,
    /// The path's parameters as they were sent, by name.
    pub parameters: Vec<(String, String)>,
}

impl<K> Routed<K> {
    /// A parameter of the path; empty if the template has none of this name.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

impl<K: Copy> Router<K> {
    /// A table of methods and templates such as `/v1/bookings/{id}`.
    pub fn new(routes: &[(Method, &'static str, K)]) -> Result<Self, RouteError> {
        let mut table = Self { paths: matchit::Router::new(), entries: Vec::new() };
        for (method, template, key) in routes {
            let known = table.entries.iter_mut().find(|entry| entry.template == *template);
            if let Some(entry) = known {
                if entry.methods.iter().any(|(known, _)| known == method) {
                    return Err(RouteError { template, reason: format!("{method} is there twice") });
                }
                entry.methods.push((method.clone(), *key));
            } else {
                table
                    .paths
                    .insert(*template, table.entries.len())
                    .map_err(|error| RouteError { template, reason: error.to_string() })?;
                table.entries.push(Entry { template, methods: vec![(method.clone(), *key)] });
            }
        }
        Ok(table)
    }

    /// Every method and template there is.
    pub fn routes(&self) -> impl Iterator<Item = (&Method, &'static str)> {
        self.entries
            .iter()
            .flat_map(|entry| entry.methods.iter().map(move |(method, _)| (method, entry.template)))
    }

    /// Finds the handler. `HEAD` goes where `GET` goes. A problem if there is no such path, or none with
    /// this method.
    pub fn find(&self, method: &Method, path: &str) -> Result<Routed<K>, Problem> {
        let not_found = || Problem::new(ProblemCode::RouteNotFound, "There is no call with this path.");
        let found = self.paths.at(path).map_err(|_| not_found())?;
        let entry = self.entries.get(*found.value).ok_or_else(not_found)?;
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let (_, key) = entry
            .methods
            .iter()
            .find(|(known, _)| known == wanted)
            .ok_or_else(|| method_not_allowed(&entry.methods))?;
        let parameters =
            found.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Routed { key: *key, template: entry.template, parameters })
    }
}

fn method_not_allowed<K>(methods: &[(Method, K)]) -> Problem {
    let mut allowed: Vec<&str> = methods.iter().map(|(method, _)| method.as_str()).collect();
    if allowed.contains(&Method::GET.as_str()) {
        allowed.push(Method::HEAD.as_str());
    }
    allowed.sort_unstable();
    let detail = format!("This path has the methods {}.", allowed.join(", "));
    Problem::new(ProblemCode::MethodNotAllowed, detail).with_extension(ALLOW_MEMBER, json!(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router<u8> {
        Router::new(&[
            (Method::GET, "/v1/things/{id}", 1),
            (Method::DELETE, "/v1/things/{id}", 2),
            (Method::GET, "/v1/things", 3),
            (Method::POST, "/v1/things/{id}/keys/{key_id}", 4),
        ])
        .unwrap()
    }

    #[test]
    fn finds_by_method_and_template() {
        let found = router().find(&Method::POST, "/v1/things/a%2Fb/keys/k").unwrap();
        assert_eq!((found.key, found.template), (4, "/v1/things/{id}/keys/{key_id}"));
        assert_eq!((found.parameter("id"), found.parameter("key_id")), ("a%2Fb", "k"));
        assert_eq!(found.parameter("nothing"), "");
        assert_eq!(router().find(&Method::HEAD, "/v1/things").unwrap().key, 3);
        assert_eq!(router().find(&Method::DELETE, "/v1/things/1").unwrap().key, 2);
    }

    #[test]
    fn what_is_not_there_is_a_problem() {
        for path in ["/", "", "/v1/things/", "/v1/thing", "/v1/things/1/", "v1/things", "//v1/things"] {
            assert_eq!(
                router().find(&Method::GET, path).unwrap_err().code,
                ProblemCode::RouteNotFound,
                "{path}"
            );
        }
        let problem = router().find(&Method::PUT, "/v1/things/1").unwrap_err();
        assert_eq!(problem.code, ProblemCode::MethodNotAllowed);
        assert_eq!(problem.extensions[ALLOW_MEMBER], json!(["DELETE", "GET", "HEAD"]));
    }

    #[test]
    fn a_table_that_contradicts_itself_is_an_error() {
        assert!(Router::new(&[(Method::GET, "/a", 1), (Method::GET, "/a", 2)]).is_err());
        assert!(Router::new(&[(Method::GET, "/{a}", 1), (Method::GET, "/{b}", 2)]).is_err());
    }
}
