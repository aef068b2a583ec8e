//! One model from the hub: which files there are, the ones that describe it, and the headers of its weights.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::client::{CONNECTIONS, Client, Download};
use super::{CONFIG_BYTES_MAX, INDEX_BYTES_MAX, RepositoryId, is_plain_word};
use crate::model::{Tensors, safetensors};
use crate::{Error, HubFailure, Result};

/// The longest list of files that is read. Repositories have at most some thousands.
const LIST_BYTES_MAX: u64 = 32 << 20;

/// The first bytes of a safetensors file of which no index tells the number of tensors. Headers of models in one file
/// have 25 to 100 kB.
const FIRST_BYTES: u64 = 128 << 10;

/// What the hub has of a model.
pub(crate) struct Fetched {
    pub(crate) commit: String,
    /// Files to be kept whole, by name.
    pub(crate) files: Vec<(&'static str, Download)>,
    /// Tensors of the safetensors headers, empty if there are none.
    pub(crate) tensors: Tensors,
}

/// Asks the hub for a model. `known_tensors` gives the tensors of a commit whose headers need not be read again.
pub(crate) fn fetch(
    client: &Client<'_>,
    id: &RepositoryId,
    revision: &str,
    known_tensors: impl Fn(&str) -> Option<Tensors>,
) -> Result<Fetched> {
    let listing = list(client, id, revision)?;
    let repository = Repository { client, id, revision, commit: &listing.sha };
    let names: Vec<&str> = listing.siblings.iter().map(|sibling| sibling.rfilename.as_str()).collect();

    let wanted: Vec<(&'static str, u64)> = [
        ("config.json", CONFIG_BYTES_MAX),
        ("hf_quant_config.json", CONFIG_BYTES_MAX),
        (safetensors::INDEX_FILE, INDEX_BYTES_MAX),
    ]
    .into_iter()
    .filter(|(name, _)| names.contains(name))
    .collect();
    if wanted.first().is_none_or(|(name, _)| *name != "config.json") {
        return Err(repository.without_config(&names));
    }
    let files = in_parallel(&wanted, |(name, limit)| repository.json_file(name, *limit).map(|file| (*name, file)))?;

    let tensors = match known_tensors(&listing.sha) {
        Some(tensors) => tensors,
        None => {
            let index = files.iter().find(|(name, _)| *name == safetensors::INDEX_FILE);
            let weight_files = match index {
                Some((name, index)) => safetensors::parse_index(&index.content, &repository.place(name))?,
                None => {
                    safetensors::weight_files(names.into_iter()).into_iter().map(|name| (name, FIRST_BYTES)).collect()
                }
            };
            repository.headers(weight_files)?
        }
    };
    Ok(Fetched { commit: listing.sha, files, tensors })
}

/// The hub's answer to `/api/models/{id}/revision/{revision}`, as far as it is used.
#[derive(serde::Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(serde::Deserialize)]
struct Sibling {
    rfilename: String,
}

fn list(client: &Client<'_>, id: &RepositoryId, revision: &str) -> Result<Listing> {
    let place = format!("{id}@{revision}");
    let protocol = |reason| Error::Hub { failure: HubFailure::Protocol, place: place.clone(), reason };
    let path = format!("/api/models/{id}/revision/{}", percent_encoded(revision));
    let answer = client.get(&path, &place, LIST_BYTES_MAX)?;
    let listing: Listing = serde_json::from_slice(&answer.content)
        .map_err(|error| protocol(format!("the list of its files is malformed: {error}")))?;
    if !is_plain_word(&listing.sha) {
        return Err(protocol("the list of its files has no commit".to_owned()));
    }
    Ok(listing)
}

/// A commit of a repository on the hub.
struct Repository<'a> {
    client: &'a Client<'a>,
    id: &'a RepositoryId,
    revision: &'a str,
    commit: &'a str,
}

impl Repository<'_> {
    /// The file as errors name it.
    fn place(&self, file: &str) -> String {
        format!("{}@{}/{file}", self.id, self.revision)
    }

    fn path(&self, file: &str) -> String {
        let file: Vec<String> = file.split('/').map(percent_encoded).collect();
        format!("/{}/resolve/{}/{}", self.id, self.commit, file.join("/"))
    }

    /// A whole JSON file. What cannot be one is refused here, before it gets into the shared cache. Its reader will
    /// say more: some configs hold `Infinity`, which Python writes and JSON does not have.
    fn json_file(&self, file: &str, limit: u64) -> Result<Download> {
        let place = self.place(file);
        let download = self.client.get(&self.path(file), &place, limit)?;
        let text = download.content.trim_ascii();
        if text.starts_with(b"{") && text.ends_with(b"}") {
            return Ok(download);
        }
        Err(Error::Malformed { place, reason: "not a JSON object".to_owned() })
    }

    /// The tensors of files whose headers are expected to end within the given number of bytes.
    fn headers(&self, files: BTreeMap<String, u64>) -> Result<Tensors> {
        let files: Vec<_> = files.into_iter().collect();
        let mut tensors = Tensors::default();
        for header in in_parallel(&files, |(file, first_bytes)| self.header(file, *first_bytes))? {
            tensors
                .merge(header)
                .map_err(|reason| Error::Malformed { place: format!("{}@{}", self.id, self.revision), reason })?;
        }
        Ok(tensors)
    }

    fn header(&self, file: &str, first_bytes: u64) -> Result<Tensors> {
        const LENGTH_BYTES: usize = 8;

        let (path, place) = (self.path(file), self.place(file));
        let mut start = self.client.get_range(&path, &place, &(0..first_bytes))?;
        let end = LENGTH_BYTES as u64 + safetensors::header_length(&start, &place)?;
        if end > first_bytes && start.len() as u64 == first_bytes {
            start.extend(self.client.get_range(&path, &place, &(first_bytes..end))?);
        }
        let json = start.get(LENGTH_BYTES..end as usize).ok_or_else(|| Error::Malformed {
            place: place.clone(),
            reason: format!("truncated: {} of {end} bytes of the header", start.len()),
        })?;
        safetensors::parse_header(json, &place)
    }

    fn without_config(&self, names: &[&str]) -> Error {
        let reason =
            if names.iter().any(|name| Path::new(name).extension().is_some_and(|extension| extension == "gguf")) {
                "no config.json, but GGUF files: download one and give its path"
            } else {
                "no config.json in the repository: not a model that vLLM loads by its name"
            };
        Error::Hub {
            failure: HubFailure::NoSuchFile,
            place: format!("{}@{}", self.id, self.revision),
            reason: reason.to_owned(),
        }
    }
}

/// Does `work` on each item, on as many threads as there may be connections, and returns the results in order. The
/// first failure ends it.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(item) = items.get(index)
        {
            match work(item) {
                Ok(result) => done.push((index, result)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    let mut results = Vec::with_capacity(items.len());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..items.len().min(CONNECTIONS)).map(|_| scope.spawn(worker)).collect();
        for thread in threads {
            results.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(())
    })?;
    results.sort_unstable_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Text as one segment of a URL's path.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;

    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
