//! Requests to the hub: connection reuse, redirects, retries, and what its refusals mean.
//!
//! Redirects are followed here and not by the HTTP library for two reasons: the token must go to the hub's own origin
//! and nowhere else, ports included, and the etag of a file is in the hub's own answer, not in that of the content
//! network behind it.

use std::io::{self, Read};
use std::ops::Range;
use std::thread;

use ureq::http::header::{AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LOCATION, RANGE};
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{LoadOptions, is_plain_word};
use crate::{Error, HubFailure, Result};

/// Connections at a time, which is also the number of threads that fetch headers.
pub(super) const CONNECTIONS: usize = 8;

/// More than the hub, its mirrors and their content networks need.
const REDIRECTS_MAX: usize = 5;

/// How much longer a whole body may take than its next bytes.
const BODY_PATIENCE: u32 = 12;

/// A client of one hub.
pub(crate) struct Client<'a> {
    agent: Agent,
    options: &'a LoadOptions,
    origin: Uri,
}

/// A whole file.
pub(crate) struct Download {
    pub(crate) content: Vec<u8>,
    /// Name of the file's content, where the hub gave one that can name a file.
    pub(crate) etag: Option<String>,
}

/// A failed try, and whether another may do better.
struct Failure {
    error: Error,
    passing: bool,
}

/// An answer and the etag that the hub gave on the way to it.
struct Answer {
    response: Response<Body>,
    etag: Option<String>,
}

impl<'a> Client<'a> {
    /// A client of the hub that the options name.
    pub(crate) fn new(options: &'a LoadOptions) -> Result<Self> {
        let origin: Uri = options.endpoint.parse().ok().filter(|uri: &Uri| uri.host().is_some()).ok_or_else(|| {
            Error::InvalidSetting {
                setting: "HF_ENDPOINT".to_owned(),
                reason: format!("`{}` is not a URL such as https://huggingface.co", options.endpoint),
            }
        })?;
        let timeout = options.timeout;
        let agent = Agent::config_builder()
            .user_agent(concat!("config-explorer/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections_per_host(CONNECTIONS)
            .max_idle_connections(2 * CONNECTIONS)
            .timeout_resolve(Some(timeout))
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout))
            .timeout_recv_body(Some(timeout * BODY_PATIENCE))
            .build()
            .into();
        Ok(Self { agent, options, origin })
    }

    /// Fetches a whole file of at most `limit` bytes. `path` is that of the URL, `place` names the file in errors.
    pub(super) fn get(&self, path: &str, place: &str, limit: u64) -> Result<Download> {
        self.with_retries(|| {
            let Answer { mut response, etag } = self.answer(path, place, None)?;
            let mut content = Vec::new();
            response
                .body_mut()
                .as_reader()
                .take(limit + 1)
                .read_to_end(&mut content)
                .map_err(|error| connection_failure(&error.into(), place))?;
            if content.len() as u64 > limit {
                return Err(protocol(place, format!("more than {limit} bytes")));
            }
            Ok(Download { content, etag })
        })
    }

    /// Fetches some bytes of a file; fewer if it ends before.
    pub(super) fn get_range(&self, path: &str, place: &str, range: &Range<u64>) -> Result<Vec<u8>> {
        self.with_retries(|| {
            let Answer { mut response, .. } = self.answer(path, place, Some(range))?;
            let length = range.end - range.start;
            let mut content = Vec::new();
            let partial = response.status() == StatusCode::PARTIAL_CONTENT;
            if partial && !starts_at(response.headers(), range.start) {
                return Err(protocol(place, format!("not the range from byte {} that was asked for", range.start)));
            }
            let body = response.body_mut().as_reader();
            let copied = (|| {
                // A server may ignore the range and send the file from its start.
                let mut body = body;
                if !partial {
                    io::copy(&mut body.by_ref().take(range.start), &mut io::sink())?;
                }
                // One byte more, so that the end of the body is seen and the connection can be used again.
                body.take(length + 1).read_to_end(&mut content)
            })();
            copied.map_err(|error| connection_failure(&error.into(), place))?;
            content.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            Ok(content)
        })
    }

