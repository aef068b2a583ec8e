//! `EndpointPickerConfig`: the router's configuration, read, checked and completed.
//!
//! In go YAML or JSON, out come the plugins, the profiles with weights, and flow control. The order of the steps and what
//! each adds follow llm-d-router ebab687, `pkg/epp/config/loader`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::document::{Document, PluginSpec};
use super::flow_control::{Band, Detector, Fairness, Occupancy, Ordering, Settings, UsageLimit};
use super::flow_control_config::{BandConfig, FAIRNESS, FlowControlConfig, ORDERING, USAGE_LIMIT};
use super::plugin::{Data, Plugin, Role};
use crate::{Error, Result};

const DETECTOR: &str = "utilization-detector";
const PICKER: &str = "max-score-picker";
const SOURCE: &str = "metrics-data-source";
const EXTRACTOR: &str = "core-metrics-extractor";
const PARSERS: [&str; 4] = ["openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser"];

/// What the router runs without a configuration.
const DEFAULT: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: metrics-data-source
- type: core-metrics-extractor
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
dataLayer:
  sources:
  - pluginRef: metrics-data-source
    extractors:
    - pluginRef: core-metrics-extractor
";

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Refuses plugins that are not simulated, and feature gates that are not known.
    pub strict: bool,
    /// Types from outside of the router and what they can be used as; they take part in checks but do nothing.
    pub foreign: BTreeMap<String, Role>,
    /// Feature gates, and whether each is on by default.
    pub feature_gates: BTreeMap<String, bool>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let feature_gates = BTreeMap::from([(FLOW_CONTROL_GATE.to_owned(), false)]);
        Self { strict: false, foreign: BTreeMap::new(), feature_gates }
    }
}

/// The feature gate that turns flow control on.
const FLOW_CONTROL_GATE: &str = "flowControl";

/// A step of loading, which an error names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Decode,
    FeatureGates,
    ValidatePlugins,
    Instantiate,
    Defaults,
    ValidateConfig,
    BuildScheduler,
    DataLayer,
    FlowControl,
    Parsers,
    SaturationDetector,
    DataProducers,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Decode => "decode",
            Self::FeatureGates => "feature_gates",
            Self::ValidatePlugins => "validate_plugins",
            Self::Instantiate => "instantiate",
            Self::Defaults => "defaults",
            Self::ValidateConfig => "validate_config",
            Self::BuildScheduler => "build_scheduler",
            Self::DataLayer => "data_layer",
            Self::FlowControl => "flow_control",
            Self::Parsers => "parsers",
            Self::SaturationDetector => "saturation_detector",
            Self::DataProducers => "data_producers",
        })
    }
}

type Failure = (Phase, String);

/// A profile: plugins by name, in order; scorers with their weight.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileConfig {
    /// Its name.
    pub name: String,
    /// Plugins, with weights where they have one.
    pub plugins: Vec<(String, Option<f64>)>,
}

/// A configuration that was loaded.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// Names of the plugins the file declares, in order.
    pub declared: Vec<String>,
    /// Names of those added by default.
    pub injected: Vec<String>,
    /// Types of producers that were added because their data are needed.
    pub auto_created: Vec<String>,
    /// All plugins, by name.
    pub plugins: BTreeMap<String, Plugin>,
    /// The profiles.
    pub profiles: Vec<ProfileConfig>,
    /// Plugin that chooses profiles.
    pub profile_handler: String,
    /// Plugin that measures saturation.
    pub saturation_detector: String,
    /// Parsers, by plugin name.
    pub parsers: Vec<String>,
    /// Sources of metrics, by plugin name.
    pub data_sources: Vec<String>,
    /// Flow control, if it is on.
    pub flow_control: Option<FlowControlConfig>,
    /// Feature gates, on or off.
    pub feature_gates: BTreeMap<String, bool>,
    /// What the simulation leaves out, and settings without effect.
    pub warnings: Vec<String>,
    /// Fields that have a newer form.
    pub deprecations: Vec<String>,
}

