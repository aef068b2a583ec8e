//! From what the user calls `MODEL` to a [`Model`].
//!
//! A path comes first, then the Hugging Face cache, then the hub, then the built-in catalogue. A revision that the
//! cache knows is answered from it without a network, as long as everything that describes the model is there.
//! [`ModelFiles::find`] does all input; what follows is pure.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::hub::{
    CONFIG_BYTES_MAX, Client, Fetched, HeaderCache, HubCache, INDEX_BYTES_MAX, LoadOptions, RepositoryId, Snapshot,
    fetch, is_revision,
};
use super::{
    Architecture, Model, ModelSource, Quantisation, TensorGroup, Tensors, Weights, WeightsSource, catalogue, gguf,
    parse_config, safetensors,
};
use crate::{Error, HubFailure, Result};

const CONFIG_FILE: &str = "config.json";
const QUANT_CONFIG_FILE: &str = "hf_quant_config.json";

/// What describes a model, as it was found.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// Hugging Face id, or the path that was given.
    pub id: String,
    /// Commit of the repository, where it is known.
    pub revision: Option<String>,
    /// Where the files were found.
    pub source: ModelSource,
    /// Name of the config in messages.
    pub config_place: String,
    /// Text of `config.json`, or what a GGUF file says in its place.
    pub config: String,
    /// Text of `hf_quant_config.json`, where there is one.
    pub hf_quant_config: Option<String>,
    /// Tensors of the headers; empty if there are none.
    pub tensors: Tensors,
    /// What the user should know of how they were found.
    pub warnings: Vec<String>,
}

impl Model {
    /// Finds and reads a model: a Hugging Face id, a directory with `config.json`, or a `.gguf` file.
    ///
    /// # Errors
    /// [`Error::Hub`] where the hub does not give it, [`Error::Io`] and [`Error::Malformed`] for its files.
    pub fn load(model: &str, options: &LoadOptions) -> Result<Self> {
        ModelFiles::find(model, options)?.into_model()
    }
}

impl From<catalogue::CatalogueModel> for ModelFiles {
    fn from(model: catalogue::CatalogueModel) -> Self {
        Self {
            config_place: format!("catalogue entry {}", model.id),
            config: model.config().to_owned(),
            hf_quant_config: model.hf_quant_config().map(str::to_owned),
            id: model.id,
            revision: None,
            source: ModelSource::Catalogue,
            tensors: Tensors::default(),
            warnings: Vec::new(),
        }
    }
}

impl ModelFiles {
    /// Finds a model and reads its files and headers.
    pub fn find(model: &str, options: &LoadOptions) -> Result<Self> {
        let path = Path::new(model);
        if path.extension().is_some_and(|extension| extension == "gguf") {
            return from_gguf(path);
        }
        if path.join(CONFIG_FILE).is_file() {
            return from_directory(path);
        }
        let id = match RepositoryId::parse(model) {
            Err(_) if path.is_dir() => return from_directory(path),
            id => id?,
        };
        if !is_revision(options.revision()) {
            return Err(Error::InvalidSetting {
                setting: "--revision".to_owned(),
                reason: format!("`{}` is not the name of a branch, tag or commit", options.revision()),
            });
        }
        Search { id, options }.find()
    }

    /// Reads the config, and puts each tensor where it belongs.
    pub fn into_model(self) -> Result<Model> {
        let parsed = parse_config(&self.config, self.hf_quant_config.as_deref(), &self.config_place)?;
        let weights = if self.tensors.is_empty() {
            Weights::from_architecture(&parsed.architecture)
        } else {
            let source = match self.source {
                ModelSource::Gguf => WeightsSource::Gguf,
                _ => WeightsSource::Safetensors,
            };
            let decoder_layers = u32::try_from(parsed.architecture.layers.len()).unwrap_or(u32::MAX);
            Weights { source, groups: self.tensors.groups(decoder_layers) }
        };
        let mut warnings = self.warnings;
        warnings.extend(parsed.warnings);
        Ok(Model {
            id: self.id,
            revision: self.revision,
            source: self.source,
            parameters: parameters(&parsed.architecture),
            architecture: parsed.architecture,
            weights,
            warnings,
        })
    }
}

/// Weights of the main model, each once.
fn parameters(architecture: &Architecture) -> u64 {
    let mut plain = architecture.clone();
    plain.checkpoint.quantisation = Quantisation::default();
    plain.mtp_layers.clear();
    Weights::from_architecture(&plain).groups.iter().map(TensorGroup::elements).sum()
}

