//! Headers of safetensors files, and which files of a repository hold its weights.
//!
//! In: the JSON header of each file, and `model.safetensors.index.json` where there is one. Out: [`Tensors`]. Only
//! headers are read, never tensor data. The format is that of <https://github.com/huggingface/safetensors>; the choice
//! of files is that of vLLM's default loader.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

use super::{DType, Tensors};
use crate::{Error, Result};

/// The index of a checkpoint in several files.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// Longest header that the safetensors library reads (`MAX_HEADER_SIZE`).
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// The most files a checkpoint may have. The largest published ones have a few hundred.
const FILES_MAX: usize = 10_000;

/// Length of the JSON header, from the first bytes of the file. `place` names the file in errors.
pub fn header_length(file_start: &[u8], place: &str) -> Result<u64> {
    let Some(prefix) = file_start.first_chunk() else {
        return Err(malformed(place, format!("truncated: {} bytes, too short for a header", file_start.len())));
    };
    match u64::from_le_bytes(*prefix) {
        length if length <= HEADER_BYTES_MAX => Ok(length),
        length => Err(malformed(place, format!("header of {length} bytes; at most {HEADER_BYTES_MAX} are allowed"))),
    }
}

/// Reads the JSON header of one file. `place` names the file in errors.
pub fn parse_header(json: &[u8], place: &str) -> Result<Tensors> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let tensors = deserializer.deserialize_map(Header).and_then(|tensors| deserializer.end().map(|()| tensors));
    tensors.map_err(|error| malformed(place, format!("header: {error}")))
}

/// Reads the header of a local file.
pub fn read_header(file: &Path) -> Result<Tensors> {
    let place = file.display().to_string();
    let io_error = |source| Error::Io { path: file.to_owned(), source };
    let mut opened = File::open(file).map_err(io_error)?;
    let mut start = Vec::new();
    opened.by_ref().take(8).read_to_end(&mut start).map_err(io_error)?;
    let length = header_length(&start, &place)?;
    let mut json = Vec::new();
    opened.take(length).read_to_end(&mut json).map_err(io_error)?;
    if (json.len() as u64) < length {
        return Err(malformed(&place, format!("truncated: {} of {length} header bytes", json.len())));
    }
    parse_header(&json, &place)
}

/// The files of a checkpoint, by name, each with the bytes that its header is expected to have.
///
/// Reads `model.safetensors.index.json`. `place` names it in errors.
pub fn parse_index(json: &[u8], place: &str) -> Result<BTreeMap<String, u64>> {
    #[derive(serde::Deserialize)]
    struct Index {
        #[serde(deserialize_with = "weight_map")]
        weight_map: BTreeMap<String, u64>,
    }

    fn weight_map<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u64>, D::Error> {
        deserializer.deserialize_map(WeightMap)
    }

    let index: Index = serde_json::from_slice(json).map_err(|error| malformed(place, error.to_string()))?;
    Ok(index.weight_map)
}

/// Which of the file names of a directory hold the weights, where no index says so.
///
/// vLLM reads every safetensors file there is. Left out are adapters, and Mistral's `consolidated*.safetensors` where
/// the same tensors are also there under the names of transformers.
pub fn weight_files<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut files: Vec<String> = names
        .filter(|name| name.ends_with(".safetensors") && !name.starts_with("adapter") && is_plain_file(name))
        .map(str::to_owned)
        .collect();
    if files.iter().any(|name| !is_consolidated(name)) {
        files.retain(|name| !is_consolidated(name));
    }
    files.sort_unstable();
    files
}

fn is_consolidated(name: &str) -> bool {
    name.starts_with("consolidated")
}

fn is_plain_file(name: &str) -> bool {
    !name.contains('/')
}

/// How many files `model-00001-of-00003.safetensors` says there are.
pub(super) fn declared_files(name: &str) -> Option<usize> {
    name.strip_suffix(".safetensors")?.rsplit_once("-of-")?.1.parse().ok()
}

/// A path that stays below the directory it is joined to.
fn is_below(path: &str) -> bool {
    path.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..")
        && !path.contains(|character: char| character.is_control() || matches!(character, '\\' | ':'))
}

fn malformed(place: &str, reason: String) -> Error {
    Error::Malformed { place: place.to_owned(), reason }
}

/// A string that is not copied where JSON wrote it without escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// One tensor in a header.
#[derive(serde::Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Builds the table while the JSON is read.
struct Header;