impl RouterConfig {
    /// Loads a configuration from YAML or JSON; an empty text is the router's default. `place` is named in errors, with the
    /// step that failed.
    ///
    /// Errors: the text is no such document, a reference leads nowhere, a parameter is wrong; if strict, also a plugin that
    /// is not simulated.
    pub fn load(text: &str, options: &LoadOptions, place: &str) -> Result<Self> {
        let read = || {
            let text = if text.trim().is_empty() { DEFAULT } else { text };
            let document = crate::yaml::from_slice(text.as_bytes()).map_err(|reason| (Phase::Decode, reason))?;
            Loader::new(document, options)?.load()
        };
        read().map_err(|(phase, reason)| Error::Malformed { place: format!("{place}: {phase}"), reason })
    }

    /// Names of a profile's plugins in a role.
    pub fn in_role(&self, profile: &ProfileConfig, role: Role) -> Vec<String> {
        let is = |name: &&String| self.plugins.get(*name).is_some_and(|plugin| plugin.is(role));
        profile.plugins.iter().map(|(name, _)| name).filter(is).cloned().collect()
    }

    /// The detector of saturation.
    pub fn detector(&self) -> Option<&Detector> {
        self.plugins.get(&self.saturation_detector)?.detector.as_ref()
    }

    /// Flow control ready to run, if it is on.
    pub fn flow_control_settings(&self) -> Option<Settings> {
        let config = self.flow_control.as_ref()?;
        let band = |band: &BandConfig| Band {
            max_bytes: band.max_bytes,
            max_requests: band.max_requests,
            ordering: self.plugins.get(&band.ordering).and_then(|plugin| plugin.ordering).unwrap_or(Ordering::Fcfs),
            fairness: (self.plugins.get(&band.fairness).and_then(|plugin| plugin.fairness.clone()))
                .unwrap_or(Fairness::GlobalStrict),
        };
        let limit = self.plugins.get(&config.usage_limit).and_then(|plugin| plugin.usage_limit.clone());
        let (max_bytes, max_requests) = (config.max_bytes, config.max_requests);
        Some(Settings {
            total: Occupancy { max_bytes, max_requests, ..Occupancy::default() },
            bands: config.bands.iter().map(|(&priority, config)| (priority, band(config))).collect(),
            default_band: band(&config.default_band),
            default_negative_band: config.default_negative_band.as_ref().map(band),
            wait: config.wait,
            usage_limit: limit.unwrap_or(UsageLimit::Static { ceiling: 1.0 }),
        })
    }
}

struct Loader<'a> {
    document: Document,
    options: &'a LoadOptions,
    plugins: BTreeMap<String, Plugin>,
    order: Vec<String>,
    skipped: BTreeSet<String>,
    injected: Vec<String>,
    auto_created: Vec<String>,
    warnings: Vec<String>,
    deprecations: Vec<String>,
}

impl<'a> Loader<'a> {
    fn new(mut document: Document, options: &'a LoadOptions) -> Result<Self, Failure> {
        let decode = |reason: String| (Phase::Decode, reason);
        let mut deprecations = Vec::new();
        match document.api_version.as_str() {
            "llm-d.ai/v1alpha1" => {}
            "inference.networking.x-k8s.io/v1alpha1" => {
                deprecations
                    .push("apiVersion inference.networking.x-k8s.io/v1alpha1: use llm-d.ai/v1alpha1".to_owned());
            }
            other => return Err(decode(format!("apiVersion `{other}`: expected llm-d.ai/v1alpha1"))),
        }
        if document.kind != "EndpointPickerConfig" {
            return Err(decode(format!("kind `{}`: expected EndpointPickerConfig", document.kind)));
        }
        if let Some(detector) = document.saturation_detector.take() {
            deprecations.push("saturationDetector: use flowControl.saturationDetector".to_owned());
            let section = document.flow_control.get_or_insert_default();
            section.saturation_detector.get_or_insert(detector);
        }
        if let Some(parser) = document.parser.take() {
            deprecations.push("parser: use requestHandler.parsers".to_owned());
            let section = document.request_handler.get_or_insert_default();
            if section.parsers.is_empty() {
                section.parsers.push(parser);
            }
        }
        Ok(Self {
            document,
            options,
            plugins: BTreeMap::new(),
            order: Vec::new(),
            skipped: BTreeSet::new(),
            injected: Vec::new(),
            auto_created: Vec::new(),
            warnings: Vec::new(),
            deprecations,
        })
    }