fn from_gguf(file: &Path) -> Result<ModelFiles> {
    let gguf = gguf::read(file)?;
    Ok(ModelFiles {
        id: file.display().to_string(),
        revision: None,
        source: ModelSource::Gguf,
        config_place: file.display().to_string(),
        config: gguf.config,
        hf_quant_config: None,
        tensors: gguf.tensors,
        warnings: gguf.warnings,
    })
}

fn from_directory(directory: &Path) -> Result<ModelFiles> {
    let config_file = directory.join(CONFIG_FILE);
    let (tensors, warnings) = match local_tensors(directory)? {
        LocalTensors::Complete(tensors) => (tensors, Vec::new()),
        LocalTensors::Missing { file } => (
            Tensors::default(),
            vec![format!("`{}` is missing: weights are computed from the config", directory.join(file).display())],
        ),
    };
    Ok(ModelFiles {
        id: directory.display().to_string(),
        revision: None,
        source: ModelSource::Directory,
        config: read_text(&config_file)?,
        config_place: config_file.display().to_string(),
        hf_quant_config: read_text_if_there(&directory.join(QUANT_CONFIG_FILE))?,
        tensors,
        warnings,
    })
}

/// A model by its id.
struct Search<'a> {
    id: RepositoryId,
    options: &'a LoadOptions,
}

impl Search<'_> {
    fn find(&self) -> Result<ModelFiles> {
        let cache = HubCache::new(&self.options.hub_cache);
        let snapshot = cache.snapshot(&self.id, self.options.revision());
        if let Some(snapshot) = &snapshot
            && let Some(files) = self.in_snapshot(snapshot)?
        {
            return Ok(files);
        }
        // What the cache calls the revision is completed, not replaced by what the hub calls it today.
        let commit = snapshot.as_ref().map_or(self.options.revision(), |snapshot| &snapshot.commit);
        let failure = match self.on_hub(&cache, commit) {
            Ok(files) => return Ok(files),
            Err(failure) => failure,
        };
        if !may_stand_in(&failure) {
            return Err(failure);
        }
        if let Some(files) = snapshot.and_then(|snapshot| self.config_of_snapshot(&snapshot).transpose()) {
            let mut files = files?;
            files
                .warnings
                .push(format!("weights are computed from the config, because their headers are not here: {failure}"));
            return Ok(files);
        }
        match catalogue::find(self.id.as_str()) {
            // The catalogue has one revision of a model, and does not know which.
            Some(model) if self.options.revision.is_none() => Ok(ModelFiles {
                // An entry stands for several repositories.
                id: self.id.as_str().to_owned(),
                warnings: vec![format!("described by the built-in catalogue ({failure})")],
                ..model.into()
            }),
            _ => Err(failure),
        }
    }

    /// The model from a snapshot that has all that describes it.
    fn in_snapshot(&self, snapshot: &Snapshot) -> Result<Option<ModelFiles>> {
        let Some(mut files) = self.config_of_snapshot(snapshot)? else { return Ok(None) };
        let headers = HeaderCache::new(&self.options.header_cache);
        if let Some(tensors) = headers.tensors(&self.id, &snapshot.commit) {
            files.tensors = tensors;
            return Ok(Some(files));
        }
        match local_tensors(&snapshot.directory)? {
            // A snapshot without weights may be one whose weights nobody fetched.
            LocalTensors::Complete(tensors) if !tensors.is_empty() => {
                files.warnings.extend(stored(headers.store(&self.id, &snapshot.commit, &tensors)));
                files.tensors = tensors;
                Ok(Some(files))
            }
            _ => Ok(None),
        }
    }

    /// The config that a snapshot holds, without tensors.
    fn config_of_snapshot(&self, snapshot: &Snapshot) -> Result<Option<ModelFiles>> {
        let Some(config) = read_text_if_there(&snapshot.directory.join(CONFIG_FILE))? else { return Ok(None) };
        Ok(Some(ModelFiles {
            revision: Some(snapshot.commit.clone()),
            config,
            hf_quant_config: read_text_if_there(&snapshot.directory.join(QUANT_CONFIG_FILE))?,
            ..self.empty(ModelSource::Cache)
        }))
    }

    fn on_hub(&self, cache: &HubCache<'_>, revision: &str) -> Result<ModelFiles> {
        let place = format!("{}@{}", self.id, self.options.revision());
        if self.options.offline {
            return Err(Error::Hub {
                failure: HubFailure::Offline,
                place,
                reason: "not complete in the cache, and the network is not to be used".to_owned(),
            });
        }
        let headers = HeaderCache::new(&self.options.header_cache);
        let client = Client::new(self.options)?;
        let Fetched { commit, files, tensors } =
            fetch(&client, &self.id, revision, |commit| headers.tensors(&self.id, commit))?;

        let mut found = self.empty(ModelSource::Hub);
        let keep = || -> io::Result<()> {
            for (name, download) in &files {
                if let Some(etag) = &download.etag {
                    cache.store(&self.id, &commit, name, etag, &download.content)?;
                }
            }
            cache.store_reference(&self.id, self.options.revision(), &commit)?;
            headers.store(&self.id, &commit, &tensors)
        };
        found.warnings.extend(stored(keep()));
        for (name, download) in files {
            let text = || {
                String::from_utf8(download.content)
                    .map_err(|error| Error::Malformed { place: format!("{place}/{name}"), reason: error.to_string() })
            };
            match name {
                CONFIG_FILE => found.config = text()?,
                QUANT_CONFIG_FILE => found.hf_quant_config = Some(text()?),
                _ => {}
            }
        }
        found.revision = Some(commit);
        found.tensors = tensors;
        Ok(found)
    }

    fn empty(&self, source: ModelSource) -> ModelFiles {
        ModelFiles {
            id: self.id.to_string(),
            revision: None,
            source,
            config_place: format!("{}@{}/{CONFIG_FILE}", self.id, self.options.revision()),
            config: String::new(),
            hf_quant_config: None,
            tensors: Tensors::default(),
            warnings: Vec::new(),
        }
    }
}

