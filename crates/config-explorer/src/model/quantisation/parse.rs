//! `quantization_config` and `hf_quant_config.json`, of every exporter.

use serde_json::Value;

use super::{KvScales, Nvfp4Layout, Quantisation, Scaling, WeightFormat};
use crate::Result;
use crate::model::DType;
use crate::model::fields::{Fields, MAX_WIDTH};

/// Block of DeepSeek's FP8 where the configuration does not name one.
const DEFAULT_BLOCK: Scaling = Scaling::Block { rows: 128, columns: 128 };

impl Quantisation {
    /// Reads a `quantization_config`, or the `quantization` object of an `hf_quant_config.json`. `block_scale_dtype` is
    /// the type in which the family stores the scales of FP8 blocks, `text_only` that the object stands in the text
    /// model's part of the file.
    pub(in crate::model) fn parse(
        fields: &Fields<'_>,
        block_scale_dtype: DType,
        text_only: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let method = fields.string("quant_method").unwrap_or_default().to_lowercase();
        let mut quantisation =
            Self { method: Some(method.clone()), text_only, kv_cache_dtype: kv_cache_dtype(fields), ..Self::default() };
        let this = &mut quantisation;
        // In an FP8 checkpoint with NVFP4 experts `ignore` speaks of the latter only.
        let ignored: &[_] = match method.as_str() {
            "fp8" => &["modules_to_not_convert", "ignored_layers"],
            _ => &["modules_to_not_convert", "ignore", "exclude_modules", "llm_int8_skip_modules"],
        };
        for list in ignored {
            for entry in fields.strings(list) {
                this.add_rule(entry, WeightFormat::Plain, warnings);
            }
        }
        let algorithm = fields.string("quant_algo");
        match (method.as_str(), algorithm) {
            ("" | "modelopt" | "modelopt_fp4" | "modelopt_mixed", Some(algorithm)) => {
                this.method = Some("modelopt".to_owned());
                this.modelopt(fields, algorithm, warnings);
            }
            ("fp8", _) => this.default = fp8(fields, block_scale_dtype)?,
            ("fbgemm_fp8", _) => {
                this.default = scaled(DType::F8E4M3, Scaling::Channel, Some(DType::F32), false);
            }
            ("mxfp4", _) => this.default = WeightFormat::Mxfp4,
            ("awq" | "awq_marlin", _) => {
                this.default = WeightFormat::Awq {
                    bits: bits(fields, &["bits", "w_bit"])?,
                    group_size: group_size(fields, &["group_size", "q_group_size"])?,
                    zero_points: fields.flag("zero_point"),
                };
            }
            ("gptq" | "gptq_marlin", _) => this.gptq(fields, warnings)?,
            ("auto-round" | "auto_round" | "intel/auto-round", _) => this.auto_round(fields, warnings)?,
            ("bitsandbytes", _) => {
                this.default = if fields.flag("load_in_8bit") {
                    WeightFormat::BitsAndBytes8
                } else {
                    WeightFormat::BitsAndBytes4 { double: fields.flag("bnb_4bit_use_double_quant") }
                };
            }
            ("compressed-tensors" | "compressed_tensors" | "", _) if fields.has("config_groups") => {
                this.method = Some("compressed-tensors".to_owned());
                this.compressed_tensors(fields, warnings)?;
            }
            _ => {
                let name = if method.is_empty() { "without a `quant_method`" } else { &method };
                warnings.push(format!("quantisation `{name}` is not known; the weights are counted unquantised"));
            }
        }
        // Single layers of another format than the rest (DeepSeek-V4 NVFP4 experts in an FP8 checkpoint, modelopt's
        // mixed precision).
        if let Some(layers) = fields.object("quantized_layers") {
            for module in layers.names() {
                let algorithm = layers.object(module).and_then(|layer| layer.string("quant_algo")).unwrap_or_default();
                if let Some(format) = modelopt_format(algorithm, warnings) {
                    this.add_rule(module, format, warnings);
                }
            }
        }
        Ok(quantisation)
    }