    fn load(mut self) -> Result<RouterConfig, Failure> {
        let feature_gates = self.feature_gates()?;
        self.instantiate()?;
        let declared = self.order.clone();
        let mut profiles = self.profiles()?;
        for name in [ORDERING, FAIRNESS, USAGE_LIMIT] {
            self.inject(name)?;
        }
        let parsers = self.parsers()?;
        let saturation_detector = self.detector_name()?;
        let data_sources = self.data_sources()?;
        self.validate(&profiles, &saturation_detector)?;
        let profile_handler = self.build(&mut profiles)?;
        self.data_layer()?;
        let flow_control = self.flow_control(&feature_gates)?;
        for name in &parsers {
            self.expect(name, Role::Parser, "a parser plugin", Phase::Parsers)?;
        }
        self.expect(
            &saturation_detector,
            Role::SaturationDetector,
            "a saturation detector",
            Phase::SaturationDetector,
        )?;
        self.data_producers()?;
        Ok(RouterConfig {
            declared,
            injected: self.injected,
            auto_created: self.auto_created,
            plugins: self.plugins,
            profiles,
            profile_handler,
            saturation_detector,
            parsers,
            data_sources,
            flow_control,
            feature_gates,
            warnings: self.warnings,
            deprecations: self.deprecations,
        })
    }

    fn feature_gates(&mut self) -> Result<BTreeMap<String, bool>, Failure> {
        let mut gates = self.options.feature_gates.clone();
        for gate in &self.document.feature_gates {
            let (name, value) = gate.split_once('=').unwrap_or((gate, "true"));
            let on = match value.trim().to_lowercase().as_str() {
                "true" | "t" | "1" => true,
                "false" | "f" | "0" => false,
                other => {
                    return Err((
                        Phase::FeatureGates,
                        format!("feature gate `{name}`: `{other}` is not true or false"),
                    ));
                }
            };
            if !self.options.feature_gates.contains_key(name) {
                let reason = format!("feature gate `{name}` is unknown or unregistered");
                if self.options.strict {
                    return Err((Phase::FeatureGates, reason));
                }
                self.warnings.push(reason);
            }
            gates.insert(name.to_owned(), on);
        }
        Ok(gates)
    }

