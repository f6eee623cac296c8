//! Independent oracles: Python scripts with packages from PyPI, in an environment that is made once and kept under target/.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::process::command;
use crate::{repository, skip};

const ORACLES: [&str; 5] =
    ["duckdb==2.0.0", "deltalake==1.6.6", "pyarrow==26.0.1", "pysail==0.7.2", "pyspark-client==4.2.0"];

/// The benchmarks' extensions are for one version of DuckDB.
const DIFFERENTIAL: [&str; 5] = [
    "duckdb==1.5.5",
    "duckdb-extension-tpch==1.5.5",
    "duckdb-extension-tpcds==1.5.5",
    "pyarrow==26.0.1",
    "grpcio==1.85.3",
];

/// A Python with packages from PyPI.
#[derive(Debug, Clone)]
pub struct Python {
    program: PathBuf,
}

impl Python {
    /// The one of the oracles.
    pub fn find() -> Option<Self> {
        Self::with("venv-tests", &ORACLES)
    }

    /// The one of the differential tester.
    pub fn for_differential() -> Option<Self> {
        Self::with("venv-differential", &DIFFERENTIAL)
    }

    /// Makes the environment if it is not there; none, with a printed reason, where pip can't.
    fn with(name: &str, packages: &[&str]) -> Option<Self> {
        let rigs = std::env::var_os("TRIREME_RIGS").map_or_else(|| repository().join("target/rigs"), PathBuf::from);
        fs::create_dir_all(&rigs).unwrap();
        let folder = rigs.join(name);
        let (mark, wanted) = (folder.join("installed"), packages.join("\n"));
        let ready = || fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted);
        // Tests are processes side by side: one installs, the others wait. The lock goes with the file.
        let lock = File::create(rigs.join(format!("{name}.lock"))).unwrap();
        lock.lock().unwrap();
        if !ready() {
            let made = install(&folder, packages);
            if let Err(reason) = made {
                skip(&format!("no Python environment at {}: {reason}", folder.display()));
                return None;
            }
            fs::write(&mark, wanted).unwrap();
        }
        Some(Self { program: folder.join("bin/python") })
    }

    /// The interpreter.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs a script of `tests/oracle`; Err: what it said when it did not end with 0.
    pub fn run<S: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = S>) -> Result<Value, String> {
        let path = repository().join("tests/oracle").join(script);
        let mut python = command(&self.program);
        python.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore").arg(path).args(arguments);
        let output = python.output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(format!("{script} ended with {}\n{stderr}\n{stdout}", output.status));
        }
        Ok(serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{script} printed no JSON: {error}\n{stdout}")))
    }

    /// The six answers on deliveries, in the order they came.
    #[track_caller]
    pub fn answers(&self, deliveries: &[PathBuf]) -> Value {
        self.run("answers.py", deliveries).unwrap()
    }

    /// Checks tables under a storage folder against the raw deliveries, row for row: `(table, "shape/mode")`, or all six of the pipeline
    /// when none is named. Returns rows and checksums by table.
    #[track_caller]
    pub fn check_tables(&self, lake: &Path, deliveries: &[PathBuf], tables: &[(&str, &str)]) -> Value {
        let tables = tables.iter().map(|(name, shape)| format!("--table={name}={shape}").into());
        let folders = deliveries.iter().map(|folder| folder.clone().into_os_string());
        let arguments: Vec<std::ffi::OsString> =
            std::iter::once(lake.as_os_str().to_owned()).chain(folders).chain(tables).collect();
        self.run("tables.py", arguments).unwrap_or_else(|said| panic!("{said}"))
    }

    /// Checks a question's table against DuckDB's rows for the same SQL over the same tables.
    #[track_caller]
    pub fn check_question(&self, lake: &Path, table: &str, sql: &Path) -> Value {
        let query = format!("--query={table}={}", sql.display());
        let arguments = [lake.as_os_str(), OsStr::new("none"), OsStr::new(&query)];
        self.run("tables.py", arguments).unwrap_or_else(|said| panic!("{said}"))
    }
}

fn install(folder: &Path, packages: &[&str]) -> Result<(), String> {
    let _ = fs::remove_dir_all(folder);
    let folder_text = folder.to_str().unwrap();
    let pip = folder.join("bin/pip");
    let steps: [(&OsStr, Vec<&str>); 2] = [
        (OsStr::new("python3"), vec!["-m", "venv", folder_text]),
        (pip.as_os_str(), [&["install", "--quiet", "--disable-pip-version-check"], packages].concat()),
    ];
    for (program, arguments) in steps {
        let output =
            command(program).args(arguments).stdout(Stdio::null()).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Ok(())
}
