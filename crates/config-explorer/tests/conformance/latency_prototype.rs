//! The reference's prototype to the letter (latency-model.md, 2 to 3.3): its closed form with its coefficients has the
//! errors it states on its 671 rows.
//!
//! It is what the library's model is measured against, so it shares no code with it, and knows no more than the models
//! of those rows: grouped-query, sliding-window and latent attention, dense and expert feed-forward, TP and EP.

#![expect(clippy::print_stdout, reason = "the figures are for people")]

use std::collections::HashMap;
use std::path::Path;

use config_explorer::validate::latency::RelativeErrors;
use serde_json::Value;

type Row = HashMap<String, String>;

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The first of some fields that is a number, else 0.
fn number(value: &Value, fields: &[&str]) -> f64 {
    fields.iter().find_map(|field| value[field].as_f64()).unwrap_or(0.0)
}

/// `floor + [(fixed + per_token M)^rho + (compute M)^rho]^(1/rho)`, `count` times.
struct Gemm {
    floor: f64,
    fixed: f64,
    per_token: f64,
    compute: f64,
    rho: f64,
    count: f64,
}

impl Gemm {
    fn time(&self, tokens: f64) -> f64 {
        let (memory, compute) = (self.fixed + self.per_token * tokens, self.compute * tokens);
        self.count * (self.floor + (memory.powf(self.rho) + compute.powf(self.rho)).powf(1.0 / self.rho))
    }
}

#[expect(clippy::struct_field_names, reason = "the field's own term")]
struct Experts {
    curve: Value,
    experts: f64,
    per_token: f64,
    slice: f64,
    ranks: f64,
    weight_bytes: f64,
    layers: f64,
}

/// The step time of a configuration.
struct Step {
    hidden: f64,
    bandwidth: f64,
    gemms: Vec<Gemm>,
    experts: Option<Experts>,
    head: Gemm,
    head_rest: (f64, f64),
    elementwise: (f64, f64),
    /// Links, and the bytes per token and number of the all-reduces.
    links: Vec<(f64, f64)>,
    reduces: Vec<(f64, f64)>,
    decode: (f64, f64),
    window: f64,
    window_token: f64,
    prefill_floor: f64,
    prefill_pair: (f64, f64),
    half: f64,
    eager: f64,
    host: (f64, f64),
    kv_tokens: f64,
}

fn weight_bytes(format: &str) -> f64 {
    match format {
        "fp8" => 1.0,
        "fp8b" => 1.0002,
        "nvfp4" => 0.5625,
        "mxfp4" => 0.53125,
        _ => 2.0,
    }
}