    /// Model Optimizer, in `config.json` or `hf_quant_config.json`.
    fn modelopt(&mut self, fields: &Fields<'_>, algorithm: &str, warnings: &mut Vec<String>) {
        if algorithm != "MIXED_PRECISION" {
            self.default = modelopt_format(algorithm, warnings).unwrap_or(WeightFormat::Plain);
        }
        if self.kv_cache_dtype.is_some() && !fields.has("quantized_layers") {
            self.kv_scales = KvScales::OnProjections;
        }
    }

    fn gptq(&mut self, fields: &Fields<'_>, warnings: &mut Vec<String>) -> Result<()> {
        self.default =
            WeightFormat::Gptq { bits: bits(fields, &["bits"])?, group_size: group_size(fields, &["group_size"])? };
        if fields.flag("lm_head") {
            self.add_rule("lm_head", self.default, warnings);
        }
        // GPTQModel: modules after `-:` are left as they are.
        for entry in fields.object("dynamic").iter().flat_map(Fields::names) {
            if let Some(expression) = entry.strip_prefix("-:") {
                self.add_rule(&format!("re:{expression}"), WeightFormat::Plain, warnings);
            }
        }
        Ok(())
    }

    fn auto_round(&mut self, fields: &Fields<'_>, warnings: &mut Vec<String>) -> Result<()> {
        let group_size = group_size(fields, &["group_size"])?;
        let awq = fields.string("packing_format").is_some_and(|format| format.contains("awq"));
        let format = |bits| {
            if awq {
                WeightFormat::Awq { bits, group_size, zero_points: true }
            } else {
                WeightFormat::Gptq { bits, group_size }
            }
        };
        self.default = format(bits(fields, &["bits"])?);
        if let Some(extra) = fields.object("extra_config") {
            for module in extra.names() {
                if let Some(layer) = extra.object(module) {
                    let bits = bits(&layer, &["bits"])?;
                    self.add_rule(module, if bits < 16 { format(bits) } else { WeightFormat::Plain }, warnings);
                }
            }
        }
        Ok(())
    }

    fn compressed_tensors(&mut self, fields: &Fields<'_>, warnings: &mut Vec<String>) -> Result<()> {
        if self.kv_cache_dtype.is_some() {
            self.kv_scales = KvScales::OnAttention;
        }
        let Some(groups) = fields.object("config_groups") else { return Ok(()) };
        for name in groups.names() {
            let Some(group) = groups.object(name) else { continue };
            let Some(weights) = group.object("weights") else { continue };
            let layout = group.string("format").or_else(|| fields.string("format")).unwrap_or_default();
            let static_input = group.object("input_activations").is_some_and(|input| !input.flag("dynamic"));
            let format = compressed_format(&weights, layout, static_input)?;
            for target in group.strings("targets") {
                match target {
                    "Linear" => self.default = format,
                    module => self.add_rule(module, format, warnings),
                }
            }
        }
        Ok(())
    }
}

/// FP8 as DeepSeek writes it (blocks) and as vLLM's own `fp8` method reads it (one scale a matrix).
fn fp8(fields: &Fields<'_>, block_scale_dtype: DType) -> Result<WeightFormat> {
    let static_input = fields.string("activation_scheme") == Some("static");
    if !fields.has("weight_block_size") {
        return Ok(scaled(DType::F8E4M3, Scaling::Tensor, Some(DType::F32), static_input));
    }
    Ok(WeightFormat::Scaled {
        element: DType::F8E4M3,
        scaling: block(fields, "weight_block_size")?,
        scale_dtype: Some(block_scale_dtype),
        inverse: true,
        static_input,
    })
}

