//! The whole state after a call: of the log, and of the bitmaps in every image.

use momentlog::{CheckpointListFlags, Domain, SnapshotListFlags};
use serde_json::{Map, Value, json};

use super::guest::{Guest, run};

/// Returns the state as a recording has it.
pub(super) fn of(domain: Option<&Domain>, guest: &mut Guest) -> Result<Value, String> {
    guest.look()?;
    let Some(domain) = domain else {
        return Ok(json!("absent"));
    };
    let Ok((state, reason)) = domain.state() else {
        return Ok(json!("absent"));
    };
    let text = |error: momentlog::Error| error.to_string();
    let mut snapshots = Map::new();
    for found in domain
        .list_all_snapshots(SnapshotListFlags::NONE)
        .map_err(text)?
    {
        let parent = found.parent().map_err(text)?;
        let parent = parent.map(|parent| parent.name().to_string());
        snapshots.insert(found.name().to_string(), json!(parent));
    }
    let current = domain.snapshot_current().ok();
    let mut checkpoints = Map::new();
    for found in domain
        .list_all_checkpoints(CheckpointListFlags::NONE)
        .map_err(text)?
    {
        let parent = found.parent().map_err(text)?;
        let parent = parent.map(|parent| parent.name().to_string());
        checkpoints.insert(found.name().to_string(), json!(parent));
    }
    let persistent = domain.is_persistent().map_err(text)?;
    Ok(json!({
        "power": [state.number(), reason],
        "persistent": u8::from(persistent),
        "snapshots": {
            "parents": snapshots,
            "current": current.map(|found| found.name().to_string())
        },
        "checkpoints": { "parents": checkpoints },
        "disks": disks(guest)?
    }))
}

fn disks(guest: &mut Guest) -> Result<Value, String> {
    let nodes = if guest.is_running() {
        guest.ask("query-named-block-nodes", json!({ "flat": true }))?
    } else {
        Value::Null
    };
    let mut disks = Map::new();
    for disk in guest.disks.iter().filter(|disk| !disk.is_cdrom) {
        let mut layers = Vec::new();
        for path in &disk.chain {
            let bitmaps = if guest.is_running() {
                of_node(&nodes, path)
            } else {
                of_image(path)?
            };
            layers.push(json!({ "file": guest.there(path), "bitmaps": bitmaps }));
        }
        disks.insert(disk.target.to_owned(), layers.into());
    }
    Ok(disks.into())
}

/// The bitmaps of a running guest.
fn of_node(nodes: &Value, path: &str) -> Map<String, Value> {
    let nodes = nodes.as_array().into_iter().flatten();
    let mut of_image =
        nodes.filter(|node| node["drv"] == "qcow2" && node["image"]["filename"] == path);
    let bitmaps = of_image.next().map(|node| &node["dirty-bitmaps"]);
    let bitmaps = bitmaps.and_then(Value::as_array).into_iter().flatten();
    let named = bitmaps.filter_map(|bitmap| Some((bitmap["name"].as_str()?, bitmap)));
    named
        .map(|(name, bitmap)| {
            let told = json!({
                "count": bitmap["count"], "granularity": bitmap["granularity"],
                "recording": bitmap["recording"], "persistent": bitmap["persistent"],
                "inconsistent": bitmap["inconsistent"].as_bool().unwrap_or(false)
            });
            (name.to_owned(), told)
        })
        .collect()
}

/// The bitmaps of a guest that is off.
fn of_image(path: &str) -> Result<Map<String, Value>, String> {
    let info = run("qemu-img", &["info", "-U", "--output=json", path])?;
    let info: Value = serde_json::from_str(&info).map_err(|error| error.to_string())?;
    let bitmaps = info.pointer("/format-specific/data/bitmaps");
    let bitmaps = bitmaps.and_then(Value::as_array).into_iter().flatten();
    let told = bitmaps.filter_map(|bitmap| {
        let mut flags: Vec<&str> = bitmap["flags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        flags.sort_unstable();
        let told = json!({ "granularity": bitmap["granularity"], "flags": flags });
        Some((bitmap["name"].as_str()?.to_owned(), told))
    });
    Ok(told.collect())
}