    fn with_retries<T>(&self, attempt: impl Fn() -> Result<T, Failure>) -> Result<T> {
        let mut delays = self.options.retry_delays.iter();
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure { error, passing }) => match delays.next() {
                    Some(delay) if passing => thread::sleep(*delay),
                    _ => return Err(error),
                },
            }
        }
    }

    /// Asks once, following redirects.
    fn answer(&self, path: &str, place: &str, range: Option<&Range<u64>>) -> Result<Answer, Failure> {
        let mut uri: Uri = format!("{}{path}", self.options.endpoint)
            .parse()
            .map_err(|_| protocol(place, format!("`{}{path}` is not a URL", self.options.endpoint)))?;
        let mut etag = None;
        for _ in 0..=REDIRECTS_MAX {
            let at_home = same_origin(&uri, &self.origin);
            let mut request = self.agent.get(&uri);
            if at_home && let Some(token) = &self.options.token {
                request = request.header(AUTHORIZATION, bearer(token.secret(), place)?);
            }
            if let Some(range) = range {
                request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
            }
            let response = request.call().map_err(|error| connection_failure(&error, place))?;
            if at_home {
                etag = stored_etag(response.headers()).or(etag);
            }
            if response.status().is_success() {
                return Ok(Answer { response, etag });
            }
            if !response.status().is_redirection() {
                return Err(self.refusal(&response, path, place));
            }
            uri = response
                .headers()
                .get(LOCATION)
                .and_then(|location| redirected(&uri, location.to_str().ok()?))
                .ok_or_else(|| protocol(place, "a redirect to nowhere".to_owned()))?;
        }
        Err(protocol(place, format!("more than {REDIRECTS_MAX} redirects")))
    }

    /// What a refusal means. The codes are those of `huggingface_hub`'s `hf_raise_for_status`.
    fn refusal(&self, response: &Response<Body>, path: &str, place: &str) -> Failure {
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let status = response.status();
        let with_token = self.options.token.is_some();
        let gated = if with_token { HubFailure::GatedNoAccess } else { HubFailure::GatedWithoutToken };
        let (failure, meaning) = match (header("x-error-code"), status.as_u16()) {
            (Some("GatedRepo"), _) => (gated, "the repository is gated"),
            (Some("RepoNotFound"), _) => (HubFailure::NotFound, "no such repository"),
            (Some("RevisionNotFound"), _) => (HubFailure::NotFound, "no such revision"),
            (Some("EntryNotFound"), _) => (HubFailure::NoSuchFile, "no such file"),
            (_, 401) if with_token => (HubFailure::BadToken, "the hub refused the token"),
            (_, 401 | 403) => (gated, "the hub refused access"),
            (_, 404) if path.starts_with("/api/") => (HubFailure::NotFound, "no such repository or revision"),
            (_, 404) => (HubFailure::NoSuchFile, "no such file"),
            (_, 429) => (HubFailure::Server, "too many requests"),
            (_, 500..) => (HubFailure::Server, "the hub failed"),
            _ => (HubFailure::Protocol, "unexpected answer"),
        };
        let mut reason = format!("{meaning} ({status})");
        if let Some(message) = header("x-error-message") {
            reason.push_str(": ");
            reason.extend(message.chars().filter(|character| !character.is_control()).take(200));
        }
        Failure {
            error: Error::Hub { failure, place: place.to_owned(), reason },
            passing: failure == HubFailure::Server,
        }
    }
}

fn protocol(place: &str, reason: String) -> Failure {
    Failure { error: Error::Hub { failure: HubFailure::Protocol, place: place.to_owned(), reason }, passing: false }
}

fn connection_failure(error: &ureq::Error, place: &str) -> Failure {
    use ureq::{Error as Cause, Timeout};

    let (failure, passing) = match error {
        Cause::Timeout(Timeout::Connect | Timeout::Resolve) => (HubFailure::Unreachable, false),
        Cause::Timeout(_) => (HubFailure::Unreachable, true),
        Cause::Io(cause) => (
            HubFailure::Unreachable,
            matches!(
                cause.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::TimedOut
            ),
        ),
        Cause::Http(_) | Cause::BadUri(_) | Cause::Protocol(_) | Cause::LargeResponseHeader(..) => {
            (HubFailure::Protocol, false)
        }
        _ => (HubFailure::Unreachable, false),
    };
    Failure { error: Error::Hub { failure, place: place.to_owned(), reason: error.to_string() }, passing }
}

fn bearer(token: &str, place: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Failure {
        error: Error::Hub {
            failure: HubFailure::BadToken,
            place: place.to_owned(),
            reason: "the token has characters that no token has".to_owned(),
        },
        passing: false,
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The etag as the Hugging Face cache names blobs: that of the linked large file if there is one.
fn stored_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get("x-linked-etag").or_else(|| headers.get(ETAG))?.to_str().ok()?;
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    is_plain_word(etag).then(|| etag.to_owned())
}

/// `Content-Range: bytes START-END/TOTAL` begins where it should.
fn starts_at(headers: &HeaderMap, start: u64) -> bool {
    headers
        .get(CONTENT_RANGE)
        .is_none_or(|range| range.to_str().is_ok_and(|range| range.starts_with(&format!("bytes {start}-"))))
}

fn same_origin(one: &Uri, other: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        Some((scheme, uri.host()?.to_ascii_lowercase(), port))
    };
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

/// Where a `Location` header leads from `current`.
fn redirected(current: &Uri, location: &str) -> Option<Uri> {
    let scheme = current.scheme_str()?;
    let target = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", current.authority()?)
    } else {
        location.to_owned()
    };
    target.parse().ok().filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn the_origin_is_scheme_host_and_port() {
        let hub = uri("https://huggingface.co/x");
        assert!(same_origin(&hub, &uri("https://HuggingFace.co:443/y")));
        for other in ["http://huggingface.co", "https://huggingface.co:8443", "https://cdn.huggingface.co"] {
            assert!(!same_origin(&hub, &uri(other)), "{other}");
        }
    }

    #[test]
    fn locations_are_resolved() {
        let from = uri("https://hub:81/a/b?c");
        for (location, target) in [
            ("/api/x?etag=%22y%22", "https://hub:81/api/x?etag=%22y%22"),
            ("//cdn/x", "https://cdn/x"),
            ("http://cdn/x", "http://cdn/x"),
        ] {
            assert_eq!(redirected(&from, location), Some(uri(target)));
        }
        for location in ["", "x", "file:///etc/passwd", "ftp://x/y"] {
            assert_eq!(redirected(&from, location), None, "{location}");
        }
    }

    #[test]
    fn etags_become_blob_names() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs.iter().map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
        };
        let etag = |pairs| stored_etag(&headers(pairs));
        assert_eq!(etag(&[("etag", "W/\"0a1b\"")]).as_deref(), Some("0a1b"));
        assert_eq!(etag(&[("etag", "\"0a\""), ("x-linked-etag", "\"ff\"")]).as_deref(), Some("ff"));
        assert_eq!(etag(&[("etag", "\"../../x\"")]), None);
        assert_eq!(etag(&[]), None);
    }
}