impl Step {
    fn new(folder: &Path, coefficients: &Value, row: &Row) -> Self {
        let config = read_json(&folder.join("models").join(&row["config"]).join("config.json"));
        let config = if config["text_config"].is_object() { &config["text_config"] } else { &config };
        let (gpu, engine) = (&coefficients["gpu"][&row["gpu"]], &coefficients["engine"]);
        let size = |fields: &[&str]| number(config, fields);
        let tensor: f64 = row["tp"].parse().unwrap();
        let (layers, hidden, vocab) = (size(&["num_hidden_layers"]), size(&["hidden_size"]), size(&["vocab_size"]));
        let experts = size(&["num_local_experts", "n_routed_experts"]);
        let (latent, heads) = (size(&["kv_lora_rank"]), size(&["num_attention_heads"]) / tensor);
        let precision = match (row["precision"].as_str(), config["quantization_config"]["weight_block_size"].is_array())
        {
            ("", true) => "fp8b",
            ("", false) => "bf16",
            (precision, _) => precision,
        };
        // NVFP4 checkpoints leave the attention of models with experts in 16 bits, MXFP4 ones all but the experts.
        let attention = match precision {
            "mxfp4" => "bf16",
            "nvfp4" if experts > 0.0 => "bf16",
            other => other,
        };
        let dense = if precision == "mxfp4" { "bf16" } else { precision };

        let bandwidth = number(gpu, &["mem_bw_TBps"]) * 1e6;
        let peak = |format: &str| {
            let unit = match format {
                "fp8" | "fp8b" => "fp8",
                "nvfp4" => "fp4",
                _ => "bf16",
            };
            number(&gpu["peak_tflops"], &[unit]) * 1e6
        };
        let gemm = |outputs: f64, inputs: f64, format: &str, count: f64| {
            let curves = &gpu["gemm"];
            let name = [format, "fp8b", "fp8"].into_iter().find(|name| curves[*name].is_object()).unwrap();
            let curve = &curves[name];
            let reached = number(curve, &["mem_eff"]) * bandwidth;
            let activation = if format == "bf16" { 2.0 } else { 1.0 };
            Gemm {
                floor: number(curve, &["t0_us"]),
                fixed: outputs * inputs * weight_bytes(format) / reached,
                per_token: (inputs * activation + 2.0 * outputs) / reached,
                compute: 2.0 * outputs * inputs / (number(curve, &["compute_eff"]) * peak(format)),
                rho: number(curve, &["rho"]),
                count,
            }
        };
        // Outputs, inputs, format and number of each matrix.
        let mut matrices: Vec<(f64, f64, &str, f64)> = Vec::new();
        let head_dim = size(&["head_dim"]).max(if latent > 0.0 { 0.0 } else { hidden / heads / tensor });
        let kv_heads = (size(&["num_key_value_heads"]) / tensor).max(1.0);
        let [query, nope, rope, value] =
            ["q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"].map(|field| size(&[field]));
        if latent > 0.0 {
            matrices.push((query + latent + rope, hidden, attention, layers));
            matrices.push((heads * (nope + rope), query, attention, layers));
            matrices.push((hidden, heads * value, attention, layers));
            matrices.push((heads * nope, latent, "bf16", layers));
            matrices.push((heads * value, latent, "bf16", layers));
        } else {
            matrices.push(((heads + 2.0 * kv_heads) * head_dim, hidden, attention, layers));
            matrices.push((hidden, heads * head_dim, attention, layers));
        }
        let moe_layers = if experts > 0.0 { layers - size(&["first_k_dense_replace"]) } else { 0.0 };
        let mut feed_forward = |width: f64, count: f64| {
            matrices.push((2.0 * width / tensor, hidden, dense, count));
            matrices.push((hidden, width / tensor, dense, count));
        };
        if moe_layers < layers {
            feed_forward(size(&["intermediate_size"]), layers - moe_layers);
        }
        let width = size(&["moe_intermediate_size", "intermediate_size"]);
        if size(&["n_shared_experts"]) > 0.0 {
            feed_forward(size(&["n_shared_experts"]) * width, moe_layers);
        }
        if moe_layers > 0.0 {
            matrices.push((experts, hidden, "bf16", moe_layers));
        }
        let mut weights: f64 = matrices.iter().map(|(n, k, format, count)| n * k * weight_bytes(format) * count).sum();
        weights += 2.0 * vocab * hidden * 2.0 / tensor;
        let experts = (moe_layers > 0.0).then(|| {
            let ranks = if row["ep"] == "1" { 1.0 } else { tensor };
            let slice = if ranks > 1.0 { width } else { width / tensor };
            weights += moe_layers * experts / ranks * 3.0 * hidden * slice * weight_bytes(precision);
            Experts {
                curve: gpu["moe"][precision].clone(),
                experts,
                per_token: size(&["num_experts_per_tok"]),
                slice,
                ranks,
                weight_bytes: weight_bytes(precision),
                layers: moe_layers,
            }
        });
        let links: Vec<(f64, f64)> = gpu["all_reduce"][&row["tp"]].as_array().map_or_else(Vec::new, |links| {
            links.iter().map(|link| (number(link, &["latency_us"]), number(link, &["bytes_per_us"]))).collect()
        });
        let mut reduces = vec![(2.0 * hidden, 2.0 * layers)];
        if config["qk_norm_type"] == "per_layer" {
            reduces.push((8.0, layers));
        }

        let fp8 = row["kv_cache_dtype"] == "fp8";
        let element = if fp8 { 1.0 } else { 2.0 };
        let curve = &gpu["decode_attention"][if fp8 { "kv8" } else { "kv16" }];
        let (floor, reached) = (number(curve, &["t0_us"]), number(curve, &["mem_eff"]) * bandwidth);
        let windowed = config["layer_types"]
            .as_array()
            .map_or(0, |types| types.iter().filter(|name| **name == "sliding_attention").count())
            as f64;
        let full = layers - windowed;
        let (decode, window_token, kv_bytes, width) = if latent > 0.0 {
            let bytes = (latent + rope) * element;
            let flop = 2.0 * heads * (2.0 * latent + rope);
            let token = layers * (bytes / (0.8 * reached) + flop / (0.5 * peak("bf16")));
            ((layers * 1.3 * floor, token), 0.0, bytes * layers, f64::midpoint(nope + rope, value))
        } else {
            let bytes = 2.0 * kv_heads * head_dim * element;
            ((layers * floor, full * bytes / reached), windowed * bytes / reached, bytes * full, head_dim)
        };
        let curve = &gpu["prefill_attention"][if latent > 0.0 { "hd256".to_owned() } else { format!("hd{head_dim}") }];
        let pair = 4.0 * heads * width / (number(curve, &["compute_eff"]) * peak("bf16"));
        let [host, seq, more_host, more_seq, per_layer, per_moe] =
            ["host", "seq", "host_sync", "seq_sync", "mixL", "mixM"].map(|field| number(engine, &[field]));
        let synchronous = if row["async_scheduling"] == "1" { 0.0 } else { 1.0 };
        let quantised = if dense == "bf16" { 0.0 } else { 2.0 };
        Self {
            hidden,
            bandwidth,
            gemms: matrices.iter().map(|(n, k, format, count)| gemm(*n, *k, format, *count)).collect(),
            experts,
            head: gemm(vocab / tensor, hidden, "bf16", 1.0),
            head_rest: match links.last() {
                Some((_, rate)) => (30.0, 12.0 * vocab / tensor / (0.7 * bandwidth) + 2.0 * vocab / rate),
                None => (20.0, 12.0 * vocab / tensor / (0.7 * bandwidth)),
            },
            elementwise: (
                layers * (5.0 + quantised) * number(gpu, &["elementwise_us"]),
                layers * 16.0 * hidden / (0.7 * bandwidth),
            ),
            links,
            reduces,
            decode,
            window: size(&["sliding_window"]),
            window_token,
            prefill_floor: layers * 0.3 * number(curve, &["t0_us"]),
            prefill_pair: (full * pair, windowed * pair),
            half: number(curve, &["s_half"]),
            eager: layers * per_layer + moe_layers * per_moe,
            host: (host + synchronous * more_host, seq + synchronous * more_seq),
            kv_tokens: ((number(gpu, &["usable_gib"]) * 0.9 - 2.5) * 1_073_741_824.0 - weights) / kv_bytes,
        }
    }

