//! How the text of a delivery is written: flags, and keys of a source in a pipeline file.

use clap::Args;
use trireme_proto::v1;

/// How CSV and other text is read.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "How the text is written")]
pub struct TextArguments {
    /// CSV: between fields, one ASCII character or \t [default: ,]
    #[arg(long, value_name = "CHAR", allow_hyphen_values = true)]
    pub delimiter: Option<String>,
    /// CSV: around fields that hold delimiters or line ends; '' for none [default: "]
    #[arg(long, value_name = "CHAR", allow_hyphen_values = true)]
    pub quote: Option<String>,
    /// CSV: in quotes, takes the quote after it as it is; Spark's is '\' [default: none, two quotes are one]
    #[arg(long, value_name = "CHAR", allow_hyphen_values = true)]
    pub escape: Option<String>,
    /// Letters: ISO-8859-1, windows-1252, UTF-16, … [default: UTF-8, or UTF-16 where a byte order mark says so]
    #[arg(long, value_name = "NAME")]
    pub encoding: Option<String>,
    /// CSV: fields with this text are NULL, as empty ones without quotes are
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub null_value: Option<String>,
    /// CSV: whether the first record names the columns; without it they are those of --schema, or _c0, _c1, … [default: true]
    #[arg(long, value_name = "BOOL")]
    pub header: Option<bool>,
}

impl TextArguments {
    /// As the scheduler gets them; nothing where nothing is said.
    pub fn options(&self) -> Option<v1::TextOptions> {
        let Self { delimiter, quote, escape, encoding, null_value, header } = self.clone();
        let options = v1::TextOptions { delimiter, quote, escape, encoding, null_value, header };
        (options != v1::TextOptions::default()).then_some(options)
    }
}
