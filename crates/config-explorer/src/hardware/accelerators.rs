//! The table of accelerators and the look-up by name.

use std::path::Path;
use std::sync::LazyLock;

use serde::Deserialize;
use toml::{Spanned, Table, Value};

use super::{Accelerator, at_line, parse_toml, read_file};
use crate::{Error, Result};

/// All accelerators that are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Accelerators(Vec<Accelerator>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<Row> {
    accelerator: Vec<Row>,
}

static BUILT_IN: LazyLock<Accelerators> = LazyLock::new(|| {
    let file: File<Accelerator> = parse_toml(include_str!("../../data/accelerators.toml"), "data/accelerators.toml")
        .expect("the built-in table is valid (its tests read it)");
    Accelerators(file.accelerator)
});

impl Accelerators {
    /// The built-in table.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// This table with the rows of a file added or laid over it; see [`Self::merge_toml`].
    pub fn with_file(&self, path: &Path) -> Result<Self> {
        let mut merged = self.clone();
        merged.merge_toml(&read_file(path)?, &path.display().to_string())?;
        Ok(merged)
    }

    /// Adds rows, or changes those that go by a row's `name`. `place` names the text in errors.
    ///
    /// The form is that of `data/accelerators.toml`. A row that changes a known accelerator may hold just the fields that
    /// differ; its aliases come on top of the known ones, and a memory it states counts as verified unless it says
    /// otherwise.
    ///
    /// # Errors
    /// [`Error::Malformed`] for text that is no such table, a new accelerator that lacks a field, a figure out of range,
    /// or a name that already belongs to another accelerator.
    pub fn merge_toml(&mut self, text: &str, place: &str) -> Result<()> {
        let file: File<Spanned<Table>> = parse_toml(text, place)?;
        for row in file.accelerator {
            let line = at_line(text, place, row.span().start);
            self.merge_row(row.into_inner(), place).map_err(|reason| Error::Malformed { place: line, reason })?;
        }
        Ok(())
    }

    fn merge_row(&mut self, mut row: Table, place: &str) -> Result<(), String> {
        let Some(Value::String(name)) = row.get("name") else {
            return Err("every accelerator needs a `name`".to_owned());
        };
        let known = self.position(name);
        let label = name.clone();
        if let Some(index) = known {
            let before = &self.0[index];
            row.insert("name".to_owned(), before.name.clone().into());
            if row.contains_key("memory_gib") && !row.contains_key("memory_verified") {
                row.insert("memory_verified".to_owned(), true.into());
            }
            if !row.contains_key("source") {
                row.insert("source".to_owned(), format!("{}; changed by {place}", before.source).into());
            }
            if let Some(Value::Array(aliases)) = row.get_mut("aliases") {
                aliases.extend(before.aliases.iter().cloned().map(Value::from));
            }
            let mut merged = Table::try_from(before).map_err(|error| error.to_string())?;
            merged.extend(row);
            row = merged;
        }
        let accelerator: Accelerator = row
            .try_into()
            .map_err(|error| format!("`{label}`: {}", error.to_string().trim_end().replace('\n', " ")))?;
        if let Some(fault) = accelerator.fault() {
            return Err(format!("`{label}`: {fault}"));
        }
        if let Some(alias) = accelerator.names().find(|alias| key(alias).is_empty()) {
            return Err(format!("`{label}`: the name `{alias}` has neither a letter nor a digit"));
        }
        let taken = |alias: &&str| self.position(alias).is_some_and(|index| Some(index) != known);
        if let Some(alias) = accelerator.names().find(taken) {
            return Err(format!("`{label}`: `{alias}` already names another accelerator"));
        }
        match known {
            Some(index) => self.0[index] = accelerator,
            None => self.0.push(accelerator),
        }
        Ok(())
    }

