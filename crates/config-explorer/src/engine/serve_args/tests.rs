use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::DType;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn parse(text: &str) -> ServeArgs {
    ServeArgs::parse_shell(text).unwrap()
}

fn error(text: &str) -> String {
    ServeArgs::parse_shell(text).unwrap_err().to_string()
}

#[test]
fn the_table_is_consistent() {
    let mut spellings = BTreeSet::new();
    for flag in FLAGS {
        assert!(spellings.insert(format!("--{}", flag.name())), "--{} stands twice", flag.name());
        for alias in flag.aliases {
            assert!(is_flag(alias) && spellings.insert((*alias).to_owned()), "{alias} stands twice");
        }
        assert!(flag.help().ends_with('.') && !flag.help().contains('\n'), "help of --{}: one sentence", flag.name());
    }
}

#[test]
fn reads_a_command_of_the_guides() {
    let args = parse(
        r#"
        # llm-d's wide expert parallelism, shortened
        find /dev/shm -type f -delete
        exec vllm serve \
          deepseek-ai/DeepSeek-R1-0528 \
          --port 8200 \
          --disable-access-log-for-endpoints=/health,/metrics \
          --data-parallel-multi-port-external-lb \
          --enable-expert-parallel \
          --tensor-parallel-size 1 \
          --max-num-batched-tokens 256 \
          --data-parallel-size 16 \
          --kv_transfer_config '{"kv_connector":"NixlConnector",
                                  "kv_role":"kv_both"}' \
          --no-disable-hybrid-kv-cache-manager \
          --max-num-seq=1024
          # To enable tracing, add:
          # --collect-detailed-traces all
        "#,
    );
    assert_eq!(args.model.as_deref(), Some("deepseek-ai/DeepSeek-R1-0528"));
    assert_eq!(args.port, Some(8200));
    assert_eq!(args.enable_expert_parallel, Some(true));
    assert_eq!(args.disable_hybrid_kv_cache_manager, Some(false));
    assert_eq!(args.tensor_parallel_size.map(u32::from), Some(1));
    assert_eq!(args.data_parallel_size.map(u32::from), Some(16));
    assert_eq!(args.max_num_seqs.map(u32::from), Some(1024));
    assert_eq!(args.kv_transfer_config.unwrap()["kv_role"], "kv_both");
    assert!(args.unknown.is_empty(), "{:?}", args.unknown);
}

#[test]
fn every_launcher_is_found() {
    for text in [
        "vllm serve M --tp 2",
        "VLLM_USE_V1=1 /opt/venv/bin/vllm serve M -tp 2",
        "python3 -m vllm.entrypoints.openai.api_server --model M -tp=2",
        "python -m vllm.entrypoints.openai.api_server --tensor_parallel_size=2 --model=M",
        "serve M --tensor-parallel-size 2",
        "M -tp 2",
        "cd /models; vllm serve M --tensor-parallel 2 > log 2>&1 &",
    ] {
        let args = parse(text);
        assert_eq!(args.model.as_deref(), Some("M"), "{text}");
        assert_eq!(args.tensor_parallel_size.map(u32::from), Some(2), "{text}");
    }
    assert!(error("echo a\necho b").contains("no `vllm serve`"));
}

#[test]
fn values_are_typed() {
    let args = parse(
        "vllm serve M --max-model-len 25.6k --dtype half --kv-cache-dtype fp8_ds_mla --gpu-memory-utilization 0.85 \
         --kv-cache-memory-bytes 20G -O3 --served-model-name a b --limit-mm-per-prompt image=2,video=0 \
         --mamba-ssm-cache-dtype float32",
    );
    assert_eq!(args.max_model_len.map(|length| format!("{length:?}")).as_deref(), Some("Tokens(25600)"));
    assert_eq!(args.dtype, Some(DTypeChoice::Is(DType::F16)));
    assert_eq!(args.kv_cache_dtype, Some(KvCacheDType::Fp8DsMla));
    assert_eq!(args.gpu_memory_utilization, Fraction::new(0.85));
    assert_eq!(args.kv_cache_memory_bytes.map(u64::from), Some(20 << 30));
    assert_eq!(args.optimization_level, Some(3));
    assert_eq!(args.served_model_name, Some(words("a b")));
    assert_eq!(Value::Object(args.limit_mm_per_prompt.unwrap().0), json!({"image": 2, "video": 0}));
    assert_eq!(args.mamba_ssm_cache_dtype, Some(DTypeChoice::Is(DType::F32)));
    for text in ["M --max-model-len -1", "M --max-model-len=-1", "M --max-model-len AUTO"] {
        assert_eq!(parse(text).max_model_len, Some(MaxModelLen::Auto), "{text}");
    }
}

