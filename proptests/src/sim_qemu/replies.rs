//! What the requests that look return.

use serde_json::{Value, json};

use super::bitmap::Bitmap;
use super::image::{ImageFormat, Images, StoredBitmap};
use super::jobs::Job;
use super::process::{Node, NodeKind, Process};

/// Returns the reply to a request that looks; absent if there is no such request.
pub(super) fn query(process: &Process, images: &Images, execute: &str) -> Option<Value> {
    let all = |each: &dyn Fn(&Node) -> Value| process.nodes.iter().map(each).collect::<Value>();
    Some(match execute {
        "query-version" => json!({
            "qemu": {"major": 7, "minor": 2, "micro": 22},
            "package": "simulated",
        }),
        "query-status" => json!({
            "status": if process.paused { "paused" } else { "running" },
            "singlestep": false,
            "running": !process.paused,
        }),
        "query-name" => match &process.name {
            Some(name) => json!({"name": name}),
            None => json!({}),
        },
        "query-uuid" => json!({"UUID": process.uuid}),
        "query-named-block-nodes" => all(&|node| info(process, images, node, false)),
        "query-block" if process.daemon => json!([]),
        "query-block" => process
            .devices
            .iter()
            .filter_map(|device| {
                let inserted = info(process, images, process.node(&device.root)?, true);
                Some(json!({
                    "device": "",
                    "qdev": device.id,
                    "type": "unknown",
                    "io-status": "ok",
                    "locked": false,
                    "removable": false,
                    "inserted": inserted,
                }))
            })
            .collect(),
        "query-jobs" => process.jobs.iter().map(Job::reply).collect(),
        "query-block-jobs" => process.jobs.iter().filter_map(Job::block_reply).collect(),
        "query-block-exports" => process
            .exports
            .iter()
            .map(|export| {
                json!({
                    "id": export.id,
                    "type": "nbd",
                    "node-name": export.node,
                    "shutting-down": false,
                })
            })
            .collect(),
        _ => return None,
    })
}

/// What there is to say of a node, with the images below it if they are wanted.
fn info(process: &Process, images: &Images, node: &Node, nested: bool) -> Value {
    let file = filename(process, images, node);
    let below = below(process, node);
    let mut reply = json!({
        "node-name": node.name,
        "drv": driver(node),
        "file": file,
        "ro": node.read_only,
        "encrypted": false,
        "detect_zeroes": "off",
        "backing_file_depth": if nested { depth(process, node) } else { 0 },
        "image": image(process, images, node, nested),
    });
    if let Some(below) = below
        && !node.is_filter()
    {
        reply["backing_file"] = json!(filename(process, images, below));
    }
    if !node.bitmaps.is_empty() {
        reply["dirty-bitmaps"] = node.bitmaps.iter().map(Bitmap::reply).collect();
    }
    reply
}

fn image(process: &Process, images: &Images, node: &Node, nested: bool) -> Value {
    let path = node.path.as_str();
    let mut reply = json!({
        "filename": filename(process, images, node),
        "format": driver(node),
        "dirty-flag": false,
    });
    let Some(image) = images.get(path) else {
        return reply;
    };
    reply["virtual-size"] = json!(image.size);
    reply["actual-size"] = json!(image.clusters.len() as u64 * super::CLUSTER_LEN);
    if node.is_filter() {
        reply["cluster-size"] = json!(image.cluster_size);
    }
    if node.format() == Some(ImageFormat::Qcow2) {
        reply["cluster-size"] = json!(image.cluster_size);
        let mut data = json!({
            "compat": if image.version < 3 { "0.10" } else { "1.1" },
            "corrupt": false,
            "lazy-refcounts": false,
        });
        if !image.bitmaps.is_empty() {
            data["bitmaps"] = image.bitmaps.iter().map(stored).collect();
        }
        reply["format-specific"] = json!({"type": "qcow2", "data": data});
        if let Some(backing) = &image.backing {
            reply["backing-filename"] = json!(backing);
            reply["full-backing-filename"] = json!(backing);
            let format = images
                .get(backing)
                .map_or(ImageFormat::Raw, |image| image.format);
            reply["backing-filename-format"] = json!(format.name());
        }
    }
    if let Some(below) = below(process, node)
        && nested
    {
        reply["backing-image"] = self::image(process, images, below, true);
    }
    reply
}

fn stored(bitmap: &StoredBitmap) -> Value {
    let flags = [(bitmap.in_use, "in-use"), (bitmap.auto, "auto")];
    let flags: Vec<&str> = flags
        .iter()
        .filter(|flag| flag.0)
        .map(|flag| flag.1)
        .collect();
    json!({"name": bitmap.name, "granularity": bitmap.granularity, "flags": flags})
}

fn below<'a>(process: &'a Process, node: &'a Node) -> Option<&'a Node> {
    match &node.kind {
        NodeKind::Protocol => None,
        NodeKind::Format { backing, .. } => process.node(backing.as_deref()?),
        NodeKind::Filter { below, .. } => process.node(below),
    }
}

fn depth(process: &Process, node: &Node) -> u64 {
    below(process, node).map_or(0, |below| 1 + depth(process, below))
}

fn driver(node: &Node) -> &'static str {
    match &node.kind {
        NodeKind::Protocol => "file",
        NodeKind::Format { format, .. } => format.name(),
        NodeKind::Filter { .. } => "copy-before-write",
    }
}

/// The name of a node's file: the path, or the options in JSON if the image itself names another backing file than the node
/// has.
fn filename(process: &Process, images: &Images, node: &Node) -> String {
    if as_image_says(process, images, node) {
        node.path.clone()
    } else {
        format!("json:{}", options(process, images, node))
    }
}

fn as_image_says(process: &Process, images: &Images, node: &Node) -> bool {
    if node.format() != Some(ImageFormat::Qcow2) {
        return true;
    }
    let named = images
        .get(&node.path)
        .and_then(|image| image.backing.clone());
    let has = below(process, node).map(|below| filename(process, images, below));
    named == has
}

fn options(process: &Process, images: &Images, node: &Node) -> String {
    let quoted = |text: &str| json!(text).to_string();
    let file = format!(
        r#"{{"driver": "file", "filename": {}}}"#,
        quoted(&node.path)
    );
    let backing = match below(process, node) {
        _ if as_image_says(process, images, node) => String::new(),
        None => r#""backing": null, "#.to_owned(),
        Some(below) => format!(r#""backing": {}, "#, options(process, images, below)),
    };
    format!(
        r#"{{{backing}"driver": {}, "file": {file}}}"#,
        quoted(driver(node))
    )
}