/// Whether something else may stand in for what the hub did not give.
fn may_stand_in(failure: &Error) -> bool {
    matches!(
        failure,
        Error::Hub {
            failure: HubFailure::Offline | HubFailure::Unreachable | HubFailure::Server | HubFailure::GatedWithoutToken,
            ..
        }
    )
}

/// A cache that cannot be written costs time, not the answer.
fn stored(result: io::Result<()>) -> Option<String> {
    result.err().map(|error| format!("the cache cannot be written: {error}"))
}

/// What the safetensors files of a directory say.
enum LocalTensors {
    /// The tensors of all files, none if there are no files.
    Complete(Tensors),
    /// A file of the checkpoint is not there.
    Missing { file: String },
}

fn local_tensors(directory: &Path) -> Result<LocalTensors> {
    let index_file = directory.join(safetensors::INDEX_FILE);
    let files: Vec<String> = match read_if_there(&index_file, INDEX_BYTES_MAX)? {
        Some(index) => safetensors::parse_index(&index, &index_file.display().to_string())?.into_keys().collect(),
        None => safetensors::weight_files(file_names(directory)?.iter().map(String::as_str)),
    };
    if let Some(file) = files.iter().find(|file| !directory.join(file).is_file()) {
        return Ok(LocalTensors::Missing { file: file.clone() });
    }
    if let Some(declared) = files.iter().find_map(|file| safetensors::declared_files(file))
        && files.len() < declared
    {
        return Ok(LocalTensors::Missing { file: format!("one of {declared} safetensors files") });
    }
    let mut tensors = Tensors::default();
    for file in files {
        let file = directory.join(file);
        tensors
            .merge(safetensors::read_header(&file)?)
            .map_err(|reason| Error::Malformed { place: file.display().to_string(), reason })?;
    }
    Ok(LocalTensors::Complete(tensors))
}

fn file_names(directory: &Path) -> Result<Vec<String>> {
    let io_error = |source| Error::Io { path: directory.to_owned(), source };
    let entries = fs::read_dir(directory).map_err(io_error)?;
    let names = entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose());
    names.collect::<io::Result<_>>().map_err(io_error)
}

fn read_text(file: &Path) -> Result<String> {
    read_text_if_there(file)?.ok_or_else(|| Error::Io { path: file.to_owned(), source: io::ErrorKind::NotFound.into() })
}

fn read_text_if_there(file: &Path) -> Result<Option<String>> {
    let text = read_if_there(file, CONFIG_BYTES_MAX)?.map(String::from_utf8).transpose();
    text.map_err(|error| Error::Malformed { place: file.display().to_string(), reason: error.to_string() })
}

/// A whole file of at most `limit` bytes.
fn read_if_there(file: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let io_error = |source| Error::Io { path: PathBuf::from(file), source };
    let opened = match fs::File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io_error)?,
    };
    let mut content = Vec::new();
    opened.take(limit + 1).read_to_end(&mut content).map_err(io_error)?;
    if content.len() as u64 > limit {
        return Err(Error::Malformed { place: file.display().to_string(), reason: format!("more than {limit} bytes") });
    }
    Ok(Some(content))
}