#[test]
fn json_is_read_whole_and_by_dots() {
    let whole = parse(r#"M --speculative-config '{"method": "mtp", "num_speculative_tokens": 3}'"#);
    let dotted = parse("M --speculative_config.method mtp -sc.num_speculative_tokens=3");
    assert_eq!(whole, dotted);

    let args = parse("M --compilation-config.pass_config.fuse true -cc.sizes+ 1,2 -cc.sizes+=4 -cc.limit 2k");
    let expected = json!({"pass_config": {"fuse": true}, "sizes": ["1", "2", "4"], "limit": 2000});
    assert_eq!(args.compilation_config.map(Value::Object), Some(expected));

    let replaced = parse(r#"M --speculative-config '{"method": "mtp"}' --speculative-config.model X"#);
    assert_eq!(replaced.speculative_config.map(Value::Object), Some(json!({"model": "X"})));
}

#[test]
fn the_last_of_two_equal_flags_counts() {
    let args = parse("M --enable-prefix-caching --no-enable-prefix-caching --max-num-seqs 1 --max-num-seqs 2");
    assert_eq!(args.enable_prefix_caching, Some(false));
    assert_eq!(args.max_num_seqs.map(u32::from), Some(2));
    assert_eq!(parse("M --enable-chunked-prefill False --enforce-eager").enable_chunked_prefill, Some(false));
}

#[test]
fn unknown_flags_are_kept() {
    let args = parse("vllm serve M --new-flag 1 2 --tp 2 --other=x=y -Z");
    assert_eq!(args.unknown, [words("--new-flag 1 2"), words("--other=x=y"), words("-Z")]);
    let command = args.to_command("M");
    assert_eq!(command, words("vllm serve M --tensor-parallel-size 2 --new-flag 1 2 --other=x=y -Z"));
}

#[test]
fn secrets_are_not_kept() {
    let args = parse("vllm serve M --api-key s3cret --hf_token=s3cret");
    assert!(!format!("{args:?} {:?}", args.to_command("M")).contains("s3cret"));
}

#[test]
fn errors_name_the_flag_and_what_is_right() {
    for (text, parts) in [
        ("M --max-model-len 8kb", ["`--max-model-len`", "8K (8192)"]),
        ("M --tensor-parallel-size 0", ["`--tensor-parallel-size`", "from 1"]),
        ("M --tensor-parallel-size $TP", ["`--tensor-parallel-size`", "`$TP`"]),
        ("M --gpu-memory-utilization 90", ["`--gpu-memory-utilization`", "at most 1"]),
        ("M --kv-cache-dtype fp9", ["`--kv-cache-dtype`", "fp8_e4m3"]),
        ("M --port", ["`--port`", "needs a value"]),
        ("M --served-model-name --tp 2", ["`--served-model-name`", "needs a value"]),
        ("M --speculative-config mtp", ["`--speculative-config`", "not JSON"]),
        ("M --speculative-config 3", ["`--speculative-config`", "not an object"]),
        ("M --speculative-config..a 3", ["`--speculative-config..a`", "path"]),
        ("M --model N", ["`N`", "already `M`"]),
        ("M --enforce-eager N", ["`N`", "already `M`"]),
        ("M --model", ["`--model`", "needs a value"]),
    ] {
        let message = error(text);
        assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
    }
    let deep = format!("M --hf-overrides{} 1", ".a".repeat(100_000));
    assert!(error(&deep).contains("up to 32 keys"));
}

/// Words that one flag may take.
fn values(kind: FlagKind) -> BoxedStrategy<Vec<String>> {
    let one = |strategy: BoxedStrategy<String>| strategy.prop_map(|word| vec![word]).boxed();
    let text = || ".{0,12}".prop_filter("a list does not hold what looks like a flag", |word| !is_flag(word)).boxed();
    match kind {
        FlagKind::Switch => one(prop_oneof![Just("true".to_owned()), Just("false".to_owned())].boxed()),
        FlagKind::Integer => one((1..=u16::MAX).prop_map(|number| number.to_string()).boxed()),
        FlagKind::Size => one((1..=u64::MAX).prop_map(|number| number.to_string()).boxed()),
        FlagKind::Length => one(prop_oneof![Just("auto"), Just("-1"), Just("32k"), Just("8K")].prop_map_into().boxed()),
        FlagKind::Number => one((0.0..1e9).prop_map(|number: f64| number.to_string()).boxed()),
        FlagKind::Fraction => one((0.001..=1.0).prop_map(|number: f64| number.to_string()).boxed()),
        FlagKind::Text => one(".{0,12}".boxed()),
        FlagKind::Choice(choices) => one(prop::sample::select(choices).prop_map_into().boxed()),
        FlagKind::Json | FlagKind::Limits => {
            one((".{0,8}", any::<i64>()).prop_map(|(key, number)| json!({ key: number }).to_string()).boxed())
        }
        FlagKind::TextList => prop::collection::vec(text(), 1..4).boxed(),
        FlagKind::IntegerList => prop::collection::vec(any::<u32>().prop_map(|n| n.to_string()), 1..4).boxed(),
    }
}

fn serve_args() -> impl Strategy<Value = ServeArgs> {
    let flag = (0..FLAGS.len()).prop_flat_map(|index| (Just(&FLAGS[index]), values(FLAGS[index].kind)));
    let flags = prop::collection::vec(flag, 0..20);
    let unknown = prop::collection::vec(("--x-[a-z]{3,8}", prop::collection::vec("[a-z0-9 ]{1,5}", 0..3)), 0..3);
    (flags, unknown).prop_map(|(flags, unknown)| {
        let mut args = ServeArgs::default();
        for (flag, words) in flags {
            flag.set(&mut args, &words).unwrap();
        }
        args.unknown =
            unknown.into_iter().map(|(name, values)| std::iter::once(name).chain(values).collect()).collect();
        args
    })
}

proptest! {
    #[test]
    fn a_printed_command_reads_back(args in serve_args()) {
        let command = args.to_command("org/model");
        let expected = ServeArgs { model: Some("org/model".to_owned()), ..args };
        prop_assert_eq!(&ServeArgs::parse(&command).unwrap(), &expected);
        prop_assert_eq!(&ServeArgs::parse_shell(&join_command(&command)).unwrap(), &expected);
    }

    #[test]
    fn no_words_make_it_panic(words in prop::collection::vec("(--?[a-zA-Z_.+-]{0,12}=?)?.{0,8}", 0..8)) {
        let _ = ServeArgs::parse(&words);
        let _ = ServeArgs::parse_shell(&words.join(" "));
    }
}
