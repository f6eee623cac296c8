//! Files that others put there.

use std::io::Write;

use super::*;
use crate::error::Code;

/// Files in the folder of a version.
pub fn put(world: &World, files: &[(&str, &[u8])]) -> RawVersion {
    // A version's name is of its millisecond; a delivery may have had this one's.
    std::thread::sleep(std::time::Duration::from_millis(2));
    let version = RawVersion::at(chrono::Utc::now());
    let folder = world.folder.path().join(format!("lake/raw/{}/{version}", source()));
    std::fs::create_dir_all(&folder).unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
    version
}

/// Adopts as the scheduler does; the manifest, and how many tasks each plan had.
async fn adopt(
    world: &World,
    version: &RawVersion,
    split_size: u64,
    copy: CopyPolicy,
) -> Result<(Manifest, Vec<usize>)> {
    adopt_as(world, version, TextOptions::default(), split_size, copy).await
}

pub async fn adopt_as(
    world: &World,
    version: &RawVersion,
    options: TextOptions,
    split_size: u64,
    copy: CopyPolicy,
) -> Result<(Manifest, Vec<usize>)> {
    let mut adoption =
        Adoption::begin(&world.zone, &source(), version, None, options.clone(), split_size, copy).await?;
    let mut plans = Vec::new();
    loop {
        let tasks = adoption.due();
        if tasks.is_empty() {
            break;
        }
        plans.push(tasks.len());
        let rows = collect(adopt_plan(&tasks)?, world.session.task_ctx()).await?;
        adoption.done(adopt_outcomes(&rows)?)?;
    }
    let (parts, format) = adoption.finish()?;
    let manifest = Manifest::new(source(), version.clone(), "adopted".into(), format, parts).with_options(options);
    world.zone.publish(&manifest).await?;
    Ok((manifest, plans))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_adopted_is_what_a_download_would_have_made() {
    let array = format!(
        "\u{feff}[{}]\r\n",
        (0..500).map(|n| format!("{{\"id\": {n},\n \"t\": \"]}}\\\"{n}\"}}")).collect::<Vec<_>>().join(",\r\n")
    );
    let lines = (0..500).map(|n| format!("{{\"id\": {n}, \"t\": \"é{n}\"}}\n")).collect::<String>();
    let csv = format!("id,t\r\n{}", (0..500).map(|n| format!("{n},\"a,\"\"\r\n{n}\"\r\n")).collect::<String>());
    let cut = &array[..array.len() - 40];
    for (name, text) in [("x.json", array.as_str()), ("x.ndjson", &lines), ("x.csv", &csv), ("cut.json", cut)] {
        for split_size in [64, 1000, 1 << 20] {
            let world = World::new(3);
            let downloaded = world.deliver(name, text.as_bytes(), split_size).await;
            let version = put(&world, &[(name, text.as_bytes()), ("_SUCCESS", b"")]);
            let (manifest, plans) = adopt(&world, &version, split_size, CopyPolicy::Compressed).await.unwrap();
            let [part] = manifest.parts.as_slice() else { panic!("{:?}", manifest.parts) };
            assert_eq!(part, &Part { path: name.to_string(), ..downloaded.parts[0].clone() }, "{name} {split_size}");
            let ranges = text.len().div_ceil(4 * split_size as usize);
            // All ranges but the last are summed up, then all are scanned, and the file is hashed.
            let expected = if ranges == 1 { vec![1] } else { vec![ranges - 1, ranges + 1] };
            assert_eq!(plans, expected, "{name} {split_size}");
            assert_eq!(world.zone.current(&source()).await.unwrap().as_ref(), Some(&version));
            if name != "cut.json" {
                world.register(&manifest, None).await.unwrap();
                assert_eq!(as_text(&world.rows("SELECT count(*) FROM raw").await.unwrap()), "500");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_files_are_adopted_at_once() {
    let world = World::new(3);
    let lines = |from: usize| (from..from + 100).map(|n| format!("{{\"id\": {n}}}\n")).collect::<String>();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines(100).as_bytes()).unwrap();
    let (gzip, plain) = (gzip.finish().unwrap(), lines(0));
    let version = put(&world, &[("a.json", plain.as_bytes()), ("b.json.gz", &gzip), ("c", b"[{\"id\": 200}]")]);
    assert_eq!(world.zone.newest_unpublished(&source()).await.unwrap().as_ref(), Some(&version));
    let (manifest, plans) = adopt(&world, &version, 100, CopyPolicy::Compressed).await.unwrap();
    let paths: Vec<_> = manifest.parts.iter().map(|part| part.path.as_str()).collect();
    assert_eq!((paths, manifest.records()), (vec!["a.json", "b.json.gz", "c"], Some(201)));
    assert_eq!(plans.len(), 2);
    assert_eq!(manifest.parts[1].copy.as_ref().unwrap().path, "_copy-00001.json.zst");
    assert_eq!(world.stored()["b.json.gz"], gzip);
    world.register(&manifest, None).await.unwrap();
    assert_eq!(as_text(&world.rows("SELECT count(*), sum(id) FROM raw").await.unwrap()), "201|20100");
    assert_eq!(world.zone.newest_unpublished(&source()).await.unwrap(), None);
    let again = Adoption::begin(&world.zone, &source(), &version, None, TextOptions::default(), 100, CopyPolicy::Off)
        .await
        .unwrap();
    assert!(again.bytes() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_adopted_says_why() {
    let world = World::new(2);
    let refused = async |files: &[(&str, &[u8])]| {
        let version = put(&world, files);
        let error = adopt(&world, &version, 64, CopyPolicy::Compressed).await.unwrap_err();
        assert!(world.zone.list_versions(&source()).await.unwrap().is_empty());
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        error
    };
    assert_eq!(refused(&[("_SUCCESS", b"")]).await.code, Code::VersionNotFound);
    let error = refused(&[("a.json", b"{}"), ("b.csv", b"a\n1\n")]).await;
    assert!(error.message.contains("a.json is json, b.csv is csv"), "{error}");
    let error = refused(&[("a.json.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\xff")]).await;
    assert!(error.message.contains("a.json.gz: the gzip data is broken at byte 10: it ends too early"), "{error}");
    // A download that goes on has files too, which are nobody's yet.
    let version = put(&world, &[("part-00000.json", b"{}")]);
    world.zone.download_begins(&source(), &version, "job").await.unwrap();
    assert!(world.zone.files(&source(), &version).await.unwrap().is_empty());
    world.zone.download_ended(&source(), &version).await;
    assert_eq!(world.zone.files(&source(), &version).await.unwrap().len(), 1);
}
