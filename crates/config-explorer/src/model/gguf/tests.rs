//! GGUF files written here, by the specification.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::model::{DType, Part, TensorGroup, Weights, WeightsSource};

/// A GGUF file without its tensor data.
#[derive(Clone, Default)]
struct Writer {
    keys: u64,
    metadata: Vec<u8>,
    tensors: u64,
    tensor_infos: Vec<u8>,
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Writer {
    fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys += 1;
        self.metadata.extend([&string(key), &kind.to_le_bytes()[..], value].concat());
        self
    }

    fn text(self, key: &str, value: &str) -> Self {
        self.key(key, 8, &string(value))
    }

    fn number(self, key: &str, value: u32) -> Self {
        self.key(key, 4, &value.to_le_bytes())
    }

    fn numbers(self, pairs: &[(&str, u32)]) -> Self {
        pairs.iter().fold(self, |writer, (key, value)| writer.number(key, *value))
    }

    fn array(self, key: &str, kind: u32, length: u64, elements: &[u8]) -> Self {
        self.key(key, 9, &[&kind.to_le_bytes()[..], &length.to_le_bytes(), elements].concat())
    }

    /// `sides` as ggml counts: the one that varies fastest first.
    fn tensor(mut self, name: &str, sides: &[u64], kind: u32) -> Self {
        self.tensors += 1;
        self.tensor_infos.extend(string(name));
        self.tensor_infos.extend((sides.len() as u32).to_le_bytes());
        sides.iter().for_each(|side| self.tensor_infos.extend(side.to_le_bytes()));
        self.tensor_infos.extend(kind.to_le_bytes());
        self.tensor_infos.extend(0_u64.to_le_bytes());
        self
    }

    fn file(&self, version: u32) -> Vec<u8> {
        let counts = [self.tensors.to_le_bytes(), self.keys.to_le_bytes()].concat();
        [b"GGUF", &version.to_le_bytes()[..], &counts, &self.metadata, &self.tensor_infos].concat()
    }

    fn gguf(&self) -> Result<Gguf> {
        from_headers([parse_header(&self.file(3)[..], "x.gguf")?], "x.gguf")
    }

    fn config(&self) -> Json {
        serde_json::from_str(&self.gguf().unwrap().config).unwrap()
    }

    fn reason(&self) -> String {
        self.gguf().unwrap_err().to_string()
    }
}

/// A Llama with everything that a file needs.
fn llama() -> Writer {
    Writer::default()
        .text("general.architecture", "llama")
        .numbers(&[
            ("llama.block_count", 2),
            ("llama.context_length", 8192),
            ("llama.embedding_length", 512),
            ("llama.feed_forward_length", 1024),
            ("llama.attention.head_count", 8),
            ("llama.attention.head_count_kv", 2),
        ])
        .tensor("token_embd.weight", &[512, 1000], 12)
}

fn family(architecture: &str, pairs: &[(&str, u32)]) -> Writer {
    let key = |name: &str| format!("{architecture}.{name}");
    let base = Writer::default()
        .text("general.architecture", architecture)
        .number(&key("block_count"), 4)
        .number(&key("embedding_length"), 512)
        .number(&key("attention.head_count"), 8)
        .tensor("token_embd.weight", &[512, 1000], 1);
    pairs.iter().fold(base, |writer, (name, value)| writer.number(&key(name), *value))
}

