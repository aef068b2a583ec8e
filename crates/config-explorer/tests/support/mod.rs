//! A hub on a free loopback port: real connections, no network. It stops, with all its connections, when dropped.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use config_explorer::model::LoadOptions;

/// The commit of every repository here.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    /// First and last byte.
    pub(crate) range: Option<(usize, usize)>,
}

impl Request {
    /// The request as a server without ranges takes it.
    pub(crate) fn without_range(&self) -> Self {
        Self { range: None, ..self.clone() }
    }
}

/// What it is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Arc<Vec<u8>>,
    /// Part of the body that is sent.
    part: std::ops::Range<usize>,
    /// The length is said to be that much more than it is, and the connection ends there.
    missing_bytes: usize,
    delay: Duration,
}

impl Response {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status: 200, part: 0..body.len(), body: Arc::new(body), ..Self::default() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn redirect(location: impl Into<String>) -> Self {
        Self::status(307).header("Location", location)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    pub(crate) fn cut_short(self) -> Self {
        Self { missing_bytes: 7, ..self }
    }
}

/// A repository: files by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repository {
    files: BTreeMap<String, Arc<Vec<u8>>>,
}

impl Repository {
    pub(crate) fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(name.to_owned(), Arc::new(content.into()));
        self
    }

    /// Answers as the hub does for `org/name`.
    pub(crate) fn answer(&self, request: &Request) -> Response {
        if request.path.starts_with("/api/models/org/name/revision/") {
            let siblings: Vec<_> = self.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
            return Response::ok(serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string());
        }
        let file = request.path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/"));
        let Some((name, body)) = file.and_then(|name| self.files.get_key_value(name)) else {
            return Response::status(404).header("X-Error-Code", "EntryNotFound");
        };
        let length = body.len();
        let response = match request.range {
            Some((first, last)) if first < length => {
                let part = first..length.min(last + 1);
                let range = format!("bytes {first}-{}/{length}", part.end - 1);
                Response { status: 206, body: Arc::clone(body), part, ..Response::default() }
                    .header("Content-Range", range)
            }
            Some(_) => Response::status(416),
            None => Response { status: 200, body: Arc::clone(body), part: 0..length, ..Response::default() },
        };
        response.header("ETag", format!("\"{}\"", etag(name)))
    }
}

