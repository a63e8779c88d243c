//! What each request does.

use serde_json::{Map, Value, json};

use super::image::{CLUSTER_LEN, ImageFormat, SimImage};
use super::jobs::{Creation, Export};
use super::process::{BackingNode, FileNode, Node, NodeKind, Opening, Process, World};
use super::replies;
use super::transaction::Action;

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{desc}")]
    Refused { class: &'static str, desc: String },
    /// The process died of it.
    #[error("the process died")]
    Died,
}

impl Trouble {
    pub(super) fn refused(desc: impl Into<String>) -> Trouble {
        Trouble::Refused {
            class: "GenericError",
            desc: desc.into(),
        }
    }

    fn no_job(id: &str) -> Trouble {
        Trouble::Refused {
            class: "DeviceNotActive",
            desc: format!("Block job '{id}' not found"),
        }
    }
}

/// The arguments of a request, of which every key is known.
pub(super) struct Args<'a> {
    place: String,
    values: &'a Map<String, Value>,
}

impl<'a> Args<'a> {
    /// Takes an object with some of these keys and no others, or null.
    pub(super) fn new(value: &'a Value, keys: &[&str]) -> Result<Args<'a>, Trouble> {
        Args::at("", value, keys)
    }

    /// As [`new`](Args::new), for an object that lies at a place within the arguments.
    pub(super) fn at(place: &str, value: &'a Value, keys: &[&str]) -> Result<Args<'a>, Trouble> {
        static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        let values = match value {
            Value::Null => &NONE,
            Value::Object(values) => values,
            _ => {
                return Err(Trouble::refused(format!(
                    "Invalid parameter type for '{}', expected: object",
                    place.trim_end_matches('.')
                )));
            }
        };
        match values.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => Err(Trouble::refused(format!(
                "Parameter '{place}{key}' is unexpected"
            ))),
            None => Ok(Args {
                place: place.to_owned(),
                values,
            }),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.values.get(key)
    }

    pub(super) fn value(&self, key: &str) -> Result<&'a Value, Trouble> {
        self.get(key)
            .ok_or_else(|| Trouble::refused(format!("Parameter '{}{key}' is missing", self.place)))
    }

    fn typed<T>(
        &self,
        key: &str,
        what: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Trouble> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or_else(|| {
            Trouble::refused(format!(
                "Invalid parameter type for '{}{key}', expected: {what}",
                self.place
            ))
        })
    }

    pub(super) fn optional(&self, key: &str) -> Result<Option<String>, Trouble> {
        self.typed(key, "string", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn text(&self, key: &str) -> Result<String, Trouble> {
        self.value(key)?;
        Ok(self.optional(key)?.unwrap_or_default())
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Trouble> {
        self.typed(key, "integer", Value::as_u64)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Trouble> {
        self.typed(key, "boolean", Value::as_bool)
    }

    pub(super) fn list(&self, key: &str) -> Result<&'a [Value], Trouble> {
        self.value(key)?;
        Ok(self
            .typed(key, "array", |value| value.as_array().map(Vec::as_slice))?
            .unwrap_or_default())
    }
}

impl Process {
    /// Does one request and returns what it returns. With `dies_after` the process dies when it has prepared that many of
    /// the request's actions.
    pub(super) fn request(
        &mut self,
        world: &mut World<'_>,
        execute: &str,
        arguments: &Value,
        dies_after: Option<usize>,
    ) -> Result<Value, Trouble> {
        self.go_on(world.images);
        let missing_job = || Trouble::refused("Job not found");
        let known = |keys: &'static [&'static str]| Args::new(arguments, keys);
        if self.daemon && MACHINE_ONLY.contains(&execute) {
            return Err(unknown(execute));
        }
        match execute {
            "transaction" => {
                let actions = Action::parse_all(arguments)?;
                self.transact(world, &actions, dies_after)?;
            }
            "block-dirty-bitmap-add"
            | "block-dirty-bitmap-remove"
            | "block-dirty-bitmap-clear"
            | "block-dirty-bitmap-enable"
            | "block-dirty-bitmap-disable"
            | "block-dirty-bitmap-merge"
            | "blockdev-snapshot"
            | "blockdev-backup" => self.act(world, Action::parse(execute, arguments, "")?)?,
            "blockdev-add" => self.blockdev_add(world, arguments)?,
            "blockdev-del" => {
                let name = known(&["node-name"])?.text("node-name")?;
                if self.node(&name).is_none() {
                    return Err(no_node(&name));
                }
                self.check_unused(&name)?;
                self.close(world.images, &name);
            }
            "blockdev-create" => {
                let args = known(&["job-id", "options"])?;
                let creation = creation(args.value("options")?)?;
                self.begin_creation(world, args.text("job-id")?, creation)?;
            }
            "blockdev-reopen" => self.blockdev_reopen(world, arguments)?,
            "block-job-cancel" => {
                let id = known(&["device", "force"])?.text("device")?;
                self.cancel(&id, Trouble::no_job(&id))?;
            }
            "job-cancel" => self.cancel(&known(&["id"])?.text("id")?, missing_job())?,
            "job-dismiss" => self.dismiss(&known(&["id"])?.text("id")?, missing_job())?,
            "block-job-dismiss" => {
                let id = known(&["id"])?.text("id")?;
                self.dismiss(&id, Trouble::no_job(&id))?;
            }
            "nbd-server-start" => {
                known(&["addr", "tls-creds", "tls-authz", "max-connections"])?.value("addr")?;
                if self.nbd_server {
                    return Err(Trouble::refused("NBD server already running"));
                }
                self.nbd_server = true;
            }
            "nbd-server-stop" => {
                if !self.nbd_server {
                    return Err(Trouble::refused("NBD server not running"));
                }
                self.nbd_server = false;
                for export in std::mem::take(&mut self.exports) {
                    self.free_bitmaps(&export);
                }
            }
            "block-export-add" => self.block_export_add(arguments)?,
            "block-export-del" => {
                let id = known(&["id", "mode"])?.text("id")?;
                let at = self.exports.iter().position(|export| export.id == id);
                let at =
                    at.ok_or_else(|| Trouble::refused(format!("Export '{id}' is not found")))?;
                let export = self.exports.remove(at);
                self.free_bitmaps(&export);
            }
            "human-monitor-command" => {
                let args = known(&["command-line", "cpu-index"])?;
                return Ok(json!(self.human(world, &args.text("command-line")?)));
            }
            "stop" => self.paused = true,
            "cont" => self.paused = false,
            "quit" | "qmp_capabilities" => {}
            _ => {
                return replies::query(self, world.images, execute).ok_or_else(|| unknown(execute));
            }
        }
        Ok(json!({}))
    }

    fn blockdev_add(&mut self, world: &mut World<'_>, arguments: &Value) -> Result<(), Trouble> {
        let args = Args::new(arguments, BLOCKDEV_KEYS)?;
        let driver = args.text("driver")?;
        let Some(node) = args.optional("node-name")? else {
            return Err(Trouble::refused(
                "'node-name' must be specified for the root node",
            ));
        };
        let format = match driver.as_str() {
            "file" => {
                let path = args.text("filename")?;
                return self.open_file(world, Some(node), &path, true).map(|_| ());
            }
            "qcow2" => ImageFormat::Qcow2,
            "raw" => ImageFormat::Raw,
            _ => {
                return Err(Trouble::refused(format!(
                    "Parameter 'driver' does not accept value '{driver}'"
                )));
            }
        };
        let file = match args.value("file")? {
            Value::String(name) => FileNode::Named(name.clone()),
            inline => {
                let inline = Args::at("file.", inline, BLOCKDEV_KEYS)?;
                FileNode::Inline {
                    node: inline.optional("node-name")?,
                    path: inline.text("filename")?,
                }
            }
        };
        let opening = Opening {
            node,
            format,
            file,
            backing: backing(&args)?,
            read_only: args.flag("read-only")?.unwrap_or(false),
            owned: true,
        };
        let before = self.clone();
        self.open(world, opening).inspect_err(|_| *self = before)
    }

    fn blockdev_reopen(&mut self, world: &mut World<'_>, arguments: &Value) -> Result<(), Trouble> {
        let mut reopenings = Vec::new();
        for (at, options) in Args::new(arguments, &["options"])?
            .list("options")?
            .iter()
            .enumerate()
        {
            let args = Args::at(&format!("options[{at}]."), options, BLOCKDEV_KEYS)?;
            let driver = args.text("driver")?;
            args.value("file")?;
            let name = args
                .optional("node-name")?
                .ok_or_else(|| Trouble::refused("node-name not specified"))?;
            let node = self.node(&name).ok_or_else(|| no_node(&name))?;
            let Some(format) = node.format() else {
                return Err(Trouble::refused(format!(
                    "Block format 'file' used by node '{name}' does not support reopening files"
                )));
            };
            if format.name() != driver {
                return Err(Trouble::refused("Cannot change the option 'driver'"));
            }
            let read_only = args.flag("read-only")?.unwrap_or(false);
            if read_only && self.is_written(&name) {
                // By then the bitmaps are stored, no longer marked as in use although they are, and those in memory
                // read-only: the guest's writes fail until the node is reopened read-write.
                self.store(world.images, &name);
                return Err(Trouble::refused(format!(
                    "Read-only block node '{name}' cannot support read-write users"
                )));
            }
            let unstored = node.bitmaps.iter().any(|bitmap| bitmap.stored().is_some());
            if read_only && node.read_only && unstored {
                return Err(Trouble::refused("No write access"));
            }
            let over = match backing(&args)? {
                BackingNode::Image => node.backing().map(str::to_owned),
                BackingNode::None => None,
                BackingNode::Named(over) => {
                    self.existing(&over)?;
                    Some(over)
                }
            };
            reopenings.push((name, read_only, over));
        }
        for (name, read_only, over) in reopenings {
            self.reopen(world.images, &name, read_only, over);
        }
        Ok(())
    }

    fn block_export_add(&mut self, arguments: &Value) -> Result<(), Trouble> {
        let args = Args::new(
            arguments,
            &[
                "type",
                "id",
                "node-name",
                "name",
                "writable",
                "bitmaps",
                "description",
            ],
        )?;
        let (id, node) = (args.text("id")?, args.text("node-name")?);
        if self.exports.iter().any(|export| export.id == id) {
            return Err(Trouble::refused(format!(
                "Block export id '{id}' is already in use"
            )));
        }
        self.existing(&node)?;
        if !self.nbd_server {
            return Err(Trouble::refused("NBD server not running"));
        }
        let name = args.optional("name")?.unwrap_or_else(|| node.clone());
        if self.exports.iter().any(|export| export.name == name) {
            return Err(Trouble::refused(format!(
                "NBD server already has export named '{name}'"
            )));
        }
        let mut bitmaps = Vec::new();
        if args.get("bitmaps").is_some() {
            for bitmap in args.list("bitmaps")? {
                let bitmap = bitmap.as_str().unwrap_or_default();
                let found = self
                    .existing(&node)?
                    .bitmap(bitmap)
                    .ok_or_else(|| Trouble::refused(format!("Bitmap '{bitmap}' is not found")))?;
                found.check_free()?;
                found.check_consistent()?;
                bitmaps.push(bitmap.to_owned());
            }
        }
        for bitmap in &bitmaps {
            if let Some(bitmap) = self
                .node_mut(&node)
                .and_then(|node| node.bitmap_mut(bitmap))
            {
                bitmap.busy = true;
            }
        }
        self.exports.push(Export {
            id,
            name,
            node,
            bitmaps,
        });
        Ok(())
    }

    fn free_bitmaps(&mut self, export: &Export) {
        for name in &export.bitmaps {
            if let Some(bitmap) = self
                .node_mut(&export.node)
                .and_then(|node| node.bitmap_mut(name))
            {
                bitmap.busy = false;
            }
        }
    }

    /// Does a command of the human monitor, which only writes here, and returns what it prints.
    fn human(&mut self, world: &mut World<'_>, line: &str) -> String {
        let Some((target, command)) = line
            .strip_prefix("qemu-io ")
            .and_then(|rest| rest.trim_end().strip_suffix('"')?.split_once(" \""))
        else {
            return format!("unknown command: '{line}'\r\n");
        };
        let root = match target.strip_prefix("-d ") {
            Some(id) => match self.device_root(id) {
                Some(root) => root,
                None => return format!("Error: Device '{id}' not found\r\n"),
            },
            None if self.node(target).is_none() => {
                return format!("Error: Cannot find device='' nor node-name='{target}'\r\n");
            }
            None if self.is_written(target) => {
                return format!(
                    "Permission conflict on node '{target}': permissions 'write' are both required by an unnamed \
                     block device (uses node '{target}' as 'root' child) and unshared by the device.\r\n"
                );
            }
            None => target.to_owned(),
        };
        let words: Vec<&str> = command.split_whitespace().collect();
        let parsed = match words[..] {
            ["write", "-P", pattern, offset, length] => {
                pattern.parse().ok().zip(bytes(offset)).zip(bytes(length))
            }
            _ => None,
        };
        let Some(((pattern, offset), length)) = parsed else {
            return format!("command \"{command}\" not found\r\n");
        };
        // A failure is printed on the process's own output, and not told here.
        let _ = self.write(world.images, &root, pattern, offset, length);
        String::new()
    }

    /// The node to which a device writes.
    pub(super) fn device_root(&self, id: &str) -> Option<String> {
        let device = self.devices.iter().find(|device| device.id == id)?;
        Some(device.root.clone())
    }
}

/// What a storage daemon does not know.
const MACHINE_ONLY: &[&str] = &[
    "query-status",
    "query-uuid",
    "query-name",
    "human-monitor-command",
    "stop",
    "cont",
];

const BLOCKDEV_KEYS: &[&str] = &[
    "driver",
    "node-name",
    "filename",
    "file",
    "backing",
    "read-only",
    "auto-read-only",
    "discard",
    "cache",
    "aio",
    "locking",
];

fn backing(args: &Args<'_>) -> Result<BackingNode, Trouble> {
    Ok(match args.get("backing") {
        None => BackingNode::Image,
        Some(Value::Null) => BackingNode::None,
        Some(_) => BackingNode::Named(args.text("backing")?),
    })
}

fn creation(options: &Value) -> Result<Creation, Trouble> {
    let args = Args::at(
        "options.",
        options,
        &[
            "driver",
            "file",
            "filename",
            "size",
            "cluster-size",
            "version",
            "backing-file",
            "backing-fmt",
            "preallocation",
        ],
    )?;
    args.value("size")?;
    let size = args.number("size")?.unwrap_or_default();
    let driver = args.text("driver")?;
    Ok(match driver.as_str() {
        "file" => Creation::File {
            path: args.text("filename")?,
            size,
        },
        "qcow2" => Creation::Image {
            file: args.text("file")?,
            image: SimImage {
                cluster_size: args.number("cluster-size")?.unwrap_or(CLUSTER_LEN),
                backing: args.optional("backing-file")?,
                ..SimImage::qcow2(size)
            },
        },
        "raw" => Creation::Image {
            file: args.text("file")?,
            image: SimImage::raw(size),
        },
        _ => {
            return Err(Trouble::refused(format!(
                "Parameter 'options.driver' does not accept value '{driver}'"
            )));
        }
    })
}

/// Bytes, as qemu-io reads them.
fn bytes(word: &str) -> Option<u64> {
    let (digits, unit) = match word.as_bytes().last()? {
        b'k' | b'K' => (&word[..word.len() - 1], 1 << 10),
        b'm' | b'M' => (&word[..word.len() - 1], 1 << 20),
        _ => (word, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn no_node(name: &str) -> Trouble {
    Trouble::refused(format!("Failed to find node with node-name='{name}'"))
}

fn unknown(execute: &str) -> Trouble {
    Trouble::Refused {
        class: "CommandNotFound",
        desc: format!("The command {execute} has not been found"),
    }
}

impl Node {
    pub(super) fn is_filter(&self) -> bool {
        matches!(self.kind, NodeKind::Filter { .. })
    }
}