impl<'de> Visitor<'de> for Header {
    type Value = Tensors;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
        let mut tensors = Tensors::default();
        let mut extents = Vec::new();
        while let Some(Text(name)) = map.next_key()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let entry: Entry<'de> = map.next_value()?;
            let (begin, end) = entry.data_offsets;
            let wrong = |reason: String| A::Error::custom(format_args!("tensor `{name}`: {reason}"));
            let bytes =
                end.checked_sub(begin).ok_or_else(|| wrong(format!("its data end at {end}, before {begin}")))?;
            let dtype = DType::from_safetensors(&entry.dtype);
            if let Some(bits) = dtype.bits() {
                let stored = entry.shape.iter().try_fold(bits, |product, &side| product.checked_mul(side));
                if stored != bytes.checked_mul(8) {
                    return Err(wrong(format!(
                        "shape {:?} of type {} does not take the {bytes} bytes of its data",
                        entry.shape, entry.dtype
                    )));
                }
            }
            tensors.add(&name, dtype, entry.shape, bytes, 1).map_err(wrong)?;
            extents.push((begin, end, name));
        }
        // The library refuses a file with gaps or overlaps, and bytes would count twice.
        extents.sort_unstable();
        let mut position = 0;
        for (begin, end, name) in extents {
            if begin != position {
                return Err(A::Error::custom(format_args!(
                    "tensor `{name}`: its data begin at {begin}, but those before it end at {position}"
                )));
            }
            position = end;
        }
        Ok(tensors)
    }
}

/// Sums up `weight_map` (tensor to file) while it is read.
struct WeightMap;

impl<'de> Visitor<'de> for WeightMap {
    type Value = BTreeMap<String, u64>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object of file names by tensor name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        /// What a header writes for a tensor beside its name: type, shape and offsets, generously.
        const ENTRY_BYTES: u64 = 100;
        /// Length prefix and metadata.
        const HEADER_OVERHEAD_BYTES: u64 = 1024;

        let mut files = BTreeMap::new();
        while let Some((Text(tensor), Text(file))) = map.next_entry()? {
            let entry_bytes = tensor.len() as u64 + ENTRY_BYTES;
            if let Some(header_bytes) = files.get_mut(file.as_ref()) {
                *header_bytes += entry_bytes;
                continue;
            }
            if !is_below(&file) {
                return Err(A::Error::custom(format_args!(
                    "tensor `{tensor}`: `{file}` is not a file beside the index"
                )));
            }
            if files.len() == FILES_MAX {
                return Err(A::Error::custom(format_args!("more than {FILES_MAX} files")));
            }
            files.insert(file.into_owned(), entry_bytes + HEADER_OVERHEAD_BYTES);
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Part, TensorGroup};