/// The etag of a file.
pub(crate) fn etag(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A safetensors file of BF16 tensors, cut off after its header.
pub(crate) fn header_only(tensors: impl IntoIterator<Item = (String, Vec<u64>)>) -> Vec<u8> {
    let mut header = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut position = 0;
    for (name, shape) in tensors {
        let end = position + 2 * shape.iter().product::<u64>();
        header += &format!(r#","{name}":{{"dtype":"BF16","shape":{shape:?},"data_offsets":[{position},{end}]}}"#);
        position = end;
    }
    header.push('}');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file
}

/// Layers of DeepSeek-V3, the multi-token-prediction layer not counted.
pub(crate) const DEEPSEEK_LAYERS: u32 = 61;

/// A model as large as DeepSeek-V3 in as many files: 92,000 tensors in 163.
pub(crate) fn deepseek_v3() -> Repository {
    const SHARDS: usize = 163;
    const DENSE_LAYERS: u32 = 3;
    const EXPERTS: u32 = 256;

    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![129_280, 7168]),
        ("model.norm.weight".to_owned(), vec![7168]),
        ("lm_head.weight".to_owned(), vec![129_280, 7168]),
    ];
    let mut quantised = |module: String, rows: u64, columns: u64| {
        tensors.push((format!("{module}.weight"), vec![rows, columns]));
        tensors.push((format!("{module}.weight_scale_inv"), vec![rows.div_ceil(128), columns.div_ceil(128)]));
    };
    for layer in 0..=DEEPSEEK_LAYERS {
        let path = format!("model.layers.{layer}");
        for (module, rows, columns) in [
            ("q_a_proj", 1536, 7168),
            ("q_b_proj", 24576, 1536),
            ("kv_a_proj_with_mqa", 576, 7168),
            ("kv_b_proj", 32768, 512),
            ("o_proj", 7168, 16384),
        ] {
            quantised(format!("{path}.self_attn.{module}"), rows, columns);
        }
        let experts = if layer < DENSE_LAYERS {
            vec![String::new()]
        } else {
            (0..EXPERTS).map(|expert| format!("experts.{expert}.")).collect()
        };
        for expert in experts {
            for (module, rows, columns) in
                [("gate_proj", 2048, 7168), ("up_proj", 2048, 7168), ("down_proj", 7168, 2048)]
            {
                quantised(format!("{path}.mlp.{expert}{module}"), rows, columns);
            }
        }
    }
    let mut weight_map = serde_json::Map::new();
    let mut repository = Repository::default().file("config.json", "{}");
    for (number, shard) in tensors.chunks(tensors.len().div_ceil(SHARDS)).enumerate() {
        let name = format!("model-{:05}-of-{SHARDS:06}.safetensors", number + 1);
        weight_map.extend(shard.iter().map(|(tensor, _)| (tensor.clone(), name.clone().into())));
        repository = repository.file(&name, header_only(shard.iter().cloned()));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": weight_map });
    repository.file("model.safetensors.index.json", index.to_string())
}

/// A running hub.
pub(crate) struct Hub {
    address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    requests: Mutex<Vec<Request>>,
    connections: Mutex<Vec<TcpStream>>,
    handlers: Mutex<Vec<JoinHandle<()>>>,
    stopping: AtomicBool,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

impl Hub {
    /// Starts a hub that answers with `handler`.
    pub(crate) fn serve(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let handler = Arc::new(handler);
        let accepting = thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for connection in listener.incoming() {
                    if state.stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    let connection = connection.unwrap();
                    state.connections.lock().unwrap().push(connection.try_clone().unwrap());
                    let (state_of_handler, handler) = (Arc::clone(&state), Arc::clone(&handler));
                    state.handlers.lock().unwrap().push(thread::spawn(move || {
                        let open = state_of_handler.open.fetch_add(1, Ordering::SeqCst) + 1;
                        state_of_handler.most_open.fetch_max(open, Ordering::SeqCst);
                        converse(&connection, &state_of_handler, &*handler);
                        state_of_handler.open.fetch_sub(1, Ordering::SeqCst);
                        let _ = connection.shutdown(Shutdown::Both);
                    }));
                }
            }
        });
        Self { address, state, accepting: Some(accepting) }
    }

    /// Starts a hub with one repository, `org/name`.
    pub(crate) fn of(repository: Repository) -> Self {
        Self::serve(move |request| repository.answer(request))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was asked, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Connections made in all.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.lock().unwrap().len()
    }

    /// The most connections that were open at a time.
    pub(crate) fn most_open_connections(&self) -> usize {
        self.state.most_open.load(Ordering::SeqCst)
    }

    /// Options that use this hub, and caches below `directory`.
    pub(crate) fn options(&self, directory: &Path) -> LoadOptions {
        options(&self.url(), directory)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for connection in self.state.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        for handler in self.state.handlers.lock().unwrap().drain(..) {
            let _ = handler.join();
        }
    }
}

/// Options that use a hub, and caches below `directory`, with little patience.
pub(crate) fn options(endpoint: &str, directory: &Path) -> LoadOptions {
    LoadOptions {
        revision: None,
        offline: false,
        endpoint: endpoint.to_owned(),
        token: None,
        hub_cache: directory.join("hub"),
        header_cache: directory.join("headers"),
        timeout: Duration::from_secs(5),
        retry_delays: vec![Duration::from_millis(1), Duration::from_millis(2)],
    }
}

/// Answers the requests of one connection until either side ends it.
fn converse(connection: &TcpStream, state: &State, handler: &dyn Fn(&Request) -> Response) {
    let mut reader = BufReader::new(connection);
    while let Some(request) = read_request(&mut reader) {
        state.requests.lock().unwrap().push(request.clone());
        let response = handler(&request);
        thread::sleep(response.delay);
        let length = response.part.len() + response.missing_bytes;
        let mut head = format!("HTTP/1.1 {} x\r\nContent-Length: {length}\r\n", response.status);
        for (name, value) in &response.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut writer = connection;
        let sent = writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&response.body[response.part]));
        if sent.is_err() || response.missing_bytes > 0 {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    Some(Request {
        path: lines.first()?.split(' ').nth(1)?.to_owned(),
        authorization: header("authorization"),
        range: header("range").and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        }),
    })
}
