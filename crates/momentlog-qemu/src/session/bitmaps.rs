//! Checkpoints: bitmaps are added, removed and measured.

use std::collections::BTreeMap;
use std::sync::Arc;

use momentlog::ErrorCode;
use momentlog::core::{DiskEffect, EffectKind, Job, JobId};
use momentlog::driver::Fault;
use serde_json::{Value, json};

use super::{Looked, QemuSession};
use crate::graph::Placed;
use crate::monitor::Request;

/// Most actions of one transaction: longer ones take the hypervisor seconds.
const ACTIONS_MAX: usize = 300;

/// What the hypervisor says of a transaction that its action `abort` refuses.
const ABORTED: &str = "Transaction aborted using Abort action";

/// Granularity of a witness, in bytes: nothing is recorded in it.
const COARSE: u64 = 1 << 20;

/// The action that adds a bitmap which records.
pub(super) fn add(node: &str, name: &str, granularity: Option<u64>) -> Value {
    let mut data = json!({ "node": node, "name": name, "persistent": true, "disabled": false });
    if let Some(granularity) = granularity {
        data["granularity"] = granularity.into();
    }
    json!({ "type": "block-dirty-bitmap-add", "data": data })
}

/// The actions that add a checkpoint's bitmaps.
pub(super) fn adds(effects: &[DiskEffect]) -> Vec<Value> {
    let added = effects.iter();
    let added = added.filter(|effect| effect.kind == EffectKind::BitmapAdded);
    let named = |effect: &DiskEffect| {
        let name = effect.bitmap.as_deref().unwrap_or_default();
        add(&effect.node, name, None)
    };
    added.map(named).collect()
}

/// The action that adds a bitmap which records nothing and goes with the hypervisor.
pub(super) fn add_temporary(node: &str, name: &str, granularity: u64) -> Value {
    json!({ "type": "block-dirty-bitmap-add", "data": {
        "node": node, "name": name, "persistent": false, "disabled": true, "granularity": granularity
    } })
}

pub(super) fn merge(node: &str, target: &str, from: &[(&str, &str)]) -> Value {
    let from: Vec<Value> = from
        .iter()
        .map(|(node, name)| json!({ "node": node, "name": name }))
        .collect();
    json!({ "type": "block-dirty-bitmap-merge", "data": {
        "node": node, "target": target, "bitmaps": from
    } })
}

fn remove(node: &str, name: &str) -> Value {
    json!({ "type": "block-dirty-bitmap-remove", "data": { "node": node, "name": name } })
}

/// The options that open an image of a disk once more, to be read only or not; all else stays as it is.
fn reopen(layers: &[Placed], place: usize, read_only: bool) -> Value {
    let Placed { layer, storage } = &layers[place];
    let below = layers.get(place + 1).map(|below| &*below.layer.node);
    json!({ "options": [{
        "driver": &*layer.format, "node-name": &*layer.node, "file": storage,
        "read-only": read_only, "backing": below
    }] })
}

fn no_image(effect: &DiskEffect) -> Fault {
    let DiskEffect { disk, image, .. } = effect;
    let detail = format!("disk '{disk}' has no image '{image}'");
    Fault::refused(ErrorCode::ConfigUnsupported, detail)
}

impl QemuSession {
    /// Adds the bitmaps of a checkpoint, and the witness, in one transaction.
    pub(super) fn add_bitmaps(&mut self, id: JobId, effects: &[DiskEffect]) -> Result<(), Fault> {
        let mut actions = adds(effects);
        if let Some(first) = effects.first() {
            actions.push(self.witness(id, &first.node));
        }
        self.transaction(&actions)
    }

    /// Tries to add bitmaps in a transaction that does nothing, because its last action refuses it.
    pub(super) fn rehearse_bitmaps(&mut self, effects: &[DiskEffect]) -> Result<(), Fault> {
        let mut actions = adds(effects);
        actions.push(json!({ "type": "abort", "data": {} }));
        match self.transaction(&actions) {
            Err(fault) if fault.detail.ends_with(ABORTED) => Ok(()),
            Err(fault) => Err(fault),
            Ok(()) => Err(Fault::refused(
                ErrorCode::InternalError,
                "the hypervisor has done a transaction that was to be refused",
            )),
        }
    }

    /// The action that adds the witness of a job.
    pub(super) fn witness(&mut self, id: JobId, node: &str) -> Value {
        let name = self.names.witness(id);
        let action = add_temporary(node, &name, COARSE);
        let arguments = json!({ "node": node, "name": &name });
        self.witness = vec![Request::new("block-dirty-bitmap-remove", arguments)];
        action
    }