    fn tokens(&self, tokens: f64) -> f64 {
        let gemms: f64 = self.gemms.iter().map(|gemm| gemm.time(tokens)).sum();
        let experts = self.experts.as_ref().map_or(0.0, |moe| {
            let [floor, memory, compute, rho, gamma, compute_tile, memory_tile, peak] =
                ["t0_us", "mem_eff", "compute_eff", "rho", "gamma", "i0", "tau", "peak_tflops"]
                    .map(|field| number(&moe.curve, &[field]));
            let missed = (1.0 - moe.per_token / moe.experts).powf(gamma * tokens);
            let covered = (moe.experts * (1.0 - missed)).clamp(moe.per_token, moe.experts) / moe.ranks;
            let per_expert = (tokens * moe.per_token / moe.experts).max(1.0);
            let imbalance = 1.0 + 0.15 * (moe.ranks - 1.0).sqrt() / per_expert.sqrt();
            let work = tokens * moe.per_token / moe.ranks;
            let bytes = covered * 3.0 * self.hidden * moe.slice * moe.weight_bytes
                + 2.0 * work * (2.0 * self.hidden + 3.0 * moe.slice);
            let memory = imbalance * (1.0 + memory_tile / moe.slice) * bytes / (memory * self.bandwidth);
            let flop = 6.0 * self.hidden * moe.slice * work;
            let compute = imbalance * (1.0 + compute_tile / moe.slice) * flop / (compute * peak * 1e6);
            moe.layers * (floor + (memory.powf(rho) + compute.powf(rho)).powf(1.0 / rho))
        });
        let reduce = |(bytes, count): &(f64, f64)| {
            let times = self.links.iter().map(|(latency, rate)| latency + bytes * tokens / rate);
            times.reduce(f64::min).map_or(0.0, |time| count * time)
        };
        let reduces: f64 = self.reduces.iter().map(reduce).sum();
        gemms + experts + reduces + self.elementwise.0 + self.elementwise.1 * tokens
    }

