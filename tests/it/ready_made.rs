//! What conf/ brings for Prometheus and Grafana names only series that exist, and every alert has its place in the runbook;
//! what it brings for containers runs the program as it can be run.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use softmiss::admin::USUAL;
use softmiss::config::{self, model::Port};
use softmiss::stats::prometheus::{POOL, PROCESS, SERVER, series};
use softmiss::stats::table;

fn text(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

/// Every series that a scrape can have.
fn known() -> BTreeSet<String> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    known.extend(table::PROCESS.iter().map(|metric| series(PROCESS, metric.name, metric.kind)));
    known.extend(table::POOL.iter().map(|metric| series(POOL, metric.name, metric.kind)));
    known.extend(table::SERVER.iter().map(|metric| series(SERVER, metric.name, metric.kind)));
    for name in [
        "uptime_seconds",
        "memory_limit_bytes",
        "workers",
        "build_info",
        "pool_degraded_total",
        "server_up",
        "server_held",
        "server_failures_in_a_row",
        "server_ejected_at_seconds",
        "pool_request_duration_seconds_bucket",
        "server_response_duration_seconds_bucket",
    ] {
        known.insert(format!("softmiss_{name}"));
    }
    known
}

fn named(text: &str) -> BTreeSet<String> {
    text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
        .filter(|word| word.starts_with("softmiss_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn alerts_and_dashboard_ask_for_what_there_is() {
    let known = known();
    for file in ["conf/prometheus/alerts.yml", "conf/grafana.json", "docs/runbook.md"] {
        let unknown: Vec<_> = named(&text(file))
            .into_iter()
            .filter(|name| !known.contains(name) && !known.contains(&format!("{name}_bucket")))
            .collect();
        assert!(unknown.is_empty(), "{file} names what is not there: {unknown:?}");
    }
    assert!(named(&text("conf/grafana.json")).len() > 12);
    serde_json::from_str::<Value>(&text("conf/grafana.json")).expect("JSON");
}

#[test]
fn every_alert_has_its_section_in_the_runbook() {
    let (alerts, runbook) = (text("conf/prometheus/alerts.yml"), text("docs/runbook.md"));
    let names: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in &names {
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} has no section");
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    for section in sections.filter(|section| section.starts_with("Softmiss")) {
        assert!(names.contains(&section), "{section} is no alert");
    }
}

#[test]
fn prometheus_takes_the_rules() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/prometheus/alerts.yml");
    let output = std::process::Command::new("promtool").args(["check", "rules"]).arg(rules).output().expect("promtool");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_sidecar_has_a_file_that_can_be_used_and_is_asked_where_it_answers() {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text("conf/kubernetes/sidecar.yml")).expect("YAML");
    let of = |kind: &str| documents.iter().find(|document| document["kind"] == kind).expect(kind);
    let files = of("ConfigMap")["data"].as_object().expect("files");
    let [(name, file)] = &files.iter().collect::<Vec<_>>()[..] else { panic!("one file: {files:?}") };
    let loaded =
        config::parse(name, file.as_str().expect("text")).unwrap_or_else(|report| panic!("{}", report.render(false)));
    assert!(loaded.warnings.diagnostics.is_empty(), "{}", loaded.warnings.render(false));
    let settings = &loaded.config.settings;
    assert!(settings.watch, "a changed ConfigMap is taken up");

    let pod = &of("Deployment")["spec"]["template"]["spec"];
    let sidecar = &pod["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"], "Always", "it is a sidecar by that alone");
    // The folder is mounted, or a change does not come in, and the file in it is read.
    let (mount, volume) = (&sidecar["volumeMounts"][0], &pod["volumes"][0]);
    assert!(mount["subPath"].is_null() && mount["name"] == volume["name"], "{mount}");
    assert_eq!(volume["configMap"]["name"], of("ConfigMap")["metadata"]["name"]);
    let place = format!("{}/{name}", mount["mountPath"].as_str().expect("a path"));
    assert_eq!(sidecar["args"], serde_json::json!(["-c", place]));
    // The kubelet asks the address of the pod.
    let (port, probed) = (&sidecar["ports"][0], ["startupProbe", "livenessProbe", "readinessProbe"]);
    let admin = format!("0.0.0.0:{}", port["containerPort"]).parse().expect("an address");
    assert_eq!(settings.admin, Port::At(admin));
    let paths = probed.map(|probe| {
        assert_eq!(sidecar[probe]["httpGet"]["port"], port["name"]);
        sidecar[probe]["httpGet"]["path"].as_str().expect("a path").to_owned()
    });
    assert_eq!(paths, ["/readyz", "/healthz", "/readyz"]);
    let security = &sidecar["securityContext"];
    assert!(security["runAsNonRoot"] == true && security["readOnlyRootFilesystem"] == true, "{security}");
    // The application's address is where the pool listens, and the pool's server is the service of the file.
    let pool = &loaded.config.pools[0];
    assert_eq!(pod["containers"][0]["env"][0]["value"], pool.listen.to_string());
    let service = of("Service");
    let [host, space] = ["name", "namespace"].map(|key| service["metadata"][key].as_str().expect(key));
    assert_eq!(service["spec"]["clusterIP"], "None");
    let server = format!("{host}.{space}.svc.cluster.local:{}", service["spec"]["ports"][0]["port"]);
    assert!(file.as_str().is_some_and(|file| file.contains(&format!("- {server}:1\n"))), "{server}");
    let limit = sidecar["resources"]["limits"]["memory"].as_str().and_then(|limit| limit.strip_suffix("Mi"));
    let limit: u64 = limit.and_then(|limit| limit.parse().ok()).expect("a limit");
    assert!(limit << 20 >= settings.memory_limit as u64 + (64 << 20), "{limit}");
}

#[test]
fn the_image_runs_the_program_as_it_can_be_run() {
    let file = text("conf/container/Containerfile");
    let [build, image] = file.split("\nFROM ").collect::<Vec<_>>()[1..] else { panic!("two stages: {file}") };
    assert!(image.starts_with("scratch\n") && build.contains("+crt-static"), "{file}");
    for line in build.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let sources = line.split(' ').rev().skip(1);
        sources.for_each(|name| assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(name).exists(), "{name}"));
    }
    let said = |key: &str| image.lines().find_map(|line| line.strip_prefix(key)).expect(key).trim();
    let user: Vec<u32> = said("USER").split(':').map(|id| id.parse().expect("a number")).collect();
    assert!(user.iter().all(|id| *id > 0), "{user:?}");
    let list = |text: &str| serde_json::from_str::<Vec<String>>(text).expect("a list");
    let entry = list(said("ENTRYPOINT"));
    assert!(image.contains(&format!(" {}\n", entry[0])), "it is in the image");
    // The check asks the usual place of the admin port.
    let (_, check) = said("HEALTHCHECK").split_once("CMD ").expect("a command");
    let check = list(check);
    assert_eq!(check, [&entry[0], "health", &format!("{USUAL}")]);
    for arguments in [&check[1..], &list(said("CMD"))] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_softmiss"));
        let output = command.args(arguments).arg("-h").output().expect("softmiss");
        assert!(output.status.success(), "{arguments:?}");
    }
}
