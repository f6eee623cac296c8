//! The `trireme` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One thread is enough for a client, and embedded children end with the thread that started them: this one.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(trireme::program::run(std::env::args_os().collect())).into(),
        Err(error) => {
            eprintln!("error: can't start: {error}");
            ExitCode::FAILURE
        }
    }
}
