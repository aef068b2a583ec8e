//! How answers are printed.
//!
//! In: a command's [`Answer`] and a [`Format`]. Out: text on stdout. The JSON, YAML and JSON Schema forms come from one
//! type, the table, CSV and Markdown forms from its [`Table`].

pub(crate) mod bar;
mod table;
pub(crate) mod words;

use std::io::Write;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::json;

use crate::ExitStatus;
pub(crate) use table::Table;

/// A format of `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people, fitted to the terminal.
    Table,
    /// For programs; `config-explorer schema COMMAND` describes it.
    Json,
    /// The same fields as JSON.
    Yaml,
    /// The table's rows for a spreadsheet.
    Csv,
    /// The table for a document.
    Markdown,
}

/// What a command answers.
pub(crate) trait Answer: Serialize + JsonSchema {
    /// The command, which also names the schema.
    const COMMAND: &'static str;

    /// The answer as rows.
    fn table(&self) -> Table;

    /// The answer for people, where rows are not the best way to show it. May hold colours.
    fn text(&self) -> String {
        self.table().draw()
    }

    /// The answer for a document.
    fn markdown(&self) -> String {
        self.table().markdown()
    }

    /// What the answer means for the exit status.
    fn status(&self) -> ExitStatus {
        ExitStatus::Success
    }
}

/// Name and version of the output of a command.
pub(crate) fn schema_id(command: &str) -> String {
    format!("config-explorer/{command}/v1")
}

/// An answer with the name of its schema before its fields.
#[derive(Serialize)]
struct Document<'a, A> {
    schema: String,
    #[serde(flatten)]
    answer: &'a A,
}

/// Prints an answer; the status is the answer's.
pub(crate) fn print<A: Answer>(answer: &A, format: Format) -> anyhow::Result<ExitStatus> {
    write(&render(answer, format)?)?;
    Ok(answer.status())
}

/// Writes to stdout, to its end: what is left for the program's exit would fail unseen.
pub(crate) fn write(text: &str) -> std::io::Result<()> {
    // Colours reach a terminal only.
    let mut stdout = anstream::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// An answer as text.
pub(crate) fn render<A: Answer>(answer: &A, format: Format) -> anyhow::Result<String> {
    let document = || Document { schema: schema_id(A::COMMAND), answer };
    Ok(match format {
        Format::Table => answer.text(),
        Format::Json => serde_json::to_string_pretty(&document())? + "\n",
        Format::Yaml => serde_saphyr::to_string(&document())?,
        Format::Csv => answer.table().csv()?,
        Format::Markdown => answer.markdown(),
    })
}

/// The JSON Schema of what [`print()`] writes as JSON.
pub(crate) fn schema_of<A: Answer>() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<A>();
    let object = schema.ensure_object();
    let id = schema_id(A::COMMAND);
    object.insert("title".to_owned(), json!(id));
    if let Some(properties) = object.get_mut("properties").and_then(|properties| properties.as_object_mut()) {
        properties.shift_insert(0, "schema".to_owned(), json!({ "const": id }));
    }
    if let Some(required) = object.get_mut("required").and_then(|required| required.as_array_mut()) {
        required.insert(0, json!("schema"));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, JsonSchema)]
    struct Sample {
        /// Names with what each format must quote.
        names: Vec<String>,
    }

    impl Answer for Sample {
        const COMMAND: &'static str = "sample";

        fn table(&self) -> Table {
            let mut table = Table::new(["name", "length"]);
            for name in &self.names {
                table.push([name.clone(), name.len().to_string()]);
            }
            table
        }
    }

    #[test]
    fn every_format_prints_the_same_answer() {
        let sample = Sample { names: vec!["a,\"b\"".to_owned(), "c|d".to_owned(), "true".to_owned()] };
        let [table, json, yaml, csv, markdown] =
            [Format::Table, Format::Json, Format::Yaml, Format::Csv, Format::Markdown]
                .map(|format| render(&sample, format).unwrap());
        assert_eq!(table, "NAME   LENGTH\na,\"b\"       5\nc|d         3\ntrue        4\n");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json, json!({"schema": "config-explorer/sample/v1", "names": ["a,\"b\"", "c|d", "true"]}));
        assert_eq!(yaml, "schema: config-explorer/sample/v1\nnames:\n- a,\"b\"\n- c|d\n- \"true\"\n");
        assert_eq!(csv, "name,length\n\"a,\"\"b\"\"\",5\nc|d,3\ntrue,4\n");
        assert_eq!(markdown, "| name | length |\n| --- | --- |\n| a,\"b\" | 5 |\n| c\\|d | 3 |\n| true | 4 |\n");
    }

    #[test]
    fn the_schema_requires_its_own_name() {
        let schema = serde_json::to_value(schema_of::<Sample>()).unwrap();
        assert_eq!(schema["required"], json!(["schema", "names"]));
        assert_eq!(schema["properties"]["schema"]["const"], "config-explorer/sample/v1");
    }
}