    /// The accelerator that goes by a name: exactly, or as the only one whose name starts so.
    ///
    /// Case, separators and a leading vendor's name do not matter. The start of a name may not end inside of a number:
    /// `B20` is not `B200`.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] if several start so, [`Error::Unknown`] if none does.
    pub fn find(&self, name: &str) -> Result<&Accelerator> {
        if let Some(index) = self.position(name) {
            return Ok(&self.0[index]);
        }
        let start = key(name);
        let starts_so = |accelerator: &&Accelerator| accelerator.names().any(|name| is_start(&start, &key(name)));
        let candidates: Vec<_> = self.0.iter().filter(starts_so).collect();
        let names = |accelerators: &[&Accelerator]| accelerators.iter().map(|found| found.name.clone()).collect();
        match candidates[..] {
            [accelerator] => Ok(accelerator),
            [] => Err(Error::Unknown {
                kind: "accelerator",
                name: name.to_owned(),
                similar: names(&self.similar(&start)),
            }),
            _ => Err(Error::Ambiguous { kind: "accelerator", name: name.to_owned(), candidates: names(&candidates) }),
        }
    }

    /// All accelerators, in the order of the table.
    pub fn iter(&self) -> std::slice::Iter<'_, Accelerator> {
        self.0.iter()
    }

    fn position(&self, name: &str) -> Option<usize> {
        let wanted = key(name);
        self.0.iter().position(|accelerator| accelerator.names().any(|name| key(name) == wanted))
    }

    /// The accelerators whose names resemble a key, best first.
    fn similar(&self, wanted: &str) -> Vec<&Accelerator> {
        // Jaro-Winkler similarity from which two names look alike: a letter or two apart.
        const ALIKE: f64 = 0.85;
        const SHOWN: usize = 3;
        let likeness = |accelerator: &Accelerator| {
            accelerator.names().map(|name| strsim::jaro_winkler(wanted, &key(name))).fold(0.0, f64::max)
        };
        let mut alike: Vec<_> =
            self.0.iter().map(|found| (likeness(found), found)).filter(|(likeness, _)| *likeness >= ALIKE).collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        alike.into_iter().take(SHOWN).map(|(_, found)| found).collect()
    }
}

