//! A `vllm serve` command line: read or refused, and what was read prints and reads back.

#![no_main]

use config_explorer::engine::ServeArgs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|command: &str| {
    if let Ok(args) = ServeArgs::parse_shell(command) {
        let _ = ServeArgs::parse(&args.to_command("model"));
    }
});
