//! What is told of wrong files, word for word. `SOFTMISS_BLESS=1` writes the expected texts anew; read the difference as
//! you would read code.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config")
}

#[test]
fn every_wrong_file_is_told_what_is_wrong_with_it() {
    let mut files: Vec<_> = fs::read_dir(directory())
        .expect("tests/golden/config")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    files.sort();
    assert!(files.len() >= 30, "only {} files", files.len());
    let mut differences = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a file");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let told = match softmiss::config::parse(&name, &text) {
            Ok(mut loaded) => {
                loaded.warnings.diagnostics.append(&mut loaded.unless_flags.diagnostics);
                loaded.warnings
            }
            Err(report) => *report,
        };
        assert!(!told.diagnostics.is_empty(), "{name}: nothing is said of it");
        let told = format!("{}\n", told.render(false));
        let expected = file.with_extension("txt");
        if std::env::var_os("SOFTMISS_BLESS").is_some() {
            fs::write(&expected, &told).expect("write");
        } else if fs::read_to_string(&expected).unwrap_or_default() != told {
            differences.push(format!("--- {name}\n{told}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

proptest! {
    #[test]
    fn no_text_at_all_panics_the_reader(text in "\\PC{0,200}") {
        let _ = softmiss::config::parse("f", &text).map_err(|report| report.render(false));
    }

    #[test]
    fn no_mangled_file_panics_the_reader(at in 0usize..2000, len in 0usize..40, insert in "[ \\t\\n:{}\\[\\]'\"&*!|>%@-]{0,4}") {
        let mut text = include_str!("../../conf/example.yml").to_owned();
        let start = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let end = ((start + len).min(text.len())..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(start);
        text.replace_range(start..end, &insert);
        let _ = softmiss::config::parse("f", &text).map_err(|report| report.render(true));
    }
}