    const EXPERTS: &str = r#"{"__metadata__":{"format":"pt"},
        "model.layers.0.mlp.experts.0.up_proj.weight":{"dtype":"BF16","shape":[4,2],"data_offsets":[0,16]},
        "model.layers.0.mlp.experts.1.up_proj.weight":{"dtype":"BF16","shape":[4,2],"data_offsets":[16,32]},
        "model.layers.0.mlp.gate.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[32,48]},
        "model.layers.0.mlp.odd":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[48,51]},
        "model.layers.0.mlp.packed":{"dtype":"F4","shape":[2,4],"data_offsets":[51,55]}}   "#;

    fn reason(json: &str) -> String {
        parse_header(json.as_bytes(), "model.safetensors").unwrap_err().to_string()
    }

    #[test]
    fn experts_are_one_group() {
        let tensors = parse_header(EXPERTS.as_bytes(), "model.safetensors").unwrap();
        let groups = tensors.groups(1);
        let group = |module: &str, shape: &[u64], dtype, count, bytes| TensorGroup {
            part: Part::Layer(0),
            module: module.to_owned(),
            shape: shape.to_vec(),
            dtype,
            count,
            bytes,
        };
        assert_eq!(
            groups,
            [
                group("mlp.experts.*.up_proj.weight", &[4, 2], DType::BF16, 2, 16),
                group("mlp.gate.weight", &[2, 2], DType::F32, 1, 16),
                group("mlp.odd", &[4], DType::Other, 1, 3),
                group("mlp.packed", &[2, 4], DType::F4, 1, 4),
            ]
        );
        assert_eq!(Tensors::from_json(&tensors.to_json()), Some(tensors));
    }

    #[test]
    fn experts_of_two_files_are_one_group() {
        let mut tensors = parse_header(EXPERTS.as_bytes(), "1").unwrap();
        tensors.merge(parse_header(EXPERTS.as_bytes(), "2").unwrap()).unwrap();
        assert_eq!(tensors.groups(1)[0].count, 4);
    }

    #[test]
    fn wrong_headers_name_file_and_tensor() {
        for (entry, expected) in [
            (r#""dtype":"BF16","shape":[4],"data_offsets":[8,0]"#, "end at 0, before 8"),
            (r#""dtype":"BF16","shape":[4],"data_offsets":[0,9]"#, "does not take the 9 bytes"),
            (r#""dtype":"BF16","shape":[9223372036854775808,4],"data_offsets":[0,8]"#, "does not take the 8 bytes"),
            (r#""dtype":"NEW","shape":[4294967296,4294967296],"data_offsets":[0,8]"#, "does not fit into its 8 bytes"),
            (r#""dtype":"BF16","shape":[4],"data_offsets":[8,16]"#, "begin at 8, but those before it end at 0"),
        ] {
            let reason = reason(&format!(r#"{{"x.weight":{{{entry}}}}}"#));
            assert!(reason.starts_with("model.safetensors: header: tensor `x.weight`: "), "{reason}");
            assert!(reason.contains(expected), "{reason}");
        }
        assert!(reason("[]").contains("expected an object of tensors"));
        assert!(reason(r#"{"x":{"shape":[1]}}"#).contains("missing field `dtype`"));
    }

    #[test]
    fn overlapping_tensors_are_refused() {
        let entry = r#"{"dtype":"U8","shape":[8],"data_offsets":[0,8]}"#;
        assert!(reason(&format!(r#"{{"a":{entry},"b":{entry}}}"#)).contains("tensor `b`: its data begin at 0"));
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused_unread() {
        let error = header_length(&100_000_000_000_u64.to_le_bytes(), "model.safetensors").unwrap_err();
        assert_eq!(error.to_string(), "model.safetensors: header of 100000000000 bytes; at most 100000000 are allowed");
        assert!(header_length(&[1, 2, 3], "model.safetensors").unwrap_err().to_string().contains("truncated"));
    }

    #[test]
    fn local_headers_are_read_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("model.safetensors");
        let mut bytes = (EXPERTS.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(EXPERTS.as_bytes());
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(read_header(&file).unwrap(), parse_header(EXPERTS.as_bytes(), "").unwrap());
        bytes.truncate(40);
        std::fs::write(&file, &bytes).unwrap();
        assert!(read_header(&file).unwrap_err().to_string().contains("truncated: 32 of"));
        assert!(read_header(&directory.path().join("none")).unwrap_err().to_string().contains("cannot access"));
    }

    #[test]
    fn index_lists_files_and_header_sizes() {
        let json = br#"{"metadata":{"total_size":9},"weight_map":{"a":"1.safetensors","bc":"2.safetensors","d":"1.safetensors"}}"#;
        let files = parse_index(json, "index").unwrap();
        assert_eq!(
            files.into_iter().collect::<Vec<_>>(),
            [("1.safetensors".to_owned(), 1024 + 2 * 101), ("2.safetensors".to_owned(), 1024 + 102)]
        );
    }

    #[test]
    fn index_cannot_leave_its_directory() {
        for file in ["../x", "/etc/passwd", "a//b", "a/../../b", "", ".", r"..\\x", "C:x"] {
            let json = format!(r#"{{"weight_map":{{"a":"{file}"}}}}"#);
            assert!(parse_index(json.as_bytes(), "index").is_err(), "{file}");
        }
        assert!(parse_index(br#"{"weight_map":{"a":"part/model.safetensors"}}"#, "index").is_ok());
    }

    #[test]
    fn duplicates_and_adapters_are_not_weights() {
        let files = |names: &[&str]| weight_files(names.iter().copied());
        assert_eq!(
            files(&[
                "b.safetensors",
                "consolidated.safetensors",
                "a.safetensors",
                "adapter_model.safetensors",
                "x.bin"
            ]),
            ["a.safetensors", "b.safetensors"]
        );
        assert_eq!(files(&["consolidated.safetensors", "config.json"]), ["consolidated.safetensors"]);
        assert_eq!(files(&["onnx/model.safetensors"]), [] as [&str; 0]);
        assert_eq!(declared_files("model-00001-of-00163.safetensors"), Some(163));
        assert_eq!(declared_files("model.safetensors"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = header_length(&bytes, "");
            let _ = parse_header(&bytes, "");
            let _ = parse_index(&bytes, "");
            let _ = Tensors::from_json(&bytes);
        }

        #[test]
        fn a_changed_header_is_read_or_refused(position in 0..EXPERTS.len(), byte in 32..127_u8) {
            let mut json = EXPERTS.as_bytes().to_vec();
            json[position] = byte;
            if let Ok(tensors) = parse_header(&json, "") {
                let weights = crate::model::Weights { source: crate::model::WeightsSource::Safetensors, groups: tensors.groups(1) };
                prop_assert!(weights.bytes() <= 1 << 53);
                weights.elements_by_dtype();
            }
        }

        #[test]
        fn any_shape_and_offsets_are_read_or_refused(
            shape in prop::collection::vec(any::<u64>(), 0..4), begin: u64, end: u64, dtype in "BF16|F4|NEW"
        ) {
            let json = format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}}}"#);
            let _ = parse_header(json.as_bytes(), "");
        }
    }
}
