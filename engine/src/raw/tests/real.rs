//! The real deliveries of books and movies, at any split size.

use std::path::Path;

use super::*;

const FOLDER: &str = "/work/shared/data/books-and-movies";

#[tokio::test]
async fn real_deliveries_are_read_whole() {
    if !Path::new(FOLDER).exists() {
        println!("skipped: {FOLDER} is not here");
        return;
    }
    let expected = [
        ("authors.json", 201),
        ("books.json", 103),
        ("reviews.json", 501),
        ("streams.csv", 9652),
        ("users.csv", 783),
        ("movies.csv", 92),
    ];
    for (name, records) in expected {
        let text = std::fs::read(Path::new(FOLDER).join(name)).unwrap();
        let mut first = None;
        for split_size in [1 << 10, 10_007, 1 << 20, 64 << 20] {
            let world = World::new(4);
            let manifest = world.deliver(name, &text, split_size).await;
            assert_eq!(manifest.records(), Some(records), "{name}");
            assert!(manifest.parts[0].splits.len() as u64 <= manifest.bytes() / split_size + 1);
            assert!(split_size > 1 << 10 || manifest.parts[0].splits.len() > 1, "{name}");
            world.register(&manifest, None).await.unwrap();
            assert_eq!(as_text(&world.rows("SELECT count(*) FROM raw").await.unwrap()), records.to_string());
            let all = as_text(&world.rows("SELECT * FROM raw").await.unwrap());
            assert_eq!(sorted(first.get_or_insert_with(|| all.clone())), sorted(&all), "{name} at {split_size}");
        }
    }
}

#[tokio::test]
async fn real_columns_are_what_they_are() {
    if !Path::new(FOLDER).exists() {
        println!("skipped: {FOLDER} is not here");
        return;
    }
    let text = |name: &str| std::fs::read(Path::new(FOLDER).join(name)).unwrap();
    let world = World::new(2);
    world.register(&world.deliver("authors.json", &text("authors.json"), 5000).await, None).await.unwrap();
    let nulls = world.rows("SELECT count(*) FROM raw WHERE metadata['name'] IS NULL").await.unwrap();
    assert_eq!(as_text(&nulls), "1");
    let labels = "SELECT count(*) FROM raw WHERE array_has(array_transform(nationalities, x -> lower(x['label'])), 'singaporeans')";
    assert_eq!(as_text(&world.rows(labels).await.unwrap()), "3");

    world.register(&world.deliver("books.json", &text("books.json"), 5000).await, None).await.unwrap();
    let schema = world.session.table("raw").await.unwrap().schema().as_arrow().clone();
    let columns: Vec<_> =
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    assert_eq!(columns, ["author Utf8", "name Utf8", "pages Int64", "publisher Utf8"]);

    world.register(&world.deliver("streams.csv", &text("streams.csv"), 5000).await, None).await.unwrap();
    let median = "SELECT round(median(CAST(size_mb AS DOUBLE)), 7) FROM raw";
    assert_eq!(as_text(&world.rows(median).await.unwrap()), "935.9014475");
}