    fn instantiate(&mut self) -> Result<(), Failure> {
        let specs = std::mem::take(&mut self.document.plugins);
        let mut names = BTreeSet::new();
        for spec in &specs {
            if spec.r#type.is_empty() {
                return Err((Phase::ValidatePlugins, "a plugin has no `type`".to_owned()));
            }
            let name = spec.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&spec.r#type);
            if !names.insert(name) {
                return Err((
                    Phase::ValidatePlugins,
                    format!("two plugins are named `{name}`: give one another `name`"),
                ));
            }
        }
        // Whoever refers to others comes last.
        let refers = |spec: &&PluginSpec| !Plugin::deciders(&spec.r#type, spec.parameters.as_ref()).is_empty();
        let (later, first): (Vec<_>, Vec<_>) = specs.iter().partition(refers);
        for spec in first.into_iter().chain(later) {
            let name = spec.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&spec.r#type);
            if let Some(plugin) = self.create(&spec.r#type, name, spec.parameters.as_ref())? {
                self.plugins.insert(name.to_owned(), plugin);
            } else {
                let reason = format!("plugin type '{}' is not registered", spec.r#type);
                if self.options.strict {
                    return Err((Phase::ValidatePlugins, reason));
                }
                self.warnings.push(format!("plugin `{name}` of type `{}` is not simulated: skipped", spec.r#type));
                self.skipped.insert(name.to_owned());
            }
        }
        let known = |name: &&str| self.plugins.contains_key(*name);
        let called = |spec: &PluginSpec| {
            spec.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| spec.r#type.clone())
        };
        self.order = specs.iter().map(called).filter(|name| known(&name.as_str())).collect();
        Ok(())
    }

    fn create(&self, kind: &str, name: &str, parameters: Option<&Value>) -> Result<Option<Plugin>, Failure> {
        if let Some(&role) = self.options.foreign.get(kind) {
            let (name, kind) = (name.to_owned(), kind.to_owned());
            return Ok(Some(Plugin { name, kind, roles: vec![role], ..Plugin::default() }));
        }
        let decider = |name: &str| {
            let plugin = self.plugins.get(name).ok_or_else(|| format!("plugin not found: {name}"))?;
            plugin.decider.ok_or_else(|| format!("plugin {name} does not implement prefillDeciderPlugin"))
        };
        let number = self.plugins.len() as u64;
        let plugin = Plugin::new(kind, name, parameters, number, &decider);
        plugin.map_err(|reason| (Phase::Instantiate, format!("plugin `{name}` of type `{kind}`: {reason}")))
    }

    /// Adds a plugin with default parameters, named as its type, unless there is one of this name.
    fn inject(&mut self, kind: &str) -> Result<(), Failure> {
        if self.plugins.contains_key(kind) {
            return Ok(());
        }
        let plugin = self.create(kind, kind, None)?;
        let plugin = plugin.ok_or_else(|| (Phase::Defaults, format!("plugin type '{kind}' not found in registry")))?;
        self.plugins.insert(kind.to_owned(), plugin);
        self.injected.push(kind.to_owned());
        Ok(())
    }

    fn first(&self, role: Role) -> Option<&String> {
        self.order.iter().find(|name| self.is(name, role))
    }

    fn is(&self, name: &str, role: Role) -> bool {
        self.plugins.get(name).is_some_and(|plugin| plugin.is(role))
    }

    fn expect(&self, name: &str, role: Role, what: &str, phase: Phase) -> Result<(), Failure> {
        if !self.plugins.contains_key(name) {
            return Err((phase, format!("plugin \"{name}\" not found")));
        }
        if !self.is(name, role) {
            return Err((phase, format!("plugin '{name}' is not {what}")));
        }
        Ok(())
    }

    /// Profiles with a picker each and a weight for each scorer.
    fn profiles(&mut self) -> Result<Vec<ProfileConfig>, Failure> {
        let mut profiles: Vec<ProfileConfig> = Vec::new();
        for spec in std::mem::take(&mut self.document.scheduling_profiles) {
            let plugins = spec.plugins.into_iter().map(|reference| (reference.plugin_ref, reference.weight)).collect();
            profiles.push(ProfileConfig { name: spec.name, plugins });
        }
        if profiles.is_empty() {
            // All that can be in a profile is in one. The router goes through them in random order; here as declared.
            let fits =
                |name: &&String| [Role::Filter, Role::Scorer, Role::Picker].iter().any(|&role| self.is(name, role));
            let plugins = self.order.iter().filter(fits).map(|name| (name.clone(), None)).collect();
            profiles.push(ProfileConfig { name: "default".to_owned(), plugins });
        }
        if profiles.len() == 1 && self.first(Role::ProfileHandler).is_none() {
            self.inject("single-profile-handler")?;
        }
        let picker = match self.first(Role::Picker) {
            Some(name) => name.clone(),
            None => {
                self.inject(PICKER)?;
                PICKER.to_owned()
            }
        };
        for profile in &mut profiles {
            profile.plugins.retain(|(name, _)| !self.skipped.contains(name));
            for (name, weight) in &mut profile.plugins {
                if self.is(name, Role::Scorer) {
                    weight.get_or_insert(1.0);
                }
            }
            if !profile.plugins.iter().any(|(name, _)| self.is(name, Role::Picker)) {
                profile.plugins.push((picker.clone(), None));
            }
        }
        Ok(profiles)
    }

    fn parsers(&mut self) -> Result<Vec<String>, Failure> {
        let section = self.document.request_handler.take().unwrap_or_default();
        let mut names: Vec<_> = section.parsers.into_iter().map(|reference| reference.plugin_ref).collect();
        if names.is_empty() {
            names = PARSERS.map(str::to_owned).to_vec();
        }
        names.retain(|name| !self.skipped.contains(name));
        for name in &names {
            self.inject(name)?;
        }
        Ok(names)
    }

    fn detector_name(&mut self) -> Result<String, Failure> {
        let section = self.document.flow_control.as_ref().and_then(|section| section.saturation_detector.as_ref());
        let name = section.map_or("", |reference| reference.plugin_ref.as_str());
        let name = if name.is_empty() || self.skipped.contains(name) { DETECTOR } else { name }.to_owned();
        if name == DETECTOR {
            self.inject(DETECTOR)?;
        }
        Ok(name)
    }

    fn data_sources(&mut self) -> Result<Vec<String>, Failure> {
        let layer = self.document.data_layer.clone().unwrap_or_default();
        let mut names: Vec<_> = layer.sources.iter().map(|source| source.plugin_ref.clone()).collect();
        let has = names.iter().any(|name| self.plugins.get(name).is_some_and(|plugin| plugin.kind == SOURCE));
        if layer.inject_defaults != Some(false) && !has {
            self.inject(SOURCE)?;
            self.inject(EXTRACTOR)?;
            names.push(SOURCE.to_owned());
        }
        Ok(names)
    }

    fn validate(&self, profiles: &[ProfileConfig], detector: &str) -> Result<(), Failure> {
        let wrong = |reason: String| Err((Phase::ValidateConfig, reason));
        let mut seen = BTreeSet::new();
        for (at, profile) in profiles.iter().enumerate() {
            let name = &profile.name;
            if name.is_empty() {
                return wrong(format!("schedulingProfiles[{at}] is missing a name"));
            }
            if !seen.insert(name) {
                return wrong(format!("schedulingProfiles[{at}] has duplicate name '{name}'"));
            }
            for (at, (plugin, weight)) in profile.plugins.iter().enumerate() {
                if plugin.is_empty() {
                    return wrong(format!("schedulingProfiles[{name}].plugins[{at}] is missing a 'pluginRef'"));
                }
                if !self.plugins.contains_key(plugin) {
                    return wrong(format!("schedulingProfiles[{name}] references undefined plugin '{plugin}'"));
                }
                if weight.is_some_and(|weight| !weight.is_finite()) {
                    return wrong(format!(
                        "schedulingProfiles[{name}].plugins[{at}]: `weight` must be a finite number"
                    ));
                }
            }
        }
        if !self.plugins.contains_key(detector) {
            return wrong(format!("saturation detector references undefined plugin '{detector}'"));
        }
        Ok(())
    }

    fn build(&self, profiles: &mut [ProfileConfig]) -> Result<String, Failure> {
        let wrong = |reason: String| (Phase::BuildScheduler, reason);
        for profile in profiles.iter() {
            let pickers = profile.plugins.iter().filter(|(name, _)| self.is(name, Role::Picker));
            if let [first, second, ..] = *pickers.map(|(name, _)| name).collect::<Vec<_>>() {
                let reason = format!(
                    "profile `{}`: cannot add `{second}`, already have a registered picker `{first}`",
                    profile.name
                );
                return Err(wrong(reason));
            }
        }
        let handlers: Vec<_> = self.plugins.values().filter(|plugin| plugin.is(Role::ProfileHandler)).collect();
        let handler = match *handlers {
            [] => return Err(wrong("no profile handler configured: several profiles need one".to_owned())),
            [handler] => handler,
            [first, second, ..] => {
                let (first, second) = (&first.name, &second.name);
                return Err(wrong(format!(
                    "multiple profile handlers found ('{first}', '{second}'); only one is allowed"
                )));
            }
        };
        if handler.kind == "single-profile-handler" && profiles.len() > 1 {
            return Err(wrong("SingleProfileHandler cannot support multiple scheduling profiles".to_owned()));
        }
        Ok(handler.name.clone())
    }

    fn data_layer(&mut self) -> Result<(), Failure> {
        let Some(layer) = self.document.data_layer.take() else { return Ok(()) };
        let references = layer.sources.iter().flat_map(|source| {
            [&source.plugin_ref].into_iter().chain(source.extractors.iter().map(|extractor| &extractor.plugin_ref))
        });
        let references = references.chain(layer.discovery.as_ref().map(|reference| &reference.plugin_ref));
        for name in references {
            if !self.plugins.contains_key(name) && !self.skipped.contains(name) {
                return Err((Phase::DataLayer, format!("dataLayer references undefined plugin '{name}'")));
            }
        }
        Ok(())
    }

    fn flow_control(&mut self, gates: &BTreeMap<String, bool>) -> Result<Option<FlowControlConfig>, Failure> {
        let spec = self.document.flow_control.take();
        if gates.get(FLOW_CONTROL_GATE) != Some(&true) {
            let asked =
                self.document.feature_gates.iter().any(|gate| gate.split('=').next() == Some(FLOW_CONTROL_GATE));
            let settings = spec.is_some_and(|spec| {
                spec.max_bytes.is_some()
                    || spec.max_requests.is_some()
                    || spec.default_request_ttl.is_some()
                    || spec.no_endpoint_request_ttl.is_some()
                    || spec.usage_limit_policy_plugin_ref.is_some()
                    || !spec.priority_bands.is_empty()
                    || spec.default_priority_band.is_some()
                    || spec.default_negative_priority_band.is_some()
            });
            if settings && !asked {
                self.warnings.push("flowControl settings ignored: the feature gate flowControl is off".to_owned());
            }
            return Ok(None);
        }
        if spec.as_ref().is_some_and(|spec| spec.enable_eviction == Some(true)) {
            self.warnings.push("flowControl.enableEviction is not simulated: ignored".to_owned());
        }
        let mut config = FlowControlConfig::resolve(spec.as_ref()).map_err(|reason| (Phase::FlowControl, reason))?;
        let bands =
            config.bands.values_mut().chain([&mut config.default_band]).chain(&mut config.default_negative_band);
        for band in bands {
            for (name, role, default) in
                [(&mut band.ordering, Role::Ordering, ORDERING), (&mut band.fairness, Role::Fairness, FAIRNESS)]
            {
                if self.skipped.contains(name) {
                    default.clone_into(name);
                }
                self.expect(name, role, "a policy of this kind", Phase::FlowControl)?;
            }
        }
        if self.skipped.contains(&config.usage_limit) {
            USAGE_LIMIT.clone_into(&mut config.usage_limit);
        }
        self.expect(&config.usage_limit, Role::UsageLimit, "a usage limit policy", Phase::FlowControl)?;
        Ok(Some(config))
    }

    /// Adds the default producers of all data that are needed and not made, then those of what these need.
    fn data_producers(&mut self) -> Result<(), Failure> {
        loop {
            let made: BTreeSet<_> = self.plugins.values().flat_map(|plugin| plugin.makes.iter().cloned()).collect();
            let needs = self.plugins.values().flat_map(|plugin| plugin.needs.iter().map(|need| (need, &plugin.name)));
            let missing: Vec<(Data, String)> = needs
                .filter(|(need, _)| !made.contains(need))
                .map(|(need, reader)| (need.clone(), reader.clone()))
                .collect();
            let mut kinds = BTreeSet::new();
            for (need, reader) in missing {
                if let Data::Prefix(name) = &need
                    && self.skipped.contains(name)
                {
                    let warning = format!(
                        "plugin `{reader}` reads what `{name}` makes, which is not simulated: it sees no cached prefix"
                    );
                    if !self.warnings.contains(&warning) {
                        self.warnings.push(warning);
                    }
                    continue;
                }
                // Even if a producer that is about to be added makes them, as in the router.
                let kind = need.default_producer().filter(|&kind| !self.plugins.contains_key(kind));
                let kind = kind.ok_or_else(|| {
                    let reason = format!(
                        "no default producer found for missing data key {need:?}, which is consumed by: {reader}; declare \
                         a plugin that makes it"
                    );
                    (Phase::DataProducers, reason)
                })?;
                kinds.insert(kind);
            }
            if kinds.is_empty() {
                return Ok(());
            }
            for kind in kinds {
                let plugin = self.create(kind, kind, None)?;
                let plugin = plugin.ok_or_else(|| (Phase::DataProducers, format!("no plugin type `{kind}`")))?;
                self.plugins.insert(kind.to_owned(), plugin);
                self.auto_created.push(kind.to_owned());
            }
        }
    }
}
