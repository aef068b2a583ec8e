//! `EndpointPickerConfig`: loaded or refused, and a router of what was loaded places a request or refuses it.

#![no_main]

use config_explorer::simulation::router::{Endpoint, LoadOptions, Request, Router, RouterConfig};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = RouterConfig::load(text, &LoadOptions::default(), "fuzz") {
        config.flow_control_settings();
        if let Ok(mut router) = Router::new(&config, vec![Endpoint::default(); 3], 0) {
            let _ = router.schedule(&Request { token_count: 100, ..Request::EMPTY }, 0.0);
        }
    }
});
