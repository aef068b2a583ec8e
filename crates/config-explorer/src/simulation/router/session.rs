//! Which endpoint a session belongs to.

use std::collections::HashMap;

use super::endpoint::{Request, View};

/// Where a session is read from, and how long it is remembered.
#[derive(Debug, Clone)]
pub enum Strategy {
    /// A header with the endpoint's name in base64, which the router itself gave to the client.
    EncodedEndpoint {
        /// Name of the header, in lower case.
        header: String,
    },
    /// An id that the client chooses; the router remembers the endpoint.
    SessionId {
        /// Headers, in lower case; the first that is not empty counts.
        headers: Vec<String>,
        /// How long an unused session is remembered.
        ttl_ms: f64,
    },
}

#[derive(Debug, Clone, Copy)]
struct Binding {
    endpoint: usize,
    last_seen_ms: f64,
}

/// The sessions of one plugin.
#[derive(Debug, Clone)]
pub struct Sessions {
    strategy: Strategy,
    profile: String,
    bindings: HashMap<String, Binding>,
    /// Requests whose session was bound when they were scored, and whether its endpoint was a candidate then.
    seen: HashMap<u64, bool>,
}

impl Sessions {
    /// No sessions yet. `profile` is the one whose pick binds; empty means the primary one.
    pub fn new(strategy: Strategy, profile: String) -> Self {
        Self { strategy, profile, bindings: HashMap::new(), seen: HashMap::new() }
    }

    /// The profile whose pick binds a session.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    fn id<'a>(&self, request: &Request<'a>) -> Option<&'a str> {
        let Strategy::SessionId { headers, .. } = &self.strategy else { return None };
        let value = |name: &str| request.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim());
        headers.iter().filter_map(|name| value(name)).find(|id| !id.is_empty())
    }

    /// The candidate a request belongs to; `None` where there is no session, or it has no endpoint among them.
    pub fn choose(&mut self, request: &Request<'_>, view: View<'_>, candidates: &[usize]) -> Option<usize> {
        if let Strategy::EncodedEndpoint { header } = &self.strategy {
            let name = decode_base64(request.header(header)?)?;
            return candidates.iter().copied().find(|&at| view.endpoints[at].full_name().as_bytes() == name);
        }
        let id = self.id(request)?;
        let binding = self.bound(id, view.now_ms)?;
        let present = candidates.contains(&binding.endpoint);
        self.seen.insert(request.id, present);
        present.then_some(binding.endpoint)
    }

    fn bound(&self, id: &str, now_ms: f64) -> Option<Binding> {
        let Strategy::SessionId { ttl_ms, .. } = &self.strategy else { return None };
        self.bindings.get(id).copied().filter(|binding| now_ms - binding.last_seen_ms <= *ttl_ms)
    }

    /// A request was turned away.
    pub fn dropped(&mut self, request: u64) {
        self.seen.remove(&request);
    }

    /// A request was sent to an endpoint: binds its session there, and moves it only if the endpoint it was bound to was
    /// no candidate.
    pub fn sent(&mut self, request: &Request<'_>, endpoint: usize, now_ms: f64) {
        let present = self.seen.remove(&request.id);
        let Some(id) = self.id(request) else { return };
        let elsewhere = self.bound(id, now_ms).is_some_and(|binding| binding.endpoint != endpoint);
        if elsewhere && present != Some(false) {
            return;
        }
        self.bindings.insert(id.to_owned(), Binding { endpoint, last_seen_ms: now_ms });
    }
}

/// Standard base64 with padding (RFC 4648).
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        assert_eq!(decode_base64("L3BvZC1i").as_deref(), Some(&b"/pod-b"[..]));
        assert_eq!(decode_base64("YQ==").as_deref(), Some(&b"a"[..]));
        assert_eq!(decode_base64("YQ="), None);
        assert_eq!(decode_base64("garbage-token"), None);
    }
}
