//! The generated code is checked in, so that nobody needs protoc; this test makes it anew from `proto/` and compares.
//! `TRIREME_REGENERATE=1 cargo test -p trireme-proto` writes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

const PROTOS: [&str; 5] = ["spec", "jobs", "catalog", "raw", "query"];

fn regenerate(out: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<String> = PROTOS.iter().map(|name| format!("trireme/v1/{name}.proto")).collect();
    let descriptors = protox::Compiler::new([root.join("proto")])
        .unwrap()
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)
        .unwrap()
        .file_descriptor_set();
    // Reflection serves the descriptors without comments, which would double their size.
    let mut served = descriptors.clone();
    for file in &mut served.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&served)).unwrap();
    tonic_prost_build::configure().out_dir(out).build_transport(false).compile_fds(descriptors).unwrap();
}

#[test]
fn generated_code_is_what_the_protos_say() {
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    if std::env::var_os("TRIREME_REGENERATE").is_some() {
        regenerate(&checked_in);
    }
    let fresh = tempfile::tempdir().unwrap();
    regenerate(fresh.path());
    for name in ["trireme.v1.rs", "descriptors.bin"] {
        let want = fs::read(fresh.path().join(name)).unwrap();
        let have = fs::read(checked_in.join(name)).unwrap_or_default();
        assert!(want == have, "{name} is stale: run `TRIREME_REGENERATE=1 cargo test -p trireme-proto` and commit");
    }
}