    /// Removes bitmaps from all images that have them, and adds the witness of the job with the last of them. An image that
    /// may only be read is opened for writing meanwhile.
    pub(super) fn remove_bitmaps(
        &mut self,
        id: Option<JobId>,
        effects: &[DiskEffect],
    ) -> Result<(), Fault> {
        let looked = self.look()?;
        let disks = self.placed(&looked.graph)?;
        let mut frozen = Vec::new();
        let mut actions = Vec::new();
        let mut witness = None;
        for effect in effects {
            let (_, layers) = disks
                .iter()
                .find(|(target, _)| *target == effect.disk)
                .ok_or_else(|| no_image(effect))?;
            let place = layers
                .iter()
                .position(|found| found.layer.is(&effect.image));
            let place = place.ok_or_else(|| no_image(effect))?;
            // The effect may have been planned for another run, which called the image otherwise.
            let node = &layers[place].layer.node;
            actions.push(remove(node, effect.bitmap.as_deref().unwrap_or_default()));
            if witness.is_none() {
                witness = id.map(|id| self.witness(id, node));
            }
            if layers[place].layer.read_only {
                let options = [reopen(layers, place, false), reopen(layers, place, true)];
                if !frozen.contains(&options) {
                    frozen.push(options);
                }
            }
        }
        for [writable, _] in &frozen {
            self.ask("blockdev-reopen", writable.clone())?;
        }
        actions.extend(witness);
        let mut done = Ok(());
        for actions in actions.chunks(ACTIONS_MAX) {
            done = self.transaction(actions);
            if done.is_err() {
                break;
            }
        }
        for [_, frozen] in frozen.iter().rev() {
            // An image that stays open for writing is as good: whether it is closed again undoes nothing.
            if !done.as_ref().is_err_and(|fault| fault.leaves_unknown) {
                self.try_ask("blockdev-reopen", frozen.clone())?;
            }
        }
        done
    }

    /// Removes a bitmap from one image, as it is.
    pub(super) fn remove_one_bitmap(
        &mut self,
        disk: &str,
        image: &str,
        bitmap: &str,
    ) -> Result<(), Fault> {
        let looked = self.look()?;
        let placed = self.placed(&looked.graph)?.into_iter();
        let mut layers = placed
            .filter(|(target, _)| &**target == disk)
            .flat_map(|(_, found)| found);
        let node = layers
            .find(|found| found.layer.is(image))
            .map(|found| found.layer.node);
        let effect = DiskEffect {
            disk: disk.into(),
            kind: EffectKind::BitmapRemoved,
            image: image.into(),
            node: node.unwrap_or_default(),
            bitmap: Some(bitmap.into()),
            bitmap_was_there: true,
            file: None,
        };
        if effect.node.is_empty() {
            return Err(no_image(&effect));
        }
        self.remove_bitmaps(None, &[effect])
    }

    /// Removes the temporary bitmaps of this log that belong to no open job.
    pub(super) fn sweep_bitmaps(
        &mut self,
        looked: &Looked,
        open: &[(JobId, &Job)],
    ) -> Result<(), Fault> {
        let mut left: Vec<(String, String)> = Vec::new();
        for node in looked.graph.nodes() {
            let names = node
                .bitmaps
                .iter()
                .filter_map(|bitmap| bitmap.name.as_deref());
            for name in names.filter(|name| self.names.is_ours(name)) {
                let is_open = open.iter().any(|(id, job)| {
                    self.names.witness(*id) == name
                        || job
                            .effects
                            .iter()
                            .any(|effect| effect.bitmap.as_deref() == Some(name))
                });
                if !is_open {
                    left.push((node.name.clone(), name.to_owned()));
                }
            }
        }
        for (node, name) in left {
            self.try_ask(
                "block-dirty-bitmap-remove",
                json!({ "node": node, "name": name }),
            )?;
        }
        Ok(())
    }

    /// Merges the bitmap of all layers of each disk into a temporary one, and reads that.
    pub(super) fn measure_bitmap(
        &mut self,
        bitmap: &str,
    ) -> Result<BTreeMap<Arc<str>, u64>, Fault> {
        let looked = self.look()?;
        let disks = self.placed(&looked.graph)?;
        let mut sizes = BTreeMap::new();
        let mut actions = Vec::new();
        let mut measured = Vec::new();
        let temporary = self.names.measure();
        for (target, placed) in disks {
            let seen = momentlog::driver::SeenDisk {
                target: target.clone(),
                layers: placed.iter().map(|placed| placed.layer.clone()).collect(),
            };
            if !seen.tracks(bitmap) {
                continue;
            }
            let having: Vec<_> = seen
                .layers
                .iter()
                .filter_map(|layer| Some((&*layer.node, layer.bitmap(bitmap)?)))
                .collect();
            match having[..] {
                [] => {}
                // Of one layer, the bitmap itself says it.
                [(_, bitmap)] => {
                    sizes.insert(target, bitmap.count.unwrap_or(0));
                }
                [(top, first), ..] => {
                    actions.push(add_temporary(top, &temporary, first.granularity));
                    let from: Vec<_> = having.iter().map(|(node, _)| (*node, bitmap)).collect();
                    actions.push(merge(top, &temporary, &from));
                    measured.push((target, top.to_owned()));
                }
            }
        }
        if actions.is_empty() {
            return Ok(sizes);
        }
        if self.guest.attachment.look_only {
            let detail = "the guest is attached to look only, and to measure what is in several images changes it";
            return Err(Fault::refused(ErrorCode::OperationUnsupported, detail));
        }
        self.transaction(&actions)?;
        let looked = self.look()?;
        for (target, top) in &measured {
            let node = looked.graph.named(top);
            let found = node.and_then(|node| node.count_of(&temporary));
            sizes.insert(target.clone(), found.unwrap_or(0));
        }
        let removals = measured.iter().map(|(_, top)| remove(top, &temporary));
        self.transaction(&removals.collect::<Vec<_>>())?;
        Ok(sizes)
    }
}