#[test]
fn a_file_becomes_a_config_and_tensors() {
    let gguf = llama()
        .tensor("blk.1.attn_q.weight", &[512, 512], 14)
        .tensor("blk.1.attn_norm.weight", &[512], 0)
        .tensor("output_norm.weight", &[512], 0)
        .gguf()
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Json>(&gguf.config).unwrap(),
        json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "float32",
            "num_hidden_layers": 2, "max_position_embeddings": 8192, "hidden_size": 512, "intermediate_size": 1024,
            "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "tie_word_embeddings": true,
        })
    );
    assert_eq!(gguf.warnings, [] as [&str; 0]);
    let groups = gguf.tensors.groups(2);
    let summary: Vec<_> = groups
        .iter()
        .map(|group| (group.part, group.module.as_str(), &group.shape[..], group.dtype.safetensors_name(), group.bytes))
        .collect();
    assert_eq!(
        summary,
        [
            (Part::Embedding, "embed_tokens.weight", &[1000, 512][..], "Q4_K", 1000 * 2 * 144),
            (Part::Layer(1), "self_attn.q_proj.weight", &[512, 512], "Q6_K", 512 * 2 * 210),
            (Part::Layer(1), "input_layernorm.weight", &[512], "F32", 2048),
            (Part::FinalNorm, "norm.weight", &[512], "F32", 2048),
        ]
    );
    let weights = Weights { source: WeightsSource::Gguf, groups };
    assert_eq!(weights.elements_by_dtype()[&DType::F32], 1024);
}

#[test]
fn experts_are_counted_one_by_one() {
    let writer = llama().number("llama.expert_count", 4).number("llama.expert_used_count", 2);
    let gguf = writer.tensor("blk.0.ffn_down_exps.weight", &[1024, 512, 4], 2).gguf().unwrap();
    assert_eq!(
        gguf.tensors.groups(2)[1],
        TensorGroup {
            part: Part::Layer(0),
            module: "mlp.experts.*.down_proj.weight".to_owned(),
            shape: vec![512, 1024],
            dtype: types::storage(2).unwrap().dtype,
            count: 4,
            bytes: 512 * 32 * 18,
        }
    );
    let config: Json = serde_json::from_str(&gguf.config).unwrap();
    assert_eq!(config["model_type"], "mixtral");
    assert_eq!((&config["num_local_experts"], &config["num_experts_per_tok"]), (&json!(4), &json!(2)));
}