    /// Steps of up to 512 tokens are padded to CUDA graphs; between whole numbers, interpolated.
    fn padded(&self, tokens: f64) -> f64 {
        if tokens > 512.0 {
            return self.tokens(tokens);
        }
        let graph = |tokens: f64| match tokens {
            ..=2.0 => tokens.max(1.0),
            ..=4.0 => 4.0,
            ..=256.0 => (tokens / 8.0).ceil() * 8.0,
            ..=512.0 => (tokens / 16.0).ceil() * 16.0,
            _ => tokens,
        };
        let below = self.tokens(graph(tokens.floor()));
        below + (self.tokens(graph(tokens.floor() + 1.0)) - below) * tokens.fract()
    }

    /// `prompts` prompts' chunks of `chunk` tokens after `before`, beside `running` sequences of a context.
    fn time(&self, running: f64, context: f64, (prompts, chunk, before): (f64, f64, f64), finished: f64) -> f64 {
        let tokens = running + prompts * chunk;
        let sampled = running + finished;
        let mut time = self.padded(tokens) + self.head.time(sampled) + self.head_rest.0 + self.head_rest.1 * sampled;
        time += self.host.0 + self.host.1 * sampled;
        if running > 0.0 {
            time += self.decode.0 + running * (self.decode.1 * context + self.window_token * context.min(self.window));
        }
        if prompts > 0.0 {
            let pairs = chunk * (before + chunk / 2.0);
            let [all, near] =
                [pairs, pairs.min(chunk * self.window)].map(|pairs| pairs * (1.0 + self.half / (chunk + 2.0 * before)));
            time += prompts * (self.prefill_floor + self.prefill_pair.0 * all + self.prefill_pair.1 * near);
            time += if tokens > 512.0 { self.eager } else { 0.0 };
        }
        time
    }
}

