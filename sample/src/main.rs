//! `trireme-sample`: makes raw deliveries of books and movies on disk.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use trireme_sample::bytes;
use trireme_sample::delivery::{self, Error};
use trireme_sample::json::Layout;
use trireme_sample::output::Progress;
use trireme_sample::plan::Plan;
use trireme_sample::{reviews, streams};

/// Exit code of a command line that cannot be followed (EX_USAGE of sysexits.h).
const USAGE: u8 = 64;

/// Makes raw deliveries of the books-and-movies pipeline: OUT/day-1/{authors,books,reviews}.json,
/// OUT/day-1/{streams,users,movies}.csv, OUT/day-2/… The same arguments give the same bytes.
#[derive(Debug, Parser)]
#[command(name = "trireme-sample", version)]
struct Arguments {
    /// Raw size of a day with the dumps as arrays: half of it streams.csv, half reviews.json (500KB, 1GB, 64MiB)
    #[arg(long, value_parser = bytes::parse, required_unless_present = "sample")]
    size: Option<u64>,

    /// Days to make; of the streams and reviews of a later day, 20 % have keys of earlier days, with new values
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=366))]
    days: u64,

    /// Everything random follows from this number
    #[arg(long, default_value_t = 7)]
    seed: u64,

    /// Folder to write into; files of the same names are replaced
    #[arg(long)]
    out: PathBuf,

    /// Layout of the JSON dumps; the records are the same
    #[arg(long, value_enum, default_value_t = Layout::Array)]
    json: Layout,

    /// Make the small sample of examples/books-and-movies/data, straight into OUT
    #[arg(long, conflicts_with_all = ["size", "days"])]
    sample: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // If nobody can read the message there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                Error::Plan(_) => ExitCode::from(USAGE),
                Error::Disk(..) => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let plan = match arguments.size {
        Some(size) => Plan::of_size(size, arguments.seed, arguments.json).map_err(Error::Plan)?,
        None => Plan::sample(arguments.seed, arguments.json),
    };
    // The last day has the most keys: refuse before anything is written.
    streams::keys(&plan, arguments.days).map_err(Error::Plan)?;
    reviews::keys(&plan, arguments.days).map_err(Error::Plan)?;

    let started = Instant::now();
    let mut progress = Progress::new(delivery::expected_bytes(&plan, arguments.days));
    for day in 1..=arguments.days {
        let folder = if arguments.sample { arguments.out.clone() } else { arguments.out.join(format!("day-{day}")) };
        delivery::write(&plan, day, &folder, &mut progress)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("wrote {} bytes to {} in {seconds:.1} s", progress.written(), arguments.out.display());
    Ok(())
}