/// One group of compressed-tensors.
fn compressed_format(weights: &Fields<'_>, layout: &str, static_input: bool) -> Result<WeightFormat> {
    let bits = bits(weights, &["num_bits"])?;
    let float = weights.string("type") == Some("float");
    let group_size = group_size(weights, &["group_size"])?;
    let scaling = match weights.string("strategy") {
        Some("tensor") => Scaling::Tensor,
        Some("block") => block(weights, "block_structure")?,
        Some("group") => group_size.map_or(Scaling::Channel, Scaling::Group),
        _ => Scaling::Channel,
    };
    Ok(match (float, bits) {
        (true, 4) if group_size == Some(32) => WeightFormat::Mxfp4,
        (true, 4) => WeightFormat::Nvfp4 { layout: Nvfp4Layout::CompressedTensors, static_input },
        (true, _) if weights.string("scale_dtype") == Some("torch.uint8") => WeightFormat::MXFP8,
        (true, _) => scaled(DType::F8E4M3, scaling, None, static_input),
        (false, 8) if layout != "pack-quantized" => scaled(DType::I8, scaling, None, static_input),
        (false, _) => WeightFormat::PackedInt {
            bits,
            group_size,
            zero_points: !weights.flag("symmetric") && weights.has("symmetric"),
            act_order: weights.string("actorder") == Some("group"),
        },
    })
}

/// A `quant_algo` of Model Optimizer.
fn modelopt_format(algorithm: &str, warnings: &mut Vec<String>) -> Option<WeightFormat> {
    let nvfp4 = |static_input| WeightFormat::Nvfp4 { layout: Nvfp4Layout::ModelOpt, static_input };
    Some(match algorithm {
        "FP8" => scaled(DType::F8E4M3, Scaling::Tensor, Some(DType::F32), true),
        "FP8_PER_CHANNEL_PER_TOKEN" => scaled(DType::F8E4M3, Scaling::Channel, Some(DType::F32), false),
        "FP8_PB_WO" | "FP8_PB_REAL" => scaled(DType::F8E4M3, DEFAULT_BLOCK, Some(DType::F32), false),
        "NVFP4" | "NVFP4_AWQ" => nvfp4(true),
        "W4A16_NVFP4" => nvfp4(false),
        "MXFP4" | "W4A8_MXFP4_FP8" => WeightFormat::Mxfp4,
        "MXFP8" => WeightFormat::MXFP8,
        _ => {
            let warning = format!("`quant_algo` `{algorithm}` is not known; its weights are counted unquantised");
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
            return None;
        }
    })
}

/// `kv_cache_scheme` or `kv_cache_quant_algo`.
fn kv_cache_dtype(fields: &Fields<'_>) -> Option<DType> {
    let named = |name: &str| match name.to_uppercase().as_str() {
        "FP8" => Some(DType::F8E4M3),
        "NVFP4" => Some(DType::F4),
        "INT8" => Some(DType::I8),
        _ => None,
    };
    let scheme = match fields.value("kv_cache_scheme") {
        Some(Value::String(name)) => named(name),
        Some(Value::Object(_)) => fields.object("kv_cache_scheme").and_then(|scheme| {
            match (scheme.string("type"), scheme.size(&["num_bits"], 64).ok()??) {
                (Some("float"), 8) => Some(DType::F8E4M3),
                (Some("float"), 4) => Some(DType::F4),
                (_, 8) => Some(DType::I8),
                _ => None,
            }
        }),
        _ => None,
    };
    scheme.or_else(|| named(fields.string("kv_cache_quant_algo")?))
}

fn scaled(element: DType, scaling: Scaling, scale_dtype: Option<DType>, static_input: bool) -> WeightFormat {
    WeightFormat::Scaled { element, scaling, scale_dtype, inverse: false, static_input }
}

fn bits(fields: &Fields<'_>, names: &[&str]) -> Result<u64> {
    fields.required(names, 64)
}

/// A group size; -1 (GPTQ, AWQ) and null say that the group is the whole input.
fn group_size(fields: &Fields<'_>, names: &[&str]) -> Result<Option<u64>> {
    if names.iter().any(|name| fields.float(name).is_some_and(|size| size < 0.0)) {
        return Ok(None);
    }
    Ok(fields.size(names, MAX_WIDTH)?.filter(|size| *size > 0))
}

/// A block size `[outputs, inputs]`.
fn block(fields: &Fields<'_>, name: &str) -> Result<Scaling> {
    match fields.sizes(name, 2, MAX_WIDTH)?.as_deref() {
        Some([0, _] | [_, 0]) => Err(fields.error(name, "has a 0")),
        Some(&[rows, columns]) => Ok(Scaling::Block { rows, columns }),
        _ => Ok(DEFAULT_BLOCK),
    }
}