impl<'a> IntoIterator for &'a Accelerators {
    type Item = &'a Accelerator;
    type IntoIter = std::slice::Iter<'a, Accelerator>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A name reduced to what distinguishes it: letters in lower case and digits, without a leading vendor's name.
fn key(name: &str) -> String {
    let key: String = name.chars().filter(char::is_ascii_alphanumeric).map(|char| char.to_ascii_lowercase()).collect();
    let without_vendor = ["nvidia", "amd", "intel", "huawei"].iter().find_map(|vendor| key.strip_prefix(vendor));
    match without_vendor {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => key,
    }
}

/// Whether a key starts with another that does not end inside of a number.
fn is_start(start: &str, whole: &str) -> bool {
    let inside_number = |rest: &str| {
        start.ends_with(|char: char| char.is_ascii_digit()) && rest.starts_with(|char: char| char.is_ascii_digit())
    };
    !start.is_empty() && whole.strip_prefix(start).is_some_and(|rest| !inside_number(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(name: &str) -> String {
        Accelerators::built_in().find(name).unwrap().name.clone()
    }

    fn merged(text: &str) -> Result<Accelerators> {
        let mut accelerators = Accelerators::built_in().clone();
        accelerators.merge_toml(text, "mine.toml")?;
        Ok(accelerators)
    }

    const COMPLETE: &str = r#"
[[accelerator]]
name = "X9"
vendor = "amd"
architecture = "Next"
form_factor = "oam"
aliases = ["X9-OAM"]
memory_gib = 300
nominal_gb = 320
memory_bandwidth_gb_per_s = 9000
inter_node_gb_per_s = 100
gpus_per_node = 8
watts = 1500
source = "my own"
"#;

    #[test]
    fn every_row_is_in_range_and_says_where_it_comes_from() {
        for accelerator in Accelerators::built_in() {
            assert_eq!(accelerator.fault(), None, "{}", accelerator.name);
            assert!(!accelerator.source.is_empty());
            assert!(accelerator.peak_fp16_tflops.is_some(), "{}", accelerator.name);
            assert!(accelerator.memory_gib < accelerator.nominal_gb * 1.001, "{}", accelerator.name);
            assert_eq!(
                accelerator.intra_node_gb_per_s.is_some(),
                accelerator.gpus_per_node > 1,
                "{}",
                accelerator.name
            );
        }
    }

    #[test]
    fn every_name_belongs_to_one_row_and_finds_it() {
        let mut seen = std::collections::BTreeMap::new();
        for accelerator in Accelerators::built_in() {
            for alias in accelerator.names() {
                let row = *seen.entry(key(alias)).or_insert(&accelerator.name);
                assert_eq!(row, &accelerator.name, "`{alias}` is in two rows");
                assert_eq!(name(alias), accelerator.name, "{alias}");
                assert_eq!(name(&alias.to_lowercase().replace(['-', '_'], " ")), accelerator.name, "{alias}");
            }
        }
    }

    #[test]
    fn names_of_other_tools_are_known() {
        for (given, canonical) in [
            ("H100", "H100-SXM-80GB"),
            ("NVIDIA H100 80GB HBM3", "H100-SXM-80GB"),
            ("NVIDIA_H100_80GB_HBM3", "H100-SXM-80GB"),
            ("h100_sxm", "H100-SXM-80GB"),
            ("nvidia h100 pcie", "H100-PCIe-80GB"),
            ("NVIDIA-A100-SXM4-80GB", "A100-SXM-80GB"),
            ("NVIDIA A100-PCIE-40GB", "A100-PCIe-40GB"),
            ("Tesla T4", "T4"),
            ("AMD Instinct MI300X", "MI300X"),
            ("RTX PRO 6000", "RTX-PRO-6000-Server"),
            ("NVIDIA-B300-SXM6-AC", "B300-SXM"),
        ] {
            assert_eq!(name(given), canonical);
        }
    }

    #[test]
    fn the_start_of_one_name_is_enough() {
        assert_eq!(name("GB200-NVL"), "GB200");
        assert_eq!(name("mi325"), "MI325X");
        assert_eq!(name("Ascend"), "Ascend-910B");
    }

    #[test]
    fn the_start_of_several_names_lists_them() {
        let error = Accelerators::built_in().find("A100-P").unwrap_err();
        assert_eq!(error.to_string(), "accelerator `A100-P` is ambiguous: A100-PCIe-80GB, A100-PCIe-40GB");
        assert!(matches!(Accelerators::built_in().find("RTX"), Err(Error::Ambiguous { .. })));
    }

    #[test]
    fn a_start_does_not_end_inside_of_a_number() {
        for part in ["B20", "H10", "A4", "RTX-50", "MI30"] {
            assert!(matches!(Accelerators::built_in().find(part), Err(Error::Unknown { .. })), "{part}");
        }
    }

    #[test]
    fn unknown_names_list_those_that_are_alike() {
        let Err(Error::Unknown { similar, .. }) = Accelerators::built_in().find("MI300Y") else { panic!() };
        assert_eq!(similar[0], "MI300X");
        for nothing in ["", "--", "Ⅷ", "TPU v5e"] {
            let Err(Error::Unknown { similar, .. }) = Accelerators::built_in().find(nothing) else { panic!() };
            assert_eq!(similar, <[String; 0]>::default(), "{nothing}");
        }
    }

    #[test]
    fn a_file_adds_an_accelerator() {
        let accelerators = merged(COMPLETE).unwrap();
        let added = accelerators.find("x9 oam").unwrap();
        assert!((added.memory_gib - 300.0).abs() < 1e-9 && added.memory_verified);
        assert_eq!(accelerators.iter().count(), Accelerators::built_in().iter().count() + 1);
    }

    #[test]
    fn a_file_changes_some_fields_of_a_known_accelerator() {
        let before = Accelerators::built_in().find("H100-NVL").unwrap().clone();
        let accelerators =
            merged("[[accelerator]]\nname = \"h100_nvl\"\naliases = [\"big one\"]\nmemory_gib = 93\n").unwrap();
        let after = accelerators.find("Big-One").unwrap();
        let mut expected = before.clone();
        expected.aliases.insert(0, "big one".to_owned());
        expected.memory_gib = 93.0;
        expected.memory_verified = true;
        expected.source = format!("{}; changed by mine.toml", before.source);
        assert_eq!(*after, expected);
        assert_eq!(accelerators.find("NVIDIA-H100-NVL").unwrap().name, before.name);
    }

    #[test]
    fn a_file_is_read_from_disk() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine.toml");
        std::fs::write(&path, COMPLETE).unwrap();
        assert!(Accelerators::built_in().with_file(&path).unwrap().find("X9").is_ok());
        let missing = Accelerators::built_in().with_file(&directory.path().join("none.toml"));
        assert!(matches!(missing, Err(Error::Io { .. })));
    }

    #[test]
    fn errors_of_a_file_say_line_and_field() {
        let cases = [
            ("[[accelerator]]\nname = \"L4\"\nmemory_gib = \n", "mine.toml, line 3: "),
            ("[[accelerators]]\nname = \"L4\"\n", "mine.toml, line 1: unknown field `accelerators`"),
            ("[[accelerator]]\nmemory_gib = 80\n", "mine.toml, line 1: every accelerator needs a `name`"),
            ("\n[[accelerator]]\nname = \"L4\"\nmemory = 80\n", "mine.toml, line 2: `L4`: unknown field `memory`"),
            ("[[accelerator]]\nname = \"X8\"\nmemory_gib = 80\n", "mine.toml, line 1: `X8`: missing field `"),
            ("[[accelerator]]\nname = \"L4\"\nmemory_gib = \"22\"\n", "mine.toml, line 1: `L4`: invalid type: string"),
            (
                "[[accelerator]]\nname = \"L4\"\nmemory_gib = -1\n",
                "mine.toml, line 1: `L4`: `memory_gib` must be above 0",
            ),
            (
                "[[accelerator]]\nname = \"L4\"\nmemory_gib = nan\n",
                "mine.toml, line 1: `L4`: `memory_gib` must be above 0",
            ),
            ("[[accelerator]]\nname = \"L4\"\nmemory_gib = 23034\n", "mine.toml, line 1: `L4`: `memory_gib` is 23034"),
            ("[[accelerator]]\nname = \"L4\"\ngpus_per_node = 0\n", "mine.toml, line 1: `L4`: `gpus_per_node` must be"),
            ("[[accelerator]]\nname = \"GB200\"\nscale_up_gpus = 2\n", "mine.toml, line 1: `GB200`: `scale_up_gpus`"),
            (
                "[[accelerator]]\nname = \"L4\"\naliases = [\"H100\"]\n",
                "mine.toml, line 1: `L4`: `H100` already names another accelerator",
            ),
            (
                "[[accelerator]]\nname = \"L4\"\naliases = [\"-\"]\n",
                "mine.toml, line 1: `L4`: the name `-` has neither a letter nor a digit",
            ),
        ];
        for (text, expected) in cases {
            let error = merged(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_found_or_refused(given in "\\PC{0,24}") {
            if let Ok(found) = Accelerators::built_in().find(&given) {
                prop_assert!(found.names().any(|name| key(name).starts_with(&key(&given))));
            }
        }

        #[test]
        fn noise_between_the_letters_of_a_name_does_not_matter(
            row in 0..Accelerators::built_in().0.len(), noise in "[-_ ()./]{1,3}", upper: bool,
        ) {
            let accelerator = &Accelerators::built_in().0[row];
            for alias in accelerator.names() {
                let alias = if upper { alias.to_uppercase() } else { alias.to_lowercase() };
                let noisy: String = alias.chars().flat_map(|char| [char.to_string(), noise.clone()]).collect();
                prop_assert_eq!(&Accelerators::built_in().find(&noisy).unwrap().name, &accelerator.name);
            }
        }

        #[test]
        fn any_text_is_merged_or_refused(text in "\\PC{0,60}") {
            let _ = merged(&format!("[[accelerator]]\nname = \"L4\"\n{text}"));
        }
    }
}