/// TPOT and TTFT of a closed loop, us, before the client's part (3.3; names are the reference's).
fn steady(step: &Step, input: f64, output: f64, clients: f64, ahead: bool) -> (f64, f64) {
    const BUDGET: f64 = 8192.0;
    const SEQUENCES: f64 = 1024.0;
    const WAVES: i32 = 10;
    const SPREAD: f64 = 0.22;
    const FRONT_END: f64 = 1500.0;
    let context = input + output / 2.0;
    let most = clients.min(SEQUENCES).min(step.kv_tokens / context);
    let full = (BUDGET / input).max(1.0);
    let phase = if ahead { 1.5 } else { 0.5 };
    let mut running = most;
    let (mut tpot, mut burst, mut wait) = (0.0, 0.0, 0.0);
    for _ in 0..8 {
        let d = step.time(running, context, (0.0, 0.0, 0.0), 0.0);
        let others = (running - 1.0).max(0.0);
        let (mut alone, mut before) = (0.0, 0.0);
        while before < input {
            let chunk = BUDGET.min(input - before);
            let last = f64::from(u8::from(before + chunk >= input));
            alone += step.time(others, context, (1.0, chunk, before), last) - d;
            before += chunk;
        }
        let packed = if input <= BUDGET {
            ((step.time(others, context, (full, input, 0.0), full) - d) / full).min(alone)
        } else {
            alone
        };
        tpot = d + running / output * alone;
        let mut mixed = alone;
        for _ in 0..3 {
            let meeting = (1.2 * running / (output * tpot) * (tpot * phase + d + alone)).min(full - 1.0);
            mixed = (alone + meeting * packed) / (1.0 + meeting);
            tpot = d + running / output * mixed;
        }
        let all = most * packed;
        burst = d + (f64::midpoint(all, all.min(full * packed))).max(FRONT_END * most / 2.0 + alone);
        let after = |wave: i32| {
            let width = (output * tpot).min(SPREAD * f64::from(wave).sqrt() * output * tpot + all);
            let rate = most / width;
            let now = (d + (rate * mixed).min(1.0) * mixed).max(tpot).min(d + full * packed);
            let meeting = (1.2 * rate * (now * phase + d + alone)).min(full - 1.0);
            now * phase + d + alone + meeting * packed + ((all - width) / 2.0).max(0.0)
        };
        wait = (1..WAVES).map(after).sum::<f64>() / f64::from(WAVES - 1);
        let decoding = output * tpot;
        let next = if most >= clients { clients * decoding / (decoding + (wait - d).max(0.0)) } else { most };
        running = f64::midpoint(running, next);
    }
    if most < clients {
        wait = clients / (running / (output * tpot)) - output * tpot;
        burst = f64::midpoint(burst, wait);
    }
    (tpot, (burst + f64::from(WAVES - 1) * wait) / f64::from(WAVES))
}

/// It states TPOT 5.5 % median, 7.1 % mean; TTFT 16.0 %, 19.3 %.
#[test]
fn the_prototype_has_its_published_errors() {
    let Some(folder) = crate::data() else { return };
    let coefficients = read_json(&folder.join("latency/coefficients.json"));
    let mut table = csv::Reader::from_path(folder.join("latency/measured.csv")).unwrap();
    let rows: Vec<Row> = table.deserialize().map(Result::unwrap).collect();
    let (mut tpot, mut ttft) = (Vec::new(), Vec::new());
    for row in rows.iter().filter(|row| row["used_by_prototype"] == "1") {
        let cell = |name: &str| row[name].parse::<f64>().unwrap();
        let step = Step::new(&folder, &coefficients, row);
        let (input, clients) = (cell("isl_mean"), cell("concurrency"));
        let (token, first) = steady(&step, input, cell("osl_mean"), clients, row["async_scheduling"] == "1");
        let first =
            first + number(&coefficients["engine"], &["api"]) + number(&coefficients["engine"], &["tok"]) * input;
        tpot.push((token / 1e3 / cell("tpot_best_ms")).ln());
        ttft.push((first / 1e3 / cell("ttft_mean_ms")).ln());
    }
    for (name, residuals, [median, mean], tolerance) in
        [("TPOT", tpot, [5.5, 7.1], 0.1), ("TTFT", ttft, [16.0, 19.3], 0.6)]
    {
        let errors = RelativeErrors::of(residuals.into_iter()).unwrap();
        println!(
            "prototype, {} rows: {name} median {:.1} %, mean {:.1} %, {:.0} % within 20 %",
            errors.rows, errors.median_percent, errors.mean_percent, errors.within_20_percent
        );
        assert_eq!(errors.rows, 671);
        assert!((errors.median_percent - median).abs() <= tolerance, "{name}");
        assert!((errors.mean_percent - mean).abs() <= tolerance, "{name}");
    }
}