#[test]
fn families_keep_their_names_and_keys() {
    let deepseek = [
        ("expert_count", 64),
        ("expert_gating_func", 2),
        ("expert_feed_forward_length", 256),
        ("expert_shared_count", 1),
        ("leading_dense_block_count", 1),
        ("nextn_predict_layers", 1),
        ("attention.head_count_kv", 1),
        ("attention.q_lora_rank", 128),
        ("attention.kv_lora_rank", 64),
        ("attention.key_length", 80),
        ("attention.value_length", 64),
        ("attention.key_length_mla", 48),
        ("attention.value_length_mla", 32),
        ("rope.dimension_count", 16),
    ];
    let config = family("deepseek2", &deepseek).config();
    for (key, value) in [
        ("model_type", json!("deepseek_v3")),
        ("num_hidden_layers", json!(3)),
        ("num_nextn_predict_layers", json!(1)),
        ("n_routed_experts", json!(64)),
        ("n_shared_experts", json!(1)),
        ("moe_intermediate_size", json!(256)),
        ("first_k_dense_replace", json!(1)),
        ("num_key_value_heads", json!(8)),
        ("q_lora_rank", json!(128)),
        ("kv_lora_rank", json!(64)),
        ("qk_nope_head_dim", json!(32)),
        ("qk_rope_head_dim", json!(16)),
        ("v_head_dim", json!(32)),
        ("head_dim", Json::Null),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    assert_eq!(family("deepseek2", &deepseek[2..]).config()["model_type"], "deepseek_v2");

    let qwen = family("qwen3moe", &[("expert_count", 8), ("attention.key_length", 128)]).config();
    assert_eq!(qwen["architectures"], json!(["Qwen3MoeForCausalLM"]));
    assert_eq!((&qwen["num_experts"], &qwen["head_dim"]), (&json!(8), &json!(128)));
    let unknown = family("brandnew", &[]).config();
    assert_eq!((&unknown["model_type"], &unknown["architectures"]), (&json!("brandnew"), &json!(["brandnew"])));
}

#[test]
fn sliding_windows_are_given_layer_by_layer() {
    let window = [("attention.sliding_window", 128)];
    let types = |config: &Json| {
        config["layer_types"]
            .as_array()
            .map(|types| types.iter().map(|kind| kind == "sliding_attention").collect::<Vec<_>>())
    };
    assert_eq!(types(&family("gpt-oss", &window).config()), Some(vec![true, false, true, false]));
    assert_eq!(types(&family("gemma3", &window).config()), Some(vec![true; 4]));
    assert_eq!(types(&family("phi3", &window).config()), None);
    let stored = family("gemma3", &window).array("gemma3.attention.sliding_window_pattern", 7, 4, &[0, 1, 1, 0]);
    assert_eq!(types(&stored.config()), Some(vec![false, true, true, false]));
}

#[test]
fn values_per_layer_are_read() {
    let heads: Vec<u8> = [4_u32, 0, 2].iter().flat_map(|heads| heads.to_le_bytes()).collect();
    let gguf = family("llama", &[]).array("llama.attention.head_count_kv", 4, 3, &heads).gguf().unwrap();
    assert_eq!(serde_json::from_str::<Json>(&gguf.config).unwrap()["num_key_value_heads"], 4);
    assert_eq!(gguf.warnings, ["`attention.head_count_kv` differs between layers; its largest value is used for all"]);
}

#[test]
fn vocabularies_and_templates_are_skipped() {
    let tokens: Vec<u8> = (0..5000).flat_map(|token| string(&token.to_string())).collect();
    let writer = llama()
        .array("tokenizer.ggml.tokens", 8, 5000, &tokens)
        .array("tokenizer.ggml.token_type", 5, 5000, &vec![0; 20_000])
        .text("tokenizer.chat_template", &"x".repeat(100_000))
        .number("llama.attention.key_length", 64);
    assert_eq!(writer.config()["head_dim"], 64);
    let without_embedding = Writer { tensors: 0, tensor_infos: Vec::new(), ..writer };
    assert_eq!(without_embedding.config()["vocab_size"], 5000);
}

#[test]
fn every_type_has_its_bytes() {
    // 256 elements of each, in bytes: the sums of the fields of llama.cpp's block structures.
    for (number, name, bytes) in [
        (0, "F32", 1024),
        (1, "F16", 512),
        (2, "Q4_0", 144),
        (3, "Q4_1", 160),
        (6, "Q5_0", 176),
        (7, "Q5_1", 192),
        (8, "Q8_0", 272),
        (9, "Q8_1", 320),
        (10, "Q2_K", 84),
        (11, "Q3_K", 110),
        (12, "Q4_K", 144),
        (13, "Q5_K", 176),
        (14, "Q6_K", 210),
        (15, "Q8_K", 292),
        (16, "IQ2_XXS", 66),
        (17, "IQ2_XS", 74),
        (18, "IQ3_XXS", 98),
        (19, "IQ1_S", 50),
        (20, "IQ4_NL", 144),
        (21, "IQ3_S", 110),
        (22, "IQ2_S", 82),
        (23, "IQ4_XS", 136),
        (24, "I8", 256),
        (25, "I16", 512),
        (26, "I32", 1024),
        (27, "I64", 2048),
        (28, "F64", 2048),
        (29, "IQ1_M", 56),
        (30, "BF16", 512),
        (34, "TQ1_0", 54),
        (35, "TQ2_0", 66),
        (39, "MXFP4", 136),
        (40, "NVFP4", 144),
        (41, "Q1_0", 36),
    ] {
        let groups = llama().tensor("blk.0.x", &[256], number).gguf().unwrap().tensors.groups(2);
        assert_eq!((groups[1].dtype.safetensors_name(), groups[1].bytes), (name, bytes), "{number}");
    }
}

#[test]
fn split_files_are_read_together() {
    let directory = tempfile::tempdir().unwrap();
    let file = |part| directory.path().join(format!("m-0000{part}-of-00002.gguf"));
    std::fs::write(file(1), llama().file(2)).unwrap();
    let missing = read(&file(1)).unwrap_err().to_string();
    assert!(missing.contains("m-00002-of-00002.gguf"), "{missing}");
    std::fs::write(file(2), Writer::default().tensor("output.weight", &[512, 1000], 8).file(3)).unwrap();
    for part in [1, 2] {
        let gguf = read(&file(part)).unwrap();
        assert_eq!(gguf.tensors.groups(2)[1].part, Part::Head);
        assert_eq!(serde_json::from_str::<Json>(&gguf.config).unwrap()["tie_word_embeddings"], false);
    }
    for name in ["m.gguf", "m-1-of-2.gguf", "m-00001-of-00000.gguf", "-of-.gguf"] {
        assert_eq!(split_files(Path::new(name)), [Path::new(name)], "{name}");
    }
}

#[test]
fn wrong_files_say_what_is_wrong() {
    let parse = |bytes: &[u8]| parse_header(bytes, "x.gguf").unwrap_err().to_string();
    assert_eq!(parse(b"PK\x03\x04"), "x.gguf: not a GGUF file: it does not begin with `GGUF`");
    assert_eq!(parse(b"GG"), "x.gguf: truncated: the file ends within its header");
    assert!(parse(&llama().file(1)).contains("GGUF version 1"));
    assert!(parse(&llama().file(3_u32.swap_bytes())).contains("big-endian"));
    assert!(parse(&Writer { keys: u64::MAX, ..llama() }.file(3)).contains("metadata keys; at most 10000"));
    assert!(parse(&Writer { tensors: u64::MAX, ..llama() }.file(3)).contains("tensors; at most 1000000"));

    let claims = |length: u64| llama().key("general.name", 8, &length.to_le_bytes()).reason();
    assert!(claims(100).contains("`general.name`: truncated"), "{}", claims(100));
    assert!(claims(u64::MAX).contains("`general.name`: truncated"));
    assert!(llama().array("x", 10, u64::MAX, &[]).reason().contains("`x`: an array of"));
    assert!(llama().array("x", 9, 1, &[]).reason().contains("`x`: an array of type 9"));
    assert!(llama().key("x", 99, &[]).reason().contains("`x`: unknown value type 99"));

    let tensor = |sides: &[u64], kind| llama().tensor("odd", sides, kind).reason();
    assert!(tensor(&[4], 99).contains("tensor `odd`: unknown element type 99"));
    assert!(tensor(&[100], 12).contains("tensor `odd`: rows of 100 elements are not whole blocks of 256"));
    assert!(tensor(&[1; 5], 0).contains("tensor `odd`: 5 dimensions"));
    assert!(tensor(&[1 << 40, 1 << 40], 0).contains("is too large"));
    assert!(tensor(&[1 << 60], 0).contains("tensor `odd`: "));

    assert!(Writer::default().reason().contains("no `general.architecture`"));
    assert!(Writer::default().text("general.architecture", "llama").reason().contains("no number `llama.block_count`"));
    assert!(family("mamba", &[("ssm.state_size", 16)]).reason().contains("`mamba.ssm.state_size`: recurrent layers"));
    assert!(family("llama", &[]).number("llama.block_count", u32::MAX).reason().contains("at most 10000"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = parse_header(&[b"GGUF\x03\0\0\0", &bytes[..]].concat()[..], "");
    }

    #[test]
    fn a_changed_file_is_read_or_refused(position: prop::sample::Index, value: u8) {
        let writer = llama()
            .number("llama.expert_count", 4)
            .array("llama.attention.sliding_window_pattern", 7, 2, &[0, 1])
            .tensor("blk.0.ffn_down_exps.weight", &[1024, 512, 4], 2);
        let mut file = writer.file(3);
        let position = position.index(file.len());
        file[position] = value;
        if let Ok(header) = parse_header(&file[..], "")
            && let Ok(gguf) = from_headers([header], "")
        {
            let weights = Weights { source: WeightsSource::Gguf, groups: gguf.tensors.groups(2) };
            prop_assert!(weights.bytes() <= 1 << 53);
            weights.elements_by_dtype();
        }
    }
}
