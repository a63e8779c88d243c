//! What has changed of a definition, field by field.

use std::sync::Arc;

use momentlog_core::{CheckpointDef, DiskTracking, DomainDef, Memory, SnapshotDef, SnapshotDisk};

/// One field of a definition that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// The field, in words: `creation time`, `description`, `domain XML`, `disk vda`, …
    pub field: Arc<str>,
    /// What it was; none if it was not there.
    pub from: Option<Value>,
    /// What it is; none if it is not there.
    pub to: Option<Value>,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Value {
    /// A time, in seconds since 1970.
    Time(i64),
    /// A short text.
    Text(Arc<str>),
    /// A text of many lines, such as XML.
    Document(Arc<str>),
    /// A number of KiB.
    Kib(u64),
    /// A text that was erased.
    Erased,
}

impl Value {
    fn text(text: impl Into<Arc<str>>) -> Value {
        Value::Text(text.into())
    }

    /// A text of a record, which is empty if it was erased.
    fn erasable(text: &Arc<str>, value: fn(Arc<str>) -> Value) -> Value {
        if text.is_empty() {
            Value::Erased
        } else {
            value(text.clone())
        }
    }
}

/// The fields of a definition, by name; one that is not there is left out.
type Fields = Vec<(Arc<str>, Value)>;

/// A definition whose fields can be compared.
pub(crate) trait Described {
    fn fields(&self) -> Fields;
}

/// Returns what has changed of a moment, by the time of its creation and its definition.
pub(crate) fn moment_changes<D: Described + PartialEq>(
    (created_before, before): (i64, &Arc<D>),
    (created_after, after): (i64, &Arc<D>),
) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    if created_before != created_after {
        changes.push(FieldChange {
            field: "creation time".into(),
            from: Some(Value::Time(created_before)),
            to: Some(Value::Time(created_after)),
        });
    }
    changes.extend(def_changes(before, after));
    changes
}

/// Returns what has changed between two definitions, in the order of their fields.
pub(crate) fn def_changes<D: Described + PartialEq>(
    before: &Arc<D>,
    after: &Arc<D>,
) -> Vec<FieldChange> {
    if Arc::ptr_eq(before, after) || before == after {
        return Vec::new();
    }
    let (before, after) = (before.fields(), after.fields());
    let find = |fields: &Fields, name: &str| {
        let found = fields.iter().find(|(field, _)| &**field == name);
        found.map(|(_, value)| value.clone())
    };
    let gone = before
        .iter()
        .filter(|(field, _)| find(&after, field).is_none());
    let names = after.iter().chain(gone).map(|(field, _)| field);
    names
        .map(|field| FieldChange {
            field: field.clone(),
            from: find(&before, field),
            to: find(&after, field),
        })
        .filter(|change| change.from != change.to)
        .collect()
}

impl Described for DomainDef {
    fn fields(&self) -> Fields {
        let mut fields = vec![
            ("name".into(), Value::Text(self.name.clone())),
            ("memory".into(), Value::Kib(self.memory_kib)),
        ];
        for disk in &self.disks {
            let source = disk.source.as_deref().unwrap_or("no source");
            let format = disk.format.as_deref().unwrap_or("no format");
            let read_only = if disk.readonly { ", read-only" } else { "" };
            let kind = disk.kind.as_str();
            let text = format!("{kind} {source}, {format}{read_only}");
            fields.push((format!("disk {}", disk.target).into(), Value::text(text)));
        }
        fields.push((
            "domain XML".into(),
            Value::erasable(&self.xml, Value::Document),
        ));
        fields
    }
}

impl Described for CheckpointDef {
    fn fields(&self) -> Fields {
        let mut fields = Vec::new();
        described(&mut fields, self.description.as_ref());
        for disk in &self.disks {
            let text = match &disk.tracking {
                DiskTracking::No => "not tracked".to_owned(),
                DiskTracking::Bitmap(None) => "bitmap of its own name".to_owned(),
                DiskTracking::Bitmap(Some(bitmap)) => format!("bitmap {bitmap}"),
            };
            fields.push((format!("disk {}", disk.name).into(), Value::text(text)));
        }
        document(
            &mut fields,
            "domain XML",
            self.domain.as_ref().map(|domain| &domain.xml),
        );
        fields
    }
}

impl Described for SnapshotDef {
    fn fields(&self) -> Fields {
        let mut fields = vec![("state".into(), Value::text(self.state.as_str()))];
        described(&mut fields, self.description.as_ref());
        let memory = match &self.memory {
            Memory::No => "not kept".to_owned(),
            Memory::Internal => "internal".to_owned(),
            Memory::External(file) => format!("external, {file}"),
        };
        fields.push(("memory".into(), Value::text(memory)));
        for disk in &self.disks {
            let text = snapshot_disk(disk);
            fields.push((format!("disk {}", disk.name).into(), Value::text(text)));
            let name = format!("XML of disk {}", disk.name);
            document(&mut fields, &name, disk.xml.as_ref());
        }
        let xml = |domain: &Option<Arc<DomainDef>>| domain.as_ref().map(|def| def.xml.clone());
        document(&mut fields, "domain XML", xml(&self.domain).as_ref());
        document(
            &mut fields,
            "inactive domain XML",
            xml(&self.inactive_domain).as_ref(),
        );
        document(&mut fields, "revert disks", self.revert_disks.as_ref());
        document(&mut fields, "other XML", self.extra.as_ref());
        fields
    }
}

fn snapshot_disk(disk: &SnapshotDisk) -> String {
    let location = disk.location.map_or("no location", |place| place.as_str());
    let mut text = location.to_owned();
    if let Some(source) = &disk.source {
        text += &format!(", {} {source}", disk.kind.as_str());
    }
    if let Some(driver) = &disk.driver {
        text += &format!(", {driver}");
    }
    text
}

fn described(fields: &mut Fields, description: Option<&Arc<str>>) {
    if let Some(description) = description {
        let value = Value::erasable(description, Value::Text);
        fields.push(("description".into(), value));
    }
}

fn document(fields: &mut Fields, name: &str, text: Option<&Arc<str>>) {
    if let Some(text) = text {
        fields.push((name.into(), Value::erasable(text, Value::Document)));
    }
}
